"""Average pooling in Triton's language; names as in `max_pool_kernels`."""
# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl

from switchgrad.gpu.tiles import places_of, quotient, tile_of


@triton.jit
def counted(start, size, end, K: tl.constexpr, D: tl.constexpr, INCLUDE: tl.constexpr):
    """Cells that count along one axis of a window from ``start``: in the padded input, or in the input alone."""
    if INCLUDE:
        cells = tl.minimum((tl.maximum(size + end - start, 0) + D - 1) // D, K)
    else:
        before = (tl.maximum(-start, 0) + D - 1) // D
        cells = tl.minimum((tl.maximum(size - start, 0) + D - 1) // D, K) - before
    return cells


@triton.jit
def divisor_of(
    d,
    h,
    w,
    size,
    ends,
    K: tl.constexpr,
    D: tl.constexpr,
    INCLUDE: tl.constexpr,
    DIVISOR: tl.constexpr,
    ACC: tl.constexpr,
):
    """What the sums of the windows whose first cells stand at d, h, w are divided by; DIVISOR 0: the cells counted."""
    if DIVISOR != 0:
        divisor = tl.full((1, 1), DIVISOR, ACC)
    else:
        deep = tl.maximum(counted(d, size[0], ends[0], K[0], D[0], INCLUDE), 1)
        high = tl.maximum(counted(h, size[1], ends[1], K[1], D[1], INCLUDE), 1)
        wide = tl.maximum(counted(w, size[2], ends[2], K[2], D[2], INCLUDE), 1)
        divisor = deep.to(ACC) * high.to(ACC) * wide.to(ACC)
    return divisor


@triton.jit
def average(
    input,
    values,
    rows,
    columns,
    channels,
    size,
    places,
    strides,
    ends,
    K: tl.constexpr,
    S: tl.constexpr,
    B: tl.constexpr,
    D: tl.constexpr,
    INCLUDE: tl.constexpr,
    DIVISOR: tl.constexpr,
    ACC: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The cells of each window added in row-major order, then divided."""
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, places, LAST)
    d, h, w = d * S[0] - B[0], h * S[1] - B[1], w * S[2] - B[2]
    first = input + (n * strides[0] + c * strides[1] + d * strides[2] + h * strides[3] + w * strides[4])
    total = tl.zeros((ROWS, COLUMNS), ACC)
    for i in range(K[0]):
        in_depth = (d + i * D[0] >= 0) & (d + i * D[0] < size[0])
        for j in range(K[1]):
            in_rows = in_depth & (h + j * D[1] >= 0) & (h + j * D[1] < size[1])
            for k in range(K[2]):
                inside = mask & in_rows & (w + k * D[2] >= 0) & (w + k * D[2] < size[2])
                away = i * D[0] * strides[2] + j * D[1] * strides[3] + k * D[2] * strides[4]
                total += tl.load(first + away, mask=inside, other=0).to(ACC)
    mean = quotient(total, divisor_of(d, h, w, size, ends, K, D, INCLUDE, DIVISOR, ACC), ACC)
    tl.store(values + row * columns + column, mean.to(values.dtype.element_ty), mask=mask)


@triton.jit
def spread(
    pooled,
    total,
    rows,
    columns,
    channels,
    size,
    places,
    sent,
    ends,
    K: tl.constexpr,
    S: tl.constexpr,
    B: tl.constexpr,
    D: tl.constexpr,
    INCLUDE: tl.constexpr,
    DIVISOR: tl.constexpr,
    ACC: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Each cell of the input adds up its shares of the windows that hold it, in row-major order of the windows."""
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, size, LAST)
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
                at = n * sent[0] + c * sent[1] + pd * sent[2] + ph * sent[3] + pw * sent[4]
                g = tl.load(pooled + at, mask=inside, other=0).to(ACC)
                divisor = divisor_of(d - z, h - y, w - x, size, ends, K, D, INCLUDE, DIVISOR, ACC)
                sum += quotient(g, divisor, ACC)
    tl.store(total + row * columns + column, sum.to(total.dtype.element_ty), mask=mask)
