"""Convolution, ReLU and max pooling in one: edges that no declaration tells of, threads, what is refused, and why."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import switchgrad
from harness.compare import require_same
from harness.engines import running, threads
from harness.samples import sample, seeded
from switchgrad import geometry, kernels, ops
from switchgrad.errors import GeometryError
from switchgrad.ops.conv_pool import why_not_fused

ENGINES = kernels.isas() or ["PyTorch"]


def _results(x: Tensor, w: Tensor, b: Tensor, **arguments: Any) -> tuple[Tensor, ...]:
    leaves = [t.detach().clone().requires_grad_() for t in (x, w, b)]
    values, switches = ops.conv_relu_max_pool2d(*leaves, **arguments, return_switches=True)
    sent = sample("plain", tuple(values.shape), x.dtype, seeded("sent"))
    return values.detach(), switches.codes, *torch.autograd.grad(values, leaves, sent)


@pytest.mark.parametrize("engine", ENGINES)
def test_eight_threads_give_the_bits_of_one(engine: str) -> None:
    x, w, b = (sample("plain", s, torch.float32, seeded(s)) for s in ((5, 16, 24, 25), (34, 16, 3, 3), (34,)))
    for arguments in ({"padding": 1}, {"stride": 2, "pool_size": 3, "pool_stride": 2, "pool_padding": 1}):
        with running(engine):
            with threads(1):
                one = _results(x, w, b, **arguments)
            for count in (2, 3, 8):
                with threads(count):
                    many = _results(x, w, b, **arguments)
                for i, (left, right) in enumerate(zip(many, one, strict=True)):
                    require_same(left, right, f"output {i} of {count} threads")


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_passes_the_relu_and_wins(engine: str) -> None:
    x = torch.full((1, 1, 4, 4), -1.0)
    x[0, 0, 1, 1], x[0, 0, 3, 2] = math.nan, math.inf
    w = torch.ones(17, 1, 1, 1, requires_grad=True)
    with running(engine):
        values, switches = ops.conv_relu_max_pool2d(x, w, return_switches=True)
        (grad,) = torch.autograd.grad(values, w, torch.ones_like(values))
    wanted = torch.tensor([[math.nan, 0.0], [0.0, math.inf]])
    torch.testing.assert_close(values[0], wanted.expand(17, 2, 2), equal_nan=True)
    assert switches.codes[0, :].unique(dim=0).tolist() == [[[3, 255], [255, 2]]]
    assert bool(grad.isnan().all())


def test_a_gradient_of_zero_is_skipped_before_it_meets_infinity() -> None:
    x = torch.full((1, 1, 2, 2), math.inf)
    w = torch.ones(1, 1, 1, 1, requires_grad=True)
    values = ops.conv_max_pool2d(x, w)
    (grad,) = torch.autograd.grad(values, w, torch.zeros_like(values))
    assert grad.item() == 0


def test_only_the_gradients_that_are_wanted_are_computed() -> None:
    x, w, b = torch.rand(2, 3, 6, 6), torch.rand(4, 3, 3, 3), torch.rand(4)
    wanted = torch.autograd.grad(
        F.max_pool2d(F.relu(F.conv2d(*(leaves := [t.clone().requires_grad_() for t in (x, w, b)]))), 2).sum(), leaves
    )
    for chosen in range(1, 8):
        given = [t.clone().requires_grad_(bool(chosen >> i & 1)) for i, t in enumerate((x, w, b))]
        ops.conv_relu_max_pool2d(*given).sum().backward()
        for i, (t, theirs) in enumerate(zip(given, wanted, strict=True)):
            if chosen >> i & 1:
                torch.testing.assert_close(t.grad, theirs)
            else:
                assert t.grad is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"groups": 2}, "the convolution has 2 groups"),
        ({"dilation": (1, 2)}, "the convolution has dilation (1, 2)"),
        ({"pool_cells": 255}, "the pooling window has 255 cells, and a byte names up to 254"),
    ],
)
def test_why_arguments_are_not_fused(change: dict[str, Any], reason: str) -> None:
    x, w = torch.zeros(1, 4, 8, 8), torch.zeros(4, 4, 3, 3)
    assert why_not_fused(x, w) is None
    assert why_not_fused(x, w, **change) == reason


def test_why_tensors_and_modes_are_not_fused() -> None:
    x, w = torch.zeros(1, 4, 8, 8), torch.zeros(4, 4, 3, 3)
    dtypes = "the kernel takes float32 or float64, and these are torch.bfloat16 and torch.bfloat16"
    assert why_not_fused(x.bfloat16(), w.bfloat16()) == dtypes
    devices = "the kernels are for the CPU and, where Triton is installed, for CUDA, and this is meta"
    assert why_not_fused(x.to("meta"), w.to("meta")) == devices
    large = torch.zeros(1).expand(1, 1, 8193, 8192)
    assert why_not_fused(large, w[:, :1]) == "the weight or an image is beyond the kernel's 32-bit addresses"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert why_not_fused(x, w) == "autocast is on"
    seen = []
    torch.func.vmap(lambda one: seen.append(why_not_fused(one, w)) or one)(x)
    assert seen == ["a torch.func transform or forward mode is active"]


def test_info_says_what_serves_and_what_goes_in_steps() -> None:
    rows = {row.name: row for row in switchgrad.info().operators if row.device == "cpu"}
    for name in ("conv_max_pool", "conv_max_pool_backward"):
        assert rows[name].kernel == rows["max_pool"].kernel
        assert re.search(r"groups, dilation, 16-bit floats on the CPU, .* take PyTorch's conv2d", rows[name].reason)
    assert "groups" not in rows["max_pool"].reason


REFUSED = {
    "channels": ({}, (1, 3, 8, 8), (4, 2, 3, 3), None, "the input has 3 channels, the weight is of shape (4, 2, 3, 3)"),
    "groups": ({"groups": 2}, (1, 4, 8, 8), (3, 2, 3, 3), None, "the input has 4 channels, the weight is of shape"),
    "no groups": ({"groups": 0}, (1, 4, 8, 8), (3, 2, 3, 3), None, "the input has 4 channels"),
    "no filters": ({}, (1, 4, 8, 8), (0, 4, 3, 3), None, "the weight of shape (0, 4, 3, 3) has no filters; give"),
    "bias": ({}, (1, 3, 8, 8), (4, 3, 3, 3), (3,), "the bias has shape (3,); give one number for each of the 4"),
    "axes": ({}, (8, 8), (4, 3, 3, 3), None, "the input has shape (8, 8) and the weight (4, 3, 3, 3); give"),
    "kernel": (
        {},
        (1, 3, 2, 8),
        (4, 3, 3, 3),
        None,
        "the window spans 3 cells along spatial axis 0, but the input has",
    ),
    "pool": ({"pool_size": 7}, (1, 3, 8, 8), (4, 3, 3, 3), None, "the window spans 7 cells along spatial axis 0"),
    "stride": ({"stride": 0}, (1, 3, 8, 8), (4, 3, 3, 3), None, "stride is 0; every entry must be at least 1"),
    "padding": ({"padding": -1}, (1, 3, 8, 8), (4, 3, 3, 3), None, "padding is -1; every entry must be at least 0"),
    "name": ({"padding": "full"}, (1, 3, 8, 8), (4, 3, 3, 3), None, 'padding is "full"; give "same"'),
    "pool padding": ({"pool_padding": 2}, (1, 3, 8, 8), (4, 3, 3, 3), None, "of the pooling, padding (2, 2) along"),
    "slope": ({"negative_slope": -1.0}, (1, 3, 8, 8), (4, 3, 3, 3), None, "negative_slope is -1.0; the maximum"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(name: str) -> None:
    arguments, x, w, b, sentence = REFUSED[name]
    with pytest.raises(GeometryError, match=f"^{re.escape(sentence)}") as refused:
        ops.conv_relu_max_pool2d(torch.zeros(x), torch.zeros(w), None if b is None else torch.zeros(b), **arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(not kernels.isas(), reason="the native library is not here")
def test_the_registered_operators_refuse_what_does_not_fit() -> None:
    window = geometry.window(2, 2).numbers
    x, w = torch.zeros(1, 3, 8, 8), torch.zeros(4, 3, 3, 3)
    forward = torch.ops.switchgrad.conv_max_pool
    conv = ([1, 1], [0] * 4)
    with pytest.raises(RuntimeError, match="the weight has dtype Double and the input Float; give both the same dtype"):
        forward(x, w.double(), None, *conv, window, True)
    with pytest.raises(RuntimeError, match="the input has dtype Half; fused convolution and pooling takes float32"):
        forward(x.half(), w.half(), None, *conv, window, True)
    with pytest.raises(RuntimeError, match=r"the weight of shape \(0, 3, 3, 3\) has no filters; give at least 1"):
        forward(x, w[:0], None, *conv, window, True)
    with pytest.raises(RuntimeError, match=r"the bias has shape \(3,\); give one number for each of the 4 filters"):
        forward(x, w, torch.zeros(3), *conv, window, True)
    with pytest.raises(RuntimeError, match="the pooling window has 256 cells; the fused kernel takes up to 254"):
        forward(torch.zeros(1, 3, 20, 20), w, None, *conv, geometry.window(2, 16, 1).numbers, True)
    values, codes = forward(x, w, None, *conv, window, True)
    backward = torch.ops.switchgrad.conv_max_pool_backward
    with pytest.raises(RuntimeError, match="which this convolution and window do not give; use what the forward"):
        backward(values[..., 1:], codes, x, w, *conv, window, True, True, True)


@pytest.mark.parametrize("engine", ENGINES)
def test_foreign_codes_are_harmless(engine: str) -> None:
    """Codes of a damaged file name cells that are not there; what they would send goes nowhere."""
    x, w = torch.rand(2, 3, 9, 9), torch.rand(5, 3, 3, 3)
    conv, window = ([1, 1], [1] * 4), geometry.window(2, 3, 2, 1).numbers
    with running(engine):
        values, codes = torch.ops.switchgrad.conv_max_pool(x, w, None, *conv, window, True)
        foreign = torch.randint(9, 256, codes.shape, generator=seeded("foreign")).to(torch.uint8)
        found = torch.ops.switchgrad.conv_max_pool_backward(values, foreign, x, w, *conv, window, True, True, True)
    assert all(torch.equal(t, torch.zeros_like(t)) for t in found)
