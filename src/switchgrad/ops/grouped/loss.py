"""Loss max-pooling: of all weightings within a ball, the one under which the loss is greatest."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.ops.checks import check_tensor, number
from switchgrad.ops.exporting import stable_sort
from switchgrad.ops.windows import FLOATS, wide


def loss_max_pool(losses: Tensor, ratio: float = 0.3, p: float = 1.7, per_sample: bool = False) -> Tensor:
    r"""The weighted sum of pixel losses under the worst weighting within a bounded p-norm: hard pixels count more.

    Shapes: ``losses`` is (N, ...) with one loss a pixel; the result is one number, or (N) with ``per_sample`` (each
    sample by itself). float64, float32, float16, bfloat16 (these two in float32).

    .. math:: y = \max_w \sum_i w_i \ell_i, \quad \lVert w \rVert_p \le \gamma, \; 0 \le w_i \le \tau, \quad
        \gamma = n^{-1/q}, \; \tau = \gamma \, m^{-1/p}, \; 1/p + 1/q = 1

    for n pixels of which at least m = ``ratio`` n (rounded up) are given weight. :math:`\gamma` is the p-norm of equal
    weights 1 / n, so y is at least the mean. With p = 1 it is the mean of the m greatest losses, with
    :math:`p \to \infty` or ratio 1 the mean of all.

    Solved exactly, by sorting: :math:`w_i = \min(\tau, c \, \ell_i^{q-1})` with the c that uses up the norm. Losses
    below 0 get weight 0; where no loss is above 0 all weights are 1 / n. NaN makes the result NaN.

    Backward: the weights themselves (the derivative of a maximum), held constant. `loss_max_weights` gives them.
    Raises `GeometryError` for a ratio outside (0, 1], p below 1, and losses without a pixel.

    Rota Bulo, Neuhold, Kontschieder: Loss max-pooling for semantic image segmentation (2017).

    >>> losses = torch.tensor([0.0, 1.0, 2.0, 5.0])
    >>> loss_max_pool(losses, ratio=0.5, p=1.0).item()            # the mean of 2 and 5
    3.5
    >>> losses.mean().item() < loss_max_pool(losses, ratio=0.5, p=2.0).item() < losses.max().item()
    True
    """
    weights = loss_max_weights(losses, ratio, p, per_sample)
    weighted = weights * wide(losses)
    pooled = weighted.flatten(1).sum(-1) if per_sample else weighted.sum()
    return pooled.to(losses.dtype)


def loss_max_weights(losses: Tensor, ratio: float = 0.3, p: float = 1.7, per_sample: bool = False) -> Tensor:
    """The weights of `loss_max_pool`, in the shape of the losses, without a gradient.

    >>> loss_max_weights(torch.tensor([0.0, 1.0, 2.0, 5.0]), ratio=0.5, p=1.0)
    tensor([0.0000, 0.0000, 0.5000, 0.5000])
    """
    check_tensor(losses, "losses")
    if not 0 < number(ratio, "ratio") <= 1 or not number(p, "p") >= 1:
        raise GeometryError(f"ratio is {ratio} and p {p}; give a ratio in (0, 1] and p of at least 1")
    if losses.dtype not in FLOATS or losses.numel() == 0 or (per_sample and losses.dim() < 2):
        raise GeometryError(
            f"losses have shape {tuple(losses.shape)} and dtype {losses.dtype}; give one floating-point number a "
            "pixel, for each sample of a batch where per_sample is set"
        )
    with torch.no_grad():
        rows = wide(losses.detach())
        rows = rows.flatten(1) if per_sample else rows.reshape(1, -1)
        return _weights(rows, ratio, p).reshape(losses.shape)


def _weights(losses: Tensor, ratio: float, p: float) -> Tensor:
    """Row by row the maximising weights."""
    n = losses.shape[-1]
    m = max(math.ceil(ratio * n), 1)
    ordered, order = stable_sort(losses.clamp_min(0), descending=True)
    greatest = ordered[..., :1]
    if p == 1:
        weights = (torch.arange(n, device=losses.device) < m).to(losses.dtype).expand_as(ordered) / m
    elif p == math.inf:
        weights = torch.full_like(ordered, 1 / n)
    else:
        weights = _on_the_ball(ordered / torch.where(greatest > 0, greatest, 1), n, m, p)
    weights = torch.where(ordered > 0, weights, 0)
    weights = torch.where(greatest > 0, weights, 1 / n)
    weights = torch.where(greatest.isnan(), torch.nan, weights)
    return torch.empty_like(weights).scatter_(-1, order, weights)


def _on_the_ball(ordered: Tensor, n: int, m: int, p: float) -> Tensor:
    """``min(tau, c loss^(q-1))`` for falling losses: with the fewest at tau for which no other is above it."""
    q = p / (p - 1)
    gamma = n ** (-1 / q)
    tau = gamma * m ** (-1 / p)
    powers = ordered**q
    rest = powers.flip(-1).cumsum(-1).flip(-1)  # of this and all smaller losses
    saturated = torch.arange(n, device=ordered.device, dtype=ordered.dtype)
    # In units of tau^p the ball holds m; what k saturated weights leave is shared in proportion to the powers.
    left = (m - saturated).clamp_min(0)
    share = (left / torch.where(rest > 0, rest, 1)) ** (1 / p)
    fits = (share * ordered ** (q - 1) <= 1) | (rest == 0)
    first = fits.to(torch.uint8).argmax(-1, keepdim=True)
    count = torch.where(fits.any(-1, keepdim=True), first, n)
    c = share.gather(-1, count.clamp_max(n - 1))
    return tau * torch.where(saturated < count, 1, (c * ordered ** (q - 1)).clamp_max(1))
