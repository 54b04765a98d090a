"""Global pooling: each map as one number, whatever its size and number of axes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.errors import GeometryError
from switchgrad.ops.avg_pool.reference import wide
from switchgrad.ops.checks import FLOATS, check_tensor, known_number, number
from switchgrad.ops.lp_fused import has_kernel
from switchgrad.ops.lp_pool import checked_norm, lp_pool1d, lp_pool2d, lp_pool3d, lp_root, lp_terms
from switchgrad.ops.max_pool import max_pool1d, max_pool2d, max_pool3d

__all__ = [
    "gem_pool",
    "global_avg_pool",
    "global_avg_pool_linear",
    "global_lp_pool",
    "global_max_pool",
    "global_sum_pool",
]

_LP: dict[int, Any] = {1: lp_pool1d, 2: lp_pool2d, 3: lp_pool3d}

_MAX: dict[int, Any] = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}


def global_avg_pool(input: Tensor, keepdim: bool = False) -> Tensor:
    r"""The mean of each map: one number a channel.

    Shapes: :math:`(N, C, \ldots)` with any number of spatial axes to :math:`(N, C)`; with ``keepdim`` the spatial axes
    stay, with one cell each. Floating-point numbers; half-precision sums are taken in float32.

    .. math:: y_{n,c} = \frac{1}{H W} \sum_{h,w} x_{n,c,h,w}

    NaN and infinities spread to their channel. Backward: every cell gets :math:`1 / (H W)` of the gradient.
    Raises `GeometryError` for less than three axes, maps without cells, and integers.

    Lin, Chen, Yan: Network in network (2014).

    >>> import torch
    >>> global_avg_pool(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]))
    tensor([[3.]])
    >>> global_avg_pool(torch.rand(16, 64, 7, 7)).shape
    torch.Size([16, 64])
    """
    axes = _spatial(input, "global_avg_pool")
    return input.mean(axes, keepdim=keepdim)


def global_avg_pool_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""The mean of each map, then a linear layer: the end of a residual network in two calls and no views.

    Shapes: ``input`` (N, C, ...) as for `global_avg_pool`, ``weight`` (K, C), ``bias`` (K) or None, the result (N, K).

    .. math:: y_{n,k} = b_k + \sum_c w_{k,c}\, \frac{1}{H W} \sum_{h,w} x_{n,c,h,w}

    Both are linear, and the mean comes first, so that the product is one of vectors: the map is read once, which is
    what either half of the work is bound by. Backward: every cell of channel c gets
    :math:`\frac{1}{H W} \sum_k g_{n,k} w_{k,c}`. Twice differentiable, and under every transform.

    Raises `GeometryError` where `global_avg_pool` does, and for a weight or a bias of another shape.

    >>> import torch
    >>> global_avg_pool_linear(torch.ones(1, 2, 3, 3), torch.tensor([[1.0, 10.0]]), torch.tensor([0.5]))
    tensor([[11.5000]])
    """
    axes = _spatial(input, "global_avg_pool_linear")
    check_tensor(weight, "weight")
    if weight.dim() != 2 or weight.shape[1] != input.shape[1]:
        raise GeometryError(
            f"the weight has shape {tuple(weight.shape)} and the input {tuple(input.shape)}; give a weight (K, C) of "
            f"as many columns as there are channels, {input.shape[1]}"
        )
    if bias is not None:
        check_tensor(bias, "bias")
    if bias is not None and tuple(bias.shape) != tuple(weight.shape[:1]):
        raise GeometryError(
            f"the bias has shape {tuple(bias.shape)}; give one number for each of the {weight.shape[0]} rows of weight"
        )
    return functional.linear(input.mean(axes), weight, bias)


def global_sum_pool(input: Tensor, keepdim: bool = False) -> Tensor:
    """The sum of each map: `global_avg_pool` without the division.

    Backward: every cell gets the gradient of its map.

    Babenko, Lempitsky: Aggregating deep convolutional features for image retrieval (2015).

    >>> import torch
    >>> global_sum_pool(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]))
    tensor([[12.]])
    """
    axes = _spatial(input, "global_sum_pool")
    return input.sum(axes, keepdim=keepdim)


def global_max_pool(input: Tensor, keepdim: bool = False, *, return_indices: bool = False) -> Any:
    """The largest number of each map, and on demand where it stood: a vector of one number a channel.

    Shapes as for `global_avg_pool`; ``return_indices`` adds the flat, row-major int64 index in the map. The first of
    several maxima wins, NaN wins, of several NaN the last. Backward: the winner gets the gradient, all others 0.
    Raises `GeometryError` where `global_avg_pool` does.

    Oquab, Bottou, Laptev, Sivic: Is object localization for free? (2015).

    >>> import torch
    >>> global_max_pool(torch.tensor([[[[1.0, 6.0], [3.0, 6.0]]]]), return_indices=True)
    (tensor([[6.]]), tensor([[1]]))
    """
    axes = _spatial(input, "global_max_pool")
    maps = input if len(axes) in _MAX else input.flatten(2)
    pooled = _MAX[maps.dim() - 2](maps, tuple(maps.shape[2:]), return_indices=return_indices)
    if keepdim and maps is input:
        return pooled
    shape = (*input.shape[:2], *([1] * len(axes) if keepdim else []))
    return tuple(t.reshape(shape) for t in pooled) if return_indices else pooled.reshape(shape)


