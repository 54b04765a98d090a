"""The switch map of a step: which cells won, for the max pooling layers and functions that say so."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from switchgrad import nn as sg_nn
from switchgrad import ops
from switchgrad.errors import GeometryError
from switchgrad.geometry import Window, window
from switchgrad.models.summarise.facts import window_of
from switchgrad.ops.switches import Switches
from switchgrad.probe.tracing.record import Winners

_POOLS = {1: ops.max_pool1d, 2: ops.max_pool2d, 3: ops.max_pool3d}
_ADAPTIVE = {1: functional.adaptive_max_pool1d, 2: functional.adaptive_max_pool2d, 3: functional.adaptive_max_pool3d}
_LAYERS: tuple[tuple[type[nn.Module], int], ...] = (
    *((kind, dims) for dims, kind in enumerate((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), 1)),
    *((kind, dims) for dims, kind in enumerate((sg_nn.MaxPool1d, sg_nn.MaxPool2d, sg_nn.MaxPool3d), 1)),
)
_ADAPTIVE_LAYERS = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)


def of_layer(layer: nn.Module, value: Tensor, result: Tensor, random: Tensor | None = None) -> Winners | None:
    """The winners of a layer that made ``result`` of ``value``; None where it is no max pooling.

    ``random`` is the state of PyTorch's generator from which it drew.
    """
    for kind, dims in _LAYERS:
        if isinstance(layer, kind):
            return _by_window(value, result, window_of(layer, tuple(value.shape[-dims:])))
    for dims, kind in enumerate(_ADAPTIVE_LAYERS, 1):
        if isinstance(layer, kind):
            return _adaptive(value, result, dims, cast("Any", layer).output_size)
    return _by_itself(layer, value, result, random) if hasattr(layer, "return_switches") else None


def _by_itself(layer: nn.Module, value: Tensor, result: Tensor, random: Tensor | None) -> Winners | None:
    """The switches that a layer of ours gives when it is asked for them."""
    twin = copy.copy(layer)
    twin.return_switches = True  # pyright: ignore[reportArgumentType]
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        if random is not None:
            torch.set_rng_state(random)
        found = twin(value)
    if not isinstance(found, tuple) or not _same(found[0], result):
        return None
    switches = found[1]
    if isinstance(switches, Switches):
        return Winners(switches.to_indices(), switches.input_size, switches.window, switches.codes)
    return Winners(switches.to_indices(), tuple(switches.input_size)) if hasattr(switches, "to_indices") else None


def of_function(
    name: str, arguments: tuple[tuple[Any, ...], dict[str, Any]], value: Tensor, result: Tensor
) -> Winners | None:
    """The winners of a call of ``max_poolNd`` or ``adaptive_max_poolNd``; None for every other function."""
    stem = name.removesuffix("_with_indices")
    if not stem.endswith(("max_pool1d", "max_pool2d", "max_pool3d")):
        return None
    dims = int(stem[-2])
    if stem.startswith("adaptive_"):
        return _adaptive(value, result, dims, _bound(("input", "output_size"), arguments)["output_size"])
    if not stem.startswith("max_pool"):
        return None
    given = _bound(("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"), arguments)
    stride = given.get("stride") or given["kernel_size"]
    size = tuple(value.shape[-dims:])
    try:
        win = window(
            dims,
            given["kernel_size"],
            stride,
            given.get("padding", 0),
            given.get("dilation", 1),
            bool(given.get("ceil_mode", False)),
            size,
        )
    except GeometryError:
        return None
    return _by_window(value, result, win)


def _bound(names: tuple[str, ...], arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> dict[str, Any]:
    """Arguments by name, as far as ``names`` go."""
    return {**dict(zip(names, arguments[0], strict=False)), **arguments[1]}


def _by_window(value: Tensor, result: Tensor, win: Window | None) -> Winners | None:
    if win is None or value.dim() not in (win.dims + 1, win.dims + 2):
        return None
    pooled, found = _POOLS[win.dims](
        value, win.kernel_size, win.stride, win.padding, win.dilation, win.ceil_mode, return_switches=True
    )
    switches = cast("Switches", found)
    if not _same(pooled, result):
        return None
    return Winners(switches.to_indices(), switches.input_size, win, switches.codes)


def _adaptive(value: Tensor, result: Tensor, dims: int, output_size: Any) -> Winners | None:
    pooled, indices = _ADAPTIVE[dims](value, output_size, return_indices=True)
    return Winners(indices, tuple(value.shape[-dims:])) if _same(pooled, result) else None


def _same(pooled: Tensor, result: Tensor) -> bool:
    """Winners are shown only where they explain what the step really put out."""
    return pooled.shape == result.shape and torch.equal(pooled.nan_to_num(), result.nan_to_num())
