"""Fully connected layers, drop-in for ``torch.nn.Linear``, and with a ReLU behind it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from switchgrad import ops
from switchgrad.ops.fully_connected.choice import Algorithm, check_algorithm

__all__ = ["Linear", "LinearReLU"]


class Linear(nn.Linear):
    """`switchgrad.ops.linear` as a layer: ``torch.nn.Linear``, quicker for thin batches through large weights.

    Arguments, parameters, initialisation and state_dict are PyTorch's; ``algorithm`` is that of the operator.

    >>> import torch
    >>> layer = Linear(8, 3)
    >>> layer
    Linear(in_features=8, out_features=3, bias=True, algorithm='auto')
    >>> layer(torch.rand(2, 8)).shape
    torch.Size([2, 3])
    """

    def __init__(self, *args: Any, algorithm: Algorithm = "auto", **kwargs: Any) -> None:
        check_algorithm(algorithm)
        super().__init__(*args, **kwargs)
        self.algorithm: Algorithm = algorithm

    def forward(self, input: Tensor) -> Tensor:
        """The layer's outputs."""
        return ops.linear(input, self.weight, self.bias, algorithm=self.algorithm)

    def extra_repr(self) -> str:
        """PyTorch's, and the algorithm."""
        return f"{super().extra_repr()}, algorithm={self.algorithm!r}"


class LinearReLU(Linear):
    """`switchgrad.ops.linear_relu` as a layer, for ``Linear`` and ``ReLU`` in a row.

    >>> import torch
    >>> bool((LinearReLU(8, 3)(torch.randn(2, 8)) >= 0).all())
    True
    """

    def forward(self, input: Tensor) -> Tensor:
        """The layer's outputs, rectified."""
        return ops.linear_relu(input, self.weight, self.bias, algorithm=self.algorithm)