def global_lp_pool(input: Tensor, norm_type: float, keepdim: bool = False) -> Tensor:
    r"""The p-norm of each map.

    .. math:: y_{n,c} = \Bigl( \sum_{h,w} |x_{n,c,h,w}|^p \Bigr)^{1/p}

    Shapes as for `global_avg_pool`; ``norm_type``, signs and range as for `lp_pool2d`. Backward:
    :math:`\operatorname{sign}(x) (|x| / y)^{p-1}`, and 0 where x is 0. Raises `GeometryError` for p of 0, below,
    or NaN, and where `global_avg_pool` does.

    Sermanet, Chintala, LeCun: Convolutional neural networks applied to house numbers digit classification (2012), with
    the whole map as the window.

    >>> import torch
    >>> global_lp_pool(torch.tensor([[[3.0, -4.0]]]), 2)
    tensor([[5.]])
    """
    axes, p = _spatial(input, "global_lp_pool"), checked_norm(norm_type)
    if p == math.inf:
        return global_max_pool(input.abs(), keepdim)
    if len(axes) in _LP and has_kernel(input, p):
        pooled = _LP[len(axes)](input, p, tuple(input.shape[2:]))
        return pooled if keepdim else pooled.flatten(1)
    return lp_root(lp_terms(input.to(wide(input.dtype)), p).sum(axes, keepdim=keepdim), p).to(input.dtype)


def gem_pool(input: Tensor, p: Tensor | float = 3.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    r"""The generalised mean of each map: between the mean (p = 1) and the maximum (p towards infinity).

    .. math:: y_{n,c} = \Bigl( \frac{1}{H W} \sum_{h,w} \max(x_{n,c,h,w}, \varepsilon)^p \Bigr)^{1/p}

    Shapes as for `global_avg_pool`. ``p``: a number or a tensor, one for all or one a channel (C), which may be
    trained; never 0. Numbers below ``eps`` count as ``eps`` and get no gradient. Cells are divided by the largest of
    their map before the power is taken, so that large p does not overflow. NaN makes its map NaN; a map without a
    number above ``eps`` gives ``eps``. Backward: through x and p.

    Raises `GeometryError` for ``eps`` of 0 or below, a p of 0, of NaN or of another shape, and where `global_avg_pool`
    does.

    Radenovic, Tolias, Chum: Fine-tuning CNN image retrieval with no human annotation (2018).

    >>> import torch
    >>> gem_pool(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), p=1.0)
    tensor([[2.5000]])
    >>> gem_pool(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), p=200.0)
    tensor([[3.9724]])
    """
    axes = _spatial(input, "gem_pool")
    if not number(eps, "eps") > 0:
        raise GeometryError(f"eps is {eps}; the generalised mean needs numbers above 0, so give a small one")
    if not isinstance(p, Tensor) and known_number(p, "p") == 0:
        raise GeometryError("p is 0; the generalised mean needs another power, for example 1 (mean) or 3")
    if isinstance(p, Tensor) and p.numel() not in (1, input.shape[1]):
        raise GeometryError(
            f"p has shape {tuple(p.shape)}; give one number, or one for each channel, ({input.shape[1]},)"
        )
    power = p.reshape(-1, *[1] * len(axes)) if isinstance(p, Tensor) else p
    cells = input.to(wide(input.dtype)).clamp_min(eps)
    largest = cells.detach().amax(axes, keepdim=True)
    largest = torch.where(largest == math.inf, 1, largest)  # an infinite cell stays what it is
    mean = (cells / largest).pow(power).mean(axes, keepdim=True)
    pooled = (mean.pow(1 / power) * largest).to(input.dtype)
    return pooled if keepdim else pooled.reshape(input.shape[:2])


def _spatial(input: Tensor, name: str) -> list[int]:
    """The spatial axes, once the input is known to have maps of floating-point numbers."""
    check_tensor(input, f"the input of {name}")
    if input.dim() < 3 or 0 in input.shape[1:]:
        raise GeometryError(
            f"{name} takes an input (N, C, ...) of 3 axes or more, none but the batch empty; this one has shape "
            f"{tuple(input.shape)}"
        )
    if input.dtype not in FLOATS:
        raise GeometryError(f"the input has dtype {input.dtype}; {name} takes floating-point numbers")
    return list(range(2, input.dim()))
