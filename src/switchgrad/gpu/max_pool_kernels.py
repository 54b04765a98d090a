"""Max pooling with switches, in Triton's language: forward, and the way down and up by the switches.

Windows of signals, pictures and volumes are all windows over three axes; what an input does not have is an axis of one
cell. The window is known when a kernel is compiled, sizes and strides are not.
"""
# pyright: basic, reportMissingImports=false

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
    sn,
    sc,
    sd,
    sh,
    sw,
    depth,
    height,
    width,
    KD: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    DD: tl.constexpr,
    DH: tl.constexpr,
    DW: tl.constexpr,
    LOWEST: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Value and code (-1: none) of the windows whose first cells stand at d, h, w: the rule of max pooling.

    The first of equals wins, NaN wins, of several NaN the last; cells outside take no part.
    """
    first = input + (n * sn + c * sc + d * sd + h * sh + w * sw)
    best = tl.full((ROWS, COLUMNS), LOWEST, input.dtype.element_ty)
    code = tl.full((ROWS, COLUMNS), -1, tl.int32)
    for i in range(KD):
        in_depth = (d + i * DD >= 0) & (d + i * DD < depth)
        for j in range(KH):
            in_rows = in_depth & (h + j * DH >= 0) & (h + j * DH < height)
            for k in range(KW):
                inside = mask & in_rows & (w + k * DW >= 0) & (w + k * DW < width)
                x = tl.load(first + (i * DD * sd + j * DH * sh + k * DW * sw), mask=inside)
                key = x.to(ACC)
                wins = inside & ((key > best.to(ACC)) | (key != key) | (code < 0))
                best = tl.where(wins, x, best)
                code = tl.where(wins, (i * KH + j) * KW + k, code)
    return best, code


@triton.jit
def pool(
    input,
    values,
    codes,
    rows,
    columns,
    channels,
    depth,
    height,
    width,
    sn,
    sc,
    sd,
    sh,
    sw,
    places_d,
    places_h,
    places_w,
    KD: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SD: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    BD: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    DD: tl.constexpr,
    DH: tl.constexpr,
    DW: tl.constexpr,
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
    n, c, d, h, w = places_of(row, column, channels, places_d, places_h, places_w, LAST)
    best, code = best_cell(
        input, mask, n, c, d * SD - BD, h * SH - BH, w * SW - BW, sn, sc, sd, sh, sw, depth, height, width,
        KD, KH, KW, DD, DH, DW, LOWEST, ACC, ROWS, COLUMNS,
    )  # fmt: skip
    to = row * columns + column
    tl.store(values + to, best, mask=mask)
    if CODED:
        tl.store(codes + to, code.to(codes.dtype.element_ty), mask=mask)


@triton.jit
def route(
    pooled,
    codes,
    total,
    rows,
    columns,
    channels,
    depth,
    height,
    width,
    places_d,
    places_h,
    places_w,
    gn,
    gc,
    gd,
    gh,
    gw,
    cn,
    cc,
    cd,
    ch,
    cw,
    KD: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SD: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    BD: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    DD: tl.constexpr,
    DH: tl.constexpr,
    DW: tl.constexpr,
    ACC: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Each cell of the input adds up the numbers of the windows that it won, in row-major order of the windows.

    A cell at h lies in the windows p with 0 <= h + b - p s <= d (R - 1): at most ceil(E / s) of them an axis.
    """
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, depth, height, width, LAST)
    SPAN_D: tl.constexpr = (DD * (KD - 1) + SD) // SD
    SPAN_H: tl.constexpr = (DH * (KH - 1) + SH) // SH
    SPAN_W: tl.constexpr = (DW * (KW - 1) + SW) // SW
    sum = tl.zeros((ROWS, COLUMNS), ACC)
    for i in range(SPAN_D):
        pd = (d + BD) // SD - (SPAN_D - 1) + i
        away_d = d + BD - pd * SD
        in_depth = (pd >= 0) & (pd < places_d) & (away_d % DD == 0) & (away_d < DD * KD)
        for j in range(SPAN_H):
            ph = (h + BH) // SH - (SPAN_H - 1) + j
            away_h = h + BH - ph * SH
            in_rows = in_depth & (ph >= 0) & (ph < places_h) & (away_h % DH == 0) & (away_h < DH * KH)
            for k in range(SPAN_W):
                pw = (w + BW) // SW - (SPAN_W - 1) + k
                away_w = w + BW - pw * SW
                inside = mask & in_rows & (pw >= 0) & (pw < places_w) & (away_w % DW == 0) & (away_w < DW * KW)
                cell = ((away_d // DD) * KH + away_h // DH) * KW + away_w // DW
                code = tl.load(codes + (n * cn + c * cc + pd * cd + ph * ch + pw * cw), mask=inside, other=0)
                won = inside & (code.to(tl.int32) == cell)
                g = tl.load(pooled + (n * gn + c * gc + pd * gd + ph * gh + pw * gw), mask=won, other=0)
                sum += g.to(ACC)
    tl.store(total + row * columns + column, sum.to(total.dtype.element_ty), mask=mask)


@triton.jit
def winner_of(
    codes,
    mask,
    n,
    c,
    d,
    h,
    w,
    cn,
    cc,
    cd,
    ch,
    cw,
    depth,
    height,
    width,
    KD: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SD: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    BD: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    DD: tl.constexpr,
    DH: tl.constexpr,
    DW: tl.constexpr,
):
    """Coordinates of the winner of each place d, h, w, and where there is one inside the input."""
    code = tl.load(codes + (n * cn + c * cc + d * cd + h * ch + w * cw), mask=mask, other=0).to(tl.int32)
    named = mask & (code >= 0) & (code < KD * KH * KW)
    z = d * SD - BD + code // (KH * KW) * DD
    y = h * SH - BH + code // KW % KH * DH
    x = w * SW - BW + code % KW * DW
    inside = named & (z >= 0) & (z < depth) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return z, y, x, inside


@triton.jit
def follow(
    codes,
    input,
    output,
    rows,
    columns,
    channels,
    places_d,
    places_h,
    places_w,
    depth,
    height,
    width,
    cn,
    cc,
    cd,
    ch,
    cw,
    sn,
    sc,
    sd,
    sh,
    sw,
    KD: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SD: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    BD: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    DD: tl.constexpr,
    DH: tl.constexpr,
    DW: tl.constexpr,
    INDEX: tl.constexpr,
    LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """What the input holds at each winner (0: none won), or with INDEX the winner's flat index (-1: none won)."""
    row, column, mask = tile_of(rows, columns, ROWS, COLUMNS, WIDE)
    n, c, d, h, w = places_of(row, column, channels, places_d, places_h, places_w, LAST)
    z, y, x, inside = winner_of(
        codes, mask, n, c, d, h, w, cn, cc, cd, ch, cw, depth, height, width,
        KD, KH, KW, SD, SH, SW, BD, BH, BW, DD, DH, DW,
    )  # fmt: skip
    if INDEX:
        found = tl.where(inside, (z.to(tl.int64) * height + y) * width + x, -1)
    else:
        found = tl.load(input + (n * sn + c * sc + z * sd + y * sh + x * sw), mask=inside, other=0)
    tl.store(output + row * columns + column, found, mask=mask)
