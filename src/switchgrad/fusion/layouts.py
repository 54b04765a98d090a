"""Programs that run in a layout of their own: maps are brought to it where they come in, and back where they go out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves, tree_map

from switchgrad.fusion.chains import Block
from switchgrad.fusion.stages import Stage
from switchgrad.fusion.timings import Layout
from switchgrad.layout import memory_format_of
from switchgrad.ops.routing import is_transformed

# What asks how a tensor lies in memory would get another answer.
_ASKS = {"view", "stride", "is_contiguous", "as_strided", "data_ptr", "untyped_storage", "storage", "view_as"}


_FEW_CHANNELS = 8  # of a picture, say, which is brought to another layout at next to no cost
_MANY_PICTURES = 8


def contiguous(value: Any) -> Any:
    """A batch of maps one channel after the other; anything else as it is."""
    return value.contiguous() if _is_map(value) else value


def channels_last(value: Any) -> Any:
    """A batch of maps one pixel after the other; anything else as it is."""
    return value.contiguous(memory_format=torch.channels_last) if _is_map(value) else value


def pictures(value: Any) -> Any:
    """As `channels_last` where the tiles are, on the CPU, and for enough pictures.

    PyTorch copies the weights of each convolution that it serves itself to the layout of the maps: for a few pictures
    that takes longer than the layout saves. The compiler chooses layouts itself, and may leave the batch open.
    """
    return channels_last(value) if _is_moved(value) else value


def _is_moved(value: Any) -> bool:
    if not _is_map(value) or value.device.type != "cpu" or torch.compiler.is_compiling() or is_transformed():
        return False
    return len(value) >= _MANY_PICTURES and not value.is_contiguous(memory_format=torch.channels_last)


def came(*values: Any) -> torch.memory_format | None:
    """The layout of the first batch of maps, in which maps go out as well; None where there is none.

    A transform (vmap, say) has a layout of its own, which is let be.
    """
    first = next(filter(_is_map, values), None)
    return None if first is None or is_transformed() else memory_format_of(first)


def came_to_be_moved(*values: Any) -> torch.memory_format | None:
    """As `came`, where `pictures` moves maps; else None, for then they go out as PyTorch's own operators lay them."""
    return came(*values) if any(_is_moved(value) for value in values) else None


def as_they_came(layout: torch.memory_format | None, values: Any) -> Any:
    """What a program gives, with the maps in the layout that `came` told."""
    if layout is None:
        return values

    def laid(value: Any) -> Any:
        return value.contiguous(memory_format=layout) if _is_map(value) else value

    return laid(values) if isinstance(values, Tensor) else tree_map(laid, values)


ENTRIES: Mapping[Layout, Callable[[Any], Any]] = {
    "contiguous": contiguous,
    "channels_last": channels_last,
    "pictures": pictures,
}


def usual_layout(graph: fx.Graph, blocks: Sequence[Block], stages: Sequence[Stage]) -> Layout:
    """The layout of a program where nothing was measured.

    Tiles read and write channels last, and copy what lies otherwise on the way in and out. So where a program has any,
    and all that comes in are pictures of a few channels for convolutions (those fused with their pools read any
    layout), these are laid channels last. Elsewhere maps stay as they come; but one channel lies in both layouts at
    once, and what a fused block then gives has to be laid as PyTorch would lay it, if it goes out.
    """
    turned = [block for block in blocks if block.rule.kinds[0] == "conv2d" and "pool2d" in block.rule.kinds]
    fused = {stage.node for block in turned for stage in block.stages}
    first = {stage.node for stage in stages if _reads_few_channels(stage)} - fused
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    given = inputs and all(set(node.users) and set(node.users) <= first for node in inputs)
    tiled = any(block.rule.tiled for block in blocks)
    if given and tiled and not any(_asks(node) for node in graph.nodes):
        return "pictures"
    return "given" if turned and _may_give_maps(graph, {stage.node: stage for stage in stages}) else ""


def _may_give_maps(graph: fx.Graph, stages: Mapping[fx.Node, Stage]) -> bool:
    (output,) = (node for node in graph.nodes if node.op == "output")
    return not all(_is_row(node, stages) for node in output.all_input_nodes)


def _is_row(node: fx.Node, stages: Mapping[fx.Node, Stage]) -> bool:
    """Whether ``node`` certainly is a vector for each picture."""
    while (stage := stages.get(node)) is not None and stage.kind in ("act", "dropout"):
        node = stage.input
    return stage is not None and stage.kind in ("flatten", "linear", "mean", "flat_mean")


def _reads_few_channels(stage: Stage) -> bool:
    weight = stage.facts.get("weight")
    return stage.kind == "conv2d" and isinstance(weight, Tensor) and weight.shape[1] <= _FEW_CHANNELS


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
