"""Kinds of pooling that PyTorch does not have, as one writes them with it: what `other_pools.py` measures against.

Windows are 2 x 2 and do not overlap unless a name says otherwise. Formulas are those of the papers, without our rules
for NaN, infinities and overflow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def cells(x: Tensor) -> Tensor:
    """The four cells of each window on a new last axis."""
    return x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)


def soft(x: Tensor) -> Tensor:
    return lip(x, x)


def lip(x: Tensor, logits: Tensor) -> Tensor:
    weights = logits.exp()
    return functional.avg_pool2d(x * weights, 2) / functional.avg_pool2d(weights, 2)


def soft1d(x: Tensor) -> Tensor:
    weights = x.exp()
    return functional.avg_pool1d(x * weights, 2) / functional.avg_pool1d(weights, 2)


def mixed(x: Tensor, share: float) -> Tensor:
    return share * functional.max_pool2d(x, 2) + (1 - share) * functional.avg_pool2d(x, 2)


def filtered(x: Tensor, weights: Tensor) -> Tensor:
    """Every map under one filter of a window."""
    filters = weights.expand(x.shape[1], 1, *weights.shape).contiguous()
    return functional.conv2d(x, filters, stride=2, groups=x.shape[1])


def gated(x: Tensor, gate: Tensor) -> Tensor:
    share = filtered(x, gate).sigmoid()
    return share * functional.max_pool2d(x, 2) + (1 - share) * functional.avg_pool2d(x, 2)


def tree(x: Tensor, leaves: Tensor, gate: Tensor) -> Tensor:
    share = filtered(x, gate).sigmoid()
    return share * filtered(x, leaves[0]) + (1 - share) * filtered(x, leaves[1])


def max_min(x: Tensor) -> Tensor:
    return functional.max_pool2d(torch.cat([x, -x], 1), 2)


def lp(x: Tensor, p: float) -> Tensor:
    return (functional.avg_pool2d(x.abs().pow(p), 2) * 4).pow(1 / p)


def gamma(x: Tensor) -> Tensor:
    logs, mean = x.log(), functional.avg_pool2d
    return mean(x * logs, 2) - mean(x, 2) * mean(logs, 2)


def weibull(x: Tensor, shape: float) -> Tensor:
    return functional.avg_pool2d(x.pow(shape), 2).pow(1 / shape)


def distance_weighted(x: Tensor, sigma: float) -> Tensor:
    """Windows of 3 x 3, two apart, padded by one; each by the sum of the weights inside."""
    row = torch.exp(-((torch.arange(3) - 1) ** 2) / (2 * sigma**2))
    filters = (row[:, None] * row).expand(x.shape[1], 1, 3, 3).contiguous()
    seen = functional.conv2d(torch.ones_like(x[:1, :1]), filters[:1], stride=2, padding=1)
    return functional.conv2d(x, filters, stride=2, padding=1, groups=x.shape[1]) / seen


def haar(x: Tensor) -> Tensor:
    return 2 * functional.avg_pool2d(x, 2)


def ldw(x: Tensor) -> Tensor:
    """The four bands of one step, each by its share of the energy."""
    row = torch.tensor([[0.5, 0.5], [0.5, -0.5]])
    bands = (row[:, None, :, None] * row[None, :, None, :]).reshape(4, 1, 2, 2).repeat(x.shape[1], 1, 1, 1)
    found = functional.conv2d(x, bands, stride=2, groups=x.shape[1]).unflatten(1, (x.shape[1], 4))
    energy = found.square().mean((-2, -1), keepdim=True)
    return (found * (energy / energy.sum(2, keepdim=True))).sum(2)


def stochastic(x: Tensor, u: Tensor) -> Tensor:
    found = cells(x)
    sums = found.cumsum(-1)
    chosen = (sums <= u[..., None] * sums[..., -1:]).sum(-1, keepdim=True).clamp_max(3)
    return found.gather(-1, chosen).squeeze(-1)


def max_dropout(x: Tensor, u: Tensor) -> Tensor:
    return functional.max_pool2d(x * (u >= 0.5), 2)


def s3(x: Tensor, u: Tensor) -> Tensor:
    """Every window of stride 1, cut off at the end, then one row and one column of each strip of two."""
    high = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=-math.inf), 2, 1)
    rows, columns = (part.unflatten(0, (-1, 2)).argmin(1) for part in u.split(x.shape[-2:]))
    rows, columns = (chosen + 2 * torch.arange(len(chosen)) for chosen in (rows, columns))
    return high[..., rows, :][..., columns]


def spectral(x: Tensor, size: int) -> Tensor:
    """Odd sizes: the lowest frequencies are those in the middle."""
    spectrum = torch.fft.fftshift(torch.fft.fft2(x, norm="forward"), dim=(-2, -1))
    first = [n // 2 - size // 2 for n in x.shape[-2:]]
    low = spectrum[..., first[0] : first[0] + size, first[1] : first[1] + size]
    return torch.fft.ifft2(torch.fft.ifftshift(low, dim=(-2, -1)), norm="forward").real


def dft_magnitude(x: Tensor, size: int) -> Tensor:
    return torch.fft.fft2(x, norm="forward")[..., :size, :size].abs()


def entropy(x: Tensor) -> Tensor:
    p = x / x.sum((-2, -1), keepdim=True)
    return -(p * p.log()).sum((-2, -1))


def gem(x: Tensor) -> Tensor:
    return x.clamp_min(1e-6).pow(3).mean((-2, -1)).pow(1 / 3)


def expectation(x: Tensor) -> Tensor:
    flat = x.flatten(2)
    return (flat.softmax(-1) * flat).sum(-1)


def spatial_pyramid(x: Tensor) -> Tensor:
    return torch.cat([functional.adaptive_max_pool2d(x, level).flatten(1) for level in (4, 2, 1)], 1)


def maxout(x: Tensor) -> Tensor:
    return x.unflatten(1, (-1, 2)).amax(2)


def loss_max(losses: Tensor, ratio: float = 0.3, p: float = 1.7) -> Tensor:
    """Weights by bisection of the water level, as the loss has no closed form; 30 halvings."""
    flat = losses.detach().flatten()
    n, q = flat.numel(), p / (p - 1)
    most, gamma = math.ceil(ratio * n), n ** (-1 / q)
    tau = gamma * most ** (-1 / p)
    shape = (flat / flat.max()) ** (q - 1)
    low, high = 0.0, 1 / float(shape[shape > 0].min())
    for _ in range(60):
        middle = (low + high) / 2
        used = (middle * shape).clamp_max(1).pow(p).sum() * tau**p
        low, high = (middle, high) if used < gamma**p else (low, middle)
    return ((tau * (low * shape).clamp_max(1)) * losses.flatten()).sum()


def vlad(x: Tensor, book: Tensor) -> Tensor:
    nearest = torch.cdist(x, book).argmin(-1)
    share = functional.one_hot(nearest, len(book)).to(x.dtype)
    parts = share.transpose(1, 2) @ x - share.sum(1)[..., None] * book
    return functional.normalize(functional.normalize(parts, dim=-1).flatten(1), dim=-1)


def k_max(x: Tensor, k: int) -> Tensor:
    return x.gather(-1, x.topk(k).indices.sort(-1).values)


def chunk_max(x: Tensor, chunks: int) -> Tensor:
    return functional.adaptive_max_pool1d(x, chunks)


def repeated(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -2).repeat_interleave(2, -1)


def nearest(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest-exact")


def bilinear(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear")
