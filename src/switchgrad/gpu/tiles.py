"""What the kernels share: which cells of a result a program computes, and how numbers compare."""
# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false
# Kernels are written in Triton's language, whose values have no Python types.

import triton
import triton.language as tl


@triton.jit
def tile_of(rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr):
    """Row and column of each number that this program computes, and which of them there are."""
    pid = tl.program_id(0)
    if WIDE:
        pid = pid.to(tl.int64)
    across = (columns + COLUMNS - 1) // COLUMNS
    row = pid // across * ROWS + tl.arange(0, ROWS)[:, None]
    column = pid % across * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    return row, column, (row < rows) & (column < columns)


@triton.jit
def places_of(row, column, channels, size, LAST: tl.constexpr):
    """Picture, channel and the three coordinates of each number of a tile, by the result's memory order.

    Coordinates that a whole row shares are computed once a row: divisions are what such kernels cost.
    """
    if LAST:
        w = row % size[2]
        row = row // size[2]
        c = column
    else:
        w = column
    h = row % size[1]
    row = row // size[1]
    d = row % size[0]
    n = row // size[0]
    if not LAST:
        c = n % channels
        n = n // channels
    return n, c, d, h, w


@triton.jit
def quotient(x, y, ACC: tl.constexpr):
    """``x / y``, rounded to nearest as everywhere else; Triton's own division in float32 is less exact."""
    return tl.div_rn(x, y) if tl.float32 == ACC else x / y
