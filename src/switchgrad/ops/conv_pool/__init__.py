"""Convolution, bias, ReLU and max pooling in one pass, whose backward follows the switches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import MOST, IntOrTuple, Padding, Window, window
from switchgrad.kernels.cuda import DEVICES
from switchgrad.ops.checks import FLOATS, check_tensor, count, number
from switchgrad.ops.conv_pool import registration as registration
from switchgrad.ops.conv_pool.autograd import ConvArgs, ConvMaxPool
from switchgrad.ops.conv_pool.reference import padded
from switchgrad.ops.max_pool import Pooled, max_pool2d
from switchgrad.ops.override import overridable
from switchgrad.ops.relu_max_pool import relu_max_pool2d
from switchgrad.ops.routing import is_transformed, window_args
from switchgrad.ops.switches import Switches

__all__ = ["conv_max_pool2d", "conv_relu_max_pool2d", "why_not_fused"]


def _in_steps(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    groups: int = 1,
    pool_size: IntOrTuple = 2,
    pool_stride: IntOrTuple | None = None,
    pool_padding: Padding = 0,
    pool_dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    negative_slope: float = 0.0,
    return_switches: bool = False,
) -> Pooled:
    """What `conv_relu_max_pool2d` is made of, for modes that change its parts."""
    z = _Block(input, weight, bias, stride, padding, dilation, groups, True).convolved()
    active = F.relu(z) if negative_slope == 0 else F.leaky_relu(z, negative_slope)
    pooling = (pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode)
    return max_pool2d(active, *pooling, return_switches=return_switches)


def _in_steps_without_relu(*arguments: Any, **options: Any) -> Pooled:
    return _in_steps(*arguments, **options, negative_slope=1.0)  # which leaves every number as it is


@overridable(unfused=_in_steps)
def conv_relu_max_pool2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    groups: int = 1,
    pool_size: IntOrTuple = 2,
    pool_stride: IntOrTuple | None = None,
    pool_padding: Padding = 0,
    pool_dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    negative_slope: float = 0.0,
    return_switches: bool = False,
) -> Pooled:
    r"""``max_pool2d(relu(conv2d(input, weight, bias)))`` in one pass, whose backward visits winners alone.

    Shapes: ``input`` (N, C, H, W) or (C, H, W), ``weight`` (K, C / groups, R, S), ``bias`` (K) or None, the result
    (N, K, P, Q) in the layout of the input (one channel
    lies in both layouts; the result is then channels last). ``stride``, ``padding`` (also asymmetric, ``"same"``,
    ``"valid"``), ``dilation`` and ``groups`` are those of ``torch.nn.functional.conv2d``; ``pool_size`` to
    ``ceil_mode`` those of `max_pool2d`; ``negative_slope`` makes the ReLU leaky, as in `relu_max_pool2d`.

    .. math:: y_{n,k} = \max_{\text{window}}\, \mathrm{relu}\Big(b_k + \sum_{c,r,s} w_{k,c,r,s}\, x_{n,c,\,\cdot + r,\,
        \cdot + s}\Big)

    The fused kernel serves float32 and float64 on the CPU without groups and dilation: a window's convolution outputs
    meet in registers, and only the winner and one byte are written. Rows and columns that no window looks at are not
    computed. Where it costs less, the outputs come out of Winograd's tiles and round as `conv2d` says: for kernels of
    up to 5x5 taps, and for larger ones with steps, which are fewer taps on more channels (11x11 by 4: 3x3 on 16 times).
    On CUDA, in every dtype, one kernel does all that follows cuDNN's convolution, whose maps are not kept. Everything
    else is the same function in two steps (`why_not_fused` says which and why).

    Ties, NaN and dead windows as in `relu_max_pool2d`; sums are rounded in another order than PyTorch's, so that
    where two outputs of a window differ by rounding alone, either may win.

    Backward: with switch :math:`i^*(n, k, p, q)`, :math:`\partial L / \partial w_k = \sum g\, x[\text{patch of } i^*]`
    and :math:`\partial L / \partial x[\text{patch of } i^*] \mathrel{+}= g\, w_k` over the winners that passed the
    ReLU: at most a quarter of the dense work for 2 x 2 windows. An input that needs no gradient costs none. A
    gradient of exactly 0 is skipped. Deterministic, whatever the number of threads. Kept: the input, the weight, and
    one byte a pooled cell. Twice differentiable; under ``torch.func`` transforms and forward mode the two steps run.

    Raises `GeometryError` where shapes and windows do not fit.

    Zeiler and Fergus: Visualizing and understanding convolutional networks (2014), for the switches.

    >>> import torch
    >>> x, w = torch.rand(2, 3, 8, 8), torch.rand(4, 3, 3, 3, requires_grad=True)
    >>> y = conv_relu_max_pool2d(x, w, padding=1)
    >>> y.shape, torch.allclose(y, torch.nn.functional.max_pool2d(torch.relu(torch.conv2d(x, w, padding=1)), 2))
    (torch.Size([2, 4, 4, 4]), True)
    >>> y.sum().backward()
    >>> w.grad.shape
    torch.Size([4, 3, 3, 3])
    """
    if not 0 <= number(negative_slope, "negative_slope") < math.inf:
        raise GeometryError(
            f"negative_slope is {negative_slope}; the maximum commutes with finite slopes of 0 or more, so give one "
            "or call conv2d, the activation and max_pool2d"
        )
    block = _Block(input, weight, bias, stride, padding, dilation, groups, True)
    pooling = (pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode)
    if negative_slope == 0:
        return block.run(pooling, return_switches)
    block.relu = False
    out = block.run(pooling, return_switches)
    if return_switches:
        return F.leaky_relu(out[0], negative_slope), out[1]
    return F.leaky_relu(out, negative_slope)


@overridable(unfused=_in_steps_without_relu)
def conv_max_pool2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    groups: int = 1,
    pool_size: IntOrTuple = 2,
    pool_stride: IntOrTuple | None = None,
    pool_padding: Padding = 0,
    pool_dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    return_switches: bool = False,
) -> Pooled:
    """``max_pool2d(conv2d(input, weight, bias))`` in one pass: `conv_relu_max_pool2d` without the ReLU.

    Shapes, arguments, backward and errors as there; ties and NaN as in `max_pool2d`.

    >>> import torch
    >>> conv_max_pool2d(torch.ones(1, 1, 4, 4), -torch.ones(1, 1, 3, 3), pool_size=2)
    tensor([[[[-9.]]]])
    """
    block = _Block(input, weight, bias, stride, padding, dilation, groups, False)
    return block.run((pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode), return_switches)


def why_not_fused(
    input: Tensor, weight: Tensor, *, dilation: IntOrTuple = 1, groups: int = 1, pool_cells: int = 4
) -> str | None:
    """Why a call with these tensors takes two steps instead of the fused kernel; None where it is fused.

    >>> import torch
    >>> x = torch.rand(1, 4, 8, 8)
    >>> why_not_fused(x, torch.rand(4, 2, 3, 3), groups=2)
    'the convolution has 2 groups'
    >>> why_not_fused(x, torch.rand(4, 4, 3, 3)) is None
    True
    """
    found = _obstacle(input, weight, dilation, groups, pool_cells)
    return None if found is None else str(found[0]).format(*found[1:])


_LARGEST = 1 << 26


def _obstacle(
    input: Tensor, weight: Tensor, dilation: IntOrTuple, groups: int, pool_cells: int
) -> tuple[Any, ...] | None:
    """A sentence and what it tells of, put together only for those who ask: the compiler may leave integers open."""
    if groups != 1:
        return "the convolution has {} groups", groups
    if any(d != 1 for d in ((dilation,) if isinstance(dilation, int) else dilation)):
        return "the convolution has dilation {}", dilation
    device = input.device.type
    if device not in DEVICES or weight.device.type != device:
        return "the kernels are for the CPU and, where Triton is installed, for CUDA, and this is {}", input.device
    if weight.dtype != input.dtype or (device == "cpu" and input.dtype not in (torch.float32, torch.float64)):
        return "the kernel takes float32 or float64, and these are {} and {}", input.dtype, weight.dtype
    if pool_cells > 254:
        return "the pooling window has {} cells, and a byte names up to 254", pool_cells
    if torch.is_autocast_enabled(device):
        return ("autocast is on",)
    if is_transformed():
        return ("a torch.func transform or forward mode is active",)
    if max(weight.numel(), input.numel() // max(input.shape[0], 1)) > _LARGEST:
        return ("the weight or an image is beyond the kernel's 32-bit addresses",)
    return None


class _Geometry(NamedTuple):
    """What the sizes and settings of a convolution come to; ``beyond`` is padding that is done beforehand."""

    size: tuple[int, ...]
    conv: ConvArgs
    dilation: tuple[int, ...]
    beyond: tuple[int, int] | None


def _geometry(
    shape: Sequence[int],
    weight_shape: Sequence[int],
    bias_shape: Sequence[int] | None,
    stride: IntOrTuple,
    padding: Padding,
    dilation: IntOrTuple,
    groups: int,
) -> _Geometry:
    if len(shape) not in (3, 4) or len(weight_shape) != 4:
        raise GeometryError(
            f"the input has shape {tuple(shape)} and the weight {tuple(weight_shape)}; give an input of 4 "
            "axes (3 without a batch) and a weight of 4"
        )
    if weight_shape[0] == 0:
        raise GeometryError(f"the weight of shape {tuple(weight_shape)} has no filters; give at least 1")
    channels = shape[-3]
    if groups < 1 or channels == 0 or weight_shape[1] * groups != channels or weight_shape[0] % groups:
        raise GeometryError(
            f"the input has {channels} channels, the weight is of shape {tuple(weight_shape)} and groups is "
            f"{groups}; the weight's second axis times groups must be the channels, and groups must divide the "
            f"{weight_shape[0]} filters"
        )
    if bias_shape is not None and tuple(bias_shape) != (weight_shape[0],):
        raise GeometryError(
            f"the bias has shape {tuple(bias_shape)}; give one number for each of the {weight_shape[0]} filters"
        )
    beyond, padding = _within_span(weight_shape[2:], padding, dilation)
    rows, columns = beyond or (0, 0)
    size = (shape[-2] + 2 * rows, shape[-1] + 2 * columns)
    conv = window(2, tuple(weight_shape[2:]), stride, padding, dilation, False, size)
    return _Geometry(conv.output_size(size), (list(conv.stride), conv.flat_padding), conv.dilation, beyond)


def _pooling(
    size: tuple[int, ...],
    kernel: IntOrTuple,
    stride: IntOrTuple | None,
    padding: Padding,
    dilation: IntOrTuple,
    ceil_mode: bool,
) -> Window:
    found = window(2, kernel, stride, padding, dilation, ceil_mode, size)
    found.output_size(size)
    return found


_cached_geometry = lru_cache(maxsize=512, typed=True)(_geometry)
_cached_pooling = lru_cache(maxsize=512, typed=True)(_pooling)


def _remembered(cached: Callable[..., Any], plain: Callable[..., Any], *arguments: Any) -> Any:
    """What ``plain`` gives: a call of a small block spends more on finding it out than on its kernel."""
    if torch.compiler.is_compiling():  # its tracer warns of caches
        return plain(*arguments)
    try:
        return cached(*arguments)
    except TypeError:  # a list, or a size that is a symbol
        return plain(*arguments)


class _Block:
    """One call: the tensors and the convolution's arguments, checked."""

    def __init__(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: IntOrTuple,
        padding: Padding,
        dilation: IntOrTuple,
        groups: int,
        relu: bool,
    ) -> None:
        for given, name in ((input, "the input"), (weight, "weight"), (bias, "bias")):
            if given is not None or name != "bias":
                check_tensor(given, name)
        count(groups, "groups", least=-MOST)  # too small is said with the channels
        if input.dtype not in FLOATS:
            raise GeometryError(
                f"the input has dtype {input.dtype}; a convolution takes float64, float32, float16 or bfloat16"
            )
        shapes = input.shape, weight.shape, None if bias is None else bias.shape
        found = _remembered(_cached_geometry, _geometry, *shapes, stride, padding, dilation, groups)
        self.size, self.conv, self.dilation, beyond = found
        if beyond is not None:
            input = padded(input, (beyond[0], beyond[0], beyond[1], beyond[1]))
        self.groups = groups
        self.input, self.weight, self.bias, self.relu = input, weight, bias, relu

    def run(
        self, pooling: tuple[IntOrTuple, IntOrTuple | None, Padding, IntOrTuple, bool], return_switches: bool
    ) -> Pooled:
        win: Window = _remembered(_cached_pooling, _pooling, self.size, *pooling)
        if _obstacle(self.input, self.weight, self.dilation, self.groups, win.cells):
            return self._in_steps(pooling, return_switches)
        values, codes = self._fused(win)
        if not return_switches:
            return values
        return values, Switches(codes.contiguous(memory_format=_format_of(values)), win, tuple(self.size))

    def _in_steps(
        self, pooling: tuple[IntOrTuple, IntOrTuple | None, Padding, IntOrTuple, bool], return_switches: bool
    ) -> Pooled:
        pool = relu_max_pool2d if self.relu else max_pool2d
        return pool(self.convolved(), *pooling, return_switches=return_switches)

    def convolved(self) -> Tensor:
        """The convolution alone."""
        stride, padding = self.conv
        return F.conv2d(
            padded(self.input, padding), self.weight, self.bias, tuple(stride), 0, self.dilation, self.groups
        )

    def _fused(self, win: Window) -> tuple[Tensor, Tensor]:
        tensors = (self.input, self.weight, self.bias)
        batched = self.input.dim() == 4
        input = self.input if batched else self.input.unsqueeze(0)
        if torch.compiler.is_compiling() or (
            torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
        ):
            values, codes = ConvMaxPool.apply(input, self.weight, self.bias, self.conv, win, self.relu)
        else:
            values, codes = torch.ops.switchgrad.conv_max_pool(
                input, self.weight, self.bias, *self.conv, *window_args(win), self.relu
            )
        return (values, codes) if batched else (values.squeeze(0), codes.squeeze(0))


def _within_span(
    kernel: Sequence[int], padding: Padding, dilation: IntOrTuple
) -> tuple[tuple[int, int] | None, Padding]:
    """Padding beyond the span of the kernel, which windows refuse and convolutions allow, and what is left."""
    pads, steps = _two_integers(padding), _two_integers(dilation)
    if pads is None or steps is None:
        return None, padding
    most = [d * (r - 1) for d, r in zip(steps, kernel, strict=True)]
    rows, columns = (max(p - m, 0) for p, m in zip(pads, most, strict=True))
    if not rows and not columns:
        return None, padding
    return (rows, columns), [pads[0] - rows, pads[1] - columns]


def _two_integers(value: object) -> list[int] | None:
    if isinstance(value, int):
        return [value, value]
    if isinstance(value, (tuple, list)):
        found = [v for v in cast("Sequence[object]", value) if isinstance(v, int)]
        return found if len(found) == len(cast("Sequence[object]", value)) == 2 else None
    return None


def _format_of(tensor: Tensor) -> torch.memory_format:
    last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last and not tensor.is_contiguous() else torch.contiguous_format
