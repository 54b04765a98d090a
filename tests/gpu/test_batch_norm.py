"""Batch normalisation with ReLU and max pooling by Triton kernels, held to the same loops as the C++ kernels."""

import pytest
import torch
import torch.nn.functional as F

from declarations.batch_norm import BATCH_NORM_RELU, BATCH_NORM_RELU_MAX_POOL
from harness.interpreted import GRADIENTS, LAYOUTS, VALUES, OnTriton, held_to, subset
from switchgrad import ops
from switchgrad.gpu import batch_norm

TRAINING = ("batch_norm_relu", "batch_norm_move")
POOLED = ("batch_norm_relu_max_pool_values", "batch_norm_move")

test_values = held_to(
    subset(BATCH_NORM_RELU, "evaluation", "vectors", "volumes", "many channels", dtypes=(torch.float32,)),
    VALUES[:1], *TRAINING,
)  # fmt: skip
test_halves = held_to(
    subset(BATCH_NORM_RELU, "plain", dtypes=(torch.float16, torch.bfloat16), samples=("plain",)), VALUES[:1], *TRAINING
)
test_pooled_values = held_to(
    subset(
        BATCH_NORM_RELU_MAX_POOL, "evaluation", "3x3/2 padded", "odd, ceil",
        dtypes=(torch.float32, torch.bfloat16), samples=("plain",),
    ),
    VALUES[:1], *POOLED,
)  # fmt: skip
test_gradients = held_to(
    subset(BATCH_NORM_RELU, "evaluation", "signals", gradient_dtypes=(torch.float32,), samples=("plain",)),
    GRADIENTS[:1], "batch_norm_relu_backward",
)  # fmt: skip
test_pooled_gradients = held_to(
    subset(
        BATCH_NORM_RELU_MAX_POOL, "evaluation", "3x3/1", "hops", gradient_dtypes=(torch.float32,), samples=("plain",)
    ),
    GRADIENTS[:1], "batch_norm_relu_max_pool", "batch_norm_relu_max_pool_backward",
)  # fmt: skip
test_layouts = held_to(
    subset(BATCH_NORM_RELU, "plain", dtypes=(torch.float32,), samples=("plain",)), LAYOUTS[:1], *TRAINING
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_running_statistics_move_as_pytorchs(dtype: torch.dtype) -> None:
    running_statistics(dtype)


def running_statistics(dtype: torch.dtype) -> None:
    """Those of a channel with a large mean too, and of tensors with gaps."""
    x = torch.randn(3, 5, 4, 2, generator=torch.Generator().manual_seed(1))
    x[:, 1] = 1e4 + x[:, 1]  # a mean beside which the variance is small
    running = [torch.rand(10, dtype=dtype)[::2].clone() for _ in range(2)]
    theirs = [t.clone() for t in running]
    ours = [torch.stack([t, t], 1)[:, 0] for t in running]  # every second number in memory
    with OnTriton() as mode:
        ops.batch_norm_relu(x, *ours, training=True, momentum=0.3)
    F.batch_norm(x.to(dtype), *theirs, training=True, momentum=0.3)
    assert mode.served == {"batch_norm_relu", "batch_norm_move"}
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_many_pieces_add_up_in_every_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over several pieces and several steps of each, which small shapes reach with fewer programs."""
    monkeypatch.setattr(batch_norm, "_PROGRAMS", 4)
    monkeypatch.setattr(batch_norm, "_PIECES", 1)
    x = torch.randn(5, 2, 31, 37, generator=torch.Generator().manual_seed(1))
    cells = batch_norm.Cells.of(x)
    assert (cells.pieces, cells.chunk // cells.block[0]) == (2, 3)
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    for laid in (x, x.contiguous(memory_format=torch.channels_last)):
        found = []
        for mode in (torch.enable_grad(), OnTriton()):
            leaf = laid.clone().requires_grad_()
            with mode:
                y = ops.batch_norm_relu(leaf, None, None, training=True)
                found.append((y.detach(), *torch.autograd.grad(y, leaf, grad)))
        for ours, wanted in zip(*found, strict=True):
            assert ours.stride() == wanted.stride()
            torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)
