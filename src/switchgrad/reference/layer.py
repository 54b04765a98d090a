"""What every layer and every rule of this package looks like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor


class Layer(Protocol):
    """Two methods: ``forward(x, ...) -> y, kept`` and ``backward(delta, kept) -> (dx, ...)``.

    ``forward`` takes the input first, then the parameters; ``kept`` is what its own ``backward`` needs and nobody
    else reads. ``delta`` is dJ/dy, of the shape of ``y``. ``backward`` returns one gradient for each argument of
    ``forward``, in the same order: dJ/d(argument), or None for what is not differentiable (labels, masks).
    """

    @property
    def forward(self) -> Callable[..., tuple[Tensor, Any]]:
        """The output, and what the backward needs."""
        ...

    @property
    def backward(self) -> Callable[[Tensor, Any], tuple[Tensor | None, ...]]:
        """One gradient for each argument of ``forward``."""
        ...


class Rule(Protocol):
    """An update rule: from a parameter and its gradient to the next parameter.

    ``memory`` is what the rule carries from step to step for this parameter; ``start`` makes the first.
    """

    @property
    def start(self) -> Callable[[Tensor], Any]:
        """The memory before the first step."""
        ...

    @property
    def step(self) -> Callable[[Tensor, Tensor, Any], tuple[Tensor, Any]]:
        """``step(theta, gradient, memory)`` -> the next ``theta`` and the next ``memory``."""
        ...
