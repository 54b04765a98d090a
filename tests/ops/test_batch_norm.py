"""Batch normalisation with ReLU and max pooling: the harness and its mutants, running statistics, sentences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import conform
from declarations.batch_norm import BATCH_NORM_RELU, BATCH_NORM_RELU_MAX_POOL, FEW, right
from harness.engines import threads
from switchgrad import kernels, ops
from switchgrad.errors import GeometryError

# Left out: what compares bits where sums are rounded in another order (vmap, Jacobians, gradients near 0 by layout),
# and what wants a batch that may be missing or empty. The tests below say those things for batch normalisation.
NAMES = (
    "values_equal_the_loops",
    "values_equal_the_peer",
    "inputs_stay_as_they_were",
    "threads_do_not_matter",
    "layouts_do_not_matter",
    "fresh_memory_does_not_matter",
    "gradients_equal_the_loops",
    "gradients_equal_the_peer",
    "gradients_are_deterministic",
    "exact_outputs_carry_no_gradient",
    "little_is_kept",
    "derivatives_are_right",
    "registrations_are_sound",
    pytest.param("compiles_without_breaks", marks=pytest.mark.slow),
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("operator", [BATCH_NORM_RELU, BATCH_NORM_RELU_MAX_POOL], ids=lambda operator: operator.name)
def test_conforms(operator: conform.Operator, name: str) -> None:
    conform.check(operator, [name])


SEEN = ("values_equal_the_loops", "gradients_equal_the_loops")


def test_what_the_mutants_derive_from_is_right() -> None:
    conform.check(conform.stand_in(FEW, "right", right), SEEN)


@pytest.mark.parametrize("mutant", FEW.mutants, ids=lambda mutant: mutant.name)
def test_mutant(mutant: conform.Mutant) -> None:
    with pytest.raises(conform.Failure) as killed:
        conform.check(conform.stand_in(FEW, mutant.name, mutant.function), SEEN)
    assert killed.value.check == mutant.killed_by, killed.value


def _parameters(channels: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(channels)
    weight, bias = (torch.randn(channels, generator=generator, dtype=dtype) for _ in range(2))
    return weight.requires_grad_(), bias.requires_grad_()


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_double_agrees_with_pytorch(pooled: bool, training: bool, layout: torch.memory_format) -> None:
    x = (torch.randn(5, 9, 13, 11, dtype=torch.float64) * 3 + 100).contiguous(memory_format=layout).requires_grad_()
    weight, bias = _parameters(9)
    ours, theirs = ((torch.full((9,), 99.0).double(), torch.full((9,), 8.0).double()) for _ in range(2))
    arguments = (weight, bias, training, 0.3, 1e-5)
    window = {"kernel_size": 3, "stride": 2, "padding": 1}
    wanted = F.relu(F.batch_norm(x, *theirs, *arguments))
    wanted = F.max_pool2d(wanted, **window) if pooled else wanted
    function = ops.batch_norm_relu_max_pool2d if pooled else ops.batch_norm_relu
    got = function(x, *ours, *arguments, **(window if pooled else {}))
    torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    sent = torch.randn_like(got)
    for left, right_ in zip(*(torch.autograd.grad(y, (x, weight, bias), sent) for y in (got, wanted)), strict=True):
        torch.testing.assert_close(left, right_, rtol=1e-9, atol=1e-10)


def test_statistics_hold_where_the_mean_is_large() -> None:
    """A float32 channel at 10,000 +- 1: the difference of squares in float32 would lose it all."""
    x = torch.randn(8, 2, 30, 30) + torch.tensor([1e4, -1e4]).reshape(2, 1, 1)
    mean, var = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    ops.batch_norm_relu(x, mean, var, training=True, momentum=1.0)
    exact = x.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean, exact.mean(1), rtol=1e-13, atol=0)
    torch.testing.assert_close(var, exact.var(1), rtol=1e-10, atol=0)


@pytest.mark.skipif(not kernels.isas(), reason="the native library is not here")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_instruction_set_and_number_of_threads_give_the_same_bits(
    dtype: torch.dtype, layout: torch.memory_format
) -> None:
    x = torch.randn(3, 37, 61, 43).to(dtype).contiguous(memory_format=layout).requires_grad_()
    weight, bias = _parameters(37, torch.float32)
    results = []
    for isa in kernels.isas():
        for count in (1, 3):
            with kernels.use_isa(isa), threads(count):
                y = ops.batch_norm_relu_max_pool2d(x, None, None, weight, bias, True, 0.1, 1e-5, 3, 2, 1)
                z = ops.batch_norm_relu(x, None, None, weight, bias, True)
                sent = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape).to(dtype)
                results.append([y, z, *torch.autograd.grad(y, (x, weight, bias), sent)])
                results[-1] += torch.autograd.grad(z, (x, weight, bias), z.detach())
    for other in results[1:]:
        assert all(torch.equal(left, wanted) for left, wanted in zip(other, results[0], strict=True))


def test_nan_and_infinity_stay_in_their_channel() -> None:
    x = torch.randn(2, 3, 4, 4)
    x[0, 1, 0, 0] = torch.nan
    y = ops.batch_norm_relu_max_pool2d(x, None, None, training=True, kernel_size=2)
    assert y[:, 1].isnan().all()
    assert y[:, (0, 2)].isfinite().all()


def test_vmap_and_forward_mode_go_through_single_operators() -> None:
    x = torch.randn(3, 2, 2, 4, 4, dtype=torch.float64)

    def function(one: torch.Tensor) -> torch.Tensor:
        return ops.batch_norm_relu_max_pool2d(one, None, None, training=True, kernel_size=2)

    torch.testing.assert_close(torch.func.vmap(function)(x), torch.stack([function(one) for one in x]))
    columns, rows = (mode(function)(x[0]) for mode in (torch.func.jacfwd, torch.func.jacrev))
    torch.testing.assert_close(columns, rows)


def test_export_keeps_the_operator() -> None:
    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor, mean: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
            return ops.batch_norm_relu_max_pool2d(x, mean, var, kernel_size=2)

    x, mean, var = torch.randn(3, 2, 4, 6), torch.randn(2), torch.rand(2)
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)}, None, None)
    program = torch.export.export(Module(), (x, mean, var), dynamic_shapes=shapes)
    assert "batch_norm_relu_max_pool" in str(program.graph)
    assert torch.equal(program.module()(x[:2], mean, var), Module()(x[:2], mean, var))


def test_an_empty_batch_passes_in_evaluation() -> None:
    x = torch.zeros(0, 2, 4, 4, requires_grad=True)
    y = ops.batch_norm_relu_max_pool2d(x, torch.zeros(2), torch.ones(2), kernel_size=2)
    y.sum().backward()
    assert y.shape == (0, 2, 2, 2)
    assert x.grad is not None
    assert x.grad.shape == x.shape


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"input": torch.zeros(4)},
            r"takes an input of shape \(N, C, ...\) with 1 channel or more; this one has \(4,\)",
        ),
        ({"input": torch.zeros(2, 3, dtype=torch.int32)}, "the input has dtype torch.int32; batch normalisation takes"),
        ({"weight": torch.ones(2)}, r"weight has shape \(2,\) and the input 3 channels"),
        ({"running_mean": None}, "evaluation needs running_mean and running_var"),
        ({"input": torch.zeros(1, 3), "training": True}, "training needs 2 or more values for each channel"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(arguments: dict[str, object], sentence: str) -> None:
    given = {"input": torch.zeros(2, 3), "running_mean": torch.zeros(3), "running_var": torch.ones(3), **arguments}
    with pytest.raises(GeometryError, match=sentence):
        ops.batch_norm_relu(**given)
