"""Max pooling over windows that start where a list says, in Triton's language; names as in `max_pool_kernels`.

The lists hold all places of the first axis, then of the second and the third; ``apart`` is how far the lists of two
maps lie apart, 0 where all maps share one.
"""
# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl

from switchgrad.gpu.tiles import places_of, tile_of


@triton.jit
def pool(
    input,
    starts,
    ends,
    values,
    codes,
    apart,
    rows,
    columns,
    channels,
    places,
    strides,
    K: tl.constexpr,
    LOWEST: tl.constexpr,
    ACC: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The largest cell of each window and its offset in a box of K cells; ties and NaN as everywhere."""
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, places, LAST)
    at = (n * channels + c) * apart
    z = tl.load(starts + at + d, mask=mask, other=0)
    y = tl.load(starts + at + places[0] + h, mask=mask, other=0)
    x = tl.load(starts + at + places[0] + places[1] + w, mask=mask, other=0)
    deep = tl.load(ends + at + d, mask=mask, other=0) - z
    high = tl.load(ends + at + places[0] + h, mask=mask, other=0) - y
    wide = tl.load(ends + at + places[0] + places[1] + w, mask=mask, other=0) - x
    first = input + (n * strides[0] + c * strides[1] + z * strides[2] + y * strides[3] + x * strides[4])
    best = tl.full((ROWS, COLUMNS), LOWEST, input.dtype.element_ty)
    code = tl.full((ROWS, COLUMNS), -1, tl.int32)
    for i in range(K[0]):
        for j in range(K[1]):
            for k in range(K[2]):
                inside = mask & (i < deep) & (j < high) & (k < wide)
                cell = tl.load(first + (i * strides[2] + j * strides[3] + k * strides[4]), mask=inside, other=0)
                key = cell.to(ACC)
                wins = inside & ((key > best.to(ACC)) | (key != key) | (code < 0))
                best = tl.where(wins, cell, best)
                code = tl.where(wins, (i * K[1] + j) * K[2] + k, code)
    to = row * columns + column
    tl.store(values + to, best, mask=mask)
    tl.store(codes + to, code.to(codes.dtype.element_ty), mask=mask)


@triton.jit
def route(
    pooled,
    codes,
    starts,
    low,
    high,
    total,
    starts_apart,
    cells_apart,
    rows,
    columns,
    channels,
    size,
    places,
    sent,
    coded,
    K: tl.constexpr,
    ACC: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Each cell adds up the numbers of the windows that it won, in row-major order of the windows.

    ``low`` and ``high`` list for each cell of an axis the first place whose window may hold it, and one past the last.
    """
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, size, LAST)
    here = (n * channels + c) * cells_apart
    first_d, last_d = tl.load(low + here + d, mask=mask, other=0), tl.load(high + here + d, mask=mask, other=0)
    here = here + size[0]
    first_h, last_h = tl.load(low + here + h, mask=mask, other=0), tl.load(high + here + h, mask=mask, other=0)
    here = here + size[1]
    first_w, last_w = tl.load(low + here + w, mask=mask, other=0), tl.load(high + here + w, mask=mask, other=0)
    begin = starts + (n * channels + c) * starts_apart
    sum = tl.zeros((ROWS, COLUMNS), ACC)
    for i in range(tl.max(last_d - first_d)):
        pd = first_d + i
        in_depth = mask & (pd < last_d)
        z = d - tl.load(begin + pd, mask=in_depth, other=0)
        for j in range(tl.max(last_h - first_h)):
            ph = first_h + j
            in_rows = in_depth & (ph < last_h)
            y = h - tl.load(begin + places[0] + ph, mask=in_rows, other=0)
            for k in range(tl.max(last_w - first_w)):
                pw = first_w + k
                inside = in_rows & (pw < last_w)
                x = w - tl.load(begin + places[0] + places[1] + pw, mask=inside, other=0)
                inside = inside & (z >= 0) & (z < K[0]) & (y >= 0) & (y < K[1]) & (x >= 0) & (x < K[2])
                at = n * coded[0] + c * coded[1] + pd * coded[2] + ph * coded[3] + pw * coded[4]
                code = tl.load(codes + at, mask=inside, other=0).to(tl.int32)
                won = inside & (code == (z * K[1] + y) * K[2] + x)
                at = n * sent[0] + c * sent[1] + pd * sent[2] + ph * sent[3] + pw * sent[4]
                sum += tl.load(pooled + at, mask=won, other=0).to(ACC)
    tl.store(total + row * columns + column, sum.to(total.dtype.element_ty), mask=mask)
