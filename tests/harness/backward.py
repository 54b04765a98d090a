"""Checks of derivatives: against loops, peer and finite differences; layout, memory kept, every order and mode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from harness.compare import (
    from_array,
    require_equal,
    require_near,
    require_same,
    require_same_but_payload,
    to_array,
)
from harness.declaration import HALVES, Case, Operator, as_tuple
from harness.engines import engines, poisoned, running, threads
from harness.layouts import COMPACT, follows, layouts, placed
from harness.rounding import truth
from harness.samples import sample, seeded, tensors

SENT_BACK = ("plain", "whole")  # kinds of gradients


def _leaves(operator: Operator, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What goes in, ready to be differentiated; layouts stay."""
    return tuple(
        t.detach().requires_grad_(i in operator.differentiable and t.is_floating_point()) for i, t in enumerate(given)
    )


def gradients(function: Any, operator: Operator, case: Case, given: tuple[Tensor, ...], grad: Tensor | None) -> tuple:
    """The gradients of a function's first output; ``grad`` None stands for its sum (a gradient with strides of 0)."""
    leaves = _leaves(operator, given)
    values = as_tuple(function(*leaves, **case.arguments))[0]
    wanted = [t for t in leaves if t.requires_grad]
    return torch.autograd.grad(values.sum() if grad is None else values, wanted, grad)


@dataclass(frozen=True)
class _Call:
    """A case with tensors to put in and a gradient to send back; whether nothing is rounded on the way."""

    name: str
    case: Case
    given: tuple[Tensor, ...]
    grad: Tensor
    exact: bool


def _calls(
    operator: Operator, kinds: tuple[str, ...], dtypes: tuple[torch.dtype, ...] | None = None
) -> Iterator[_Call]:
    for case, dtype, kind in product(operator.cases, dtypes or operator.gradient_dtypes, kinds):
        given = tensors(operator, case, kind, dtype)
        shape = tuple(operator.values(*given, **case.arguments).shape)
        for backwards in SENT_BACK:
            grad = sample(backwards, shape, dtype, seeded("gradient", case.name, backwards))
            name = f"{case.name}, {str(dtype)[6:]}, {kind}, gradient {backwards}"
            exact = operator.exact or (operator.is_exact(kind, dtype) and backwards == "whole")
            yield _Call(name, case, given, grad, exact)


def _exact_dtypes(operator: Operator) -> tuple[torch.dtype, ...]:
    return tuple(dtype for dtype in operator.gradient_dtypes if dtype not in HALVES)


def gradients_equal_the_loops(operator: Operator) -> None:
    """float64 and float32, by every instruction set."""
    if operator.reference_gradient is None:
        return
    kinds = tuple(kind for kind in operator.samples if kind not in ("extreme", "negative"))
    for call in _calls(operator, kinds, _exact_dtypes(operator)):
        if "special" in call.name and not call.exact:
            continue  # NaN and infinities have no yardstick
        loops, sent = operator.reference_gradient, to_array(call.grad)
        wanted = loops(sent, *map(to_array, call.given), **call.case.arguments)
        exact = None if call.exact else truth(loops, call.case, call.grad, *call.given)
        for engine in engines(operator):
            with running(engine):
                got = gradients(operator.function, operator, call.case, call.given, call.grad)
            for i, (left, right) in enumerate(zip(got, wanted, strict=True)):
                what = f"{operator.name} ({call.name}, {engine}): gradient {i}"
                plain = from_array(right, left.dtype)
                if exact is not None:
                    allowed = {"of_largest": operator.sums or operator.cancels, "units": operator.units}
                    require_near(left, plain, exact[i], 1.5 * operator.yardstick, what, **allowed)
                else:
                    (require_equal if operator.sums else require_same_but_payload)(left, plain, what)


def gradients_equal_the_peer(operator: Operator) -> None:
    """Bit for bit in float64 and float32, contiguous and channels last; halves by yardstick against float64."""
    if operator.peer is None:
        return
    for call in _calls(operator, ("plain", "ties")):
        case, given, grad = call.case, call.given, call.grad
        if not case.peer:
            continue
        for layout, laid in placed(given, operator.weights, *COMPACT).items():
            got = gradients(operator.function, operator, case, laid, grad)
            wanted = gradients(operator.peer, operator, case, laid, grad)
            double = tuple(t.double() if t.is_floating_point() else t for t in laid)
            truth = gradients(operator.peer, operator, case, double, grad.double())
            for i, (left, right, exact) in enumerate(zip(got, wanted, truth, strict=True)):
                what = f"{operator.name} ({call.name}, {layout}): gradient {i} against the peer"
                if operator.exact and left.dtype not in HALVES:
                    require_same(left, right, what)
                elif call.exact and operator.sums:
                    require_equal(left, right, what)
                else:
                    allowed = {"of_largest": operator.sums or operator.cancels, "units": operator.units}
                    require_near(left, right, exact, 1.5 * operator.yardstick, what, **allowed)


