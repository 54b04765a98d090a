"""Counter-based random words in Triton's language, and the dropout that draws them: bit for bit those of the CPU."""
# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl


@triton.jit
def four_rounds(x, y, A: tl.constexpr, B: tl.constexpr, C: tl.constexpr, D: tl.constexpr):
    """Four rounds of Threefry-2x32: add, rotate, exclusive or."""
    x = x + y
    y = ((y << A) | (y >> (32 - A))) ^ x
    x = x + y
    y = ((y << B) | (y >> (32 - B))) ^ x
    x = x + y
    y = ((y << C) | (y >> (32 - C))) ^ x
    x = x + y
    y = ((y << D) | (y >> (32 - D))) ^ x
    return x, y


@triton.jit
def threefry(seed, counter):
    """The two words of each counter under an int64 seed: Threefry-2x32 with 20 rounds, low halves first."""
    a, b = seed.to(tl.uint32), (seed >> 32).to(tl.uint32)
    c = a ^ b ^ 0x1BD11BDA
    x, y = counter.to(tl.uint32) + a, (counter >> 32).to(tl.uint32) + b
    x, y = four_rounds(x, y, 13, 15, 26, 6)
    x, y = x + b, y + c + 1
    x, y = four_rounds(x, y, 17, 29, 16, 24)
    x, y = x + c, y + a + 2
    x, y = four_rounds(x, y, 13, 15, 26, 6)
    x, y = x + a, y + b + 3
    x, y = four_rounds(x, y, 17, 29, 16, 24)
    x, y = x + b, y + c + 4
    x, y = four_rounds(x, y, 13, 15, 26, 6)
    return x + c, y + a + 5


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
