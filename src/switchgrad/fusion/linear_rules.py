"""Rules of fully connected layers: behind a global mean, in a chain, wide ones and late weight gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from switchgrad import ops
from switchgrad.fusion import late
from switchgrad.fusion.rule import Rule, needs_library
from switchgrad.fusion.stages import Stage
from switchgrad.ops.fully_connected import why_not_streamed
from switchgrad.ops.fully_connected.choice import is_large
from switchgrad.ops.mlp import TOO_LARGE


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


LATE = Rule(
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
    return why_not_streamed(weight, weight) or needs_library(stages)


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
    return needs_library(stages)


# Longer chains first.
LINEAR_RULES: tuple[Rule, ...] = (
    _mean_linear(("mean", "flatten", "linear")),
    _mean_linear(("flat_mean", "linear")),
    *(_mlp(layers, flatten=flatten) for layers in range(_MOST_LAYERS, 1, -1) for flatten in (True, False)),
    *(_linear(("linear", "act"), algorithm) for algorithm in ("auto", "streamed")),
    *(_linear(("linear",), algorithm) for algorithm in ("auto", "streamed")),
)
