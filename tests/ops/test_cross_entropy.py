"""Softmax cross entropy against its formula in double and PyTorch's, its derivatives, its mutants, its sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from harness.compare import require_near
from harness.engines import threads
from switchgrad import kernels, ops
from switchgrad.errors import GeometryError

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
CASES: list[dict[str, Any]] = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"label_smoothing": 0.1},
    {"weighted": True},
    {"weighted": True, "label_smoothing": 0.3, "reduction": "none"},
    {"weighted": True, "label_smoothing": 1.0},
    {"ignore_index": 1, "label_smoothing": 0.2, "weighted": True},
    {"ignore_index": -1},
]
SHAPES = [(9, 10), (1, 1), (5, 37), (4, 1000), (3,), (2, 5, 3, 4), (0, 4)]


def drawn(shape: tuple[int, ...], case: dict[str, Any], dtype: torch.dtype) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Scores, targets (some ignored), and the keyword arguments."""
    generator = torch.Generator().manual_seed(len(shape) + shape[-1])
    classes = shape[1] if len(shape) > 1 else shape[0]
    options = dict(case)
    x = (torch.randn(shape, generator=generator, dtype=torch.float64) * 4).to(dtype)
    target = torch.randint(0, classes, (shape[0], *shape[2:]) if len(shape) > 1 else (), generator=generator)
    if options.get("ignore_index") == -1 and target.dim():
        target[::2] = -1
    if options.pop("weighted", False):
        options["weight"] = torch.rand(classes, generator=generator, dtype=torch.float64).to(dtype)
    return x, target, options


def formula(x: Tensor, target: Tensor, options: dict[str, Any]) -> Tensor:
    """The loss in double, row by row, as the docstring says it."""
    rows = x.double().movedim(1, -1).reshape(-1, x.shape[1]) if x.dim() > 1 else x.double()[None]
    classes, smooth = rows.shape[1], options.get("label_smoothing", 0.0)
    w = options["weight"].double() if "weight" in options else torch.ones(classes, dtype=torch.float64)
    losses, weights = [], []
    for row, t in zip(rows, target.reshape(-1).tolist(), strict=True):
        if t == options.get("ignore_index", -100):
            losses.append(row.sum() * 0)
            continue
        log = row - torch.logsumexp(row, 0)
        losses.append(-(1 - smooth) * w[t] * log[t] - smooth / classes * (w * log).sum())
        weights.append(w[t])
    total = torch.stack(losses) if losses else rows.new_zeros(0)
    if options.get("reduction") == "none":
        return total.reshape(target.shape)
    return total.sum() if options.get("reduction") == "sum" else total.sum() / sum(weights, torch.zeros(()))


def check(function: Callable[..., Tensor], case: dict[str, Any], dtype: torch.dtype) -> None:
    """Loss and gradient against the formula, by PyTorch's error as the yardstick."""
    for shape in SHAPES[:-1]:
        x, target, options = drawn(shape, case, dtype)
        results = []
        for one, kind in ((x, function), (x, F.cross_entropy), (x.double(), None)):
            leaf = one.clone().requires_grad_()
            loss = kind(leaf, target, **options) if kind else formula(leaf, target, options)
            sent = torch.linspace(0.5, 2, loss.numel(), dtype=torch.float64).reshape(loss.shape).to(loss.dtype)
            results.append((loss.detach(), torch.autograd.grad(loss, leaf, sent)[0]))
        for (got, peer, truth), what in zip(zip(*results, strict=True), ("loss", "gradient"), strict=True):
            if truth.isnan().any():  # a mean over no rows; the gradient is 0 there, as in PyTorch
                assert torch.equal(got.isnan(), peer.isnan()), f"{shape} {case} {dtype}: {what}"
                continue
            floor = truth + torch.finfo(dtype).eps * truth.abs().amax().clamp_min(0.1)  # what rounding may do to terms
            yardstick = torch.where((peer.double() - truth).abs() > (floor - truth), peer.double(), floor)
            require_near(got, yardstick, truth, 3, f"{shape} {case} {dtype}: {what}")


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_loss_and_gradient_are_those_of_the_formula(case: dict[str, Any], dtype: torch.dtype) -> None:
    for isa in kernels.isas() or [""]:
        if isa:
            with kernels.use_isa(isa):
                check(ops.cross_entropy, case, dtype)
        else:
            check(ops.cross_entropy, case, dtype)


