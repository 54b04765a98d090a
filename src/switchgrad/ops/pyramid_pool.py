"""Vectors of fixed length from maps of any size: spatial pyramids, and orderless pooling by a codebook (VLAD)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.errors import GeometryError
from switchgrad.geometry import is_integer
from switchgrad.ops.adaptive_pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
)
from switchgrad.ops.checks import check_tensor, described, generator_or_none, known_number
from switchgrad.ops.exporting import refuse_while_exporting
from switchgrad.ops.routing import is_transformed
from switchgrad.ops.windows import wide

__all__ = ["k_means", "spatial_pyramid_pool", "vlad"]

PyramidMode: TypeAlias = Literal["max", "average"]
_POOLS: dict[str, dict[int, Any]] = {
    "max": {1: adaptive_max_pool1d, 2: adaptive_max_pool2d, 3: adaptive_max_pool3d},
    "average": {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d},
}


def spatial_pyramid_pool(input: Tensor, levels: Sequence[int] = (4, 2, 1), mode: PyramidMode = "max") -> Tensor:
    r"""Each level's grid of windows pooled, all levels in one vector: any input size in, one length out.

    Shapes: :math:`(N, C, \ldots)` with one to three spatial axes to :math:`(N, C \sum_l l^d)`. ``levels``: bins along
    every axis, a level each; ``mode`` "max" or "average". A level's windows are those of `adaptive_max_pool2d`; its
    part of the vector is the pooled map (C, l, l) in row-major order. Ties and NaN as there.
    Backward: each cell gets the sum, over the levels, of what their poolings send back.

    Raises `GeometryError` for other axes, no level or one below 1, and an unknown mode.

    He, Zhang, Ren, Sun: Spatial pyramid pooling in deep convolutional networks for visual recognition (2014).

    >>> import torch
    >>> [spatial_pyramid_pool(torch.rand(2, 256, h, w)).shape[1] for h, w in ((13, 13), (10, 17))]
    [5376, 5376]
    >>> spatial_pyramid_pool(torch.tensor([[[1.0, 4.0, 3.0, 2.0]]]), (2, 1))
    tensor([[4., 3., 4.]])
    """
    check_tensor(input, "the input of spatial_pyramid_pool")
    dims = input.dim() - 2
    if dims not in (1, 2, 3):
        raise GeometryError(f"spatial_pyramid_pool takes (N, C) and 1 to 3 spatial axes, not {tuple(input.shape)}")
    if mode not in _POOLS:
        raise GeometryError(f'mode is "{mode}"; give "max" or "average"')
    check_levels(levels)
    if not levels:
        raise GeometryError("levels is empty; give the bins along an axis for a level or more, for example (4, 2, 1)")
    return torch.cat([_POOLS[mode][dims](input, level).flatten(1) for level in levels], 1)


def check_levels(levels: object) -> None:
    """Refuse what is no sequence of levels."""
    if not isinstance(levels, Sequence) or isinstance(levels, str):
        raise GeometryError(
            f"levels is {described(levels)}; give the bins along an axis for each level, for example (4, 2, 1)"
        )


def vlad(descriptors: Tensor, codebook: Tensor, alpha: float | None = None, normalise: bool = True) -> Tensor:
    r"""Descriptors in no order as one vector: by which nearest centre, and how far off on the whole.

    Shapes: ``descriptors`` :math:`(N, M, D)` and ``codebook`` :math:`(K, D)` to :math:`(N, K D)`.

    .. math:: v_k = \sum_m a_{k,m} (x_m - c_k)

    :math:`a` is 1 for the nearest centre (of equally near ones the first) and 0 for the others; with ``alpha`` it is
    :math:`\operatorname{softmax}_k(-\alpha \|x_m - c_k\|^2)`, which can be trained (NetVLAD). With ``normalise`` each
    :math:`v_k` and then the whole has length 1; a zero vector stays zero.

    Backward: through residuals, to descriptors and codebook; hard assignments are constants. The order of the
    descriptors changes nothing but rounding. `k_means` makes a codebook.

    Half-precision numbers are added in float32. Raises `GeometryError` for shapes and dtypes that do not fit.

    Jegou, Douze, Schmid, Perez: Aggregating local descriptors into a compact image representation (2010);
    Arandjelovic et al.: NetVLAD (2016); as the pooling of CNN activations: Gong, Wang, Guo, Lazebnik (2014).

    >>> import torch
    >>> x = torch.tensor([[[0.0, 1.0], [0.0, 2.0], [5.0, 5.0]]])
    >>> vlad(x, torch.tensor([[0.0, 0.0], [5.0, 4.0]]), normalise=False)
    tensor([[0., 3., 0., 1.]])
    """
    check_tensor(descriptors, "descriptors")
    check_tensor(codebook, "codebook")
    fits = descriptors.dim() == 3 and codebook.dim() == 2 and descriptors.shape[-1] == codebook.shape[-1]
    if not fits or 0 in codebook.shape:
        raise GeometryError(
            f"descriptors have shape {tuple(descriptors.shape)} and the codebook {tuple(codebook.shape)}; give "
            "(N, M, D) and (K, D)"
        )
    x, centres = wide(descriptors), wide(codebook)
    if x.dtype != centres.dtype:
        raise GeometryError(f"descriptors are {descriptors.dtype} and the codebook {codebook.dtype}; convert one")
    far = x.square().sum(-1, keepdim=True) - 2 * x @ centres.t() + centres.square().sum(-1)  # (N, M, K)
    if alpha is None:
        share = functional.one_hot(far.detach().argmin(-1), len(centres)).to(x.dtype)
    else:
        share = (-known_number(alpha, "alpha") * far).softmax(-1)
    parts = share.transpose(1, 2) @ x - share.sum(1).unsqueeze(-1) * centres
    if normalise:
        parts = _of_length_1(_of_length_1(parts).flatten(1))
    return parts.flatten(1).to(descriptors.dtype)


def _of_length_1(vectors: Tensor) -> Tensor:
    """As `torch.nn.functional.normalize`, whose second derivative at a zero vector is NaN."""
    squared = vectors.square().sum(-1, keepdim=True)
    return vectors / torch.where(squared < 1e-24, 1e-24, squared).sqrt()


@torch.no_grad()
def k_means(descriptors: Tensor, k: int, iterations: int = 25, *, generator: torch.Generator | None = None) -> Tensor:
    """``k`` centres (k, D) of ``descriptors`` (M, D): a codebook for `vlad`.

    Begins with k-means++ (each centre drawn with a probability that grows with the squared distance from those drawn
    before), then Lloyd's steps until nothing moves or ``iterations`` are done; a centre that nobody chose stays.
    Reproducible with a ``generator``. Raises `GeometryError` where there are fewer descriptors than centres.

    Arthur, Vassilvitskii: k-means++ (2007).

    >>> import torch
    >>> k_means(torch.tensor([[0.0], [1.0], [9.0], [10.0]]), 2).sort(0).values
    tensor([[0.5000],
            [9.5000]])
    """
    refuse_while_exporting(
        "k_means",
        "the data decide how many steps it takes",
        "find the centres before the export, and give them to vlad",
    )
    check_tensor(descriptors, "descriptors")
    if descriptors.dim() != 2 or not is_integer(k) or not 1 <= k <= len(descriptors):
        raise GeometryError(f"k is {k!r} for descriptors {tuple(descriptors.shape)}; give (M, D) and k from 1 to M")
    if descriptors.is_meta or torch.compiler.is_exporting() or is_transformed():
        raise GeometryError("k_means takes as many steps as the numbers ask for; call it on numbers, before tracing")
    return _centres(wide(descriptors), k, iterations, generator_or_none(generator)).to(descriptors.dtype)


def _centres(descriptors: Tensor, k: int, iterations: int, generator: torch.Generator | None) -> Tensor:
    first = torch.randint(len(descriptors), (1,), generator=generator, device=descriptors.device)
    centres = descriptors[first]
    while len(centres) < k:
        nearest = torch.cdist(descriptors, centres).amin(1).square()
        # Where all descriptors are centres already, any will do.
        chances = nearest if bool(nearest.sum() > 0) else torch.ones_like(nearest)
        centres = torch.cat([centres, descriptors[torch.multinomial(chances, 1, generator=generator)]])
    for _ in range(iterations):
        chosen = functional.one_hot(torch.cdist(descriptors, centres).argmin(1), k).to(descriptors.dtype)
        count = chosen.sum(0).unsqueeze(1)
        moved = torch.where(count > 0, chosen.t() @ descriptors / count.clamp_min(1), centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres
