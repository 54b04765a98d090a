"""Pooling over boxes in Triton's language: what their bins hold, sums and maxima of bins, and the ways back.

On the way back a program has a piece of one row of the maps and goes through the boxes of its picture in their order,
so it alone writes its cells: boxes that do not reach the row cost it two loads, bins that do not reach it one.
"""
# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

import triton
import triton.language as tl

from switchgrad.gpu.tiles import places_of, quotient, tile_of


@triton.jit
def half_up(x):
    """The nearest whole number, halves away from 0."""
    rounded = tl.floor(tl.abs(x) + 0.5)
    return tl.where(x < 0, -rounded, rounded)


@triton.jit
def whole_cells(
    boxes,
    low,
    high,
    count,
    size,
    scale,
    AXIS: tl.constexpr,
    PLACES: tl.constexpr,
    INCLUSIVE: tl.constexpr,
    ROWS: tl.constexpr,
):
    """First cell and one past the last of each bin (box, place) along an axis (0: x, 1: y), cut to the map."""
    bin = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    mask = bin < count
    k, place = bin // PLACES, (bin % PLACES).to(boxes.dtype.element_ty)
    factor = tl.load(scale)
    start = half_up(tl.load(boxes + k * 5 + 1 + AXIS, mask=mask, other=0) * factor)
    end = half_up(tl.load(boxes + k * 5 + 3 + AXIS, mask=mask, other=0) * factor)
    each = quotient(tl.maximum(end - start + INCLUSIVE, 1), tl.full((ROWS,), PLACES, start.dtype), start.dtype)
    if INCLUSIVE:
        first, last = tl.floor(place * each) + start, tl.ceil((place + 1) * each) + start
    else:
        first, last = tl.floor(place * each + start), tl.ceil((place + 1) * each + start)
    tl.store(low + bin, tl.minimum(tl.maximum(first, 0), size).to(tl.int32), mask=mask)
    tl.store(high + bin, tl.minimum(tl.maximum(last, 0), size).to(tl.int32), mask=mask)


