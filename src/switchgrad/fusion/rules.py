"""The table of what runs instead of what: a chain of operations, and the fused operator that does it in one pass.

A rule is here only if a fused operator of ours (or the folding of a normalisation) really runs. ``kinds`` name the
chain from left to right; an activation that follows a pool is looked up as if it came before, since both are
monotone: max(relu(x)) = relu(max(x)), and their gradients agree as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad import ops
from switchgrad.fusion import late
from switchgrad.fusion.normalising import Norm, normalise
from switchgrad.fusion.stages import POOLS, Stage
from switchgrad.kernels import native
from switchgrad.kernels.cuda import DEVICES
from switchgrad.ops.convolution import why_not_winograd
from switchgrad.ops.fully_connected import why_not_streamed
from switchgrad.ops.fully_connected.choice import is_large
from switchgrad.ops.mlp import TOO_LARGE


def _always(stages: Sequence[Stage]) -> str:
    del stages
    return ""


def _fast(stages: Sequence[Stage], training: bool) -> str:
    del stages, training
    return ""


@dataclass(frozen=True)
class Rule:
    """``run(input, **fields of all stages)`` computes the chain ``kinds``; ``operator`` is its name in the report.

    Fields of the second stage of a kind end in ``_2``, those of the third in ``_3``.

    ``refuses`` looks at a chain of the right kinds and says why it cannot be taken, or nothing; ``slow`` says, where
    nothing was measured, why it would not gain in a mode (training or not). ``autocast`` is what runs instead while
    autocast is on, if it is something else. ``among`` are the candidates that it stands among: where one operator can
    choose its algorithm itself, it does so "unmeasured", and each algorithm is a candidate where all are "measured";
    what saves memory and no time takes what they "left". ``first`` are fields that a function makes ready before
    anything else of the program runs. ``tiled`` operators work channels last.
    """

    kinds: tuple[str, ...]
    operator: str
    run: Callable[..., Tensor]
    refuses: Callable[[Sequence[Stage]], str] = _always
    slow: Callable[[Sequence[Stage], bool], str] = _fast
    autocast: str = ""
    among: Literal["", "measured", "unmeasured", "left"] = ""
    first: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict[str, Callable[[Any], Any]])
    tiled: bool = False

    @property
    def runs(self) -> str:
        """What runs now."""
        if self.autocast and torch.is_autocast_enabled("cpu"):
            return f"{self.autocast}, while autocast is on"
        return f"{self.operator}, its weight's gradient last" if self.first else self.operator


def _native(stages: Sequence[Stage]) -> str:
    del stages
    return "" if native.LIBRARY is not None else "the compiled kernels are missing"


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
    return Rule((f"pool{dims}d",), f"ops.max_pool{dims}d", pool, _native)


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
    return _native(stages)


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
    return f"negative_slope is {slope}, and the kernel has a plain ReLU" if slope else _native(stages)


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
    return why_not_winograd(weight, weight, *given) or _native(stages)


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
    return _norm_kernel(stages) if len(stages) > 1 else _native(stages)


def _mean_linear(kinds: tuple[str, ...]) -> Rule:
    kept = "flatten" in kinds  # whether the mean keeps its axes, and something takes them away

    def mean_linear(input: Tensor, *, dim: Any, linear_weight: Tensor, linear_bias: Tensor | None) -> Tensor:
        if input.dim() == 4:
            return ops.global_avg_pool_linear(input, linear_weight, linear_bias)
        mean = input.mean(dim, keepdim=kept)  # a single picture, whose rows a layer's flattening keeps
        return functional.linear(mean.flatten(1) if kept else mean, linear_weight, linear_bias)

    return Rule(kinds, "ops.global_avg_pool_linear", mean_linear)


def _late_refuses(stages: Sequence[Stage]) -> str:
    if stages[0].input.op == "placeholder":
        return "nothing before it keeps anything"
    weight = stages[0].facts.get("linear_weight", stages[0].facts.get("weight"))
    if not isinstance(weight, Tensor):
        return "its weight is computed in forward"
    if weight.numel() < late.FEWEST:
        return f"its weight has {weight.numel():,} numbers, fewer than {late.FEWEST:,}"
    return ""


def _late_is_idle(stages: Sequence[Stage], training: bool) -> str:
    del stages
    return "" if training else "without a backward there is no gradient"


_LATE = Rule(
    ("linear",), "linear", late.linear, _late_refuses, _late_is_idle,
    among="left", first={"linear_weight": late.begin},
)  # fmt: skip


def _linear(kinds: tuple[str, ...], algorithm: Any = "auto") -> Rule:
    """A fully connected layer, alone or with its ReLU; ``auto`` asks the operator's own estimate for the batch."""
    relu = "act" in kinds

    def linear(input: Tensor, *, linear_weight: Any, linear_bias: Tensor | None, **activation: Any) -> Tensor:
        del activation  # a plain ReLU: see `_linear_kernel`
        weight = linear_weight if isinstance(linear_weight, Tensor) else linear_weight.weight
        how = algorithm if why_not_streamed(input, weight) is None else "auto"
        return late.linear(input, linear_weight=linear_weight, linear_bias=linear_bias, relu=relu, algorithm=how)

    name, steps = ("ops.linear_relu", "linear and relu") if relu else ("ops.linear", "linear")
    if algorithm != "auto":
        name = f"{name} ({algorithm})"
    among = "unmeasured" if algorithm == "auto" else "measured"
    return Rule(kinds, name, linear, _linear_kernel, autocast=steps, among=among, first={"linear_weight": _begun})


