"""The table of what runs instead of what: a chain of operations, and the fused operator that does it in one pass.

A rule is here only if a fused operator of ours (or the folding of a normalisation) really runs. ``kinds`` name the
chain from left to right; an activation that follows a pool is looked up as if it came before, since both are
monotone: max(relu(x)) = relu(max(x)), and their gradients agree as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad import ops
from switchgrad.fusion.linear_rules import LATE, LINEAR_RULES
from switchgrad.fusion.normalising import Norm, normalise
from switchgrad.fusion.rule import Rule, needs_library
from switchgrad.fusion.stages import POOLS, Stage
from switchgrad.kernels.cuda import DEVICES
from switchgrad.ops.convolution import why_not_winograd


def _pool(dims: int) -> Rule:
    ours: Any = getattr(ops, f"max_pool{dims}d")
    theirs: Any = getattr(functional, f"max_pool{dims}d")

    def pool(
        input: Tensor, *, pool_size: Any, pool_stride: Any, pool_padding: Any, pool_dilation: Any, ceil_mode: bool
    ) -> Tensor:
        # A device without a kernel of ours keeps PyTorch's, which is faster there than our reference.
        function = ours if input.device.type in DEVICES else theirs
        return function(input, pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode)

    pool.__name__ = f"max_pool{dims}d"
    return Rule((f"pool{dims}d",), f"ops.max_pool{dims}d", pool, needs_library)


def _folded(dims: int) -> Rule:
    return Rule((f"folded{dims}d",), f"conv{dims}d", getattr(functional, f"conv{dims}d"))


def _relu_pool2d(
    input: Tensor,
    *,
    negative_slope: float,
    pool_size: Any,
    pool_stride: Any,
    pool_padding: Any,
    pool_dilation: Any,
    ceil_mode: bool,
) -> Tensor:
    if input.device.type in DEVICES:
        return ops.relu_max_pool2d(
            input, pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode, negative_slope
        )
    pooled = functional.max_pool2d(input, pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode)
    return functional.leaky_relu(pooled, negative_slope)


def _conv_pool(*, relu: bool) -> Rule:
    ours: Any = ops.conv_relu_max_pool2d if relu else ops.conv_max_pool2d

    def conv_pool(
        input: Tensor,
        *,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        **pooling: Any,
    ) -> Tensor:
        if input.device.type in DEVICES:
            return ours(
                input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, **pooling
            )
        maps = functional.conv2d(input, weight, bias, stride, padding, dilation, groups)
        return _relu_pool2d(maps, **pooling) if relu else _POOL2D.run(maps, **pooling)

    kinds = ("conv2d", "act", "pool2d") if relu else ("conv2d", "pool2d")
    steps = f"conv2d and ops.{'relu_max_pool2d' if relu else 'max_pool2d'}"
    return Rule(kinds, f"ops.{ours.__name__}", conv_pool, _conv_kernel, _wide, autocast=steps)


# Where a convolution reads so many channels, oneDNN runs at the machine's limit: the fused kernel then gains by its
# backward alone (1.2 to 1.5 times the two steps), and its forward loses (0.45 to 1.0 of their speed).
_MANY_CHANNELS = 64


def _wide(stages: Sequence[Stage], training: bool) -> str:
    weight = stages[0].facts.get("weight")
    if not training and isinstance(weight, Tensor) and weight.shape[1] >= _MANY_CHANNELS:
        return f"a convolution of {weight.shape[1]} channels is faster alone, except in training"
    return ""


def _conv_kernel(stages: Sequence[Stage]) -> str:
    """What the kernel of the fused convolution does not reach, as far as it shows before a call."""
    facts = stages[0].facts
    weight = facts.get("weight")
    if facts["groups"] != 1:
        return f"the convolution has {facts['groups']} groups"
    if facts["dilation"] not in (1, (1, 1), [1, 1]):
        return f"the convolution has dilation {facts['dilation']}"
    wide = (torch.float32, torch.float64)
    if isinstance(weight, Tensor) and weight.device.type == "cpu" and weight.dtype not in wide:
        return f"the kernel takes float32 or float64, and the weight is {weight.dtype}"
    return needs_library(stages)


_POOL2D = _pool(2)


def _norm_relu(input: Tensor, *, norm: Norm, negative_slope: float) -> Tensor:
    del negative_slope  # 0: see `_norm_kernel`
    arguments = normalise(norm, input)
    if input.device.type in DEVICES:
        return ops.batch_norm_relu(input, **arguments)
    return functional.relu(functional.batch_norm(input, **arguments))


def _norm_relu_pool2d(
    input: Tensor,
    *,
    norm: Norm,
    negative_slope: float,
    pool_size: Any,
    pool_stride: Any,
    pool_padding: Any,
    pool_dilation: Any,
    ceil_mode: bool,
) -> Tensor:
    arguments = normalise(norm, input)
    window = (pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode)
    if input.device.type in DEVICES:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return ops.batch_norm_relu_max_pool2d(input, **arguments, **dict(zip(names, window, strict=True)))
    maps = functional.batch_norm(input, **arguments)
    return functional.leaky_relu(functional.max_pool2d(maps, *window), negative_slope)


def _norm_kernel(stages: Sequence[Stage]) -> str:
    slope = next(stage.facts["negative_slope"] for stage in stages if stage.kind == "act")
    return f"negative_slope is {slope}, and the kernel has a plain ReLU" if slope else needs_library(stages)


_FEWEST_CHANNELS = 16  # in and out, below which Winograd's vectors are mostly empty


def _winograd(kinds: tuple[str, ...], algorithm: Any = "auto") -> Rule:
    """A 3x3 or 5x5 convolution, alone or with its ReLU, in tiles; ``auto`` asks the operator's estimate of costs."""
    ours: Any = ops.conv_bias_relu if "act" in kinds else ops.conv2d

    def conv(
        input: Tensor,
        *,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        **activation: Any,
    ) -> Tensor:
        del activation  # a plain ReLU: see `_winograd_kernel`
        served = input.device.type == "cpu" and input.dtype in (torch.float32, torch.float64)
        how = algorithm if served else "auto"
        return ours(input, weight, bias, stride, padding, dilation, groups, algorithm=how)

    name, steps = f"ops.{ours.__name__}", "conv2d and relu" if "act" in kinds else "conv2d"
    if algorithm == "auto":
        return Rule(kinds, name, conv, _winograd_kernel, autocast=steps, among="unmeasured", tiled=True)
    return Rule(kinds, f"{name} ({algorithm})", conv, _winograd_kernel, autocast=steps, among="measured", tiled=True)


