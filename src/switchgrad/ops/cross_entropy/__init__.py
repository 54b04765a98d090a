"""Softmax cross entropy, forward and backward in one pass over the scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.kernels.cuda import DEVICES
from switchgrad.ops import composed
from switchgrad.ops.cross_entropy import registration as registration
from switchgrad.ops.routing import is_transformed, is_watched

__all__ = ["cross_entropy", "cross_entropy_with_gradient"]

_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""The cross entropy of ``softmax(input)`` and the target classes: ``torch.nn.functional.cross_entropy``.

    Shapes: ``input`` is :math:`(N, C)`, :math:`(C)` or :math:`(N, C, d_1, ...)` of float64, float32, float16 or
    bfloat16; ``target`` the same without :math:`C`, int64, each 0 to C - 1 or ``ignore_index``; ``weight`` is
    :math:`(C)`. The result is a number for ``reduction`` "mean" (by the weights of the targets that count) or "sum",
    of the target's shape for "none".

    .. math:: \ell = -(1 - \epsilon)\, w_t \log p_t - \frac{\epsilon}{C} \sum_c w_c \log p_c

    with :math:`p = \mathrm{softmax}(x)` and :math:`\epsilon` = ``label_smoothing``. Sums are taken in double and in
    the order of the rows: the same bits with any number of threads. Ignored rows give 0 and take no gradient; a mean
    over none is NaN, as in PyTorch. NaN and rows whose largest score is infinite give NaN.

    Backward: the forward has already made the gradient, which is all that is kept; it is scaled by the one sent back.
    A second derivative, forward mode, vmap, and targets given as probabilities are PyTorch's own.

    Raises `GeometryError` for shapes, targets and options that do not fit; on CUDA, where the host would have to wait
    for them, a target that is no class gives NaN instead.

    >>> import torch
    >>> scores = torch.tensor([[2.0, 0.0], [0.0, 0.0]], requires_grad=True)
    >>> cross_entropy(scores, torch.tensor([0, 1])).backward()
    >>> scores.grad
    tensor([[-0.0596,  0.0596],
            [ 0.2500, -0.2500]])
    """
    if target.dtype.is_floating_point or (is_transformed() and not torch.compiler.is_compiling()):
        return F.cross_entropy(
            input, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
        )
    _check(input, target, weight, reduction, label_smoothing)
    scores = input.unsqueeze(0) if input.dim() == 1 else input.movedim(1, -1) if input.dim() > 2 else input
    rows, places = (scores, target) if input.dim() == 2 else (scores.reshape(-1, scores.shape[-1]), target.reshape(-1))
    args = (places, weight, ignore_index, label_smoothing, _REDUCTIONS[reduction])
    if is_watched(input):
        loss = _CrossEntropy.apply(rows, *args)[0]
    else:
        loss = torch.ops.switchgrad.cross_entropy_values(rows, *args)
    return loss.reshape(target.shape) if reduction == "none" else loss


def cross_entropy_with_gradient(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """`cross_entropy` of rows and its gradient at once, off the tape: for training steps, which need no more.

    Shapes: ``input`` (N, C), ``target`` (N), and all else as there, but ``reduction`` is "mean" or "sum". Returns the
    loss, a number, and its gradient (N, C), from which backward goes on: ``torch.autograd.backward(scores, gradient)``
    leaves what ``loss.backward()`` would. It saves a small network the part of the tape that is the loss.

    Neither of the two is differentiable again. Raises `GeometryError` for shapes, targets and options that do not fit.

    >>> import torch
    >>> scores = torch.tensor([[2.0, 0.0], [0.0, 0.0]], requires_grad=True)
    >>> loss, gradient = cross_entropy_with_gradient(scores, torch.tensor([0, 1]))
    >>> loss.requires_grad, gradient[1]
    (False, tensor([ 0.2500, -0.2500]))
    """
    if input.dim() != 2 or reduction not in ("mean", "sum"):
        raise GeometryError(
            f'the input has shape {tuple(input.shape)} and reduction is "{reduction}"; give rows (N, C) and "mean" or '
            '"sum", as the gradient of one number is asked for'
        )
    _check(input, target, weight, reduction, label_smoothing)
    rows = input.detach()
    args = (weight, ignore_index, label_smoothing)
    if rows.device.type in DEVICES:
        return torch.ops.switchgrad.cross_entropy.default(rows, target, *args, _REDUCTIONS[reduction])
    # The reference asks the device about the targets; PyTorch's kernels check them where they are.
    with torch.enable_grad():
        leaf = rows.requires_grad_()
        loss = F.cross_entropy(
            leaf, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
        )
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, *args: Any) -> tuple[Tensor, Tensor]:  # pyright: ignore
        loss, grad = torch.ops.switchgrad.cross_entropy(input, *args)
        ctx.mark_non_differentiable(grad)
        ctx.set_materialize_grads(False)
        ctx.target, ctx.weight, *ctx.options = args
        ctx.save_for_backward(grad, input)
        return loss, grad

    @staticmethod
    def backward(ctx: Any, sent: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore
        if sent is None:
            return (None,) * 6
        grad, input = ctx.saved_tensors
        if composed.is_differentiated_again():
            return (*composed.gradients(_chain(ctx), (input,), sent), *(None,) * 5)
        return grad * (sent.unsqueeze(1) if sent.dim() else sent), *(None,) * 5


def _chain(ctx: Any) -> Callable[[Tensor], Tensor]:
    ignore_index, label_smoothing, reduction = ctx.options
    name = next(name for name, code in _REDUCTIONS.items() if code == reduction)

    def chain(input: Tensor) -> Tensor:
        return F.cross_entropy(
            input, ctx.target, ctx.weight, ignore_index=ignore_index, reduction=name, label_smoothing=label_smoothing
        )

    return chain


def _check(input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float) -> None:
    if not input.dtype.is_floating_point:
        raise GeometryError(
            f"the input has dtype {input.dtype}; cross entropy takes float64, float32, float16 or bfloat16"
        )
    if input.dim() < 1 or input.shape[min(1, input.dim() - 1)] == 0:
        raise GeometryError(f"the input has shape {tuple(input.shape)}; give (N, C, ...) with 1 class or more")
    wanted = (input.shape[0], *input.shape[2:]) if input.dim() > 1 else ()
    if tuple(target.shape) != tuple(wanted) or target.dtype != torch.int64:
        raise GeometryError(
            f"the target has shape {tuple(target.shape)} and dtype {target.dtype}; an input of shape "
            f"{tuple(input.shape)} wants int64 classes of shape {tuple(wanted)}"
        )
    classes = input.shape[min(1, input.dim() - 1)]
    if weight is not None and tuple(weight.shape) != (classes,):
        raise GeometryError(
            f"the weight has shape {tuple(weight.shape)}; give one number for each of {classes} classes"
        )
    if reduction not in _REDUCTIONS:
        raise GeometryError(f'reduction is "{reduction}"; choose "none", "mean" or "sum"')
    if not 0 <= label_smoothing <= 1:
        raise GeometryError(f"label_smoothing is {label_smoothing}; it must be from 0 to 1")