def gradients_follow_the_layout(operator: Operator) -> None:
    """Whatever the strides of what goes in and of what is sent back: the same bits, laid out like what went in."""
    same = require_equal if operator.sums else require_same
    for call in _calls(operator, operator.kinds("plain")):
        if operator.sums and not call.exact:
            continue
        case, given, grad = call.case, call.given, call.grad
        wanted = gradients(operator.function, operator, case, given, grad)
        summed = gradients(operator.function, operator, case, given, torch.ones_like(grad))
        for engine, (layout, laid) in product(engines(operator), placed(given, operator.weights).items()):
            what = f"{operator.name} ({call.name}, {layout}, {engine}): gradient"
            with running(engine):
                plain = gradients(operator.function, operator, case, laid, grad)
                of_sum = gradients(operator.function, operator, case, laid, None)
            for i, place in enumerate(operator.places(given)):
                same(plain[i], wanted[i], f"{what} {i}")
                same(of_sum[i], summed[i], f"{what} {i} of the sum")
                if operator.keeps_layout and not follows(plain[i], laid[place]):
                    raise AssertionError(f"{what} {i} has strides {plain[i].stride()} for {laid[place].stride()}")
        for layout, sent in layouts(grad).items():
            got = gradients(operator.function, operator, case, given, sent)
            for left, right in zip(got, wanted, strict=True):
                same(left, right, f"{operator.name} ({call.name}): gradient from a gradient {layout}")


def gradients_are_deterministic(operator: Operator) -> None:
    """One, two or three threads, whatever fresh memory holds: the same bits."""
    for case, dtype in product(operator.large, operator.gradient_dtypes):
        given = tensors(operator, case, "plain", dtype)
        for layout, laid in placed(given, operator.weights, *COMPACT).items():
            grad = torch.randn_like(operator.values(*laid, **case.arguments))
            for engine in engines(operator):
                results = []
                for count, byte in ((1, 0x55), (2, 0xCC), (3, 0x33)):
                    with running(engine), threads(count), poisoned(byte):
                        results.append(gradients(operator.function, operator, case, laid, grad))
                for other, i in product(results[1:], range(len(results[0]))):
                    require_same(other[i], results[0][i], f"{operator.name} ({case.name}, {dtype}, {layout}, {engine})")


def derivatives_are_right(operator: Operator) -> None:
    """Finite differences in double: backward and forward mode, batched, and backward of the backward."""
    for case in operator.small_cases():
        given = tensors(operator, case, "distinct", torch.float64)
        for laid in placed(given, operator.weights, *COMPACT, "last two axes swapped").values():
            leaves = _leaves(operator, laid)

            def function(*tensors: Tensor, case: Case = case) -> Tensor:
                return operator.values(*tensors, **case.arguments)

            both = {"check_batched_grad": True, "atol": 1e-7, "rtol": 1e-5, "nondet_tol": 0.0}
            gradcheck(function, leaves, check_forward_ad=True, check_batched_forward_grad=True, eps=1e-5, **both)
            gradgradcheck(function, leaves, eps=1e-5, **both)


def empty_batches_have_derivatives(operator: Operator) -> None:
    """A batch without elements goes back, and back again, without an error."""
    if not operator.empty_batch:
        return
    for case in operator.cases:
        given = operator.in_batch(tensors(operator, case, "plain", torch.float64), lambda t: t[:0])
        leaves = _leaves(operator, given)
        wanted = [t for t in leaves if t.requires_grad]
        values = operator.values(*leaves, **case.arguments)
        sent = torch.zeros_like(values, requires_grad=True)
        once = torch.autograd.grad(values, wanted, sent, create_graph=True)
        (twice,) = torch.autograd.grad(once, [sent], [torch.zeros_like(t) for t in once])
        for got, like in zip((*once, twice), (*wanted, values), strict=True):
            require_same(got + 0, torch.zeros_like(like), f"{operator.name} ({case.name}): derivatives of no elements")


def exact_outputs_carry_no_gradient(operator: Operator) -> None:
    """Only the values are on the tape; switches and indices are not."""
    for case in operator.cases:
        leaves = _leaves(operator, tensors(operator, case, "plain", torch.float64))
        values, *others = operator.outputs(*leaves, **case.arguments)
        if not values.requires_grad or any(t.requires_grad for t in others):
            raise AssertionError(f"{operator.name} ({case.name}): the values, and only they, must require a gradient")


def little_is_kept(operator: Operator) -> None:
    """What autograd keeps for the backward, counted in bytes."""
    if operator.saved_bytes is None:
        return
    for case in operator.cases:
        kept: list[int] = []

        def pack(t: Tensor, kept: list[int] = kept) -> Tensor:
            kept.append(t.numel() * t.element_size())
            return t

        leaves = _leaves(operator, tensors(operator, case, "plain", torch.float32))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            operator.short(*leaves, **case.arguments)
        if sum(kept) != operator.saved_bytes(case):
            raise AssertionError(
                f"{operator.name} ({case.name}): {sum(kept)} bytes are kept, {operator.saved_bytes(case)} are promised"
            )


CHECKS = (
    gradients_equal_the_loops,
    gradients_equal_the_peer,
    gradients_are_deterministic,
    exact_outputs_carry_no_gradient,
    little_is_kept,
    empty_batches_have_derivatives,
    gradients_follow_the_layout,
    derivatives_are_right,
)