def _mutant(**wrong: Any) -> Callable[..., Tensor]:
    def function(x: Tensor, target: Tensor, **options: Any) -> Tensor:
        return F.cross_entropy(x, target, **{**options, **wrong})

    return function


def _mean_by_rows(x: Tensor, target: Tensor, **options: Any) -> Tensor:
    losses = F.cross_entropy(x, target, **{**options, "reduction": "none"})
    return losses.mean() if options.get("reduction", "mean") == "mean" else losses


@pytest.mark.parametrize(
    ("function", "case"),
    [
        (_mutant(label_smoothing=0.0), {"label_smoothing": 0.1}),
        (_mutant(weight=None), {"weighted": True}),
        (_mutant(ignore_index=-100), {"ignore_index": 1}),
        (_mutant(reduction="sum"), {}),
        (_mean_by_rows, {"weighted": True}),
        (_mean_by_rows, {"ignore_index": -1}),
        (lambda x, t, **o: F.cross_entropy(x.detach() * 2 - x, t, **o), {}),
        (lambda x, t, **o: F.cross_entropy(x, t, **o) + (x - x.detach()).sum() * 1e-4, {}),
    ],
)
def test_wrong_ones_are_seen(function: Callable[..., Tensor], case: dict[str, Any]) -> None:
    with pytest.raises((AssertionError, IndexError)):
        check(function, case, torch.float32)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_same_bits_from_every_instruction_set_and_number_of_threads(dtype: torch.dtype) -> None:
    x, target, options = drawn((999, 37), {"weighted": True, "label_smoothing": 0.1}, dtype)
    results = []
    for isa in kernels.isas():
        for count in (1, 3):
            leaf = x.clone().requires_grad_()
            with kernels.use_isa(isa), threads(count):
                loss = ops.cross_entropy(leaf, target, **options)
                results.append((loss.detach(), *torch.autograd.grad(loss, leaf)))
    for other in results[1:]:
        assert all(torch.equal(left, right) for left, right in zip(other, results[0], strict=True))


def test_without_a_tape_the_loss_is_the_same() -> None:
    x, target, options = drawn((9, 10), {"weighted": True, "label_smoothing": 0.1}, torch.float32)
    assert torch.equal(
        ops.cross_entropy(x, target, **options), ops.cross_entropy(x.requires_grad_(), target, **options)
    )


def test_infinite_and_missing_scores() -> None:
    x = torch.tensor([[0.0, -torch.inf, 1.0], [torch.nan, 0.0, 0.0], [torch.inf, 0.0, 0.0], [1e4, -1e4, 0.0]])
    for target in ([0, 0, 0, 0], [1, 1, 1, 1]):
        got = [leaf.clone().requires_grad_() for leaf in (x, x)]
        ours, theirs = (
            f(leaf, torch.tensor(target), reduction="none")
            for f, leaf in zip((ops.cross_entropy, F.cross_entropy), got, strict=True)
        )
        torch.testing.assert_close(ours, theirs, equal_nan=True)
        slopes = [torch.autograd.grad(y.sum(), leaf)[0] for y, leaf in zip((ours, theirs), got, strict=True)]
        torch.testing.assert_close(*slopes, equal_nan=True)


def test_derivatives() -> None:
    x, target, options = drawn((4, 5), {"weighted": True, "label_smoothing": 0.1}, torch.float64)
    for reduction in ("mean", "sum", "none"):

        def function(x: Tensor, reduction: str = reduction) -> Tensor:
            return ops.cross_entropy(x, target, **options, reduction=reduction)

        gradcheck(function, (x.requires_grad_(),))
        gradgradcheck(function, (x,))


def test_empty_rows_and_rows_that_are_all_ignored() -> None:
    x, target, _ = drawn((0, 4), {}, torch.float32)
    assert ops.cross_entropy(x, target).isnan()
    assert ops.cross_entropy(x, target, reduction="sum") == 0
    assert ops.cross_entropy(torch.zeros(2, 3), torch.tensor([-100, -100])).isnan()


def test_transforms_and_probabilities_are_pytorchs_own() -> None:
    x = torch.randn(3, 4, 5)
    target = torch.randint(0, 5, (3, 4))
    torch.testing.assert_close(
        torch.func.vmap(ops.cross_entropy)(x, target),
        torch.stack([F.cross_entropy(one, t) for one, t in zip(x, target, strict=True)]),
    )
    soft = torch.rand(4, 5).softmax(1)
    assert torch.equal(ops.cross_entropy(x[0], soft), F.cross_entropy(x[0], soft))


def test_the_compiler_takes_it_in_one_graph() -> None:
    torch.compiler.reset()
    x, target, _ = drawn((9, 10), {}, torch.float32)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    compiled = torch.compile(ops.cross_entropy, fullgraph=True, backend="aot_eager")
    for leaf, function in zip(leaves, (ops.cross_entropy, compiled), strict=True):
        function(leaf, target).backward()
    assert torch.equal(leaves[0].grad, leaves[1].grad)


def test_registrations_are_sound() -> None:
    x, target, options = drawn((9, 10), {"weighted": True}, torch.float32)
    for name in ("cross_entropy", "cross_entropy_values"):
        for reduction in (0, 1, 2):
            arguments = (x, target, options["weight"], -100, 0.1, reduction)
            operator = getattr(torch.ops.switchgrad, name).default
            torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (
            {"target": torch.tensor([0, 3])},
            RuntimeError,
            "the target is 3 at row 1, but the input has the classes 0 to 2",
        ),
        ({"target": torch.tensor([0])}, GeometryError, r"the target has shape \(1,\)"),
        ({"target": torch.tensor([0, 1], dtype=torch.int32)}, GeometryError, "wants int64 classes"),
        ({"weight": torch.ones(4)}, GeometryError, r"the weight has shape \(4,\); give one number for each of 3"),
        ({"reduction": "average"}, GeometryError, 'reduction is "average"; choose'),
        ({"label_smoothing": 1.5}, GeometryError, "label_smoothing is 1.5; it must be from 0 to 1"),
        ({"input": torch.zeros(2, 0)}, GeometryError, "with 1 class or more"),
        ({"input": torch.zeros(2, 3, dtype=torch.int64)}, GeometryError, "cross entropy takes float64"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(change: dict[str, Any], error: type[Exception], sentence: str) -> None:
    given = {"input": torch.zeros(2, 3), "target": torch.tensor([0, 1]), **change}
    with pytest.raises(error, match=sentence):
        ops.cross_entropy(**given)


@pytest.mark.parametrize(
    "case", [{}, {"label_smoothing": 0.1, "weighted": True, "ignore_index": 2, "reduction": "sum"}]
)
@pytest.mark.parametrize("device", ["cpu", "elsewhere"])
def test_loss_and_gradient_at_once_are_those_of_the_tape(
    case: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, target, options = drawn((13, 7), case, torch.float32)
    leaf = x.clone().requires_grad_()
    loss = ops.cross_entropy(leaf, target, **options)
    loss.backward()
    scores = x.clone().requires_grad_()
    if device == "cpu":
        with torch.no_grad():
            found, gradient = ops.cross_entropy_with_gradient(scores, target, **options)
        assert torch.equal(found, loss)
        assert torch.equal(gradient, leaf.grad)
    else:  # as on a device without a kernel of ours

        class Elsewhere(torch.Tensor):
            device = torch.device("xpu")

        found, gradient = ops.cross_entropy_with_gradient(scores.as_subclass(Elsewhere), target, **options)
        torch.testing.assert_close(torch.Tensor(found), loss)
        torch.testing.assert_close(gradient.as_subclass(torch.Tensor), leaf.grad)
    assert not found.requires_grad
    assert not gradient.requires_grad


def test_loss_and_gradient_at_once_take_rows_and_one_number() -> None:
    x, target = torch.zeros(2, 3), torch.tensor([0, 1])
    with pytest.raises(GeometryError, match=r'shape \(2, 3\) and reduction is "none"; give rows \(N, C\) and "mean"'):
        ops.cross_entropy_with_gradient(x, target, reduction="none")
    with pytest.raises(GeometryError, match=r"shape \(2, 3, 4\)"):
        ops.cross_entropy_with_gradient(torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.int64))
    with pytest.raises(GeometryError, match="label_smoothing is 2"):
        ops.cross_entropy_with_gradient(x, target, label_smoothing=2)
