"""Thousands of random poolings, bit for bit as PyTorch has them; as the loops have them where PyTorch has no answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

import loops
from declarations.max_pool import POOL, TORCH_POOL, max_pool
from harness.compare import from_array, require_same, require_same_but_payload, to_array
from harness.declaration import HALVES
from harness.engines import engines, running
from harness.layouts import ANY_LAYOUT, CHANNELS_LAST, follows, layouts
from harness.samples import KINDS, sample, seeded

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16)


@st.composite
def poolings(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The shape of an input and arguments that fit it."""
    dims = draw(st.integers(1, 3))
    sizes, kernels, strides, pads, dilations = [], [], [], [], []
    for axis in range(dims):
        kernel, dilation = draw(st.integers(1, 4)), draw(st.sampled_from((1, 1, 2, 3)))
        span = dilation * (kernel - 1) + 1
        begin = draw(st.integers(0, min(span - 1, 3)))
        end = begin if draw(st.integers(0, 3)) else draw(st.integers(0, min(span - 1, 3)))
        longest = 40 if axis == dims - 1 else 9
        sizes.append(draw(st.integers(max(1, span - begin - end), max(longest, span))))
        kernels.append(kernel)
        strides.append(draw(st.integers(1, 4)))
        pads.append((begin, end))
        dilations.append(dilation)
    symmetric = all(begin == end for begin, end in pads)
    arguments = {
        "kernel_size": tuple(kernels),
        "stride": tuple(strides),
        "padding": tuple(begin for begin, _ in pads) if symmetric else tuple(pads),
        "dilation": tuple(dilations),
        "ceil_mode": draw(st.booleans()),
    }
    return (draw(st.integers(1, 2)), draw(st.integers(1, 5)), *sizes), arguments


def forward_and_backward(pool: Any, x: Tensor, seed: int, **arguments: Any) -> tuple[Tensor, ...]:
    """Values, indices and, where sums are exact to the bit, the gradient that was sent and the one that came."""
    differentiable = x.dtype in (torch.float32, torch.float64)
    leaf = x.detach().requires_grad_(differentiable)
    values, indices = pool(leaf, **arguments, return_indices=True)
    if not differentiable:
        return values, indices
    sent = sample("plain", tuple(values.shape), x.dtype, seeded("sent", seed))
    return values.detach(), indices, sent, *torch.autograd.grad(values, leaf, sent)


def compare(
    pooling: tuple[tuple[int, ...], dict[str, Any]], dtype: torch.dtype, kind: str, layout: str, isa: str, seed: int
) -> None:
    shape, arguments = pooling
    dims = len(shape) - 2
    contiguous = sample(kind, shape, dtype, seeded("property", seed))
    x = layouts(contiguous, layout).get(layout, contiguous)
    with running(isa):
        ours = forward_and_backward(POOL[dims], x, seed, **arguments)
    assert follows(ours[0], x)
    assert follows(ours[-1], x) or len(ours) == 2
    values, indices, _ = loops.max_pool(to_array(contiguous), dims, **arguments)
    what = f"{shape}, {arguments}, {dtype}, {kind}, {layout}, {isa}, {seed}"
    if (indices >= 0).all() and not isinstance(arguments["padding"][0], tuple):
        try:
            theirs = forward_and_backward(TORCH_POOL[dims], contiguous, seed, **arguments)
        except RuntimeError:
            theirs = ()  # PyTorch refuses padding beyond half the kernel
        for i, (left, right) in enumerate(zip(ours, theirs, strict=False)):
            same = require_same_but_payload if dtype in HALVES else require_same
            same(left, right, f"output {i} against PyTorch, {what}")
    require_same_but_payload(ours[0], from_array(values, dtype), f"values, {what}")
    require_same(ours[1], torch.from_numpy(indices), f"indices, {what}")
    for sent, got in (ours[2:],) if ours[2:] else ():
        back = loops.put_back(to_array(sent), indices, shape[2:], add=True)
        require_same(got, from_array(back, dtype), f"gradient, {what}")


EXAMPLES = given(
    pooling=poolings(),
    dtype=st.sampled_from(DTYPES[:1] * 4 + DTYPES),
    kind=st.sampled_from(sorted(KINDS)),
    layout=st.sampled_from([*ANY_LAYOUT, *CHANNELS_LAST, "channels last"]),
    isa=st.sampled_from(engines(max_pool(1))),
    seed=st.integers(0, 10_000),
)
COMMON: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=200, **COMMON)
@EXAMPLES
def test_random_poolings(**example: Any) -> None:
    compare(**example)


@pytest.mark.slow
@settings(max_examples=3000, phases=(Phase.generate, Phase.shrink), **COMMON)
@EXAMPLES
def test_thousands_of_random_poolings(**example: Any) -> None:
    compare(**example)
