"""Trainable subsampling: the pooling of LeNet-5 before max pooling took its place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from switchgrad.errors import GeometryError, ModelError
from switchgrad.geometry import IntOrTuple, window
from switchgrad.ops import trainable_subsampling1d, trainable_subsampling2d, trainable_subsampling3d
from switchgrad.ops.checks import count

__all__ = ["TrainableSubsampling1d", "TrainableSubsampling2d", "TrainableSubsampling3d"]

_FUNCTIONS = {1: trainable_subsampling1d, 2: trainable_subsampling2d, 3: trainable_subsampling3d}


class _TrainableSubsampling(nn.Module):
    dims: int

    def __init__(
        self,
        channels: int,
        kernel_size: IntOrTuple = 2,
        stride: IntOrTuple | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = count(channels, "channels", error=ModelError)
        self.window = window(self.dims, kernel_size, stride)
        self.coefficient = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make the layer plain average pooling again: coefficients ``1 / cells``, biases 0."""
        nn.init.constant_(self.coefficient, 1 / self.window.cells)
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Subsample ``[N, C, ...]`` or ``[C, ...]``."""
        if input.dim() not in (self.dims + 1, self.dims + 2) or input.shape[-self.dims - 1] != self.channels:
            axes = ", ".join(" DHW"[-self.dims :]).strip()
            raise GeometryError(
                f"the input is {tuple(input.shape)}; subsampling of {self.channels} maps wants "
                f"[N, {self.channels}, {axes}] or [{self.channels}, {axes}]"
            )
        return _FUNCTIONS[self.dims](input, self.coefficient, self.bias, self.window.kernel_size, self.window.stride)

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return f"{self.channels}, kernel_size={self.window.kernel_size}, stride={self.window.stride}"


class TrainableSubsampling2d(_TrainableSubsampling):
    """The sum of each window, times one trainable coefficient a map, plus one trainable bias a map.

    ``y[n, c, p, q] = coefficient[c] * sum of x[n, c] over the window at (p, q) + bias[c]``

    Shapes: ``[N, C, H, W]`` (or ``[C, H, W]``) to ``[N, C, P, Q]`` with ``P = floor((H - R) / s) + 1``; ``stride``
    defaults to ``kernel_size``, so that windows do not overlap. A new layer is plain average pooling: its coefficients
    are ``1 / cells`` and its biases 0. Backward: every cell of a window gets ``coefficient[c]`` times the gradient of
    the output, the coefficient gets the window's sum times it.

    The squashing function that follows it in the paper is a layer of its own.

    Raises `ModelError` where ``channels`` is below 1, `GeometryError` where an input has another rank or number of
    channels or is smaller than the window.

    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document recognition, 1998, II.B.

    >>> layer = TrainableSubsampling2d(channels=1)
    >>> layer(torch.tensor([[[[3.0, 9.0], [0.0, 6.0]]]])).item()
    4.5
    >>> sum(p.numel() for p in TrainableSubsampling2d(6).parameters())      # S2 of LeNet-5
    12
    """

    dims = 2


class TrainableSubsampling1d(_TrainableSubsampling):
    """Trainable subsampling of a signal: `TrainableSubsampling2d` along one axis, ``[N, C, L]`` to ``[N, C, P]``.

    >>> TrainableSubsampling1d(1)(torch.tensor([[3.0, 9.0, 0.0, 6.0]])).tolist()
    [[6.0, 3.0]]
    """

    dims = 1


class TrainableSubsampling3d(_TrainableSubsampling):
    """Trainable subsampling of a volume: `TrainableSubsampling2d` along three axes.

    >>> TrainableSubsampling3d(4, (1, 2, 2))(torch.rand(2, 4, 5, 6, 8)).shape
    torch.Size([2, 4, 5, 3, 4])
    """

    dims = 3
