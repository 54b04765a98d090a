"""Max unpooling is what it declares itself to be."""

from __future__ import annotations

import math

import pytest
import torch

import conform
from declarations.max_pool import max_unpool
from harness.samples import seeded
from switchgrad.kernels.schema import REFERENCES

test_max_unpool1d = conform.tests(max_unpool(1))
test_max_unpool2d = conform.tests(max_unpool(2))
test_max_unpool3d = conform.tests(max_unpool(3))


@pytest.mark.parametrize(
    ("places", "size"),
    [
        ((7,), (14,)),
        ((5, 6), (11, 13)),
        ((30, 20), (61, 60)),
        ((3, 4, 5), (6, 8, 10)),
        ((6, 6), (5, 5)),
        ((2, 2), (9, 9)),
    ],
)
def test_picking_is_what_the_reference_says(places: tuple[int, ...], size: tuple[int, ...]) -> None:
    """Planes whose indices lie side by side take another way than those where one lies elsewhere, or nowhere."""
    generator = seeded(places, size)
    dims, steps = len(size), [h // p for h, p in zip(size, places, strict=True)]
    grad = torch.randn(3, 4, *size, generator=generator)
    at = torch.zeros(3, 4, *places, dtype=torch.int64)
    for axis, (p, h, step) in enumerate(zip(places, size, steps, strict=True)):
        begin = (torch.arange(p) * step).clamp_max(h - 1).reshape(-1, *[1] * (dims - 1 - axis))
        at = at * h + begin + torch.randint(0, max(step, 1), at.shape, generator=generator)
    planes = at.view(12, -1)
    planes[3, -1], planes[4, 0], planes[5, 1] = planes[3, 0], -1, planes[5, 0]
    planes[6], planes[7, -1], planes[8, 0] = 0, math.prod(size), planes[8, -1]
    planes[9] = planes[9].flip(0)
    wanted = REFERENCES["max_unpool_pick"](grad, at.clamp_max(math.prod(size) - 1), dims)
    got = torch.ops.switchgrad.max_unpool_pick(grad, at.clamp_max(math.prod(size) - 1), dims)
    assert torch.equal(got, wanted)
