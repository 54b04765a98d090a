"""Beyond 2^31 elements: geometry, strides, offsets and places are 64 bits wide everywhere.

Most tests never touch that much memory: pages of a fresh tensor that nobody writes cost nothing, so a view can reach
far into one. Those that do need gigabytes are skipped where there are none to spare.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from harness.compare import require_same
from switchgrad import geometry, ops

FAR = 2**31 + 7  # elements between neighbours, more than an int32 counts


def room_gib() -> float:
    """Memory that is free for the taking."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return 0.0
    return next(int(line.split()[1]) for line in meminfo.read_text().splitlines() if "MemAvailable" in line) / 2**20


@pytest.mark.parametrize("size", [2**31 - 1, 2**31, 2**32 + 5, 2**40 - 1])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "padding"), [(2, 2, 1, (0, 0)), (3, 2, 7, (5, 2)), (5, 1, 1, (4, 0))]
)
@pytest.mark.parametrize("ceil", [False, True])
def test_geometry_counts_beyond_32_bits(
    size: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int], ceil: bool
) -> None:
    places = geometry.output_size(size, kernel, stride, padding, dilation, ceil)
    last = (places - 1) * stride - padding[0]
    span = dilation * (kernel - 1) + 1
    assert last + span <= size + padding[1] or (ceil and last < size)
    after = last + stride
    assert after + span > size + padding[1]
    assert not (ceil and after < size and last + span < size + padding[1])
    begin, end = geometry.same_padding(size, kernel, stride, dilation)
    assert geometry.output_size(size, kernel, stride, (begin, end), dilation) == -(-size // stride)
    assert 0 <= end - begin <= 1


@pytest.mark.parametrize("size", [2**31 + 1, 2**40])
def test_shapes_beyond_32_bits_are_traced(size: int) -> None:
    x = torch.empty(1, 1, size, device="meta")
    values, indices = ops.max_pool1d(x, 2, return_indices=True)
    assert values.shape == indices.shape == (1, 1, size // 2)
    assert ops.max_pool2d(torch.empty(1, size, 3, 3, device="meta"), 2, 1).shape == (1, size, 2, 2)


# Shape, the axis whose neighbours lie far apart, and the axes from the innermost out.
FAR_APART = {
    "planes of another image": ((2, 2, 4, 6), 0, (3, 2, 1, 0)),
    "channels": ((1, 2, 4, 6), 1, (3, 2, 1, 0)),
    "rows": ((1, 2, 4, 6), 2, (3, 2, 1, 0)),
    "channels last, images": ((2, 3, 4, 6), 0, (1, 3, 2, 0)),
    "channels last, rows": ((1, 3, 4, 6), 2, (1, 3, 2, 0)),
    "channels last, columns": ((1, 3, 2, 6), 3, (1, 3, 2, 0)),
}


def far_apart(name: str) -> torch.Tensor:
    """A view of bytes, some of which lie beyond the first 2^31; nobody has written to the pages between them."""
    shape, axis, inside_out = FAR_APART[name]
    strides = [0, 0, 0, 0]
    step = 1
    for i in inside_out:
        strides[i] = step = FAR // (shape[i] - 1) if i == axis else step
        step *= shape[i]
    span = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + 1
    assert span > 2**31
    return torch.empty(span, dtype=torch.uint8).as_strided(shape, strides)


@pytest.mark.parametrize("name", FAR_APART)
@pytest.mark.parametrize("kernel", [2, 3])
def test_strides_beyond_32_bits(name: str, kernel: int) -> None:
    far = far_apart(name)
    near = torch.randint(0, 255, far.shape, generator=torch.Generator().manual_seed(kernel)).to(torch.uint8)
    far.copy_(near)
    (got, switches), (wanted, others) = (
        ops.max_pool2d(x, kernel, 2, kernel // 2, return_switches=True) for x in (far, near)
    )
    require_same(got, wanted, "values")
    require_same(switches.codes, others.codes, "codes")
    gathered = torch.ops.switchgrad.max_pool_gather(far, switches.codes, switches.window.numbers)
    require_same(gathered, wanted, "gather")


@pytest.mark.slow
@pytest.mark.skipif(room_gib() < 8, reason="needs 8 GiB of free memory")
def test_two_billion_cells_in_one_plane() -> None:
    rows, columns = 2**16 + 2, 2**15
    assert rows * columns > 2**31
    x = torch.zeros(1, 1, rows, columns, dtype=torch.uint8)
    spots = {(rows - 1, columns - 1): 9, (rows - 2, 0): 8, (2**15, 3): 7, (0, 0): 6, (rows - 1, columns - 4): 5}
    for spot, number in spots.items():
        x[0, 0][spot] = number
    values, switches = ops.max_pool2d(x, 2, return_switches=True)
    for (row, column), number in spots.items():
        assert values[0, 0, row // 2, column // 2] == number
        assert switches.codes[0, 0, row // 2, column // 2] == row % 2 * 2 + column % 2
    assert int((values != 0).sum()) == len(spots)
    # Backward: the same five cells, and nothing else, get their numbers back.
    del x
    window = switches.window.numbers
    back = torch.ops.switchgrad.max_pool_route(values, switches.codes, [rows, columns], window)
    for spot, number in spots.items():
        assert back[0, 0][spot] == number
    assert int(torch.count_nonzero(back)) == len(spots)


@pytest.mark.slow
@pytest.mark.skipif(room_gib() < 8, reason="needs 8 GiB of free memory")
def test_two_billion_places() -> None:
    x = torch.zeros(2**16 + 1, 1, 1, 2**15, dtype=torch.uint8)
    assert x.numel() > 2**31
    last = x.view(-1)
    last[-1], last[-70] = 4, 3
    values = ops.max_pool2d(x, 1)
    assert math.prod(values.shape) == x.numel()
    flat = values.view(-1)
    assert (flat[-1], flat[-70], int(torch.count_nonzero(flat[-(2**20) :]))) == (4, 3, 2)


def test_flat_indices_reach_beyond_32_bits() -> None:
    rows, columns = 2**20, 2**20
    window = geometry.window(2, 2, (rows - 2, columns - 2)).numbers
    codes = torch.tensor([[[[0, 1], [2, 3]]]], dtype=torch.uint8)
    indices = torch.ops.switchgrad.max_pool_indices(codes, [rows, columns], window)
    assert indices.flatten().tolist() == [0, columns - 1, (rows - 1) * columns, rows * columns - 1]
    switches = ops.Switches.from_indices(indices, geometry.window(2, 2, (rows - 2, columns - 2)), (rows, columns))
    require_same(switches.codes, codes, "codes")
