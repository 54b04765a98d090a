"""Batch normalisation with ReLU (and max pooling behind it), in Triton's language: sums of channels, and what follows.

A tensor (N, C, ...) is M cells of C channels: cell i of channel c lies at (i // plane) sn + (i % plane) ss + c sc. Sums
are taken in two steps and never by atomics: each program adds up a piece of a channel, lane by lane, its lanes in
double; then one program adds the pieces of a channel. Which cells are a piece depends on the shapes alone.
"""
# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl

from switchgrad.gpu.block_kernels import NORM, numbers_of, shifted
from switchgrad.gpu.max_pool_kernels import sum_of_won, winners_of
from switchgrad.gpu.tiles import places_of, tile_of


@triton.jit
def piece_of(channels, CHANNELS: tl.constexpr, WIDE: tl.constexpr):
    """The piece and the channels [1, CHANNELS] of this program."""
    pid = tl.program_id(0)
    if WIDE:
        pid = pid.to(tl.int64)
    blocks = (channels + CHANNELS - 1) // CHANNELS
    return pid // blocks, pid % blocks * CHANNELS + tl.arange(0, CHANNELS)[None, :]


@triton.jit
def store_sums(partial, piece, c, channels, one, two):
    """Two sums for each channel of a piece, over the lanes of a tile."""
    to = partial + (piece * channels + c) * 2
    tl.store(to, tl.sum(one.to(tl.float64), 0, keep_dims=True), mask=c < channels)
    tl.store(to + 1, tl.sum(two.to(tl.float64), 0, keep_dims=True), mask=c < channels)


@triton.jit
def total_of(partial, pieces, c, channels, PIECES: tl.constexpr, CHANNELS: tl.constexpr):
    """The two sums of the channels c [1, CHANNELS] over all pieces."""
    one, two = tl.zeros((PIECES, CHANNELS), tl.float64), tl.zeros((PIECES, CHANNELS), tl.float64)
    for begin in range(0, pieces, PIECES):
        piece = begin + tl.arange(0, PIECES)[:, None]
        mask = (piece < pieces) & (c < channels)
        at = partial + (piece * channels + c) * 2
        one += tl.load(at, mask=mask, other=0)
        two += tl.load(at + 1, mask=mask, other=0)
    return tl.sum(one, 0, keep_dims=True), tl.sum(two, 0, keep_dims=True)


@triton.jit
def store_numbers(numbers, weight, bias, mean, var, c, channels, EPS: tl.constexpr):
    """Mean, weight / sqrt(var + eps) and bias of the channels c, in the precision of the arithmetic."""
    known = c < channels
    scale = 1 / tl.sqrt(var + EPS)
    if weight is not None:
        scale = tl.load(weight + c, mask=known, other=0).to(tl.float64) * scale
    shift = tl.zeros_like(scale)
    if bias is not None:
        shift = tl.load(bias + c, mask=known, other=0).to(tl.float64)
    to = numbers + c
    tl.store(to, mean.to(numbers.dtype.element_ty), mask=known)
    tl.store(to + channels, scale.to(numbers.dtype.element_ty), mask=known)
    tl.store(to + 2 * channels, shift.to(numbers.dtype.element_ty), mask=known)


