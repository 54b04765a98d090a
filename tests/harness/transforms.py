"""Checks of everything that looks through an operator: functorch, autocast, the compiler, export, copies of layers."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, func
from torch.library import opcheck

from harness.compare import require_equal, require_same
from harness.declaration import Case, Operator, as_tuple
from harness.layouts import layouts, placed
from harness.samples import tensors


def _function(operator: Operator, case: Case) -> Any:
    return lambda *given: operator.short(*given, **case.arguments)


def _same(operator: Operator) -> Any:
    return require_equal if operator.sums else require_same


def vmap_is_a_loop(operator: Operator) -> None:
    """Mapped over a new axis, in front or at the end, the values are those of a loop; so are the gradients."""
    for case in operator.small_cases():
        function = _function(operator, case)
        kinds = operator.kinds("distinct", "plain", "ties")
        given = [tensors(operator, case, kind, torch.float64) for kind in kinds]
        wanted = torch.stack([function(*one) for one in given])
        for dim in (0, -1):
            stacked = [torch.stack(column, dim) for column in zip(*given, strict=True)]
            got = func.vmap(function, in_dims=dim)(*stacked)
            _same(operator)(got, wanted, f"{operator.name} ({case.name}): vmap over axis {dim}")
        places = operator.places(given[0])

        def square(*one: Tensor, function: Any = function) -> Tensor:
            return (function(*one) ** 2).sum()

        slope = func.grad(square, argnums=places)
        alone = [slope(*one) for one in given]
        mapped = func.vmap(slope)(*(torch.stack(column) for column in zip(*given, strict=True)))
        for i in range(len(places)):
            wanted = torch.stack([one[i] for one in alone])
            _same(operator)(mapped[i], wanted, f"{operator.name} ({case.name}): vmap of the gradient")


def jacobians_agree(operator: Operator) -> None:
    """Backward and forward mode build the same Jacobian, the same Hessian, and third derivatives."""
    for case in operator.small_cases()[:4]:
        given = tensors(operator, case, "whole", torch.float64)
        function = _function(operator, case)
        places = operator.places(given)
        modes = (mode(function, argnums=places)(*given) for mode in (func.jacrev, func.jacfwd))
        for rows, columns in zip(*modes, strict=True):
            require_same(rows + 0.0, columns + 0.0, f"{operator.name} ({case.name}): Jacobian of both modes")
        argnums = places[-1]  # of several the smallest: the cost is the third power of its cells

        def cube(*one: Tensor, function: Any = function) -> Tensor:
            return (function(*one) ** 3).sum()

        wanted = func.jacrev(func.jacrev(cube, argnums), argnums)(*given)
        hessian = func.hessian(cube, argnums)(*given)
        require_same(hessian + 0.0, wanted + 0.0, f"{operator.name} ({case.name}): Hessian")
        third = func.jacfwd(func.hessian(cube, argnums), argnums)(*given)
        again = func.jacrev(func.jacrev(func.jacrev(cube, argnums), argnums), argnums)(*given)
        require_same(third + 0.0, again + 0.0, f"{operator.name} ({case.name}): third derivative")


def autocast_keeps_integers(operator: Operator) -> None:
    """Under autocast the result is that of the dtypes given, or the peer's; switches and indices stay integers."""
    for case in operator.small_cases():
        given = tensors(operator, case, *operator.kinds("plain")[:1], torch.float32)
        wanted = operator.outputs(*given, **case.arguments)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = operator.outputs(*given, **case.arguments)
            if operator.autocasts and operator.peer is not None:
                wanted = (*as_tuple(operator.peer(*given, **case.arguments)), *wanted[1:])
        for i, (left, right) in enumerate(zip(got, wanted, strict=True)):
            _same(operator)(left, right, f"{operator.name} ({case.name}): output {i} under autocast")


def registrations_are_sound(operator: Operator) -> None:
    """PyTorch's own opcheck: schema, fake kernels and their strides, on every layout."""
    if operator.registered is None:
        return
    for case in operator.small_cases():
        given = tensors(operator, case, "plain", torch.float32)
        for laid in placed(given, operator.weights).values():
            for registered, arguments in operator.registered(*laid, **case.arguments):
                opcheck(registered, arguments, test_utils=("test_schema", "test_faketensor"))


