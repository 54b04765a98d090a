"""Counter-based random words in Triton's language: those of `ops.counted`, drawn where they are needed."""
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
def word_of(seed, place):
    """The 32 random bits of each place, uint32."""
    one, two = threefry(seed, place.to(tl.int64) // 32 * 16 + place.to(tl.int64) % 16)
    return tl.where(place % 32 < 16, one, two)
