"""Max pooling with switches, in Triton's language: forward, and the way down and up by the switches.

Windows of signals, pictures and volumes are all windows over three axes; what an input does not have is an axis of one
cell. The window is known when a kernel is compiled: ``K`` cells, ``S`` stride, ``B`` padding at the beginning and ``D``
dilation, three of each. Sizes (three axes) and strides (n, c and three axes) are not.
"""
# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl

from switchgrad.gpu.tiles import places_of, tile_of


@triton.jit
def best_cell(
    input,
    mask,
    n,
    c,
    d,
    h,
    w,
    size,
    strides,
    K: tl.constexpr,
    D: tl.constexpr,
    LOWEST: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Value and code (-1: none) of the windows whose first cells stand at d, h, w: the rule of max pooling.

    The first of equals wins, NaN wins, of several NaN the last; cells outside take no part.
    """
    first = input + (n * strides[0] + c * strides[1] + d * strides[2] + h * strides[3] + w * strides[4])
    best = tl.full((ROWS, COLUMNS), LOWEST, input.dtype.element_ty)
    code = tl.full((ROWS, COLUMNS), -1, tl.int32)
    for i in range(K[0]):
        in_depth = (d + i * D[0] >= 0) & (d + i * D[0] < size[0])
        for j in range(K[1]):
            in_rows = in_depth & (h + j * D[1] >= 0) & (h + j * D[1] < size[1])
            for k in range(K[2]):
                inside = mask & in_rows & (w + k * D[2] >= 0) & (w + k * D[2] < size[2])
                away = i * D[0] * strides[2] + j * D[1] * strides[3] + k * D[2] * strides[4]
                x = tl.load(first + away, mask=inside)
                key = x.to(ACC)
                wins = inside & ((key > best.to(ACC)) | (key != key) | (code < 0))
                best = tl.where(wins, x, best)
                code = tl.where(wins, (i * K[1] + j) * K[2] + k, code)
    return best, code


@triton.jit
def pool(
    input,
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
    CODED: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Values, and codes where they are wanted."""
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, places, LAST)
    d, h, w = d * S[0] - B[0], h * S[1] - B[1], w * S[2] - B[2]
    best, code = best_cell(input, mask, n, c, d, h, w, size, strides, K, D, LOWEST, ACC, ROWS, COLUMNS)
    to = row * columns + column
    tl.store(values + to, best, mask=mask)
    if CODED:
        tl.store(codes + to, code.to(codes.dtype.element_ty), mask=mask)


@triton.jit
def sum_of_won(
    pooled,
    codes,
    mask,
    n,
    c,
    d,
    h,
    w,
    places,
    sent,
    coded,
    K: tl.constexpr,
    S: tl.constexpr,
    B: tl.constexpr,
    D: tl.constexpr,
    ACC: tl.constexpr,
    ADDED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """For the cells at d, h, w the sum of the numbers of the windows that they won, in row-major order of the windows.

    A cell at h lies in the windows p with 0 <= h + b - p s <= d (R - 1): at most ceil(E / s) of them an axis.
    ``sent`` and ``coded`` are the strides of the numbers and of the codes. If the numbers are not to be ADDED, that of
    the last window stays.
    """
    MEETS_D: tl.constexpr = (D[0] * (K[0] - 1) + S[0]) // S[0]
    MEETS_H: tl.constexpr = (D[1] * (K[1] - 1) + S[1]) // S[1]
    MEETS_W: tl.constexpr = (D[2] * (K[2] - 1) + S[2]) // S[2]
    sum = tl.zeros((ROWS, COLUMNS), ACC)
    for i in range(MEETS_D):
        pd = (d + B[0]) // S[0] - (MEETS_D - 1) + i
        z = d + B[0] - pd * S[0]
        in_depth = (pd >= 0) & (pd < places[0]) & (z % D[0] == 0) & (z < D[0] * K[0])
        for j in range(MEETS_H):
            ph = (h + B[1]) // S[1] - (MEETS_H - 1) + j
            y = h + B[1] - ph * S[1]
            in_rows = in_depth & (ph >= 0) & (ph < places[1]) & (y % D[1] == 0) & (y < D[1] * K[1])
            for k in range(MEETS_W):
                pw = (w + B[2]) // S[2] - (MEETS_W - 1) + k
                x = w + B[2] - pw * S[2]
                inside = mask & in_rows & (pw >= 0) & (pw < places[2]) & (x % D[2] == 0) & (x < D[2] * K[2])
                cell = (z // D[0] * K[1] + y // D[1]) * K[2] + x // D[2]
                at = n * coded[0] + c * coded[1] + pd * coded[2] + ph * coded[3] + pw * coded[4]
                code = tl.load(codes + at, mask=inside, other=0)
                won = inside & (code.to(tl.int32) == cell)
                at = n * sent[0] + c * sent[1] + pd * sent[2] + ph * sent[3] + pw * sent[4]
                g = tl.load(pooled + at, mask=won, other=0).to(ACC)
                sum = sum + g if ADDED else tl.where(won, g, sum)
    return sum


@triton.jit
def route(
    pooled,
    codes,
    total,
    rows,
    columns,
    channels,
    size,
    places,
    sent,
    coded,
    K: tl.constexpr,
    S: tl.constexpr,
    B: tl.constexpr,
    D: tl.constexpr,
    ACC: tl.constexpr,
    ADDED: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Each cell of the input adds up the numbers of the windows that it won, or keeps the last of them."""
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, size, LAST)
    sum = sum_of_won(
        pooled, codes, mask, n, c, d, h, w, places, sent, coded, K, S, B, D, ACC, ADDED, ROWS, COLUMNS
    )  # fmt: skip
    tl.store(total + row * columns + column, sum.to(total.dtype.element_ty), mask=mask)


@triton.jit
def winners_of(code, d, h, w, size, K: tl.constexpr, S: tl.constexpr, B: tl.constexpr, D: tl.constexpr):
    """Coordinates of the cells that the codes of the windows at d, h, w name, and which of these there are."""
    named = (code >= 0) & (code < K[0] * K[1] * K[2])
    z = d * S[0] - B[0] + code // (K[1] * K[2]) * D[0]
    y = h * S[1] - B[1] + code // K[2] % K[1] * D[1]
    x = w * S[2] - B[2] + code % K[2] * D[2]
    inside = named & (z >= 0) & (z < size[0]) & (y >= 0) & (y < size[1]) & (x >= 0) & (x < size[2])
    return z, y, x, inside


@triton.jit
def follow(
    codes,
    input,
    output,
    rows,
    columns,
    channels,
    size,
    places,
    coded,
    strides,
    K: tl.constexpr,
    S: tl.constexpr,
    B: tl.constexpr,
    D: tl.constexpr,
    INDEX: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """What the input holds at each winner (0: none won), or with INDEX the winner's flat index (-1: none won)."""
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, places, LAST)
    at = n * coded[0] + c * coded[1] + d * coded[2] + h * coded[3] + w * coded[4]
    code = tl.load(codes + at, mask=mask, other=0).to(tl.int32)
    z, y, x, inside = winners_of(code, d, h, w, size, K, S, B, D)
    inside &= mask
    if INDEX:
        found = tl.where(inside, (z.to(tl.int64) * size[1] + y) * size[2] + x, -1)
    else:
        at = n * strides[0] + c * strides[1] + z * strides[2] + y * strides[3] + x * strides[4]
        found = tl.load(input + at, mask=inside, other=0)
    tl.store(output + row * columns + column, found, mask=mask)
