"""Softmax cross entropy in Triton's language: the weights that count, the rows, their sum. No atomics: fixed orders."""
# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl


@triton.jit
def counted_weight(target, weight, total, rows, classes, ignore, BLOCK: tl.constexpr):
    """The sum over the targets that count of their weights, by which a mean divides; one program."""
    sum = tl.zeros((BLOCK,), tl.float64)
    for begin in range(0, rows, BLOCK):
        row = begin + tl.arange(0, BLOCK)
        t = tl.load(target + row, mask=row < rows, other=0)
        counts = (row < rows) & (t != ignore)
        if weight is None:
            sum += tl.where(counts, 1.0, 0.0)
        else:
            sum += tl.load(weight + t, mask=counts & (t >= 0) & (t < classes), other=0).to(tl.float64)
    tl.store(total, tl.sum(sum))


@triton.jit
def rows_of_scores(
    input, target, weight, divisor, losses, grad, rows, classes, ignore, row_step, class_step,
    SMOOTHING: tl.constexpr, MEAN: tl.constexpr, GRAD: tl.constexpr, ACC: tl.constexpr,
    ROWS: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """The loss of each row, and the gradient of the result; a target that is no class makes both NaN.

    A row is read three times (largest, sums, gradient), from the cache after the first.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    t = tl.load(target + row, mask=row < rows, other=0)
    counts = (row < rows) & (t != ignore)
    named = counts & (t >= 0) & (t < classes)
    first = input + row * row_step

    largest = tl.full((ROWS, 1), float("-inf"), ACC)
    for begin in range(0, classes, CLASSES):
        c = begin + tl.arange(0, CLASSES)[None, :]
        x = tl.load(first + c * class_step, mask=(row < rows) & (c < classes), other=float("-inf")).to(ACC)
        largest = tl.maximum(largest, tl.max(x, 1, keep_dims=True))
    largest = tl.where(row < rows, largest, 0)

    sum, all_of_w, all_of_wx = tl.zeros((ROWS, 1), ACC), tl.zeros((ROWS, 1), ACC), tl.zeros((ROWS, 1), ACC)
    for begin in range(0, classes, CLASSES):
        c = begin + tl.arange(0, CLASSES)[None, :]
        mask = (row < rows) & (c < classes)
        x = tl.load(first + c * class_step, mask=mask, other=0).to(ACC) - largest
        sum += tl.sum(tl.where(mask, tl.exp(x), 0), 1, keep_dims=True)
        if SMOOTHING > 0:
            w = tl.where(mask, 1, tl.zeros_like(x))
            if weight is not None:
                w = tl.load(weight + c, mask=mask, other=0).to(ACC)
            all_of_w += tl.sum(w, 1, keep_dims=True)
            all_of_wx += tl.sum(tl.where(mask, w * x, 0), 1, keep_dims=True)

    sum = tl.where(row < rows, sum, 1)
    log_sum = tl.log(sum)
    of_target = tl.full((ROWS, 1), 1 - SMOOTHING, ACC)
    if weight is not None:
        of_target *= tl.load(weight + t, mask=named, other=0).to(ACC)
    at_target = tl.load(first + t * class_step, mask=named, other=0).to(ACC) - largest
    loss = of_target * (log_sum - at_target)
    share = tl.full((ROWS, 1), SMOOTHING, ACC) / classes
    if SMOOTHING > 0:
        loss += share * (all_of_w * log_sum - all_of_wx)
    loss = tl.where(counts, tl.where(named, loss, float("nan")), 0)
    tl.store(losses + row, loss.to(losses.dtype.element_ty), mask=row < rows)

    if GRAD:
        scale = tl.full((ROWS, 1), 1, ACC)
        if MEAN:
            scale = scale / tl.load(divisor).to(ACC)
        for begin in range(0, classes, CLASSES):
            c = begin + tl.arange(0, CLASSES)[None, :]
            mask = (row < rows) & (c < classes)
            x = tl.load(first + c * class_step, mask=mask, other=0).to(ACC) - largest
            g = (of_target + share * all_of_w) * (tl.exp(x) / sum)
            if SMOOTHING > 0:
                w = tl.full((ROWS, CLASSES), 1, ACC)
                if weight is not None:
                    w = tl.load(weight + c, mask=mask, other=0).to(ACC) + tl.zeros_like(x)
                g -= share * w
            g = tl.where(c == t, g - of_target, g) * scale
            g = tl.where(counts, tl.where(named, g, float("nan")), 0)
            tl.store(grad + row * classes + c, g.to(grad.dtype.element_ty), mask=mask)


@triton.jit
def sum_of_losses(losses, divisor, loss, rows, MEAN: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """The sum, or the mean, of all rows; one program."""
    sum = tl.zeros((BLOCK,), tl.float64)
    for begin in range(0, rows, BLOCK):
        row = begin + tl.arange(0, BLOCK)
        sum += tl.load(losses + row, mask=row < rows, other=0).to(tl.float64)
    found = tl.sum(sum)
    if MEAN:
        found = found / tl.load(divisor)
    tl.store(loss, found.to(ACC).to(loss.dtype.element_ty))  # halves by way of float32
