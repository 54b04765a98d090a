"""Tensors within the arguments and results of modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with every tensor in plain tuples, lists and dictionaries changed; anything else stays as it is.

    >>> import torch
    >>> mapped({"a": (torch.ones(1), "b")}, lambda tensor: tensor + 1)
    {'a': (tensor([2.]), 'b')}
    """
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(mapped(item, change) for item in cast("list[Any]", value))
    if type(value) is dict:
        return {key: mapped(item, change) for key, item in cast("dict[Any, Any]", value).items()}
    return value
