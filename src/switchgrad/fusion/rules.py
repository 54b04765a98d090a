"""The table of what runs instead of what: a chain of operations, and the fused operator that does it in one pass.

A rule is here only if a fused operator of ours (or the folding of a normalisation) really runs. ``kinds`` name the
chain from left to right; an activation that follows a pool is looked up as if it came before, since both are
monotone: max(relu(x)) = relu(max(x)), and their gradients agree as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from switchgrad import ops
from switchgrad.fusion.stages import POOLS, Stage
from switchgrad.kernels import native


def _always(_: Sequence[Stage]) -> str:
    return ""


@dataclass(frozen=True)
class Rule:
    """``run(input, **fields of all stages)`` computes the chain ``kinds``; ``operator`` is its name in the report.

    ``refuses`` looks at a chain of the right kinds and says why it cannot be taken, or nothing.
    """

    kinds: tuple[str, ...]
    operator: str
    run: Callable[..., Tensor]
    refuses: Callable[[Sequence[Stage]], str] = _always


def _native_pool(_: Sequence[Stage]) -> str:
    return "" if native.LIBRARY is not None else "the compiled kernels are missing"


def _pool(dims: int) -> Rule:
    ours: Any = getattr(ops, f"max_pool{dims}d")
    theirs: Any = getattr(functional, f"max_pool{dims}d")

    def pool(
        input: Tensor, *, pool_size: Any, pool_stride: Any, pool_padding: Any, pool_dilation: Any, ceil_mode: bool
    ) -> Tensor:
        # A device without a kernel of ours keeps PyTorch's, which is faster there than our reference.
        function = ours if input.device.type == "cpu" else theirs
        return function(input, pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode)

    pool.__name__ = f"max_pool{dims}d"
    return Rule((f"pool{dims}d",), f"ops.max_pool{dims}d", pool, _native_pool)


def _folded(dims: int) -> Rule:
    return Rule((f"folded{dims}d",), f"conv{dims}d, batch norm folded in", getattr(functional, f"conv{dims}d"))


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
    if input.device.type == "cpu":
        return ops.relu_max_pool2d(
            input, pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode, negative_slope
        )
    pooled = functional.max_pool2d(input, pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode)
    return functional.leaky_relu(pooled, negative_slope)


# Longer chains first: the first rule that fits is taken.
RULES: tuple[Rule, ...] = (
    Rule(("act", "pool2d"), "ops.relu_max_pool2d", _relu_pool2d, _native_pool),
    *(_pool(dims) for dims in (1, 2, 3)),
    *(_folded(dims) for dims in (1, 2, 3)),
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
