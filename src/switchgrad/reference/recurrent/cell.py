"""What every recurrent cell of this package looks like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor


class Cell(Protocol):
    """One step of time, a layer of three kinds of arguments: ``forward(x, s, *weights) -> s', kept``.

    ``x [N, I]`` is the input of this step, ``s [N, S]`` the state before it and ``s'`` the state after it.
    ``backward(delta, kept) -> dx, ds, *dweights`` takes dJ/ds' to the gradients of all arguments, in their order.
    What the outside sees of a state is ``output(s)``: all of it, or the part that the cell shows.
    """

    @property
    def forward(self) -> Callable[..., tuple[Tensor, Any]]:
        """The state after the step, and what the backward needs."""
        ...

    @property
    def backward(self) -> Callable[[Tensor, Any], tuple[Tensor, ...]]:
        """The gradients of the input, of the state before, and of each weight."""
        ...

    @property
    def output(self) -> Callable[[Tensor], Tensor]:
        """The part of a state that the outside sees."""
        ...
