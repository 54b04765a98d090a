"""Pooling with chance in it, in Triton's language: the words of `ops.counted`, drawn where they are needed.

No mask and no number is stored: the word of a place depends on the seed and the place alone. Names as in
`max_pool_kernels`.
"""
# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl

from switchgrad.gpu.max_pool_kernels import best_cell
from switchgrad.gpu.tiles import places_of, tile_of
from switchgrad.gpu.words import word_of


@triton.jit
def unit_scale(best, BITS: tl.constexpr, MANTISSA: tl.constexpr, MOST: tl.constexpr):
    """The power of two that brings each positive finite number near 1, by its exponent bits."""
    exponent = (best.to(BITS, bitcast=True) >> MANTISSA) & (MOST + 1)
    return (tl.maximum(MOST - exponent, 1) << MANTISSA).to(best.dtype, bitcast=True)


@triton.jit
def stochastic_pool(
    input,
    seed,
    values,
    codes,
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
    LOWEST: tl.constexpr,
    ACC: tl.constexpr,
    BITS: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The first cell at which the running sum of the weights exceeds the drawn part of their sum."""
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, places, LAST)
    word = word_of(tl.load(seed), (((n * channels + c) * places[0] + d) * places[1] + h) * places[2] + w)
    drawn = word.to(ACC) * 2.0**-32 if tl.float64 == ACC else (word >> 8).to(ACC) * 2.0**-24
    d, h, w = d * S[0] - B[0], h * S[1] - B[1], w * S[2] - B[2]
    value, code = best_cell(input, mask, n, c, d, h, w, size, strides, K, D, LOWEST, ACC, ROWS, COLUMNS)
    best = value.to(ACC)
    scale = unit_scale(best, BITS, 52, 2046) if tl.float64 == ACC else unit_scale(best, BITS, 23, 254)
    first = input + (n * strides[0] + c * strides[1] + d * strides[2] + h * strides[3] + w * strides[4])
    total = tl.zeros((ROWS, COLUMNS), ACC)
    for cell in range(K[0] * K[1] * K[2]):
        i, j, k = cell // (K[1] * K[2]) * D[0], cell // K[2] % K[1] * D[1], cell % K[2] * D[2]
        inside = mask & (d + i >= 0) & (d + i < size[0]) & (h + j >= 0) & (h + j < size[1])
        inside = inside & (w + k >= 0) & (w + k < size[2])
        away = i * strides[2] + j * strides[3] + k * strides[4]
        x = tl.load(first + away, mask=inside, other=LOWEST).to(ACC)
        total += tl.where(best > 0, tl.where(x > 0, x, 0.0) * scale, (x > LOWEST).to(ACC))
    limit = tl.where(best - best == 0, drawn * total, -LOWEST)  # NaN and infinities: nothing is drawn
    running = tl.zeros((ROWS, COLUMNS), ACC)
    for cell in range(K[0] * K[1] * K[2]):
        i, j, k = cell // (K[1] * K[2]) * D[0], cell // K[2] % K[1] * D[1], cell % K[2] * D[2]
        inside = mask & (d + i >= 0) & (d + i < size[0]) & (h + j >= 0) & (h + j < size[1])
        inside = inside & (w + k >= 0) & (w + k < size[2])
        away = i * strides[2] + j * strides[3] + k * strides[4]
        raw = tl.load(first + away, mask=inside, other=LOWEST)
        x = raw.to(ACC)
        running += tl.where(best > 0, tl.where(x > 0, x, 0.0) * scale, (x > LOWEST).to(ACC))
        passes = running > limit
        value = tl.where(passes, raw, value)
        code = tl.where(passes, cell, code)
        limit = tl.where(passes, -LOWEST, limit)
    to = row * columns + column
    tl.store(values + to, tl.where(code < 0, 0, value), mask=mask)
    tl.store(codes + to, code.to(codes.dtype.element_ty), mask=mask)


@triton.jit
def max_pool_dropout(
    input,
    seed,
    values,
    codes,
    threshold,
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
    LOWEST: tl.constexpr,
    ACC: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The largest cell of what is left; a cell whose word is below ``threshold`` competes as 0 and is nobody's."""
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, places, LAST)
    d, h, w = d * S[0] - B[0], h * S[1] - B[1], w * S[2] - B[2]
    first = input + (n * strides[0] + c * strides[1] + d * strides[2] + h * strides[3] + w * strides[4])
    corner = (((n * channels + c) * size[0] + d) * size[1] + h) * size[2] + w
    drawn_from = tl.load(seed)
    best = tl.full((ROWS, COLUMNS), LOWEST, ACC)
    value = tl.zeros((ROWS, COLUMNS), input.dtype.element_ty)
    code = tl.full((ROWS, COLUMNS), -1, tl.int32)
    met = mask & False
    for cell in range(K[0] * K[1] * K[2]):
        i, j, k = cell // (K[1] * K[2]) * D[0], cell // K[2] % K[1] * D[1], cell % K[2] * D[2]
        inside = mask & (d + i >= 0) & (d + i < size[0]) & (h + j >= 0) & (h + j < size[1])
        inside = inside & (w + k >= 0) & (w + k < size[2])
        raw = tl.load(first + (i * strides[2] + j * strides[3] + k * strides[4]), mask=inside, other=0)
        kept = word_of(drawn_from, corner + ((i * size[1] + j) * size[2] + k)).to(tl.int64) >= threshold
        left = tl.where(kept, raw, 0)
        key = left.to(ACC)
        wins = inside & ((key > best) | (key != key) | (met == 0))
        best = tl.where(wins, key, best)
        value = tl.where(wins, left, value)
        code = tl.where(wins, tl.where(kept, cell, -1), code)
        met = met | inside
    to = row * columns + column
    tl.store(values + to, value, mask=mask)
    tl.store(codes + to, code.to(codes.dtype.element_ty), mask=mask)