@triton.jit
def sample_weights(
    boxes,
    weights,
    rows,
    size,
    scale,
    RATIO: tl.constexpr,
    ALIGNED: tl.constexpr,
    AXIS: tl.constexpr,
    PLACES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """How much each cell of an axis counts in each bin: the mean of evenly spread samples between two cells each."""
    row, column, mask = tile_of(rows, size, ROWS, COLUMNS, False)
    real = boxes.dtype.element_ty
    k, place = row // PLACES, (row % PLACES).to(real)
    offset = 0.5 if ALIGNED else 0.0
    start = tl.load(boxes + k * 5 + 1 + AXIS, mask=row < rows, other=0) * tl.load(scale) - offset
    length = tl.load(boxes + k * 5 + 3 + AXIS, mask=row < rows, other=0) * tl.load(scale) - offset - start
    if not ALIGNED:
        length = tl.maximum(length, 1)
    each = quotient(length, tl.full((ROWS, 1), PLACES, real), real)
    samples = tl.full((ROWS, 1), RATIO, real) if RATIO > 0 else tl.maximum(tl.ceil(each), 0)
    divisor = tl.maximum(samples, 1)
    total = tl.zeros((ROWS, COLUMNS), real)
    for i in range(tl.max(samples).to(tl.int32)):
        along = quotient(tl.full((ROWS, 1), 0.5, real) + i, divisor, real)
        at = start + (place + along) * each
        counted = (samples > i) & (at >= -1) & (at <= size)
        at = tl.minimum(tl.maximum(at, 0), size - 1)
        below = tl.floor(at)
        upper = at - below
        share = quotient(tl.full((ROWS, 1), 1, real), divisor, real)
        total += tl.where(counted & (below == column), share * (1 - upper), 0)
        total += tl.where(counted & (tl.minimum(below + 1, size - 1) == column), share * upper, 0)
    tl.store(weights + row * size + column, total, mask=mask)


@triton.jit
def box_sums(
    input,
    boxes,
    down,
    top,
    bottom,
    across,
    left,
    right,
    values,
    rows,
    columns,
    channels,
    height,
    width,
    places,
    strides,
    SENSITIVE: tl.constexpr,
    ACC: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Each bin's cells times the weights of their row and column, in row-major order; no weight, no part."""
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    k, c, _, p, q = places_of(row, column, channels, places, LAST)
    tall, broad = k * places[1] + p, k * places[2] + q
    first_y, last_y = tl.load(top + tall, mask=mask, other=0), tl.load(bottom + tall, mask=mask, other=0)
    first_x, last_x = tl.load(left + broad, mask=mask, other=0), tl.load(right + broad, mask=mask, other=0)
    n = tl.load(boxes + k * 5, mask=mask, other=0).to(tl.int64)
    if SENSITIVE:
        c = (c * places[1] + p) * places[2] + q
    plane = input + (n * strides[0] + c * strides[1])
    total = tl.zeros((ROWS, COLUMNS), ACC)
    for i in range(tl.max(last_y - first_y)):
        y = first_y + i
        in_rows = mask & (y < last_y)
        weight = tl.load(down + tall * height + y, mask=in_rows, other=0)
        for j in range(tl.max(last_x - first_x)):
            x = first_x + j
            weights = weight * tl.load(across + broad * width + x, mask=in_rows & (x < last_x), other=0)
            cell = tl.load(plane + (y * strides[3] + x * strides[4]), mask=in_rows & (weights != 0), other=0)
            total += weights.to(ACC) * cell.to(ACC)
    tl.store(values + row * columns + column, total.to(values.dtype.element_ty), mask=mask)


@triton.jit
def box_maxima(
    input,
    boxes,
    top,
    bottom,
    left,
    right,
    values,
    winners,
    rows,
    columns,
    channels,
    width,
    places,
    strides,
    ACC: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The largest cell of each bin and its place in its map (-1, and 0 as value: no cell); ties, NaN as everywhere."""
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    k, c, _, p, q = places_of(row, column, channels, places, LAST)
    tall, broad = k * places[1] + p, k * places[2] + q
    first_y, last_y = tl.load(top + tall, mask=mask, other=0), tl.load(bottom + tall, mask=mask, other=0)
    first_x, last_x = tl.load(left + broad, mask=mask, other=0), tl.load(right + broad, mask=mask, other=0)
    n = tl.load(boxes + k * 5, mask=mask, other=0).to(tl.int64)
    plane = input + (n * strides[0] + c * strides[1])
    value = tl.zeros((ROWS, COLUMNS), input.dtype.element_ty)
    winner = tl.full((ROWS, COLUMNS), -1, tl.int32)
    for i in range(tl.max(last_y - first_y)):
        y = first_y + i
        for j in range(tl.max(last_x - first_x)):
            x = first_x + j
            inside = mask & (y < last_y) & (x < last_x)
            cell = tl.load(plane + (y * strides[3] + x * strides[4]), mask=inside, other=0)
            key = cell.to(ACC)
            wins = inside & ((key > value.to(ACC)) | (key != key) | (winner < 0))
            value = tl.where(wins, cell, value)
            winner = tl.where(wins, y * width + x, winner)
    to = row * columns + column
    tl.store(values + to, value, mask=mask)
    tl.store(winners + to, winner, mask=mask)


@triton.jit
def box_spread(
    pooled,
    winners,
    down,
    across,
    top,
    bottom,
    order,
    first_box,
    total,
    channels,
    height,
    width,
    places,
    sent,
    strides,
    MAXIMA: tl.constexpr,
    SENSITIVE: tl.constexpr,
    ACC: tl.constexpr,
    LAST: tl.constexpr,
    CHANNELS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Cells of one row of a picture's maps add up what comes to them, box after box, bin after bin.

    That is the bin's number times the weights of row and column, or with MAXIMA the number if the bin's winner is the
    cell. ``top`` and ``bottom`` say which rows a bin reaches; ``order`` lists the boxes, those of picture n from
    ``first_box[n]`` on; ``sent`` and ``strides`` are the strides of the pooled numbers (winners) and of the result.
    """
    y = tl.program_id(0) % height
    n = tl.program_id(0) // height
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    x = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    if LAST:
        c, x = c[None, :], x[:, None]
        sum = tl.zeros((COLUMNS, CHANNELS), ACC)
    else:
        c, x = c[:, None], x[None, :]
        sum = tl.zeros((CHANNELS, COLUMNS), ACC)
    bins = places[0] * places[1]
    for b in range(tl.load(first_box + n), tl.load(first_box + n + 1)):
        k = tl.load(order + b)  # int64
        if SENSITIVE:
            p, q = c // places[1] % places[0], c % places[1]
            weight = tl.load(down + (k * places[0] + p) * height + y, mask=c < channels, other=0)
            weights = weight * tl.load(
                across + (k * places[1] + q) * width + x, mask=(c < channels) & (x < width), other=0
            )
            at = k * sent[0] + c // bins * sent[1] + p * sent[3] + q * sent[4]
            g = tl.load(pooled + at, mask=c < channels, other=0).to(ACC)
            sum += tl.where(weights != 0, weights.to(ACC) * g, 0)
        else:
            for p in range(places[0]):
                first, last = tl.load(top + k * places[0] + p), tl.load(bottom + k * places[0] + p)
                if (first <= y) & (y < last):
                    for q in range(places[1]):
                        at = k * sent[0] + c * sent[1] + p * sent[3] + q * sent[4]
                        g = tl.load(pooled + at, mask=c < channels, other=0).to(ACC)
                        if MAXIMA:
                            won = tl.load(winners + at, mask=c < channels, other=-1) == y * width + x
                            sum += tl.where(won, g, 0)
                        else:
                            weights = tl.load(down + (k * places[0] + p) * height + y) * tl.load(
                                across + (k * places[1] + q) * width + x, mask=x < width, other=0
                            )
                            sum += tl.where(weights != 0, weights.to(ACC) * g, 0)
    to = n.to(tl.int64) * strides[0] + c * strides[1] + y * strides[3] + x * strides[4]
    tl.store(total + to, sum.to(total.dtype.element_ty), mask=(c < channels) & (x < width))
