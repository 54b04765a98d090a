"""The kernel for windows at given places says what its reference says, and refuses in words what it cannot do."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from switchgrad import kernels
from switchgrad.ops import placed


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def placed_arguments() -> tuple[Tensor, Tensor, Tensor]:
    return torch.rand(1, 2, 6, 6), torch.tensor([0, 2, 4, 1, 3]), torch.tensor([2, 4, 6, 3, 6])


@pytest.mark.skipif(not kernels.isas(), reason="the native library is not here")
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"starts": torch.tensor([0, 2, 6, 1, 3])}, "along spatial axis 0 has the cells 6 to 5"),
        ({"starts": torch.tensor([-1, 2, 4, 1, 3])}, "along spatial axis 0 has the cells -1 to 1"),
        ({"ends": torch.tensor([2, 4, 6, 3, 7])}, "at most 3 of the input's 6"),
        ({"ends": torch.tensor([2, 5, 6, 3, 6])}, "at most 2 of the input's 6"),
        ({"starts": torch.tensor([0, 2, 4])}, "one for each place"),
        ({"starts": torch.tensor([0.0, 2, 4, 1, 3])}, "give int64 numbers"),
        ({"places": (3, 0)}, "entries of at least 1"),
        ({"places": (3, 2, 1, 1)}, "input of 5 or 6 axes"),
        ({"input": torch.rand(6, 6)}, "input of 3 or 4 axes"),
    ],
)
def test_lists_that_do_not_fit_are_refused_by_the_kernel(change: dict[str, Any], sentence: str) -> None:
    x, starts, ends = placed_arguments()
    given = {"input": x, "starts": starts, "ends": ends, "places": (3, 2), "kernel_size": (2, 3), **change}
    with pytest.raises(RuntimeError, match=sentence):
        torch.ops.switchgrad.placed_max_pool(**given)


@pytest.mark.parametrize("isa", kernels.isas() or [None])
def test_the_kernel_says_what_the_reference_says(isa: str | None) -> None:
    """Lists of windows for all maps and for each, of any length, in both layouts, and the way back."""
    tall = ((1, 2, 230, 3), (200, 1))  # rows that a signed byte could not count
    shapes = [((2, 70, 9, 40), (2, 4)), ((3, 5, 4, 6, 20), (3, 2, 4)), ((4, 33), (4,)), tall]
    for seed, ((shape, kernel), shared) in enumerate(itertools.product(shapes, [True, False])):
        g = generator(seed)
        dims, lead = (1, shape[:1]) if len(shape) == 2 else (len(shape) - 2, shape[:2])
        size = shape[-dims:]
        lists = [torch.randint(0, h, (1 if shared else int(np.prod(lead)), 5), generator=g) for h in size]
        starts = torch.cat(lists, -1)
        most = torch.tensor([k for k in kernel for _ in range(5)]).minimum(
            torch.tensor([h for h in size for _ in range(5)]) - starts
        )
        ends = starts + 1 + (torch.rand(most.shape, generator=g) * most).long().clamp_max(most - 1)
        starts, ends = ((t[0] if shared else t.reshape(*lead, -1)) for t in (starts, ends))
        for last, own in itertools.product([False, True] if dims > 1 else [False], [None, ends]):
            x = torch.randint(-3, 4, shape, generator=g).float()
            x[torch.rand(shape, generator=g) < 0.05] = torch.nan
            if last:
                x = x.movedim(1, -1).contiguous().movedim(-1, 1)
            arguments = (x, starts, own, (5,) * dims, kernel)
            with kernels.use_isa(isa) if isa else nullcontext():
                values, codes = torch.ops.switchgrad.placed_max_pool(*arguments)
                sent = torch.randint(-9, 9, values.shape, generator=g).float()
                routed = torch.ops.switchgrad.placed_max_pool_route(sent, codes, starts, own, size, kernel)
            wanted, wanted_codes = placed.reference.placed_max_pool(*arguments)
            assert torch.equal(values.nan_to_num(nan=7), wanted.nan_to_num(nan=7))
            assert torch.equal(codes, wanted_codes)
            assert torch.equal(
                routed, placed.reference.placed_max_pool_route(sent, wanted_codes, starts, own, size, kernel)
            )
            assert values.stride() == wanted.stride()
            assert routed.is_contiguous() != last


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_registrations_are_sound(layout: torch.memory_format) -> None:
    """Shapes, dtypes and strides that tracers are told are those of the results."""
    x, starts, ends = placed_arguments()
    x = x.contiguous(memory_format=layout)
    up = (x, starts, ends, [3, 2], [2, 3])
    values, codes = torch.ops.switchgrad.placed_max_pool(*up)
    down = (values, codes, starts, ends, [6, 6], [2, 3])
    for name, arguments in (("placed_max_pool", up), ("placed_max_pool_route", down)):
        operator = getattr(torch.ops.switchgrad, name).default
        opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))
