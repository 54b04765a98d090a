"""Convolution, alone or with a ReLU behind it: 3x3 and 5x5 kernels by Winograd's algorithm where it is
quicker."""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple
from switchgrad.ops.convolution import registration as registration
from switchgrad.ops.convolution.autograd import WinogradConv
from switchgrad.ops.convolution.choice import Algorithm, check_algorithm, is_beyond_kernels, obstacle, tile_for
from switchgrad.ops.override import overridable

__all__ = ["conv2d", "conv_bias_relu", "why_not_winograd"]

ConvPadding: TypeAlias = "IntOrTuple | str"


@overridable()
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrTuple = 1,
    padding: ConvPadding = 0,
    dilation: IntOrTuple = 1,
    groups: int = 1,
    *,
    algorithm: Algorithm = "auto",
) -> Tensor:
    r"""``torch.nn.functional.conv2d``, for 3x3 and 5x5 kernels with less arithmetic.

    Shapes: ``input`` (N, C, H, W) or (C, H, W), ``weight`` (K, C / groups, R, S), ``bias`` (K) or None, the result
    (N, K, P, Q) in the layout of the input; ``stride``, ``padding``, ``dilation`` and ``groups`` as in PyTorch.

    Kernels of 3x3 or 5x5 taps with stride 1, no dilation and no groups, float32 or float64 on the CPU, may be computed
    by Winograd's algorithm in tiles of :math:`m \times m` outputs, forward and backward:

    .. math:: Y = A^\top \Big[ \sum_c (G\, w_{k,c}\, G^\top) \odot (B^\top x_c\, B) \Big] A

    which takes fewer products than the dense sum: 2.25 (:math:`m = 2`) or 4 times (:math:`m = 4`) for 3x3 taps, 2.8 or
    6.25 times for 5x5. ``algorithm`` says
    what is used: ``"auto"`` estimates the costs and takes the cheapest; ``"winograd2"`` and ``"winograd4"`` fix the
    tiles; ``"direct"`` is PyTorch's convolution, which also serves every call that the algorithm cannot
    (`why_not_winograd` says why). The kernels read channels last; other layouts are copied on the way in and out.

    Rounding, against float64, in errors of the plain sum: of 3x3 taps, tiles of 2 err as little, and tiles of 4, with
    the points 0, ±2/3, ±4/3, about 2 times as much in the mean (the usual points 0, ±1, ±2: 5 times); of 5x5 taps,
    tiles of 2 err 1.5 times as much (the same points), tiles of 4 about 5 times (0, ±1/2, ±1, ±2). Sums of whole
    numbers are exact in tiles of 2 for 3x3 taps. Where a number is not finite, PyTorch's convolution is used, so that
    NaN and infinities stay where they belong.

    Backward: the gradient of the input is the convolution of the gradient with the turned filters, in the same tiles;
    that of the weight :math:`G^\top \big[ \sum (B^\top x\, B) \odot (A\, \partial Y A^\top) \big] G`. Deterministic,
    whatever the number of threads. Twice differentiable; forward mode and ``torch.func`` use PyTorch's convolution.

    Raises `GeometryError` for an unknown algorithm, or one that was asked for by name and cannot serve the call.

    Winograd: Arithmetic complexity of computations (1980). Lavin and Gray: Fast algorithms for convolutional neural
    networks (2016). Barabasz and others: Error analysis and improving the accuracy of Winograd convolution (2020).

    >>> import torch
    >>> x, w = torch.rand(2, 16, 8, 8), torch.rand(32, 16, 3, 3, requires_grad=True)
    >>> y = conv2d(x, w, padding=1, algorithm="winograd4")
    >>> torch.allclose(y, torch.nn.functional.conv2d(x, w, padding=1), rtol=1e-4)
    True
    >>> y.sum().backward()
    >>> w.grad.shape
    torch.Size([32, 16, 3, 3])
    """
    return _convolved(input, weight, bias, stride, padding, dilation, groups, algorithm, False)


def _in_steps(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrTuple = 1,
    padding: ConvPadding = 0,
    dilation: IntOrTuple = 1,
    groups: int = 1,
    *,
    algorithm: Algorithm = "auto",
) -> Tensor:
    """What `conv_bias_relu` is made of, for modes that change its parts."""
    return F.relu(conv2d(input, weight, bias, stride, padding, dilation, groups, algorithm=algorithm))


