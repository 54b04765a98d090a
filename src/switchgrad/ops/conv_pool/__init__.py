"""Convolution, bias, ReLU and max pooling in one pass, whose backward follows the switches."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from switchgrad.ops.conv_pool.autograd import Arguments, ConvMaxPool
from switchgrad.ops.conv_pool.reference import padded
from switchgrad.ops.max_pool import Pooled, max_pool2d
from switchgrad.ops.override import overridable
from switchgrad.ops.relu_max_pool import relu_max_pool2d
from switchgrad.ops.routing import is_transformed
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
    pooling = (pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode)
    z = _convolved(input, weight, bias, _plan_of(input, weight, bias, (stride, padding, dilation, groups), pooling))
    active = F.relu(z) if negative_slope == 0 else F.leaky_relu(z, negative_slope)
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
    pooling = (pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode)
    convolution = (stride, padding, dilation, groups)
    out = _pooled(input, weight, bias, convolution, pooling, negative_slope == 0, return_switches)
    if negative_slope == 0:
        return out
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
    pooling = (pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode)
    convolution = (stride, padding, dilation, groups)
    return _pooled(input, weight, bias, convolution, pooling, False, return_switches)


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
    found = _obstacle(_kind(input), _kind(weight), dilation, groups, pool_cells) or _passing_obstacle(input.device.type)
    return None if found is None else str(found[0]).format(*found[1:])


_LARGEST = 1 << 26
_Kind = tuple[Sequence[int], torch.dtype, torch.device]
_Convolution = tuple[IntOrTuple, Padding, IntOrTuple, int]
_Pooling = tuple[IntOrTuple, "IntOrTuple | None", Padding, IntOrTuple, bool]


def _kind(tensor: Tensor) -> _Kind:
    return tensor.shape, tensor.dtype, tensor.device


def _obstacle(
    input: _Kind, weight: _Kind, dilation: IntOrTuple, groups: int, pool_cells: int
) -> tuple[Any, ...] | None:
    """A sentence and what it tells of, put together only for those who ask: the compiler may leave integers open."""
    (shape, dtype, device), (weight_shape, weight_dtype, weight_device) = input, weight
    if groups != 1:
        return "the convolution has {} groups", groups
    if any(d != 1 for d in ((dilation,) if isinstance(dilation, int) else dilation)):
        return "the convolution has dilation {}", dilation
    if device.type not in DEVICES or weight_device.type != device.type:
        return "the kernels are for the CPU and, where Triton is installed, for CUDA, and this is {}", device
    if weight_dtype != dtype or (device.type == "cpu" and dtype not in (torch.float32, torch.float64)):
        return "the kernel takes float32 or float64, and these are {} and {}", dtype, weight_dtype
    if pool_cells > 254:
        return "the pooling window has {} cells, and a byte names up to 254", pool_cells
    if max(math.prod(weight_shape), math.prod(shape[1:])) > _LARGEST:
        return ("the weight or an image is beyond the kernel's 32-bit addresses",)
    return None


def _passing_obstacle(device: str) -> tuple[Any, ...] | None:
    """What stands in the way of a call only while a mode is on."""
    if torch.is_autocast_enabled(device):
        return ("autocast is on",)
    if is_transformed():
        return ("a torch.func transform or forward mode is active",)
    return None


class _Plan(NamedTuple):
    """What the sizes, kinds and settings of a call come to; ``beyond`` is padding that is done beforehand."""

    size: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    beyond: list[int] | None
    window: Window
    arguments: Arguments
    device: str
    is_fusible: bool


def _plan(
    shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
    weight_shape: Sequence[int],
    weight_dtype: torch.dtype,
    weight_device: torch.device,
    bias_shape: Sequence[int] | None,
    stride: IntOrTuple,
    padding: Padding,
    dilation: IntOrTuple,
    groups: int,
    *pooling: Any,
) -> _Plan:
    count(groups, "groups", least=-MOST)  # too small is said with the channels
    if dtype not in FLOATS:
        raise GeometryError(f"the input has dtype {dtype}; a convolution takes float64, float32, float16 or bfloat16")
    _check_shapes(shape, weight_shape, bias_shape, groups)
    beyond, padding = _within_span(weight_shape[2:], padding, dilation)
    rows, columns = beyond or (0, 0)
    padded_size = (shape[-2] + 2 * rows, shape[-1] + 2 * columns)
    conv = window(2, tuple(weight_shape[2:]), stride, padding, dilation, False, padded_size)
    size = conv.output_size(padded_size)
    pool = pool_window(*cast("_Pooling", pooling), size)
    pool.output_size(size)
    image = (1, *shape[-3:-2], *padded_size)
    kinds = (image, dtype, device), (weight_shape, weight_dtype, weight_device)
    return _Plan(
        size,
        conv.dilation,
        groups,
        None if beyond is None else [rows, rows, columns, columns],
        pool,
        (list(conv.stride), conv.flat_padding, pool.numbers),
        device.type,
        _obstacle(*kinds, dilation, groups, pool.cells) is None,
    )


def pool_window(
    pool_size: IntOrTuple,
    pool_stride: IntOrTuple | None,
    pool_padding: Padding,
    pool_dilation: IntOrTuple,
    ceil_mode: bool,
    size: Sequence[int],
) -> Window:
    """The pooling's window over maps of ``size``; what is wrong is said to be the pooling's."""
    try:
        return window(2, pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode, size)
    except GeometryError as error:
        raise GeometryError(f"of the pooling, {error}") from None


_cached_plan = lru_cache(maxsize=512, typed=True)(_plan)


def _check_shapes(
    shape: Sequence[int], weight_shape: Sequence[int], bias_shape: Sequence[int] | None, groups: int
) -> None:
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


def _pooled(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: _Convolution,
    pooling: _Pooling,
    relu: bool,
    return_switches: bool,
) -> Pooled:
    """A block's values, and its switches where wanted. Few calls of Python: of a small block they are most of it."""
    plan = _plan_of(input, weight, bias, convolution, pooling)
    if not plan.is_fusible or _passing_obstacle(plan.device):
        pool = relu_max_pool2d if relu else max_pool2d
        return pool(_convolved(input, weight, bias, plan), *pooling, return_switches=return_switches)
    if plan.beyond is not None:
        input = padded(input, plan.beyond)
    batched = input.dim() == 4
    if not batched:
        input = input.unsqueeze(0)
    watched = input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    if (watched and torch.is_grad_enabled()) or torch.compiler.is_compiling():
        values, codes = ConvMaxPool.apply(input, weight, bias, plan.arguments, plan.window, relu)
    else:
        values, codes = torch.ops.switchgrad.conv_max_pool(input, weight, bias, *plan.arguments, relu)
    if not batched:
        values, codes = values.squeeze(0), codes.squeeze(0)
    if not return_switches:
        return values
    return values, Switches(codes.contiguous(memory_format=_format_of(values)), plan.window, tuple(plan.size))


def _plan_of(input: Tensor, weight: Tensor, bias: Tensor | None, convolution: _Convolution, pooling: _Pooling) -> _Plan:
    """The plan of a call: finding it out takes longer than the kernel of a small block."""
    for given, name in ((input, "the input"), (weight, "weight"), (bias, "bias")):
        if given is not None or name != "bias":
            check_tensor(given, name)
    bias_shape = None if bias is None else bias.shape
    call = (*_kind(input), *_kind(weight), bias_shape, *convolution, *pooling)
    if torch.compiler.is_compiling():  # its tracer warns of caches
        return _plan(*call)
    try:
        return _cached_plan(*call)
    except TypeError:  # a list, or a size that is a symbol
        return _plan(*call)


def _convolved(input: Tensor, weight: Tensor, bias: Tensor | None, plan: _Plan) -> Tensor:
    """The convolution alone."""
    if plan.beyond is not None:
        input = padded(input, plan.beyond)
    stride, padding = plan.arguments[:2]
    return F.conv2d(padded(input, padding), weight, bias, tuple(stride), 0, plan.dilation, plan.groups)


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
