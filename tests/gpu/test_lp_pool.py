"""Lp pooling by Triton kernels, held to loops, and on the tape: the gradient, and the gradient of the gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import conform
from harness.interpreted import LAYOUTS, VALUES, OnTriton
from ops.test_lp_pool import declaration
from switchgrad import geometry, ops
from switchgrad.kernels import schema
from switchgrad.ops import lp_fused

TWO = declaration(2)
OPERATOR = replace(
    TWO,
    cases=tuple(case for case in TWO.cases if case.name in ("L3", "L2.5", "L0.5", "dilated")),
    dtypes=(torch.float32, torch.float16),
    native=False,
    samples=("plain", "ties"),
    same_bits=True,
    keeps_layout=True,
)
WINDOW = geometry.window(2, (3, 2), (2, 1), ((1, 0), (0, 1)), (1, 2)).numbers


@pytest.fixture(autouse=True)
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the CPU had the kernel."""
    monkeypatch.setattr(lp_fused, "has_kernel", lambda *_: True)


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    with OnTriton() as mode:
        conform.check(OPERATOR, [name])
    assert mode.served == {"lp_pool"}


def test_layouts() -> None:
    with OnTriton():
        conform.check(replace(OPERATOR, cases=OPERATOR.cases[-1:], samples=("plain",)), LAYOUTS[:1])


@pytest.mark.parametrize("p", [0.5, 1, 2, 2.5, 3, 3.7])
@pytest.mark.parametrize("last", [False, True])
def test_gradients_are_the_references(p: float, last: bool) -> None:
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    x[0, :, :2] = 0
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    y = schema.REFERENCES["lp_pool"](x, p, WINDOW)
    g = torch.randn_like(y)
    wanted = schema.REFERENCES["lp_pool_spread"](g, x, y, p, WINDOW)
    with OnTriton() as mode:
        got = torch.ops.switchgrad.lp_pool_spread(g, x, y, p, WINDOW)
    assert mode.served == {"lp_pool_spread"}
    assert got.stride() == x.stride()
    torch.testing.assert_close(got, wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("p", [1.5, 3.0])
def test_the_tape(p: float) -> None:
    def norms(x: torch.Tensor) -> Any:
        return ops.lp_pool2d(x, p, (3, 2), stride=(2, 1), padding=((1, 0), (0, 1)))

    x = torch.randn(1, 1, 4, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(norms, x)  # of the reference: what autograd is told
    assert gradgradcheck(norms, x)
    with OnTriton() as mode:
        (got,) = torch.autograd.grad(norms(x).sum(), x)
    assert mode.served == {"lp_pool", "lp_pool_spread"}
    torch.testing.assert_close(got, torch.autograd.grad(norms(x).sum(), x)[0])


@pytest.mark.usefixtures("fused")
def test_references_agree_with_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    fused = ops.lp_pool2d(x, 2.5, 3, 2, padding=1)
    monkeypatch.setattr(lp_fused, "has_kernel", lambda *_: False)
    torch.testing.assert_close(fused, ops.lp_pool2d(x, 2.5, 3, 2, padding=1))
