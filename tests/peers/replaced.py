"""Our pooling in the place of PyTorch's, so that what was written for PyTorch's runs on ours."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn import functional

from switchgrad import nn as layers
from switchgrad import ops

FUNCTIONS = (
    *(f"{kind}_pool{d}d" for kind in ("max", "avg", "lp", "adaptive_max", "adaptive_avg") for d in (1, 2, 3)),
    *(f"max_unpool{d}d" for d in (1, 2, 3)),
    "fractional_max_pool2d",
    "fractional_max_pool3d",
)
LAYERS = (
    *(f"{kind}Pool{d}d" for kind in ("Max", "Avg", "LP", "AdaptiveMax", "AdaptiveAvg") for d in (1, 2, 3)),
    *(f"MaxUnpool{d}d" for d in (1, 2, 3)),
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
)
WITH_INDICES = tuple(name for name in FUNCTIONS if "max_pool" in name)
_IN_TORCH = ("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "adaptive_avg_pool1d")  # torch.max_pool1d ...


def with_indices(name: str) -> Callable[..., Any]:
    """``torch.nn.functional.max_pool2d_with_indices`` and its kin."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(ops, name)(*args, **{**kwargs, "return_indices": True})

    return call


@contextmanager
def replaced() -> Generator[None]:
    """While this lasts, the pooling functions and layers of ``torch.nn`` are ours."""
    with ExitStack() as stack:
        for name in FUNCTIONS:
            stack.enter_context(mock.patch.object(functional, name, getattr(ops, name)))
        for name in WITH_INDICES:
            stack.enter_context(mock.patch.object(functional, f"{name}_with_indices", with_indices(name)))
        for name in _IN_TORCH:
            stack.enter_context(mock.patch.object(torch, name, getattr(ops, name)))
        for name in LAYERS:
            stack.enter_context(mock.patch.object(nn, name, getattr(layers, name)))
        yield


def differ(ours: Any, theirs: Any) -> bool:
    """Whether two results are others, in structure, in shape, in type, or by more than rounding."""
    if isinstance(theirs, torch.Tensor):
        alike = isinstance(ours, torch.Tensor) and ours.shape == theirs.shape and ours.dtype == theirs.dtype
        return not alike or not torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6, equal_nan=True)
    if isinstance(theirs, (tuple, list)):
        same = isinstance(ours, (tuple, list)) and len(ours) == len(theirs)
        return not same or any(differ(a, b) for a, b in zip(ours, theirs, strict=True))
    return False
