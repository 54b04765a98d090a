"""Max pooling of what a channel's numbers make of each cell: bias or batch normalisation, ReLU and pool in one pass."""
# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl

from switchgrad.gpu.tiles import places_of, tile_of

PLAIN = tl.constexpr(0)  # the cell as it is
BIAS = tl.constexpr(1)  # x + b; the numbers are one row, of b
NORM = tl.constexpr(2)  # (x - mean) scale + b; the numbers are three rows


@triton.jit
def numbers_of(numbers, c, channels, KIND: tl.constexpr, ACC: tl.constexpr):
    """Mean, scale and shift of the channels c."""
    known = c < channels
    mean, scale, shift = tl.zeros_like(c).to(ACC), tl.zeros_like(c).to(ACC), tl.zeros_like(c).to(ACC)
    if KIND == BIAS:
        shift = tl.load(numbers + c, mask=known, other=0).to(ACC)
    if KIND == NORM:
        mean = tl.load(numbers + c, mask=known, other=0).to(ACC)
        scale = tl.load(numbers + channels + c, mask=known, other=0).to(ACC)
        shift = tl.load(numbers + 2 * channels + c, mask=known, other=0).to(ACC)
    return mean, scale, shift


@triton.jit
def shifted(x, mean, scale, shift, KIND: tl.constexpr, ACC: tl.constexpr):
    """What goes into the ReLU, rounded to the dtype of x as if it had been written."""
    z = x
    if KIND == BIAS:
        z = (x.to(ACC) + shift).to(x.dtype)
    if KIND == NORM:
        z = ((x.to(ACC) - mean) * scale + shift).to(x.dtype)
    return z


@triton.jit
def pool_block(
    input,
    values,
    codes,
    numbers,
    rows,
    columns,
    channels,
    size,
    places,
    strides,
    K: tl.constexpr,
    S: tl.constexpr,
    B: tl.constexpr,
    D: tl.constexpr,
    ACC: tl.constexpr,
    KIND: tl.constexpr,
    RELU: tl.constexpr,
    CODED: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Values, and codes where they are wanted: first of equals, NaN wins, of several NaN the last.

    With RELU a window whose maximum is not above 0 is dead: it gives +0 and has no winner. One without any cell is
    -inf, since no ReLU has seen it.
    """
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, places, LAST)
    mean, scale, shift = numbers_of(numbers, c, channels, KIND, ACC)
    d, h, w = d * S[0] - B[0], h * S[1] - B[1], w * S[2] - B[2]
    first = input + (n * strides[0] + c * strides[1] + d * strides[2] + h * strides[3] + w * strides[4])
    best = tl.full((ROWS, COLUMNS), float("-inf"), input.dtype.element_ty)
    code = tl.full((ROWS, COLUMNS), -1, tl.int32)
    for i in range(K[0]):
        in_depth = (d + i * D[0] >= 0) & (d + i * D[0] < size[0])
        for j in range(K[1]):
            in_rows = in_depth & (h + j * D[1] >= 0) & (h + j * D[1] < size[1])
            for k in range(K[2]):
                inside = mask & in_rows & (w + k * D[2] >= 0) & (w + k * D[2] < size[2])
                away = i * D[0] * strides[2] + j * D[1] * strides[3] + k * D[2] * strides[4]
                z = shifted(tl.load(first + away, mask=inside, other=0), mean, scale, shift, KIND, ACC)
                key = z.to(ACC)
                wins = inside & ((key > best.to(ACC)) | (key != key) | (code < 0))
                best = tl.where(wins, z, best)
                code = tl.where(wins, (i * K[1] + j) * K[2] + k, code)
    if RELU:
        dead = (code >= 0) & (best.to(ACC) <= 0)
        best = tl.where(dead, tl.zeros_like(best), best)
        code = tl.where(dead, -1, code)
    to = row * columns + column
    tl.store(values + to, best, mask=mask)
    if CODED:
        tl.store(codes + to, code.to(codes.dtype.element_ty), mask=mask)
