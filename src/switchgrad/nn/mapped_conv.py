"""Convolution by a connection table: each output map sees only the input maps that the table lists for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from switchgrad.errors import GeometryError, ModelError
from switchgrad.geometry import IntOrTuple, window


class MappedConv2d(nn.Module):
    """2-D convolution in which output map ``k`` is connected to the input maps ``connections[k]`` and no others.

    ``y[n, k] = bias[k] + sum over c in connections[k] of (weight of the pair (k, c) correlated with x[n, c])``

    Only the kernels that exist are stored: ``weight`` is ``[pairs, R, S]``, one kernel for each pair, in the order
    of the table (output map by output map, the input maps of each as listed), so that the number of parameters, the
    gradient, weight decay and the ``state_dict`` know nothing of missing connections. Shapes: ``[N, C, H, W]`` (or
    ``[C, H, W]``) to ``[N, K, P, Q]``, sizes as in `geometry.Window.output_size`; ``padding`` is an integer or one per
    axis. New weights and biases are uniform in ``±1 / sqrt(fan-in)``, the fan-in counted for each output map alone.

    Raises `ModelError` for a table that does not fit (another number of lists than ``out_channels``, an empty list,
    an input map that does not exist or is listed twice) and for padding that is a word or differs between the two
    sides of an axis; `GeometryError` for an input of another rank or number of channels, or smaller than the kernel.

    LeCun et al. 1998, II.B, table I: such a table breaks the symmetry between maps and bounds the number of weights.

    >>> layer = MappedConv2d(3, 2, connections=[[0, 1], [2]], kernel_size=5)
    >>> layer.weight.shape, layer(torch.zeros(1, 3, 14, 14)).shape
    (torch.Size([3, 5, 5]), torch.Size([1, 2, 10, 10]))
    >>> layer.dense_weight()[1, :2].count_nonzero().item()              # map 1 sees input map 2 only
    0
    """

    _places: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        connections: Sequence[Sequence[int]],
        kernel_size: IntOrTuple,
        stride: IntOrTuple = 1,
        padding: IntOrTuple = 0,
        dilation: IntOrTuple = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.connections = _checked(connections, in_channels, out_channels)
        if isinstance(padding, str):
            raise ModelError(f'padding is "{padding}"; MappedConv2d wants an integer or one per axis')
        self.window = window(2, kernel_size, stride, padding, dilation)
        if any(begin != end for begin, end in self.window.padding):
            raise ModelError(f"padding is {padding!r}; MappedConv2d pads both sides of an axis alike")
        places = [k * in_channels + c for k, inputs in enumerate(self.connections) for c in inputs]
        self.weight = nn.Parameter(torch.empty(len(places), *self.window.kernel_size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        # Made again from the table on construction, so the state_dict holds weights only.
        self.register_buffer("_places", torch.tensor(places, device=device), persistent=False)
        self.reset_parameters()

    @property
    def fan_in(self) -> tuple[int, ...]:
        """Inputs of a unit of each output map (the bias not counted): ``len(connections[k]) R S``."""
        return tuple(len(inputs) * self.window.cells for inputs in self.connections)

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew, uniform in ``±1 / sqrt(fan-in)``."""
        self.uniform_by_fan_in([1 / math.sqrt(fan_in) for fan_in in self.fan_in])

    @torch.no_grad()
    def uniform_by_fan_in(self, bounds: Sequence[float]) -> None:
        """Draw weights and bias of output map ``k`` from the uniform distribution over ``±bounds[k]``."""
        kernels = self.weight.split([len(inputs) for inputs in self.connections])
        for k, bound in enumerate(bounds):
            kernels[k].uniform_(-bound, bound)
            if self.bias is not None:
                self.bias[k].uniform_(-bound, bound)

    def dense_weight(self) -> Tensor:
        """The kernels as an ordinary convolution's ``[K, C, R, S]``, zero where the table has no connection."""
        pairs = self.out_channels * self.in_channels
        empty = self.weight.new_zeros(pairs, *self.window.kernel_size)
        dense = empty.index_copy(0, self._places, self.weight)
        return dense.view(self.out_channels, self.in_channels, *self.window.kernel_size)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``[N, C, H, W]`` or ``[C, H, W]``."""
        if input.dim() not in (3, 4) or input.shape[-3] != self.in_channels:
            raise GeometryError(
                f"the input is {tuple(input.shape)}; this convolution wants [N, {self.in_channels}, H, W] or "
                f"[{self.in_channels}, H, W]"
            )
        self.window.output_size(input.shape[-2:])
        return functional.conv2d(
            input,
            self.dense_weight(),
            self.bias,
            self.window.stride,
            [begin for begin, _ in self.window.padding],
            self.window.dilation,
        )

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return (
            f"{self.in_channels}, {self.out_channels}, pairs={self.weight.shape[0]}, "
            f"kernel_size={self.window.kernel_size}, stride={self.window.stride}"
        )


def _checked(connections: Sequence[Sequence[int]], in_channels: int, out_channels: int) -> tuple[tuple[int, ...], ...]:
    """The table as tuples, once it is known to fit."""
    if in_channels < 1 or out_channels < 1 or len(connections) != out_channels:
        raise ModelError(
            f"the table lists {len(connections)} output maps, in_channels is {in_channels} and out_channels "
            f"{out_channels}; give one list of input maps for each of at least 1 output map"
        )
    for k, inputs in enumerate(connections):
        if not inputs or len(set(inputs)) != len(inputs) or not set(inputs) <= set(range(in_channels)):
            raise ModelError(
                f"output map {k} is connected to {list(inputs)}; list at least one input map, each once, "
                f"from 0 to {in_channels - 1}"
            )
    return tuple(tuple(inputs) for inputs in connections)
