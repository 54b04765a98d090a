"""Mathematical properties that operators declare; each measures itself on the operator that declares it.

Every law works on the operator's first tensor and looks at its values (and, where it says so, at the switches). All
comparisons are exact: the numbers are chosen so that no sum is rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, func

from harness.compare import bits, require_same
from harness.declaration import Case, Operator
from harness.samples import sample, seeded, tensors

SIGNED = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Monotone:
    """No output falls where no input falls: x <= z everywhere implies f(x) <= f(z) everywhere."""

    name: str = "monotone"

    def check(self, operator: Operator) -> None:
        for case, dtype in product(operator.cases, operator.dtypes):
            x, *rest = tensors(operator, case, "ties", dtype)
            raised = torch.maximum(x, sample("ties", tuple(x.shape), dtype, seeded("raised", case.name)))
            below, above = (operator.values(one, *rest, **case.arguments) for one in (x, raised))
            if not bool((below <= above).all()):
                raise AssertionError(f"{operator.name} ({case.name}, {dtype}): a value fell where no input fell")


@dataclass(frozen=True)
class CommutesWithIncreasing:
    """f(g(x)) = g(f(x)) for every increasing g; with g = ReLU: pooling and ReLU may change places."""

    name: str = "commutes with increasing functions"

    def check(self, operator: Operator) -> None:
        increasing: dict[str, Callable[[Tensor], Tensor]] = {
            "relu": torch.relu,
            "2x + 1": lambda x: 2 * x + 1,
            "clamp(-1, 1)": lambda x: x.clamp(-1, 1),
        }
        for case, dtype in product(operator.cases, SIGNED):
            x, *rest = tensors(operator, case, "whole", dtype)
            values = operator.values(x, *rest, **case.arguments)
            reached = values > (-torch.inf if dtype.is_floating_point else torch.iinfo(dtype).min)
            for title, g in increasing.items():
                got = operator.values(g(x), *rest, **case.arguments)
                # Windows without a cell keep their -inf, which no function of cells can move.
                wanted = torch.where(reached, g(values), values)
                require_same(got + 0, wanted + 0, f"{operator.name} ({case.name}, {dtype}): {title}")


@dataclass(frozen=True)
class ShiftEquivariant:
    """Shifting the input by one stride along an axis shifts the output by one place, away from the borders.

    ``strides`` tells a case's stride along each spatial axis, or None where padding hides the law.
    """

    strides: Callable[[Case], tuple[int, ...] | None]
    name: str = "shifts by strides"

    def check(self, operator: Operator) -> None:
        for case in operator.cases:
            strides = self.strides(case)
            if strides is None:
                continue
            x, *rest = tensors(operator, case, "plain", torch.float64)
            whole = operator.values(x, *rest, **case.arguments)
            for i, stride in enumerate(strides):
                axis = x.dim() - len(strides) + i
                if whole.shape[axis] < 2:
                    continue
                shifted = x.narrow(axis, stride, x.shape[axis] - stride)
                got = operator.values(shifted, *rest, **case.arguments)
                wanted = whole.narrow(axis, 1, whole.shape[axis] - 1)
                require_same(got, wanted, f"{operator.name} ({case.name}): shifted by {stride} along axis {axis}")


@dataclass(frozen=True)
class Adjoint:
    """Backward and forward mode are each other's transpose: <vjp(g), t> = <g, jvp(t)>, and both are linear."""

    name: str = "backward is the adjoint of forward mode"

    def check(self, operator: Operator) -> None:
        for case in operator.cases:
            given = tensors(operator, case, "ties", torch.float64)
            place = operator.differentiable[0]

            def along(t: Tensor, case: Case = case, given: tuple[Tensor, ...] = given, place: int = place) -> Tensor:
                return operator.values(*given[:place], t, *given[place + 1 :], **case.arguments)

            x = given[place]
            values, vjp = func.vjp(along, x)
            generator = seeded("adjoint", case.name)
            t, u = (sample("whole", tuple(x.shape), torch.float64, generator) for _ in range(2))
            g, h = (sample("whole", tuple(values.shape), torch.float64, generator) for _ in range(2))

            def push(tangent: Tensor, along: Callable[[Tensor], Tensor] = along, x: Tensor = x) -> Tensor:
                return func.jvp(along, (x,), (tangent,))[1]

            what = f"{operator.name} ({case.name})"
            require_same((vjp(g)[0] * t).sum() + 0, (g * push(t)).sum() + 0, f"{what}: <vjp(g), t> and <g, jvp(t)>")
            require_same(vjp(2 * g - h)[0] + 0, 2 * vjp(g)[0] - vjp(h)[0] + 0, f"{what}: linear backward")
            require_same(push(2 * t - u) + 0, 2 * push(t) - push(u) + 0, f"{what}: linear forward mode")


