"""Layers that make vectors of fixed length: thin over `switchgrad.ops`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from switchgrad import ops
from switchgrad.errors import ModelError
from switchgrad.ops.checks import count, described, function
from switchgrad.ops.pyramid_pool import PyramidMode, check_levels

__all__ = ["OrderlessPool", "SpatialPyramidPool"]


class SpatialPyramidPool(nn.Module):
    """`switchgrad.ops.spatial_pyramid_pool` as a layer.

    >>> SpatialPyramidPool((2, 1))(torch.rand(3, 8, 7, 9)).shape
    torch.Size([3, 40])
    """

    def __init__(self, levels: Sequence[int] = (4, 2, 1), mode: PyramidMode = "max") -> None:
        super().__init__()
        check_levels(levels)
        self.levels = tuple(levels)
        self.mode: PyramidMode = mode

    def forward(self, input: Tensor) -> Tensor:
        return ops.spatial_pyramid_pool(input, self.levels, self.mode)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, mode={self.mode}"


class OrderlessPool(nn.Module):
    """Multi-scale orderless pooling (MOP-CNN): the whole picture, and its patches of two sizes, as one vector.

    ``extract`` turns pictures (B, C, S, S) into activations (B, D): a network up to one of its dense layers. Level 1 is
    the activation of the whole picture (resized to ``size``); each further level cuts patches of its size, ``stride``
    apart, resizes them to ``size``, and pools their activations with `switchgrad.ops.vlad` over a codebook of
    ``clusters`` centres. Levels have length 1 each and are concatenated: D + 2 K D numbers for two levels of patches.

    `fit` learns the codebooks by k-means from pictures; or load them. Paper: size 256, patches 128 and 64, stride 32,
    100 clusters, activations of 4,096 numbers reduced to 500 by PCA before pooling, which is left to ``extract``.

    Raises `ModelError` before `fit`, and for pictures smaller than a patch.

    Gong, Wang, Guo, Lazebnik: Multi-scale orderless pooling of deep convolutional activation features (2014).

    >>> pool = OrderlessPool(lambda x: x.mean((2, 3)), size=16, patches=(8, 4), stride=4, clusters=2)
    >>> pool.fit(torch.rand(4, 3, 16, 16), generator=torch.Generator().manual_seed(0))(torch.rand(5, 3, 16, 16)).shape
    torch.Size([5, 15])
    """

    def __init__(
        self,
        extract: Callable[[Tensor], Tensor],
        *,
        size: int = 256,
        patches: Sequence[int] = (128, 64),
        stride: int = 32,
        clusters: int = 100,
        alpha: float | None = None,
    ) -> None:
        super().__init__()
        self.extract = function(extract, "extract")
        self.size = count(size, "size", error=ModelError)
        if not isinstance(cast("object", patches), Sequence) or isinstance(patches, str):
            raise ModelError(f"patches is {described(patches)}; give the size of each level's patches, as in (128, 64)")
        self.patches = tuple(count(patch, "an entry of patches", error=ModelError) for patch in patches)
        self.stride = count(stride, "stride", error=ModelError)
        self.clusters = count(clusters, "clusters", error=ModelError)
        self.alpha = alpha
        for patch in self.patches:
            self.register_buffer(f"codebook{patch}", None)

    @torch.no_grad()
    def fit(self, pictures: Tensor, *, generator: torch.Generator | None = None) -> OrderlessPool:
        """Learn a codebook for each size of patches from ``pictures`` (N, C, H, W)."""
        for patch in self.patches:
            found = self._activations(pictures, patch).flatten(0, 1)
            setattr(self, f"codebook{patch}", ops.k_means(found, self.clusters, generator=generator))
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for patch in self.patches:  # a codebook that is there to be loaded finds room, also before `fit`
            given = state_dict.get(f"{prefix}codebook{patch}")
            if given is not None and getattr(self, f"codebook{patch}") is None:
                setattr(self, f"codebook{patch}", torch.empty_like(given))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(self, pictures: Tensor) -> Tensor:
        levels = [functional.normalize(self.extract(self._resized(pictures)), dim=1)]
        for patch in self.patches:
            codebook = getattr(self, f"codebook{patch}")
            if codebook is None:
                raise ModelError(f"there is no codebook for patches of {patch}; call fit(pictures) first")
            levels.append(ops.vlad(self._activations(pictures, patch), codebook, self.alpha))
        return torch.cat(levels, 1)

    def _activations(self, pictures: Tensor, patch: int) -> Tensor:
        """The activations (N, M, D) of all patches of one size."""
        if min(pictures.shape[-2:]) < patch:
            raise ModelError(f"pictures of {tuple(pictures.shape[-2:])} hold no patch of {patch}; resize them first")
        cut = pictures.unfold(2, patch, self.stride).unfold(3, patch, self.stride)
        each = cut.permute(0, 2, 3, 1, 4, 5).reshape(-1, pictures.shape[1], patch, patch)
        return self.extract(self._resized(each)).unflatten(0, (len(pictures), -1))

    def _resized(self, pictures: Tensor) -> Tensor:
        if tuple(pictures.shape[-2:]) == (self.size, self.size):
            return pictures
        return functional.interpolate(pictures, (self.size, self.size), mode="bilinear", align_corners=False)

    def extra_repr(self) -> str:
        return f"size={self.size}, patches={self.patches}, stride={self.stride}, clusters={self.clusters}"
