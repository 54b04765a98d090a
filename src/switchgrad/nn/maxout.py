"""Maxout: the largest of several linear maps of the same input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from switchgrad import ops
from switchgrad.errors import GeometryError, ModelError
from switchgrad.ops import max_pool1d
from switchgrad.ops.checks import count

__all__ = ["ChannelMaxout", "Maxout"]


class Maxout(nn.Module):
    """Each unit is the largest of ``pieces`` linear units.

    ``y[j] = max over k of (weight[j * pieces + k] . x + bias[j * pieces + k])``

    Shapes: ``[..., in_features]`` to ``[..., out_features]``; the parameters are those of
    ``torch.nn.Linear(in_features, out_features * pieces)``, ``linear.weight`` and ``linear.bias``. With two pieces it
    has twice a linear layer's parameters; as no piece is flat for good, no unit can die.

    Ties: the first piece wins; NaN wins. Backward: the gradient goes to the winning piece alone.

    Raises `ModelError` where a number is below 1, `GeometryError` for an input with another last axis.

    I. Goodfellow, D. Warde-Farley, M. Mirza, A. Courville, Y. Bengio: Maxout networks, 2013.

    >>> layer = Maxout(2, 1, pieces=2, bias=False)
    >>> _ = layer.linear.weight.data.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    >>> layer(torch.tensor([[-3.0, 5.0], [2.0, 5.0]])).flatten()      # max(x, -x): the absolute value
    tensor([3., 2.], grad_fn=...)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        pieces: int = 2,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, given in (("in_features", in_features), ("out_features", out_features), ("pieces", pieces)):
            count(given, name, error=ModelError)
        self.in_features, self.out_features, self.pieces = in_features, out_features, pieces
        self.linear = nn.Linear(in_features, out_features * pieces, bias, device, dtype)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, as ``torch.nn.Linear`` does."""
        self.linear.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """The largest piece of each unit."""
        if input.dim() < 1 or input.shape[-1] != self.in_features:
            raise GeometryError(f"the input is {tuple(input.shape)}; this layer wants [..., {self.in_features}]")
        pieces = self.linear(input)
        return max_pool1d(pieces.view(-1, 1, pieces.shape[-1]), self.pieces).view(*input.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """The number of pieces, for ``print(model)``; the linear layer prints the rest."""
        return f"pieces={self.pieces}"


class ChannelMaxout(nn.Module):
    """The largest of each ``pieces`` neighbouring channels: maxout over what any layer made.

    ``y[n, c, ...] = max over k of x[n, c * pieces + k, ...]``

    Shapes: ``[N, C, ...]`` to ``[N, C / pieces, ...]`` with any axes behind the channels; ``axis`` names another axis
    for the channels (0 for a picture without a batch). A convolution with ``K * pieces`` maps followed by this layer is
    the convolutional maxout of the paper. Ties: the first channel wins; NaN wins. Backward: to the winner alone.

    Raises `ModelError` where ``pieces`` is below 1, `GeometryError` where it does not divide the channels.

    Goodfellow et al.: Maxout networks, 2013.

    >>> ChannelMaxout(2)(torch.tensor([[1.0, 4.0, 3.0, 2.0]]))
    tensor([[4., 3.]])
    >>> nn.Sequential(nn.Conv2d(3, 32, 5), ChannelMaxout(2))(torch.zeros(1, 3, 12, 12)).shape
    torch.Size([1, 16, 8, 8])
    """

    def __init__(self, pieces: int = 2, axis: int = 1) -> None:
        super().__init__()
        self.pieces, self.axis = count(pieces, "pieces", error=ModelError), axis

    def forward(self, input: Tensor) -> Tensor:
        """The largest of each group of channels."""
        return ops.maxout(input, self.pieces, self.axis)

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return f"pieces={self.pieces}, axis={self.axis}"
