"""What an operator says about itself, once; `conform.check` holds it to every word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
HALVES = (torch.float16, torch.bfloat16)  # PyTorch computes them in float32: NaN payloads and sums may differ
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Case:
    """One geometry: the shape of each tensor that goes in, and the keyword arguments.

    ``peer`` is False where the peer refuses the case or is known to be wrong in it; ``small`` allows the checks whose
    cost grows with the square of the number of cells (gradcheck, Jacobians).
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    peer: bool = True
    small: bool = False


class Law(Protocol):
    """A mathematical property: see `laws`."""

    @property
    def name(self) -> str: ...

    def check(self, operator: Operator) -> None: ...


@dataclass(frozen=True)
class Mutant:
    """A wrong variant of the operator and what is wrong with it; the harness must tell it from the operator.

    ``function`` replaces `Operator.function`; ``killed_by`` names a check that must be among those that fail.
    """

    name: str
    function: Callable[..., Any]
    killed_by: str


@dataclass(frozen=True)
class Operator:
    """An operator's declaration.

    ``function(*tensors, **arguments)`` returns a tensor or a tuple: first the values, then outputs (switches, indices)
    that must always be exact. Each tensor's gradient is checked where it has a floating-point dtype and its place is
    in ``differentiable``.
    """

    name: str
    function: Callable[..., Any]
    cases: tuple[Case, ...]
    # -- who knows better: loops over NumPy arrays, and PyTorch where it has the operator
    reference: Callable[..., tuple[np.ndarray, ...]]
    reference_gradient: Callable[..., tuple[np.ndarray, ...]] | None = None  # (grad, *arrays, **arguments)
    peer: Callable[..., Any] | None = None
    # -- what it accepts
    dtypes: tuple[torch.dtype, ...] = FLOATS + INTEGERS
    gradient_dtypes: tuple[torch.dtype, ...] = FLOATS
    differentiable: tuple[int, ...] = (0,)  # those of them that a case has
    weights: tuple[int, ...] = ()  # tensors without a batch axis, which a batch shares
    samples: tuple[str, ...] = ("plain", "ties", "nan", "extreme", "lowest", "negative")
    draw: Callable[[Case, Callable[..., Tensor]], tuple[Tensor, ...]] | None = None  # default: one draw a shape
    spatial: Callable[[Case], int] = lambda case: len(case.shapes[0]) - 2
    # -- what it promises
    exact: bool = True  # values equal the reference bit for bit; otherwise by yardstick
    exact_samples: tuple[str, ...] = ()  # kinds of samples, "whole" and "ties" among them, on which sums do not round
    settled: Callable[..., np.ndarray] | None = None  # (eps, *arrays, **arguments): where rounding cannot move codes
    same_bits: bool = True  # in every layout; otherwise the same up to rounding
    yardstick: float = 2  # how many times the loops' or the peer's error a rounded value may have
    cancels: bool = False  # values are sums, in which large numbers may cancel: units are those of the largest
    unbatched: bool = True  # the batch axis may be missing
    empty_batch: bool = True
    keeps_layout: bool = True  # results have the memory format of the first tensor
    values_only: Callable[..., Tensor] | None = None  # the same values by another path through the code
    saved_bytes: Callable[[Case], int] | None = None  # what autograd may keep
    laws: tuple[Law, ...] = ()
    autocasts: bool = False  # under autocast it is what the peer is, and no longer what it is without
    compiler: str = "inductor"
    native: bool = True  # C++ kernels serve it, so that every instruction set is tried
    grows: bool = True  # the last axis of a case may grow with its arguments unchanged
    # -- for the checks of threads: cases so large that work is split
    large: tuple[Case, ...] = ()
    # -- registered operators that it stands on: from its tensors to (operator, arguments)
    registered: Callable[..., Sequence[tuple[Any, tuple[Any, ...]]]] | None = None
    layer: Callable[..., torch.nn.Module] | None = None  # arguments to a layer that computes the values
    mutants: tuple[Mutant, ...] = ()

    def outputs(self, *tensors: Tensor, **arguments: Any) -> tuple[Tensor, ...]:
        """Every output."""
        return as_tuple(self.function(*tensors, **arguments))

    def values(self, *tensors: Tensor, **arguments: Any) -> Tensor:
        """The differentiable output."""
        return self.outputs(*tensors, **arguments)[0]

    def short(self, *tensors: Tensor, **arguments: Any) -> Tensor:
        """The differentiable output by the shortest path: what people call."""
        return (self.values_only or self.values)(*tensors, **arguments)

    @property
    def sums(self) -> bool:
        """Whether it rounds sums, and says on which samples it does not."""
        return bool(self.exact_samples)

    @property
    def units(self) -> float:
        """How many units in the last place a rounded value may be off beside that."""
        return 2 * self.yardstick

    def kinds(self, *wanted: str) -> tuple[str, ...]:
        """Kinds of samples on which two ways through an operator give the same bits: those wanted, if none rounds."""
        return ("whole", "ties") if self.sums else wanted

    def is_exact(self, kind: str, dtype: torch.dtype) -> bool:
        """Whether nothing is rounded on samples of this kind."""
        return self.exact or not dtype.is_floating_point or (kind in self.exact_samples and dtype not in HALVES)

    def places(self, given: Sequence[Any]) -> tuple[int, ...]:
        """Which of the tensors given are differentiated."""
        return tuple(i for i in self.differentiable if i < len(given))

    def in_batch(self, given: Sequence[Tensor], change: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        """The tensors with a change to each that has a batch axis."""
        return tuple(t if i in self.weights else change(t) for i, t in enumerate(given))

    def small_cases(self) -> list[Case]:
        """Those for checks of quadratic cost."""
        return [case for case in self.cases if case.small]


def as_tuple(outputs: Any) -> tuple[Any, ...]:
    """One output or several, as a tuple."""
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
