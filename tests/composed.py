"""A lighter harness for operators that are written in PyTorch and have no kernels: one declaration, a few checks.

    import composed

    SOFT = composed.Composed("soft_pool2d", ops.soft_pool2d, reference, cases=(...,), layer=...)
    test_soft_pool2d = composed.tests(SOFT)
    test_mutants = composed.mutant_tests(SOFT, {"max": ops.max_pool2d})

The reference takes and returns NumPy arrays in float64 and is written as loops.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, func
from torch.autograd import gradcheck, gradgradcheck

import loops
from harness.samples import seeded

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Case:
    """Shapes of the tensors that go in, and keyword arguments."""

    shapes: tuple[tuple[int, ...], ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Composed:
    """What an operator promises; every field but the first four is a further promise or its absence."""

    name: str
    function: Callable[..., Tensor]
    reference: Callable[..., np.ndarray]
    cases: tuple[Case, ...]
    draw: Callable[[Case, torch.Generator], tuple[Tensor, ...]] | None = None  # float64; default: normal numbers
    dtypes: tuple[torch.dtype, ...] = FLOATS
    differentiable: bool = True
    twice: bool = True
    batch: bool = True  # the first axis of the first tensor is a batch that may be missing or empty
    batched_tensors: int = 1  # how many of the tensors have the batch axis
    keeps_layout: bool = True
    mapped: bool = True  # vmap over every tensor
    compiled: bool = False  # torch.compile in one graph (backend aot_eager)
    layer: Callable[[Case], torch.nn.Module] | None = None  # without parameters
    precision: float = 16  # errors may be so many units in the last place of the largest number


def case(*shapes: tuple[int, ...], **arguments: Any) -> Case:
    """A case in short."""
    return Case(shapes, arguments)


def over_windows(
    x: np.ndarray, dims: int, rule: Callable[[list[tuple[int, float]]], float], **arguments: Any
) -> np.ndarray:
    """``rule`` of each window's cells inside the input, given as (offset in the window, number)."""
    along = loops.axes(x.shape[-dims:], **arguments)
    where = list(loops.windows(along))
    planes = x.reshape(-1, int(np.prod(x.shape[-dims:])))
    numbers = [[rule([(offset, float(plane[at])) for offset, at in cells]) for cells in where] for plane in planes]
    return np.array(numbers, dtype=np.float64).reshape(*x.shape[:-dims], *loops.pooled_shape(along))


def draw(operator: Composed, case: Case) -> tuple[Tensor, ...]:
    """The tensors of a case, the same every time."""
    generator = seeded(operator.name, case.shapes, sorted(case.arguments))
    if operator.draw is not None:
        return operator.draw(case, generator)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) * 2 for shape in case.shapes)


def require_near(got: Tensor, truth: np.ndarray, scale: float, ulps: float, what: str) -> None:
    """Errors of at most ``ulps`` units in the last place of ``scale`` (or of the largest number)."""
    wanted = torch.from_numpy(np.asarray(truth, dtype=np.float64))
    assert got.shape == wanted.shape, f"{what}: shape {tuple(got.shape)}, wanted {tuple(wanted.shape)}"
    allowed = ulps * torch.finfo(got.dtype).eps * max(scale, float(wanted.abs().max()) if wanted.numel() else 0.0)
    error = (got.double() - wanted).abs()
    ok = (error <= allowed) | (got.isnan() & wanted.isnan()) | (got.double() == wanted)
    assert bool(ok.all()), f"{what}: error {error.max():.3g}, allowed {allowed:.3g}"


def values_equal_the_loops(operator: Composed) -> None:
    for case in operator.cases:
        exact = draw(operator, case)
        for dtype in operator.dtypes:
            given = tuple(t.to(dtype) if t.is_floating_point() else t for t in exact)
            truth = operator.reference(
                *((t.double() if t.is_floating_point() else t).numpy() for t in given), **case.arguments
            )
            got = operator.function(*given, **case.arguments)
            assert got.dtype == dtype
            scale = max((float(t.double().abs().max()) for t in given if t.numel()), default=1.0)
            require_near(got, truth, scale, operator.precision, f"{operator.name} ({case}, {dtype})")


def inputs_stay_as_they_were(operator: Composed) -> None:
    for case in operator.cases:
        given = draw(operator, case)
        before = [t.clone() for t in given]
        operator.function(*given, **case.arguments)
        assert all(torch.equal(now, then) for now, then in zip(given, before, strict=True))