@dataclass(frozen=True)
class FullyConnected:
    """A dense layer of zeros and ones, built from the switches, has the same forward and the same backward.

    For operators that select: the second output holds flat indices into the first tensor's spatial cells, or -1.
    """

    name: str = "equals a layer of zeros and ones"

    def check(self, operator: Operator) -> None:
        for case in operator.cases:
            (x,) = tensors(operator, case, "whole", torch.float64)
            x = x.requires_grad_()
            values, indices, *_ = operator.outputs(x, **case.arguments)
            dims = operator.spatial(case)
            cells, places = x.flatten(-dims), indices.flatten(-dims)
            weight = torch.zeros(*places.shape, cells.shape[-1], dtype=torch.float64)
            weight.scatter_(-1, places.clamp_min(0).unsqueeze(-1), (places >= 0).double().unsqueeze(-1))
            dense = torch.einsum("...pc,...c->...p", weight, cells).reshape(values.shape)
            won = indices >= 0
            what = f"{operator.name} ({case.name})"
            require_same(values.detach()[won] + 0, dense.detach()[won] + 0, f"{what}: forward")
            g = sample("whole", tuple(values.shape), torch.float64, seeded("dense", case.name))
            got, wanted = (torch.autograd.grad(y, x, g)[0] for y in (values, dense))
            require_same(got + 0, wanted + 0, f"{what}: backward")


@dataclass(frozen=True)
class Selects:
    """Every value is the very number, sign and payload of NaN included, that its index names in the first tensor."""

    name: str = "values stand where the indices say"

    def check(self, operator: Operator) -> None:
        for case, dtype, kind in product(operator.cases, operator.dtypes, ("ties", "nan")):
            (x,) = tensors(operator, case, kind, dtype)
            values, indices, *_ = operator.outputs(x, **case.arguments)
            dims = operator.spatial(case)
            # As integers: PyTorch's own gather loses the payload of a bfloat16 NaN.
            there = bits(x).flatten(-dims).gather(-1, indices.clamp_min(0).flatten(-dims)).reshape(values.shape)
            won = indices >= 0
            require_same(bits(values)[won], there[won], f"{operator.name} ({case.name}, {dtype}, {kind})")


@dataclass(frozen=True)
class Linear:
    """f(2 x - z) = 2 f(x) - f(z): once the switches are fixed, going by them is linear in the values."""

    name: str = "linear"

    def check(self, operator: Operator) -> None:
        for case, dtype in product(operator.cases, (dtype for dtype in SIGNED if dtype in operator.dtypes)):
            x, *rest = tensors(operator, case, "whole", dtype)
            z = sample("whole", tuple(x.shape), dtype, seeded("linear", case.name))
            got = operator.values(2 * x - z, *rest, **case.arguments)
            wanted = 2 * operator.values(x, *rest, **case.arguments) - operator.values(z, *rest, **case.arguments)
            require_same(got + 0, wanted + 0, f"{operator.name} ({case.name}, {dtype}): linearity")


@dataclass(frozen=True)
class Idempotent:
    """f(f(x)) = f(x), for the cases that ``holds`` for."""

    holds: Callable[[Case], bool]
    name: str = "idempotent"

    def check(self, operator: Operator) -> None:
        for case in filter(self.holds, operator.cases):
            x, *rest = tensors(operator, case, "plain", torch.float64)
            once = operator.values(x, *rest, **case.arguments)
            twice = operator.values(once, *rest, **case.arguments)
            require_same(twice, once, f"{operator.name} ({case.name}): twice")
