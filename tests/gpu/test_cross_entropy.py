"""Cross entropy by Triton kernels, held to the formula in float64 beside PyTorch's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.interpreted import OnTriton
from switchgrad import ops

CASES: tuple[dict[str, Any], ...] = (
    {},
    {"label_smoothing": 0.1, "reduction": "sum"},
    {"ignore_index": 1, "reduction": "none"},
    {"weight": True, "label_smoothing": 0.3, "ignore_index": 0},
)


def quiet() -> np.errstate:
    """NumPy, by which Triton interprets, warns of what a GPU does silently."""
    return np.errstate(all="ignore")


def drawn(rows: int, classes: int, case: dict[str, Any], dtype: torch.dtype) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(rows * classes)
    x = (3 * torch.randn(rows, classes, generator=generator)).to(dtype)
    target = torch.randint(0, classes, (rows,), generator=generator)
    options = dict(case)
    if options.pop("weight", False):
        options["weight"] = torch.rand(classes, generator=generator).to(dtype) + 0.5
    return x, target, options


def loss_and_gradient(function: Any, x: torch.Tensor, target: torch.Tensor, options: dict[str, Any]) -> Any:
    leaf = x.clone().requires_grad_()
    loss = function(leaf, target, **options)
    sent = torch.linspace(0.5, 2, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
    return loss.detach(), torch.autograd.grad(loss, leaf, sent)[0]


def check(case: dict[str, Any], dtype: torch.dtype, shape: tuple[int, int], **replaced: Any) -> None:
    x, target, options = drawn(*shape, case, dtype)
    with OnTriton(**replaced) as mode, quiet():
        got = loss_and_gradient(ops.cross_entropy, x, target, options)
    assert mode.served == {"cross_entropy"}
    wide = {name: value.double() if name == "weight" else value for name, value in options.items()}
    truth = loss_and_gradient(F.cross_entropy, x.double(), target, wide)
    peer = loss_and_gradient(F.cross_entropy, x, target, options)
    for ours, theirs, exact in zip(got, peer, truth, strict=True):
        assert torch.equal(ours.isnan(), exact.isnan())  # of a mean over no rows
        ours, theirs, exact = ours.nan_to_num(), theirs.nan_to_num(), exact.nan_to_num()
        allowed = 3 * (theirs.double() - exact).abs().max() + 4 * torch.finfo(dtype).eps * exact.abs().max()
        assert ((ours.double() - exact).abs() <= allowed).all()
        assert ours.dtype == dtype


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_loss_and_gradient_are_those_of_the_formula(case: dict[str, Any], dtype: torch.dtype) -> None:
    for shape in ((1, 1), (5, 3), (70, 33)):
        check(case, dtype, shape)


def test_more_classes_than_a_program_holds() -> None:
    check({"label_smoothing": 0.1}, torch.float32, (2, 4100))


def wrong(change: Any) -> Any:
    def cross_entropy(input: Any, target: Any, *rest: Any) -> Any:
        from switchgrad.ops.cross_entropy import reference

        return change(reference.cross_entropy, input, target, *rest)

    return cross_entropy


@pytest.mark.parametrize(
    "mutant",
    [
        lambda f, x, t, w, i, s, r: f(x, t, w, i, 0.0, r),
        lambda f, x, t, w, i, s, r: f(x, t, None, i, s, r),
        lambda f, x, t, w, i, s, r: f(x, t, w, -100, s, r),
        lambda f, x, t, w, i, s, r: (f(x, t, w, i, s, r)[0], f(x, t, w, i, s, 2)[1]),
    ],
    ids=["smoothing forgotten", "weights forgotten", "ignored rows counted", "gradient of the sum for the mean"],
)
def test_wrong_ones_are_seen(mutant: Any) -> None:
    with pytest.raises(AssertionError):
        check(CASES[3], torch.float32, (70, 33), cross_entropy=wrong(mutant))


def test_infinite_and_ignored_rows_and_targets_that_are_no_class() -> None:
    x = torch.zeros(5, 3)
    x[0, 1], x[1, 0], x[2, 2], x[3] = torch.inf, torch.nan, -torch.inf, torch.nan
    target = torch.tensor([0, 1, 0, -100, 7])
    with OnTriton(), quiet():
        loss, grad = torch.ops.switchgrad.cross_entropy(x, target, None, -100, 0.0, 0)
        summed = torch.ops.switchgrad.cross_entropy_values(x[2:4], target[2:4], None, -100, 0.0, 1)
        empty = torch.ops.switchgrad.cross_entropy_values(x[:0], target[:0], None, -100, 0.0, 1)
    assert loss.isnan().tolist() == [True, True, False, False, True]
    assert grad[3].tolist() == [0, 0, 0]
    assert grad[4].isnan().all()
    assert torch.allclose(summed, torch.tensor(2.0).log())
    assert empty.isnan()