@triton.jit
def statistics_sums(
    input, partial, cells, channels, plane, strides, chunk,
    ACC: tl.constexpr, CELLS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Sums of x - x0 and of its square, x0 the channel's first cell: so no variance is lost beside a large mean."""
    piece, c = piece_of(channels, CHANNELS, WIDE)
    origin = tl.load(input + c * strides[1], mask=c < channels, other=0).to(ACC)
    one, two = tl.zeros((CELLS, CHANNELS), ACC), tl.zeros((CELLS, CHANNELS), ACC)
    for step in range(0, chunk, CELLS):
        i = piece * chunk + step + tl.arange(0, CELLS)[:, None]
        mask = (i < cells) & (c < channels)
        at = (i // plane) * strides[0] + (i % plane) * strides[2] + c * strides[1]
        away = tl.where(mask, tl.load(input + at, mask=mask, other=0).to(ACC) - origin, 0)
        one += away
        two += away * away
    store_sums(partial, piece, c, channels, one, two)


@triton.jit
def settle(
    input, partial, weight, bias, statistics, numbers, cells, channels, strides, pieces, EPS: tl.constexpr,
    ACC: tl.constexpr, PIECES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """From the sums of `statistics_sums` to mean and biased variance, and to the channels' numbers."""
    c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    one, two = total_of(partial, pieces, c, channels, PIECES, CHANNELS)
    origin = tl.load(input + c * strides[1], mask=c < channels, other=0).to(ACC).to(tl.float64)
    away = one / cells
    var = two / cells - away * away
    mean, var = origin + away, tl.where(var < 0, 0, var)  # below 0 by rounding; NaN stays
    tl.store(statistics + c, mean, mask=c < channels)
    tl.store(statistics + channels + c, var, mask=c < channels)
    store_numbers(numbers, weight, bias, mean, var, c, channels, EPS)


@triton.jit
def fold(statistics, weight, bias, numbers, channels, EPS: tl.constexpr, CHANNELS: tl.constexpr):
    """The channels' numbers from statistics that are there."""
    c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    mean = tl.load(statistics + c, mask=c < channels, other=0)
    var = tl.load(statistics + channels + c, mask=c < channels, other=1)
    store_numbers(numbers, weight, bias, mean, var, c, channels, EPS)


@triton.jit
def apply(
    input, output, numbers, cells, channels, plane, strides,
    ACC: tl.constexpr, CELLS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """relu((x - mean) scale + shift); NaN passes."""
    piece, c = piece_of(channels, CHANNELS, WIDE)
    mean, scale, shift = numbers_of(numbers, c, channels, NORM, ACC)
    i = piece * CELLS + tl.arange(0, CELLS)[:, None]
    mask = (i < cells) & (c < channels)
    at = (i // plane) * strides[0] + (i % plane) * strides[2] + c * strides[1]
    z = shifted(tl.load(input + at, mask=mask, other=0), mean, scale, shift, NORM, ACC)
    tl.store(output + at, tl.where(z.to(ACC) <= 0, tl.zeros_like(z), z), mask=mask)


@triton.jit
def sums(
    grad, input, partial, numbers, cells, channels, plane, strides, chunk,
    ACC: tl.constexpr, CELLS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Sums of dz and of dz (x - mean), where dz is what the ReLU lets through of the gradient."""
    piece, c = piece_of(channels, CHANNELS, WIDE)
    mean, scale, shift = numbers_of(numbers, c, channels, NORM, ACC)
    one, two = tl.zeros((CELLS, CHANNELS), ACC), tl.zeros((CELLS, CHANNELS), ACC)
    for step in range(0, chunk, CELLS):
        i = piece * chunk + step + tl.arange(0, CELLS)[:, None]
        mask = (i < cells) & (c < channels)
        at = (i // plane) * strides[0] + (i % plane) * strides[2] + c * strides[1]
        x = tl.load(input + at, mask=mask, other=0)
        stopped = shifted(x, mean, scale, shift, NORM, ACC).to(ACC) <= 0
        dz = tl.where(stopped, 0, tl.load(grad + at, mask=mask, other=0).to(ACC))
        one += dz
        two += tl.where(mask, dz * (x.to(ACC) - mean), 0)
    store_sums(partial, piece, c, channels, one, two)


@triton.jit
def pooled_sums(
    grad, codes, input, partial, numbers, cells, channels, plane, strides, places, size, given, chunk,
    K: tl.constexpr, S: tl.constexpr, B: tl.constexpr, D: tl.constexpr,
    ACC: tl.constexpr, CELLS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The same behind a pool: only winners have a gradient, so the windows are asked, not the cells."""
    piece, c = piece_of(channels, CHANNELS, WIDE)
    mean = tl.load(numbers + c, mask=c < channels, other=0).to(ACC)
    one, two = tl.zeros((CELLS, CHANNELS), ACC), tl.zeros((CELLS, CHANNELS), ACC)
    for step in range(0, chunk, CELLS):
        i = piece * chunk + step + tl.arange(0, CELLS)[:, None]
        mask = (i < cells) & (c < channels)
        n, within = i // plane, i % plane
        at = n * strides[0] + within * strides[2] + c * strides[1]
        code = tl.load(codes + at, mask=mask, other=-1).to(tl.int32)
        row, column = within // places[2], within % places[2]
        z, y, x, inside = winners_of(code, tl.zeros_like(row), row, column, size, K, S, B, D)
        won = mask & inside
        from_cell = n * given[0] + c * given[1] + z * given[2] + y * given[3] + x * given[4]
        away = tl.load(input + from_cell, mask=won, other=0).to(ACC) - mean
        g = tl.load(grad + at, mask=won, other=0).to(ACC)
        one += g
        two += tl.where(won, g * away, 0)
    store_sums(partial, piece, c, channels, one, two)


@triton.jit
def settle_gradient(
    partial, statistics, numbers, of_weight, of_bias, terms, cells, channels, pieces,
    TRAINING: tl.constexpr, EPS: tl.constexpr, PIECES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """From the sums to the gradients of weight and bias, and to the terms of dx = scale dz + offset + slope (x - mean).

    In training every cell has a part in mean and variance; in evaluation both terms are 0.
    """
    c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    known = c < channels
    one, two = total_of(partial, pieces, c, channels, PIECES, CHANNELS)
    spread = tl.load(statistics + channels + c, mask=known, other=1) + EPS
    # Halves by way of the terms' precision.
    to_bias, to_weight = one.to(terms.dtype.element_ty), (two / tl.sqrt(spread)).to(terms.dtype.element_ty)
    tl.store(of_bias + c, to_bias.to(of_bias.dtype.element_ty), mask=known)
    tl.store(of_weight + c, to_weight.to(of_weight.dtype.element_ty), mask=known)
    offset, slope = tl.zeros_like(one), tl.zeros_like(one)
    if TRAINING:
        scale = tl.load(numbers + channels + c, mask=known, other=0).to(tl.float64)
        offset = -scale * one / cells
        slope = -scale * two / spread / cells
    tl.store(terms + c, offset.to(terms.dtype.element_ty), mask=known)
    tl.store(terms + channels + c, slope.to(terms.dtype.element_ty), mask=known)


@triton.jit
def gradient(
    grad, input, output, numbers, terms, cells, channels, plane, strides,
    ACC: tl.constexpr, CELLS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The gradient of the input; the ReLU's mask is found from the input again."""
    piece, c = piece_of(channels, CHANNELS, WIDE)
    mean, scale, shift = numbers_of(numbers, c, channels, NORM, ACC)
    offset = tl.load(terms + c, mask=c < channels, other=0)
    slope = tl.load(terms + channels + c, mask=c < channels, other=0)
    i = piece * CELLS + tl.arange(0, CELLS)[:, None]
    mask = (i < cells) & (c < channels)
    at = (i // plane) * strides[0] + (i % plane) * strides[2] + c * strides[1]
    x = tl.load(input + at, mask=mask, other=0)
    stopped = shifted(x, mean, scale, shift, NORM, ACC).to(ACC) <= 0
    dz = tl.where(stopped, 0, tl.load(grad + at, mask=mask, other=0).to(ACC))
    dx = scale * dz + offset + (x.to(ACC) - mean) * slope
    tl.store(output + at, dx.to(output.dtype.element_ty), mask=mask)


@triton.jit
def pooled_gradient(
    grad, codes, input, output, numbers, terms, rows, columns, channels, size, places, sent, coded, given,
    K: tl.constexpr, S: tl.constexpr, B: tl.constexpr, D: tl.constexpr,
    ACC: tl.constexpr, LAST: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The same behind a pool: dz is the sum of what a cell won."""
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, size, LAST)
    mean = tl.load(numbers + c, mask=c < channels, other=0).to(ACC)
    scale = tl.load(numbers + channels + c, mask=c < channels, other=0).to(ACC)
    offset = tl.load(terms + c, mask=c < channels, other=0)
    slope = tl.load(terms + channels + c, mask=c < channels, other=0)
    dz = sum_of_won(grad, codes, mask, n, c, d, h, w, places, sent, coded, K, S, B, D, ACC, True, ROWS, COLUMNS)
    at = n * given[0] + c * given[1] + d * given[2] + h * given[3] + w * given[4]
    x = tl.load(input + at, mask=mask, other=0).to(ACC)
    dx = scale * dz + offset + (x - mean) * slope
    tl.store(output + row * columns + column, dx.to(output.dtype.element_ty), mask=mask)


@triton.jit
def move(
    mean, var, statistics, channels, mean_step, var_step,
    KEPT: tl.constexpr, TAKEN: tl.constexpr, TAKEN_VAR: tl.constexpr, ACC: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """The running statistics take a step towards those of the batch."""
    c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    known = c < channels
    of_mean, of_var = mean + c * mean_step, var + c * var_step
    one = tl.load(of_mean, mask=known).to(tl.float64) * KEPT + tl.load(statistics + c, mask=known) * TAKEN
    two = tl.load(of_var, mask=known).to(tl.float64) * KEPT
    two += tl.load(statistics + channels + c, mask=known) * TAKEN_VAR
    tl.store(of_mean, one.to(ACC).to(mean.dtype.element_ty), mask=known)
    tl.store(of_var, two.to(ACC).to(var.dtype.element_ty), mask=known)