def layers_can_be_copied(operator: Operator) -> None:
    """deepcopy and pickle of the layer give a layer that computes the same."""
    if operator.layer is None:
        return
    for case in operator.small_cases():
        given = tensors(operator, case, "plain", torch.float32)
        layer = operator.layer(case)
        wanted = operator.values(*given, **case.arguments)
        for other in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            require_same(other(*given), wanted, f"{operator.name} ({case.name}): {layer}")


@contextmanager
def _tracing() -> Iterator[None]:
    """A fresh compiler, whose own deprecation warnings do not count."""
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "<class 'torch.autograd.function.Function'> should not be instantiated")
        yield


def compiles_without_breaks(operator: Operator) -> None:
    """`torch.compile` in one graph, shapes left open: values, exact outputs and gradients as in eager mode."""
    called = operator.function
    for case in operator.small_cases()[:2]:
        arguments = dict(case.arguments)

        def function(*given: Tensor, arguments: dict[str, Any] = arguments) -> Any:
            return called(*given, **arguments)

        with _tracing():
            compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=operator.compiler)
            for more, layout in ((0, "contiguous"), (1, "channels last"), (3, "contiguous")):
                shapes = [s if i in operator.weights else _larger(operator, s, more) for i, s in enumerate(case.shapes)]
                larger = replace(case, shapes=tuple(shapes))
                first, *rest = tensors(operator, larger, *operator.kinds("plain")[:1], torch.float32)
                for placed in layouts(first, layout).values():
                    eager, other = (_with_gradients(f, operator, (placed, *rest)) for f in (function, compiled))
                    for i, (left, right) in enumerate(zip(other, eager, strict=True)):
                        what = f"{operator.name} ({case.name} + {more}, {layout}): compiled, {i}"
                        _same(operator)(left, right, what)


def _with_gradients(function: Any, operator: Operator, given: tuple[Tensor, ...]) -> list[Tensor]:
    leaves = [t.detach().requires_grad_(i in operator.differentiable) for i, t in enumerate(given)]
    outputs = as_tuple(function(*leaves))
    slopes = torch.autograd.grad((outputs[0] ** 2).sum(), [leaves[i] for i in operator.places(given)])
    return [t.detach() for t in (*outputs, *slopes)]


def exports_with_open_shapes(operator: Operator) -> None:
    """`torch.export`, strict and not, with the batch left open, computes what eager mode computes."""

    class Module(torch.nn.Module):
        def __init__(self, case: Case) -> None:
            super().__init__()
            self.function = operator.values_only or operator.function
            self.arguments = dict(case.arguments)

        def forward(self, *given: Tensor) -> Any:
            return self.function(*given, **self.arguments)

    for case, strict in product(operator.small_cases()[:2], (True, False)):
        given = tensors(operator, case, *operator.kinds("plain")[:1], torch.float32)
        larger = operator.in_batch(given, lambda t: torch.cat([t, t.flip(0), t]))
        batch = torch.export.Dim("batch", min=1, max=64)
        shapes = (tuple(None if i in operator.weights else {0: batch} for i in range(len(larger))),)
        with _tracing():
            exported = torch.export.export(Module(case), larger, dynamic_shapes=shapes, strict=strict).module()
        for one in (given, larger):
            what = f"{operator.name} ({case.name}): exported with strict={strict}"
            _same(operator)(as_tuple(exported(*one))[0], operator.values(*one, **case.arguments), what)


def _larger(operator: Operator, shape: tuple[int, ...], more: int) -> tuple[int, ...]:
    return (shape[0] + more, *shape[1:-1], shape[-1] + 2 * more * operator.grows)


CHECKS = (
    vmap_is_a_loop,
    jacobians_agree,
    autocast_keeps_integers,
    registrations_are_sound,
    layers_can_be_copied,
)
SLOW_CHECKS = (compiles_without_breaks, exports_with_open_shapes)
