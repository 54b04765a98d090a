"""What a layer does to sizes, by its type: its window, its multiply-adds, what it keeps beside its activations.

Every function here looks a layer up in an explicit table of types and works on shapes alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

from torch import nn

from switchgrad import nn as sg_nn
from switchgrad.geometry import Window, window
from switchgrad.nn.mapped_conv import MappedConv2d
from switchgrad.nn.subsampling import TrainableSubsampling2d
from switchgrad.ops.layout import code_dtype

Shape: TypeAlias = tuple[int, ...]
Kinds: TypeAlias = tuple[type[nn.Module], ...]
Rule: TypeAlias = Callable[[Any, Shape, Shape], int]

_CONVOLUTIONS: dict[type[nn.Module], int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
_TRANSPOSED: Kinds = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_SWITCHED: dict[type[nn.Module], int] = {sg_nn.MaxPool1d: 1, sg_nn.MaxPool2d: 2, sg_nn.MaxPool3d: 3}
_POOLS: dict[type[nn.Module], int] = {
    nn.MaxPool1d: 1,
    nn.MaxPool2d: 2,
    nn.MaxPool3d: 3,
    nn.AvgPool1d: 1,
    nn.AvgPool2d: 2,
    nn.AvgPool3d: 3,
    nn.LPPool1d: 1,
    nn.LPPool2d: 2,
    nn.LPPool3d: 3,
}
_INDEXED: Kinds = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.FractionalMaxPool2d, nn.FractionalMaxPool3d),
)
_NORMALISATIONS: Kinds = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm),
)
_VIEWS: Kinds = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Sequential)


def window_of(layer: nn.Module, input_size: Shape) -> Window | None:
    """The window that ``layer`` slides over an input of this size per spatial axis; None where it slides none."""
    if isinstance(layer, MappedConv2d | TrainableSubsampling2d):
        return layer.window
    if (dims := _dims(layer, _SWITCHED)) == len(input_size):
        return _our_window(layer, dims, input_size)
    if _dims(layer, _CONVOLUTIONS) == len(input_size) or _dims(layer, _POOLS) == len(input_size):
        return _torch_window(layer, len(input_size), input_size)
    return None


def _dims(layer: nn.Module, table: dict[type[nn.Module], int]) -> int:
    """Spatial axes of the layer's kind in ``table``; -1 where it is of none."""
    return next((dims for kind, dims in table.items() if isinstance(layer, kind)), -1)


def _our_window(layer: Any, dims: int, input_size: Shape) -> Window:
    """The window of a pooling layer of `switchgrad.nn`, which takes every form that `geometry.window` reads."""
    return window(
        dims, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, input_size=input_size
    )


def _torch_window(layer: Any, dims: int, input_size: Shape) -> Window:
    """The window of a layer with PyTorch's attributes.

    Convolutions may pad by more than their span, which `geometry.window` refuses, so the forms are read here.
    """
    dilation = _axes(getattr(layer, "dilation", 1), dims)
    kernel = _axes(layer.kernel_size, dims)
    stride = _axes(kernel if layer.stride is None else layer.stride, dims)
    padding = getattr(layer, "padding", 0)
    if isinstance(padding, str):
        return window(dims, kernel, stride, cast("Any", padding), dilation, input_size=input_size)
    pads = tuple((cells, cells) for cells in _axes(padding, dims))
    return Window(kernel, stride, pads, dilation, bool(getattr(layer, "ceil_mode", False)))


def _axes(value: int | Sequence[int], dims: int) -> Shape:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * dims if len(values) == 1 else values


def misfit(window: Window, input_size: Shape) -> str:
    """Why the window does not divide an input exactly, or nothing where it does.

    >>> from switchgrad.geometry import window
    >>> misfit(window(1, 11, stride=4), (224,))
    '(224-11)/4+1 = 54.25 is not an integer'
    """
    for axis, size in enumerate(input_size):
        begin, end = window.padding[axis]
        stride = window.stride[axis]
        room = size + begin + end - window.effective[axis]
        if room % stride:
            padded = f"+{begin + end}" if begin + end else ""
            places = f"{room / stride + 1:.4f}".rstrip("0")
            return f"({size}-{window.effective[axis]}{padded})/{stride}+1 = {places} is not an integer"
    return ""


def macs_of(layer: nn.Module, input_shape: Shape, output_shape: Shape) -> int | None:
    """Multiply-adds of one call; shapes with their batch. 0 for layers without weights, None where no rule is known.

    Biases and plain sums (average pooling) multiply nothing and count 0. Normalisation counts one multiply-add a
    value, ``scale * x + shift``; its statistics are left out.
    """
    for kinds, rule in _MACS:
        if isinstance(layer, kinds):
            return rule(layer, input_shape, output_shape)
    return None if any(True for _ in layer.parameters()) else 0


def _convolution(layer: Any, _: Shape, outputs: Shape) -> int:
    return math.prod(outputs) * (layer.in_channels // layer.groups) * math.prod(layer.kernel_size)


def _transposed(layer: Any, inputs: Shape, _: Shape) -> int:
    return math.prod(inputs) * (layer.out_channels // layer.groups) * math.prod(layer.kernel_size)


def _mapped(layer: Any, _: Shape, outputs: Shape) -> int:
    return layer.weight.numel() * math.prod(outputs) // layer.out_channels


def _linear(layer: Any, _: Shape, outputs: Shape) -> int:
    return layer.in_features * math.prod(outputs)


def _bilinear(layer: Any, _: Shape, outputs: Shape) -> int:
    return layer.in1_features * layer.in2_features * math.prod(outputs)


def _recurrent(layer: Any, inputs: Shape, _: Shape) -> int:
    """Every weight matrix once per step of the sequence and row of the batch."""
    return math.prod(inputs[:-1]) * sum(weight.numel() for weight in layer.parameters() if weight.dim() == 2)


def _per_output(_layer: Any, _: Shape, outputs: Shape) -> int:
    return math.prod(outputs)


def _none(_layer: Any, _: Shape, _outputs: Shape) -> int:
    return 0


_MACS: tuple[tuple[Kinds, Rule], ...] = (
    (tuple(_CONVOLUTIONS), _convolution),
    (_TRANSPOSED, _transposed),
    ((MappedConv2d,), _mapped),
    ((nn.Linear,), _linear),
    ((nn.Bilinear,), _bilinear),
    ((nn.RNNBase,), _recurrent),
    ((*_NORMALISATIONS, TrainableSubsampling2d), _per_output),
    ((nn.Embedding, nn.EmbeddingBag, nn.PReLU), _none),
)


def is_known(layer: nn.Module) -> bool:
    """Whether there is a rule for the weights of ``layer``, so that it is one row whatever it holds inside."""
    return any(isinstance(layer, kinds) for kinds, _ in _MACS)


def switch_bytes(layer: nn.Module, values: int) -> int:
    """Bytes in which a max pooling layer remembers the winners of its ``values`` outputs for the backward pass.

    Ours keeps a switch of one byte (windows up to 254 cells, then two or four), PyTorch's an index of
    eight. 0 for every other layer.
    """
    if (dims := _dims(layer, _SWITCHED)) > 0:
        cells = math.prod(_axes(cast("Any", layer).kernel_size, dims))
        return values * code_dtype(cells).itemsize
    return values * 8 if isinstance(layer, _INDEXED) else 0


def is_view(layer: nn.Module) -> bool:
    """Whether the output lies in the memory of the input: reshaping, ``inplace=True``, a Sequential of nothing."""
    return isinstance(layer, _VIEWS) or bool(getattr(layer, "inplace", False))
