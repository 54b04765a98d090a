"""DropConnect: dropout of weights instead of units."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from switchgrad.errors import GeometryError, ModelError


class DropConnect(nn.Linear):
    """A linear layer that forgets each of its weights with probability ``p`` while it trains.

    Training: ``y[n] = (M[n] * weight) x[n] / (1 - p) + (m[n] * bias) / (1 - p)`` with ``M`` and ``m`` 0 with
    probability ``p`` and else 1, drawn for each example alone; ``per_example=False`` draws one mask a batch, which
    saves the ``[N, out, in]`` masked weights that the paper's rule needs. Evaluation: the plain linear layer, which is
    the mean over all masks (exact before the nonlinearity; the paper samples a Gaussian of that mean instead).

    Shapes: ``[..., in_features]`` to ``[..., out_features]``; parameters and ``state_dict`` are those of
    ``torch.nn.Linear``. Backward: only the weights that were kept get a gradient, that of the linear layer over
    ``1 - p``. Masks come from PyTorch's generator of the input's device (``torch.manual_seed``).

    Raises `ModelError` where ``p`` is not from 0 to below 1, `GeometryError` for an input with another last axis.

    L. Wan, M. Zeiler, S. Zhang, Y. LeCun, R. Fergus: Regularization of neural networks using DropConnect, 2013.

    >>> layer = DropConnect(64, 10, p=0.5)
    >>> x = torch.rand(8, 64)
    >>> torch.equal(layer(x), layer(x))
    False
    >>> _ = layer.eval()
    >>> torch.equal(layer(x), functional.linear(x, layer.weight, layer.bias))
    True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        p: float = 0.5,
        bias: bool = True,
        per_example: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not 0 <= p < 1:
            raise ModelError(f"p is {p}; give the probability, from 0 to below 1, that a weight is dropped")
        super().__init__(in_features, out_features, bias, device, dtype)
        self.p, self.per_example = p, per_example

    def forward(self, input: Tensor) -> Tensor:
        """The linear layer, in training with masked weights."""
        if input.dim() < 1 or input.shape[-1] != self.in_features:
            raise GeometryError(f"the input is {tuple(input.shape)}; this layer wants [..., {self.in_features}]")
        if not self.training or self.p == 0:
            return functional.linear(input, self.weight, self.bias)
        bias = cast("Tensor | None", self.bias)
        if not self.per_example:
            return functional.linear(input, self._dropped(self.weight), None if bias is None else self._dropped(bias))
        rows = input.reshape(-1, self.in_features)
        weights = self._dropped(self.weight.expand(len(rows), *self.weight.shape))
        output = torch.bmm(weights, rows.unsqueeze(-1)).squeeze(-1)
        if bias is not None:
            output = output + self._dropped(bias.expand_as(output))
        return output.reshape(*input.shape[:-1], self.out_features)

    def _dropped(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.p, training=True)

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return f"{super().extra_repr()}, p={self.p}, per_example={self.per_example}"