def _winograd_kernel(stages: Sequence[Stage]) -> str:
    """Why tiles cannot serve a convolution, as far as it shows before a call."""
    facts = stages[0].facts
    weight = facts.get("weight")
    slope = any(stage.facts["negative_slope"] for stage in stages if stage.kind == "act")
    if not isinstance(weight, Tensor):
        return "its weight is computed in forward"
    if slope:
        return "the activation is not a plain ReLU"
    if min(weight.shape[0], weight.shape[1]) < _FEWEST_CHANNELS:
        return f"a convolution of {weight.shape[1]} channels to {weight.shape[0]} is left to PyTorch"
    given = [facts[name] for name in ("stride", "padding", "dilation", "groups")]
    return why_not_winograd(weight, weight, *given) or needs_library(stages)


def _dropout(input: Tensor, *, p: float) -> Tensor:
    return ops.dropout(input, p) if input.device.type in DEVICES else functional.dropout(input, p)


def _relu_dropout(input: Tensor, *, negative_slope: float, p: float) -> Tensor:
    del negative_slope  # 0: see `_drops`
    if input.device.type in DEVICES:
        return ops.bias_relu_dropout(input, None, p)
    return functional.dropout(functional.relu(input), p)


def _drops(stages: Sequence[Stage]) -> str:
    if not stages[-1].training:
        return "it does nothing in evaluation"
    return _norm_kernel(stages) if len(stages) > 1 else needs_library(stages)


# Longer chains first: the first rule that fits is taken.
RULES: tuple[Rule, ...] = (
    _conv_pool(relu=True),
    _conv_pool(relu=False),
    *(_winograd(("conv2d", "act"), algorithm) for algorithm in ("auto", "winograd2", "winograd4")),
    *(_winograd(("conv2d",), algorithm) for algorithm in ("auto", "winograd2", "winograd4")),
    Rule(("norm", "act", "pool2d"), "ops.batch_norm_relu_max_pool2d", _norm_relu_pool2d, _norm_kernel),
    Rule(("norm", "act"), "ops.batch_norm_relu", _norm_relu, _norm_kernel),
    Rule(("act", "dropout"), "ops.bias_relu_dropout", _relu_dropout, _drops),
    Rule(("dropout",), "ops.dropout", _dropout, _drops),
    Rule(("act", "pool2d"), "ops.relu_max_pool2d", _relu_pool2d, needs_library),
    *LINEAR_RULES,
    _pool(1),
    _POOL2D,
    _pool(3),
    *(_folded(dims) for dims in (1, 2, 3)),
    LATE,
)


def canonical(kinds: Sequence[str]) -> tuple[str, ...]:
    """``kinds`` with an activation after a pool put before it.

    >>> canonical(("conv2d", "pool2d", "act"))
    ('conv2d', 'act', 'pool2d')
    """
    found = list(kinds)
    for i in range(len(found) - 1):
        if found[i] in POOLS and found[i + 1] == "act":
            found[i], found[i + 1] = found[i + 1], found[i]
    return tuple(found)