def derivatives_are_right(operator: Composed) -> None:
    if not operator.differentiable:
        return
    for case in operator.cases[:2]:
        leaves = [t.requires_grad_(t.is_floating_point()) for t in draw(operator, case)]

        def run(*given: Tensor, case: Case = case) -> Tensor:
            return operator.function(*given, **case.arguments)

        assert gradcheck(run, leaves, fast_mode=True, check_forward_ad=False)
        if operator.twice:
            assert gradgradcheck(run, leaves, fast_mode=True)


def the_batch_may_be_missing_or_empty(operator: Composed) -> None:
    if not operator.batch:
        return
    count = operator.batched_tensors
    for case in operator.cases:
        given = draw(operator, case)
        whole = operator.function(*given, **case.arguments)
        first = operator.function(*(t[0] for t in given[:count]), *given[count:], **case.arguments)
        torch.testing.assert_close(first, whole[0], rtol=1e-12, atol=1e-12)
        leaves = [t[:0].requires_grad_(operator.differentiable) for t in given[:count]]
        none = operator.function(*leaves, *given[count:], **case.arguments)
        assert none.shape == whole[:0].shape
        if operator.differentiable:
            none.sum().backward()
            assert leaves[0].grad is not None
            assert leaves[0].grad.shape == leaves[0].shape


def layouts_do_not_matter(operator: Composed) -> None:
    for case in operator.cases:
        first, *rest = draw(operator, case)
        wanted = operator.function(first, *rest, **case.arguments)
        strided = torch.stack([first, first.flip(0)], -1)[..., 0]
        torch.testing.assert_close(operator.function(strided, *rest, **case.arguments), wanted, rtol=1e-12, atol=1e-12)
        layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(first.dim())
        if layout is not None and operator.keeps_layout:
            got = operator.function(first.to(memory_format=layout), *rest, **case.arguments)
            torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
            assert got.is_contiguous(memory_format=layout), f"{operator.name} ({case}): strides {got.stride()}"
            assert wanted.is_contiguous(), f"{operator.name} ({case}): strides {wanted.stride()}"


def vmap_is_a_loop(operator: Composed) -> None:
    if not operator.mapped:
        return
    case = operator.cases[0]
    given = draw(operator, case)
    twice = [torch.stack([t, t.flip(0)]) for t in given]

    def run(*one: Tensor) -> Tensor:
        return operator.function(*one, **case.arguments)

    wanted = torch.stack([run(*(t[i] for t in twice)) for i in range(2)])
    torch.testing.assert_close(func.vmap(run)(*twice), wanted, rtol=1e-12, atol=1e-12)


def layers_can_be_copied(operator: Composed) -> None:
    if operator.layer is None:
        return
    for case in operator.cases:
        given = draw(operator, case)
        layer = operator.layer(case).eval()
        wanted = operator.function(*given, **case.arguments)
        for other in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            torch.testing.assert_close(other(*given), wanted, rtol=0, atol=0)
        assert type(layer).__name__ in repr(layer)


def compiles_in_one_graph(operator: Composed) -> None:
    if not operator.compiled:
        return
    case = operator.cases[0]

    def run(*given: Tensor) -> Tensor:
        return operator.function(*given, **case.arguments)

    torch.compiler.reset()
    given = [t.requires_grad_(operator.differentiable and t.is_floating_point()) for t in draw(operator, case)]
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    eager, other = run(*given), compiled(*given)
    torch.testing.assert_close(other, eager, rtol=1e-12, atol=1e-12)
    if operator.differentiable:
        leaves = [t for t in given if t.requires_grad]
        wanted, got = (torch.autograd.grad((y * y).sum(), leaves) for y in (eager, other))
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


CHECKS = {
    check.__name__: check
    for check in (
        values_equal_the_loops,
        inputs_stay_as_they_were,
        derivatives_are_right,
        the_batch_may_be_missing_or_empty,
        layouts_do_not_matter,
        vmap_is_a_loop,
        layers_can_be_copied,
        compiles_in_one_graph,
    )
}


def tests(*operators: Composed) -> Any:
    """A pytest function that runs every check of every operator as a test of its own."""

    @pytest.mark.parametrize("name", CHECKS)
    @pytest.mark.parametrize("operator", operators, ids=lambda operator: operator.name)
    def conforms(operator: Composed, name: str) -> None:
        CHECKS[name](operator)

    return conforms


def mutant_tests(operator: Composed, mutants: Mapping[str, Callable[..., Tensor]]) -> Any:
    """A pytest function for each wrong variant: its values must differ from the reference's, or it must fail."""

    @pytest.mark.parametrize("mutant", mutants)
    def is_killed(mutant: str) -> None:
        wrong = copy.copy(operator)
        object.__setattr__(wrong, "function", mutants[mutant])
        with pytest.raises((AssertionError, ValueError, RuntimeError)):
            values_equal_the_loops(wrong)

    return is_killed
