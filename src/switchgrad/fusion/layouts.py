"""Programs that run in a layout of their own: maps are brought to it where they come in, and back where they go out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves, tree_map

from switchgrad.fusion.timings import Layout

# What asks how a tensor lies in memory would get another answer.
_ASKS = {"view", "stride", "is_contiguous", "as_strided", "data_ptr", "untyped_storage", "storage", "view_as"}


def contiguous(value: Any) -> Any:
    """A batch of maps one channel after the other; anything else as it is."""
    return value.contiguous() if isinstance(value, Tensor) and value.dim() == 4 else value


def channels_last(value: Any) -> Any:
    """A batch of maps one pixel after the other; anything else as it is."""
    if isinstance(value, Tensor) and value.dim() == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value


def _all_contiguous(values: Any) -> Any:
    return tree_map(contiguous, values)


def _all_channels_last(values: Any) -> Any:
    return tree_map(channels_last, values)


ENTRIES: Mapping[Layout, Callable[[Any], Any]] = {"contiguous": contiguous, "channels_last": channels_last}
# A program in one layout stands for one that was given the other, and answers in that.
EXITS: Mapping[Layout, Callable[[Any], Any]] = {"contiguous": _all_channels_last, "channels_last": _all_contiguous}


def other_layout(graph: fx.Graph, arguments: Any, outputs: Any) -> Layout:
    """The layout that a graph could run in besides that of its arguments; "" where it must stay.

    It must stay where maps come in or go out in both layouts or in none, and where an operation asks how a tensor lies
    in memory.
    """
    if any(_asks(node) for node in graph.nodes):
        return ""
    lying = {_layout(value) for value in (*tree_leaves(arguments), *tree_leaves(outputs)) if _is_map(value)}
    if lying == {"contiguous"}:
        return "channels_last"
    return "contiguous" if lying == {"channels_last"} else ""


def _asks(node: fx.Node) -> bool:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in ("call_method", "call_function") and name in _ASKS


def _is_map(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 4


def _layout(value: Tensor) -> str:
    if value.is_contiguous():
        return "contiguous"
    return "channels_last" if value.is_contiguous(memory_format=torch.channels_last) else "neither"
