"""Counter-based words: known by their place alone, uniform, and scales that are powers of two."""

from __future__ import annotations

import math

import pytest
import torch

from switchgrad.ops import counted

SEED = torch.tensor(0x0123456789ABCDEF)


def test_a_word_depends_on_its_place_alone() -> None:
    many = counted.words(SEED, 5000)
    for count in (0, 1, 16, 17, 32, 33, 1000):
        assert torch.equal(counted.words(SEED, count), many[:count])
    first, second = counted.threefry(SEED, torch.tensor([16 * 3 + 5]))
    assert many[32 * 3 + 5] == first
    assert many[32 * 3 + 16 + 5] == second
    assert not torch.equal(counted.words(SEED + 1, 100), many[:100])
    assert int(many.min()) >= 0
    assert int(many.max()) < 2**32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_are_uniform_below_one(dtype: torch.dtype) -> None:
    ends = counted.uniform(torch.tensor([0, 2**32 - 1]), dtype)
    assert ends[0] == 0
    assert 1 - 2**-20 < float(ends[1]) < 1
    u = counted.uniform(counted.words(SEED, 100_000), dtype).double()
    seen = torch.histc(u, 50, 0, 1)
    assert float(((seen - 2000) ** 2 / 2000).sum()) < 49 + 5 * math.sqrt(2 * 49)  # chi-square, 5 deviations


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scales_are_exact(dtype: torch.dtype) -> None:
    info = torch.finfo(dtype)
    x = torch.tensor([info.max, info.tiny, info.tiny / 8, 1.0, 3.0, 0.3, info.max / 2.5], dtype=dtype)
    scaled = x * counted.unit_scale(x)
    assert bool((scaled / counted.unit_scale(x) == x).all())
    assert bool((scaled[[1, 3, 4, 5, 6]] >= 1).all())
    assert bool((scaled > 0).all())
    assert bool((scaled < 4).all())


def test_thresholds() -> None:
    assert [counted.threshold(p) for p in (0.0, 0.5, 1.0)] == [0, 2**31, 2**32 - 1]


def test_seeds_follow_the_generator() -> None:
    one, two = (counted.new_seed(torch.Generator().manual_seed(3), torch.device("cpu")) for _ in range(2))
    assert torch.equal(one, two)
    torch.manual_seed(3)
    assert torch.equal(counted.new_seed(None, torch.device("cpu")), one)