def _begun(weight: Tensor) -> Any:
    """What is late is worth its second node on the tape only where the weight is wide."""
    return late.begin(weight) if weight.numel() >= late.FEWEST else weight


def _linear_kernel(stages: Sequence[Stage]) -> str:
    """Why the kernels for thin batches cannot serve a layer, as far as it shows before a call."""
    facts = stages[0].facts
    weight = facts.get("linear_weight", facts.get("weight"))
    if not isinstance(weight, Tensor):
        return "its weight is computed in forward"
    if any(stage.facts["negative_slope"] for stage in stages if stage.kind == "act"):
        return "the activation is not a plain ReLU"
    if not is_large(weight):
        return f"a weight of {' x '.join(map(str, weight.shape))} is left to PyTorch"
    return why_not_streamed(weight, weight) or _native(stages)


_MOST_LAYERS = 8


def _mlp(layers: int, *, flatten: bool) -> Rule:
    """So many fully connected layers with a ReLU between two, perhaps behind the flattening of maps."""
    ends = ["", *(f"_{number}" for number in range(2, layers + 1))]
    of_weights, of_biases = ([f"linear_{part}{end}" for end in ends] for part in ("weight", "bias"))

    def mlp(input: Tensor, **fields: Any) -> Tensor:
        weights, biases = [fields[name] for name in of_weights], [fields[name] for name in of_biases]
        return ops.mlp(input, weights, biases, flatten=flatten)

    kinds = (*(["flatten"] if flatten else []), "linear", *("act", "linear") * (layers - 1))
    return Rule(kinds, "ops.mlp", mlp, _mlp_kernel, autocast="linear and relu")


def _mlp_kernel(stages: Sequence[Stage]) -> str:
    """Why the kernels for chains of layers cannot serve one, as far as it shows before a call."""
    for stage in stages:
        if stage.kind == "act" and stage.facts["negative_slope"]:
            return "the activation is not a plain ReLU"
        if stage.kind != "linear":
            continue
        weight = stage.facts.get("linear_weight", stage.facts.get("weight"))
        if not isinstance(weight, Tensor):
            return "its weight is computed in forward"
        if weight.numel() >= TOO_LARGE:
            return f"a weight of {' x '.join(map(str, weight.shape))} goes alone"
        if (obstacle := why_not_streamed(weight, weight)) is not None:
            return obstacle
    return _native(stages)


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
    Rule(("act", "pool2d"), "ops.relu_max_pool2d", _relu_pool2d, _native),
    _mean_linear(("mean", "flatten", "linear")),
    _mean_linear(("flat_mean", "linear")),
    *(_mlp(layers, flatten=flatten) for layers in range(_MOST_LAYERS, 1, -1) for flatten in (True, False)),
    *(_linear(("linear", "act"), algorithm) for algorithm in ("auto", "streamed")),
    *(_linear(("linear",), algorithm) for algorithm in ("auto", "streamed")),
    _pool(1),
    _POOL2D,
    _pool(3),
    *(_folded(dims) for dims in (1, 2, 3)),
    _LATE,
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
