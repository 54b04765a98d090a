"""Lp and global pooling as layers; `LPPool1d` and its kin are drop-in for ``torch.nn``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from switchgrad import ops
from switchgrad.geometry import IntOrTuple, Padding, window
from switchgrad.ops.checks import count, known_number
from switchgrad.ops.lp_pool import checked_norm

__all__ = [
    "GeM",
    "GlobalAvgPool",
    "GlobalLPPool",
    "GlobalMaxPool",
    "GlobalSumPool",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
]


class _LPPool(nn.Module):
    dims: int

    def __init__(
        self,
        norm_type: float,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        ceil_mode: bool = False,
        *,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
    ) -> None:
        super().__init__()
        checked_norm(norm_type)
        window(self.dims, kernel_size, stride, padding, dilation, ceil_mode, (1,) * self.dims)  # refuse what never fits
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode
        self.padding = padding
        self.dilation = dilation

    def _arguments(self) -> tuple[float, IntOrTuple, IntOrTuple | None, bool]:
        return self.norm_type, self.kernel_size, self.stride, self.ceil_mode

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPool):
    """`switchgrad.ops.lp_pool1d` as a layer.

    >>> LPPool1d(2, 2)(torch.tensor([[3.0, -4.0, 6.0, 8.0]]))
    tensor([[ 5., 10.]])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.lp_pool1d(input, *self._arguments(), padding=self.padding, dilation=self.dilation)


class LPPool2d(_LPPool):
    """`switchgrad.ops.lp_pool2d` as a layer.

    >>> LPPool2d(2, 3, stride=2)(torch.rand(2, 3, 9, 9)).shape
    torch.Size([2, 3, 4, 4])
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.lp_pool2d(input, *self._arguments(), padding=self.padding, dilation=self.dilation)


class LPPool3d(_LPPool):
    """`switchgrad.ops.lp_pool3d` as a layer.

    >>> LPPool3d(1, 2)(torch.ones(1, 2, 2, 2)).item()
    8.0
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return ops.lp_pool3d(input, *self._arguments(), padding=self.padding, dilation=self.dilation)


class _Global(nn.Module):
    def __init__(self, keepdim: bool = False) -> None:
        super().__init__()
        self.keepdim = keepdim

    def extra_repr(self) -> str:
        return f"keepdim={self.keepdim}"


class GlobalAvgPool(_Global):
    """`switchgrad.ops.global_avg_pool` as a layer.

    >>> GlobalAvgPool()(torch.rand(16, 64, 7, 7)).shape
    torch.Size([16, 64])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.global_avg_pool(input, self.keepdim)


class GlobalSumPool(_Global):
    """`switchgrad.ops.global_sum_pool` as a layer.

    >>> GlobalSumPool(keepdim=True)(torch.ones(1, 2, 3, 3)).flatten()
    tensor([9., 9.])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.global_sum_pool(input, self.keepdim)


class GlobalMaxPool(_Global):
    """`switchgrad.ops.global_max_pool` as a layer.

    >>> GlobalMaxPool()(torch.tensor([[[1.0, 5.0, 2.0]]]))
    tensor([[5.]])
    """

    def __init__(self, keepdim: bool = False, *, return_indices: bool = False) -> None:
        super().__init__(keepdim)
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        return ops.global_max_pool(input, self.keepdim, return_indices=self.return_indices)


class GlobalLPPool(_Global):
    """`switchgrad.ops.global_lp_pool` as a layer.

    >>> GlobalLPPool(2)(torch.tensor([[[3.0, -4.0]]]))
    tensor([[5.]])
    """

    def __init__(self, norm_type: float, keepdim: bool = False) -> None:
        super().__init__(keepdim)
        self.norm_type = checked_norm(norm_type)

    def forward(self, input: Tensor) -> Tensor:
        return ops.global_lp_pool(input, self.norm_type, self.keepdim)


class GeM(nn.Module):
    """`switchgrad.ops.gem_pool` as a layer whose power ``p`` is trained: one for all channels, or one each.

    ``p``: where training begins; ``channels``: give their number for a power a channel.

    >>> layer = GeM(p=1.0)
    >>> layer(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])).item(), layer.p.requires_grad
    (2.5, True)
    >>> GeM(channels=64).p.shape
    torch.Size([64])
    """

    def __init__(
        self,
        p: float = 3.0,
        eps: float = 1e-6,
        *,
        channels: int = 1,
        keepdim: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        powers = (count(channels, "channels"),)
        self.p = nn.Parameter(torch.full(powers, float(known_number(p, "p")), device=device, dtype=dtype))
        self.eps = known_number(eps, "eps")
        self.keepdim = keepdim

    def forward(self, input: Tensor) -> Tensor:
        return ops.gem_pool(input, self.p, self.eps, self.keepdim)

    def extra_repr(self) -> str:
        return f"channels={self.p.numel()}, eps={self.eps}"
