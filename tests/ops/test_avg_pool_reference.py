"""The package's own references of average pooling, in plain PyTorch, are held to the loops as the kernels are."""

from __future__ import annotations

import pytest
import torch

from declarations.avg_pool import adaptive_avg_pool, avg_pool
from harness.layouts import COMPACT, layouts
from switchgrad import geometry
from switchgrad.ops.adaptive_pool import average
from switchgrad.ops.avg_pool import reference


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_reference_of_averages_and_of_their_adjoint(dims: int) -> None:
    operator = avg_pool(dims)
    for case in operator.cases:
        x = torch.randn(case.shapes[0], dtype=torch.float64)
        (wanted,) = operator.reference(x.numpy(), **case.arguments)
        arguments = dict(case.arguments)
        rest = (arguments.pop("count_include_pad", True), float(arguments.pop("divisor_override", 0)))
        size = tuple(x.shape[-dims:])
        window = geometry.window(dims, **arguments, input_size=size).numbers
        for first in layouts(x, *COMPACT).values():
            got = reference.avg_pool(first, window, *rest)
            torch.testing.assert_close(got, torch.from_numpy(wanted))
            assert got.stride() == torch.ops.switchgrad.avg_pool(first, window, *rest).stride()
        grad = torch.randn(wanted.shape, dtype=torch.float64)
        (shares,) = operator.reference_gradient(grad.numpy(), x.numpy(), **case.arguments)
        for last in (False, True) if dims > 1 else (False,):
            got = reference.avg_pool_spread(grad, size, window, *rest, last)
            torch.testing.assert_close(got, torch.from_numpy(shares))
            assert got.stride() == torch.ops.switchgrad.avg_pool_spread(grad, size, window, *rest, last).stride()


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_reference_of_adaptive_averages_and_of_their_adjoint(dims: int) -> None:
    operator = adaptive_avg_pool(dims)
    for case in operator.cases:
        x = torch.randn(case.shapes[0], dtype=torch.float64)
        (wanted,) = operator.reference(x.numpy(), **case.arguments)
        places = wanted.shape[-dims:]
        for first in layouts(x, *COMPACT).values():
            got = average._adaptive_avg_pool(first, places)
            torch.testing.assert_close(got, torch.from_numpy(wanted))
            assert got.stride() == torch.ops.switchgrad.adaptive_avg_pool(first, places).stride()
        grad = torch.randn(wanted.shape, dtype=torch.float64)
        (shares,) = operator.reference_gradient(grad.numpy(), x.numpy(), **case.arguments)
        size = tuple(x.shape[-dims:])
        for last in (False, True) if dims > 1 else (False,):
            got = average._adaptive_avg_pool_spread(grad, size, last)
            torch.testing.assert_close(got, torch.from_numpy(shares))
            assert got.stride() == torch.ops.switchgrad.adaptive_avg_pool_spread(grad, size, last).stride()
