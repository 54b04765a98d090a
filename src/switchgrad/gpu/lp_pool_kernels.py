"""Lp pooling in Triton's language, powers and roots included; names as in `max_pool_kernels`."""
# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl

from switchgrad.gpu.tiles import places_of, quotient, tile_of


@triton.jit
def power(x, E: tl.constexpr):
    """``x`` (0 or above) to a power that `lp_pool.exponent` has taken apart.

    Halves of whole numbers are products and a square root, rounded as such; others go through the logarithm.
    """
    if E[0]:
        y = (tl.sqrt_rn(x) if tl.float32 == x.dtype else tl.sqrt(x)) if E[2] else tl.full(x.shape, 1, x.dtype)
        for _ in range(E[1]):
            y = y * x
        if E[3]:
            y = quotient(1.0, y, x.dtype)
    else:
        y = tl.exp2(tl.log2(x) * E[4])
    return y


@triton.jit
def norm(
    input,
    values,
    rows,
    columns,
    channels,
    size,
    places,
    strides,
    POWER: tl.constexpr,
    ROOT: tl.constexpr,
    K: tl.constexpr,
    S: tl.constexpr,
    B: tl.constexpr,
    D: tl.constexpr,
    ACC: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The root of each window's sum of powers, added up in row-major order."""
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
                x = tl.abs(tl.load(first + away, mask=inside, other=0).to(ACC))
                total += tl.where(x == 0, 0, power(x, POWER))
    root = tl.where(total == 0, 0, power(total, ROOT))
    tl.store(values + row * columns + column, root.to(values.dtype.element_ty), mask=mask)


@triton.jit
def spread(
    pooled,
    input,
    values,
    total,
    rows,
    columns,
    channels,
    size,
    places,
    sent,
    strides,
    normed,
    POWER: tl.constexpr,
    K: tl.constexpr,
    S: tl.constexpr,
    B: tl.constexpr,
    D: tl.constexpr,
    ACC: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Each cell's sign times the sum of ``g (|x| / y)^(p - 1)`` over its windows, in their row-major order.

    0 where x or y is 0, whatever p is. ``sent``, ``strides`` and ``normed`` are the strides of g, x and y.
    """
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, size, LAST)
    MEETS_D: tl.constexpr = (D[0] * (K[0] - 1) + S[0]) // S[0]
    MEETS_H: tl.constexpr = (D[1] * (K[1] - 1) + S[1]) // S[1]
    MEETS_W: tl.constexpr = (D[2] * (K[2] - 1) + S[2]) // S[2]
    at = n * strides[0] + c * strides[1] + d * strides[2] + h * strides[3] + w * strides[4]
    signed = tl.load(input + at, mask=mask, other=0).to(ACC)
    cell = tl.abs(signed)
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
                at = n * normed[0] + c * normed[1] + pd * normed[2] + ph * normed[3] + pw * normed[4]
                root = tl.load(values + at, mask=inside, other=0).to(ACC)
                none = (cell == 0) | (root == 0)
                share = quotient(tl.where(none, 1, cell), tl.where(none, 1, root), ACC)
                sum += tl.where(none, 0, g * power(share, POWER))
    sum = tl.where(signed < 0, -sum, sum)
    tl.store(total + row * columns + column, sum.to(total.dtype.element_ty), mask=mask)
