"""Dropout in Triton's language, which draws both words of a counter at once: bit for bit that of the CPU."""
# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl

from switchgrad.gpu.words import threefry


@triton.jit
def drop_one(
    input, bias, output, i, word, count, inner, channels, THRESHOLD: tl.constexpr, SCALE: tl.constexpr,
    RELU: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Elements i: kept and scaled where their word is not below the threshold, else 0, whatever they were."""
    x = tl.load(input + i, mask=i < count, other=0).to(ACC)
    if bias is not None:
        x += tl.load(bias + i // inner % channels, mask=i < count, other=0).to(ACC)
    if RELU:
        x = tl.where(x <= 0, 0, x)
    scale = tl.full((), SCALE, ACC)
    y = tl.where(word.to(tl.int64) >= THRESHOLD, x * scale, 0)
    tl.store(output + i, y.to(output.dtype.element_ty), mask=i < count)


@triton.jit
def drop(
    input, bias, output, seed, count, inner, channels, THRESHOLD: tl.constexpr, SCALE: tl.constexpr,
    RELU: tl.constexpr, ACC: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Dropout, behind a bias and a ReLU where they are asked for.

    Counter 16 b + j serves elements 32 b + j and 32 b + 16 + j, so each program draws both words of its counters once.
    """
    b = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)[:, None]
    j = tl.arange(0, 16)[None, :]
    one, two = threefry(tl.load(seed), 16 * b + j)
    i = 32 * b + j
    drop_one(input, bias, output, i, one, count, inner, channels, THRESHOLD, SCALE, RELU, ACC)
    drop_one(input, bias, output, i + 16, two, count, inner, channels, THRESHOLD, SCALE, RELU, ACC)
