"""The way from an operator to its Triton kernel: looked up when a CUDA tensor is first met, never before.

Triton comes with PyTorch's CUDA builds on Linux; elsewhere ``pip install "switchgrad[gpu]"`` adds it. Where it cannot
be imported, every operator runs on its reference in plain PyTorch, after one warning.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

from switchgrad.errors import NativeLibraryWarning
from switchgrad.kernels.schema import LIBRARY, REFERENCES

# Which module of `switchgrad.gpu` has the function of an operator's name.
MODULES = {
    "max_pool": "max_pool",
    "max_pool_values": "max_pool",
    "max_pool_route": "max_pool",
    "max_pool_place": "max_pool",
    "max_pool_gather": "max_pool",
    "max_pool_indices": "max_pool",
    "stochastic_pool": "random_pool",
    "max_pool_dropout": "random_pool",
    "placed_max_pool": "placed_pool",
    "placed_max_pool_route": "placed_pool",
    "avg_pool": "avg_pool",
    "avg_pool_spread": "avg_pool",
    "lp_pool": "lp_pool",
    "lp_pool_spread": "lp_pool",
    "adaptive_avg_pool": "adaptive_pool",
    "adaptive_avg_pool_spread": "adaptive_pool",
    "roi_align": "regions",
    "roi_align_spread": "regions",
    "roi_average": "regions",
    "roi_average_spread": "regions",
    "roi_max": "regions",
    "roi_max_route": "regions",
    "relu_max_pool": "blocks",
    "relu_max_pool_values": "blocks",
    "batch_norm_relu": "batch_norm",
    "batch_norm_relu_backward": "batch_norm",
    "batch_norm_relu_max_pool": "batch_norm",
    "batch_norm_relu_max_pool_values": "batch_norm",
    "batch_norm_relu_max_pool_backward": "batch_norm",
    "batch_norm_move": "batch_norm",
    "dropout": "dropout",
    "bias_relu_dropout": "dropout",
    "cross_entropy": "cross_entropy",
    "cross_entropy_values": "cross_entropy",
    "conv_max_pool": "conv_pool",
    "conv_max_pool_backward": "conv_pool",
}
# Devices on which operators run on kernels of ours, and so faster than in PyTorch's steps.
DEVICES = frozenset(("cpu", "cuda") if importlib.util.find_spec("triton") else ("cpu",))
_MISSING = (
    "triton cannot be imported ({}), so operators on CUDA tensors run on their slower references; "
    'install it with pip install "switchgrad[gpu]", and see `switchgrad info`'
)


def served_by(name: str) -> tuple[str, str]:
    """Which kernel serves an operator on CUDA, and why that one; nothing is imported to find out."""
    if name not in MODULES:
        return "reference (PyTorch)", "it has no Triton kernel"
    if importlib.util.find_spec("triton") is None:
        return "reference (PyTorch)", 'triton is not installed; pip install "switchgrad[gpu]" adds it'
    return "Triton", "triton is installed"


@cache
def _why_missing() -> str:
    """Why Triton cannot be used, in words; empty where it can."""
    try:
        importlib.import_module("triton")
    except ImportError as error:
        warnings.warn(_MISSING.format(error), NativeLibraryWarning, stacklevel=2)
        return str(error)
    return ""


@cache
def kernel(name: str) -> Callable[..., Any]:
    """What computes an operator on CUDA: its Triton kernel, or its reference where there is no Triton."""
    if _why_missing():
        return REFERENCES[name]
    return getattr(importlib.import_module(f"switchgrad.gpu.{MODULES[name]}"), name)


def _door(name: str) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        return kernel(name)(*args)

    return run


for _name in MODULES:
    LIBRARY.impl(_name, _door(_name), "CUDA")
