"""Windows that cover an input evenly, from one for a whole map to more than it has cells, in Triton's language.

Bin ``p`` of ``P`` over an axis of ``H`` cells reaches from ``floor(p H / P)`` up to ``ceil((p + 1) H / P)``. Bins are
large as a rule and there are few, so a program has OUTPUTS bins and reads CELLS cells of each side by side; what its
threads found is brought together at the end, in a tree that is the same in every run.
"""
# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl

from switchgrad.gpu.tiles import places_of, quotient, tile_of


@triton.jit
def bins_of(rows, columns, channels, size, places, LAST: tl.constexpr, OUTPUTS: tl.constexpr, WIDE: tl.constexpr):
    """For OUTPUTS results in the order of their memory: which there are, picture, channel, begin and extent of bins."""
    pid = tl.program_id(0)
    if WIDE:
        pid = pid.to(tl.int64)
    at = pid * OUTPUTS + tl.arange(0, OUTPUTS)[:, None]
    n, c, d, h, w = places_of(at // columns, at % columns, channels, places, LAST)
    z, y, x = d * size[0] // places[0], h * size[1] // places[1], w * size[2] // places[2]
    deep = ((d + 1) * size[0] + places[0] - 1) // places[0] - z
    high = ((h + 1) * size[1] + places[1] - 1) // places[1] - y
    wide = ((w + 1) * size[2] + places[2] - 1) // places[2] - x
    return at, at < rows * columns, n, c, z, y, x, deep, high, wide


@triton.jit
def bin_average(
    input,
    values,
    rows,
    columns,
    channels,
    size,
    places,
    strides,
    most,
    ACC: tl.constexpr,
    LAST: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CELLS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The mean of each bin; no bin has more than ``most`` cells."""
    at, mask, n, c, z, y, x, deep, high, wide = bins_of(rows, columns, channels, size, places, LAST, OUTPUTS, WIDE)
    first = input + (n * strides[0] + c * strides[1] + z * strides[2] + y * strides[3] + x * strides[4])
    sums = tl.zeros((OUTPUTS, CELLS), ACC)
    for start in range(0, most, CELLS):
        cell = start + tl.arange(0, CELLS)[None, :]
        inside = mask & (cell < deep * high * wide)
        i, j, k = cell // (high * wide), cell // wide % high, cell % wide
        away = i * strides[2] + j * strides[3] + k * strides[4]
        sums += tl.load(first + away, mask=inside, other=0).to(ACC)
    total = tl.sum(sums, axis=1)[:, None]
    mean = quotient(total, (deep * high * wide).to(ACC), ACC)
    tl.store(values + at, mean.to(values.dtype.element_ty), mask=mask)


@triton.jit
def bin_maximum(
    input,
    values,
    winners,
    rows,
    columns,
    channels,
    size,
    places,
    strides,
    most,
    LOWEST: tl.constexpr,
    CODED: tl.constexpr,
    INDEX: tl.constexpr,
    BEYOND: tl.constexpr,
    ACC: tl.constexpr,
    LAST: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CELLS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The largest number of each bin and its flat index in its map: the first of equals, else the last NaN.

    INDEX is the type of indices and BEYOND its largest number. A thread that meets NaN may miss larger numbers after
    it, but then the last NaN of all threads wins in any case.
    """
    at, mask, n, c, z, y, x, deep, high, wide = bins_of(rows, columns, channels, size, places, LAST, OUTPUTS, WIDE)
    plane = input + (n * strides[0] + c * strides[1])
    best = tl.full((OUTPUTS, CELLS), LOWEST, ACC)
    found = tl.full((OUTPUTS, CELLS), -1, INDEX)
    last_nan = tl.full((OUTPUTS, CELLS), -1, INDEX)
    for start in range(0, most, CELLS):
        cell = start + tl.arange(0, CELLS)[None, :]
        inside = mask & (cell < deep * high * wide)
        i, j, k = z + cell // (high * wide), y + cell // wide % high, x + cell % wide
        key = tl.load(plane + (i * strides[2] + j * strides[3] + k * strides[4]), mask=inside, other=LOWEST).to(ACC)
        index = ((i * size[1] + j) * size[2] + k).to(INDEX)
        wins = inside & ((key > best) | (found < 0))
        best = tl.where(wins, key, best)
        found = tl.where(wins, index, found)
        last_nan = tl.where(inside & (key != key), index, last_nan)
    nan = tl.max(last_nan, axis=1)[:, None]
    top = tl.max(best, axis=1)[:, None]
    index = tl.min(tl.where((found >= 0) & (best == top), found, BEYOND), axis=1)[:, None]
    index = tl.where(nan >= 0, nan, index)
    i, j, k = index // size[2] // size[1], index // size[2] % size[1], index % size[2]
    value = tl.load(plane + (i * strides[2] + j * strides[3] + k * strides[4]), mask=mask)
    tl.store(values + at, value, mask=mask)
    if CODED:
        tl.store(winners + at, index.to(winners.dtype.element_ty), mask=mask)


@triton.jit
def bin_spread(
    pooled,
    total,
    rows,
    columns,
    channels,
    size,
    places,
    sent,
    meets,
    ACC: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Each cell of the input adds up its share of what comes to its bins, in row-major order of the bins.

    A cell at h lies in the bins from ``floor(h P / H)`` up to ``ceil((h + 1) P / H)``.
    """
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, size, LAST)
    first_d, first_h, first_w = d * places[0] // size[0], h * places[1] // size[1], w * places[2] // size[2]
    sum = tl.zeros((ROWS, COLUMNS), ACC)
    for i in range(meets[0]):
        pd = first_d + i
        z, after_z = pd * size[0] // places[0], ((pd + 1) * size[0] + places[0] - 1) // places[0]
        in_depth = (pd < places[0]) & (d >= z) & (d < after_z)
        for j in range(meets[1]):
            ph = first_h + j
            y, after_y = ph * size[1] // places[1], ((ph + 1) * size[1] + places[1] - 1) // places[1]
            in_rows = in_depth & (ph < places[1]) & (h >= y) & (h < after_y)
            for k in range(meets[2]):
                pw = first_w + k
                x, after_x = pw * size[2] // places[2], ((pw + 1) * size[2] + places[2] - 1) // places[2]
                inside = mask & in_rows & (pw < places[2]) & (w >= x) & (w < after_x)
                at = n * sent[0] + c * sent[1] + pd * sent[2] + ph * sent[3] + pw * sent[4]
                g = tl.load(pooled + at, mask=inside, other=0).to(ACC)
                sum += quotient(g, ((after_z - z) * (after_y - y) * (after_x - x)).to(ACC), ACC)
    tl.store(total + row * columns + column, sum.to(total.dtype.element_ty), mask=mask)