@overridable(unfused=_in_steps)
def conv_bias_relu(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrTuple = 1,
    padding: ConvPadding = 0,
    dilation: IntOrTuple = 1,
    groups: int = 1,
    *,
    algorithm: Algorithm = "auto",
) -> Tensor:
    """``relu(conv2d(input, weight, bias))``: the bias and the ReLU on the way out of Winograd's tiles.

    Shapes, arguments, rounding and errors as for `conv2d`. NaN passes, as in PyTorch; the gradient at 0 is 0. Kept for
    the backward: input, weight and output.

    >>> import torch
    >>> conv_bias_relu(torch.ones(1, 1, 3, 3), -torch.ones(1, 1, 3, 3), torch.tensor([10.0]), padding=1)[0, 0]
    tensor([[6., 4., 6.],
            [4., 1., 4.],
            [6., 4., 6.]])
    """
    return _convolved(input, weight, bias, stride, padding, dilation, groups, algorithm, True)


def why_not_winograd(
    input: Tensor,
    weight: Tensor,
    stride: IntOrTuple = 1,
    padding: ConvPadding = 0,
    dilation: IntOrTuple = 1,
    groups: int = 1,
) -> str | None:
    """Why Winograd's algorithm cannot serve a call with these tensors; None where it can.

    >>> import torch
    >>> why_not_winograd(torch.rand(1, 4, 8, 8), torch.rand(4, 4, 7, 7))
    'the kernel has 7x7 taps and not 3x3 or 5x5'
    >>> why_not_winograd(torch.rand(1, 4, 8, 8), torch.rand(4, 4, 3, 3)) is None
    True
    """
    return obstacle(input, weight, _two(stride), _pads(padding, weight), _two(dilation), groups)


def _convolved(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: IntOrTuple,
    padding: ConvPadding,
    dilation: IntOrTuple,
    groups: int,
    algorithm: Algorithm,
    relu: bool,
) -> Tensor:
    check_algorithm(algorithm)
    pads = _pads(padding, weight)
    found = obstacle(input, weight, _two(stride), pads, _two(dilation), groups)
    if found is not None and algorithm in ("winograd2", "winograd4"):
        raise GeometryError(f'algorithm is "{algorithm}", and {found}; give "auto" or "direct"')
    if found is None and _fits(input, weight, bias, pads) and not is_beyond_kernels():
        batched = input if input.dim() == 4 else input.unsqueeze(0)
        tile = tile_for(batched, weight, pads, algorithm)
        if tile:
            values = _by_tiles(batched, weight, bias, list(pads), relu, tile)
            return values if input.dim() == 4 else values.squeeze(0)
    values = F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    return F.relu(values) if relu else values


def _by_tiles(input: Tensor, weight: Tensor, bias: Tensor | None, pads: list[int], relu: bool, tile: int) -> Tensor:
    watched = torch.compiler.is_compiling() or (
        torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (input, weight, bias))
    )
    call = WinogradConv.apply if watched else torch.ops.switchgrad.winograd_conv
    return call(input, weight, bias, pads, relu, tile)


def _fits(input: Tensor, weight: Tensor, bias: Tensor | None, pads: tuple[int, int]) -> bool:
    """Whether PyTorch would take these shapes; what it refuses, it refuses in its own words."""
    return (
        input.dim() in (3, 4)
        and weight.shape[0] > 0
        and weight.shape[1] == input.shape[-3] > 0
        and (bias is None or (tuple(bias.shape) == tuple(weight.shape[:1]) and bias.dtype == input.dtype))
        and all(p >= 0 and n + 2 * p >= weight.shape[2] for n, p in zip(input.shape[-2:], pads, strict=True))
    )


def _two(value: IntOrTuple) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    return pair if len(pair) == 2 else (pair[0], pair[0])


def _pads(padding: ConvPadding, weight: Tensor) -> tuple[int, int]:
    """The padding of rows and of columns of a square kernel; below 0 for a word that PyTorch will refuse."""
    if isinstance(padding, str):
        both = {"same": weight.shape[-1] // 2, "valid": 0}.get(padding, -1)
        return both, both
    return _two(padding)
