"""Locally connected layers: windows like a convolution's, but every place has weights of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from switchgrad.errors import GeometryError, ModelError
from switchgrad.geometry import IntOrTuple, Padding, window
from switchgrad.ops.layout import in_layout_of

__all__ = ["LocallyConnected1d", "LocallyConnected2d"]


class _LocallyConnected(nn.Module):
    dims: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_size: IntOrTuple,
        kernel_size: IntOrTuple,
        stride: IntOrTuple = 1,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
        groups: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if groups < 1 or min(in_channels, out_channels) < 1 or in_channels % groups or out_channels % groups:
            raise ModelError(
                f"in_channels is {in_channels}, out_channels {out_channels}, groups {groups}; "
                "give positive numbers of channels that groups divides"
            )
        self.input_size = _sizes(input_size, self.dims)
        self.window = window(self.dims, kernel_size, stride, padding, dilation, input_size=self.input_size)
        self.output_size = self.window.output_size(self.input_size)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        kernel = (out_channels, in_channels // groups, *self.window.kernel_size)
        self.weight = nn.Parameter(torch.empty(*self.output_size, *kernel, device=device, dtype=dtype))
        places = (out_channels, *self.output_size)
        self.bias = nn.Parameter(torch.empty(places, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases anew, uniform in ``±1 / sqrt(fan-in)``, the fan-in being one window's cells."""
        bound = 1 / math.sqrt(self.in_channels // self.groups * self.window.cells)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """Each window times the weights of its place."""
        wanted = (self.in_channels, *self.input_size)
        if input.dim() not in (self.dims + 1, self.dims + 2) or tuple(input.shape[-self.dims - 1 :]) != wanted:
            raise GeometryError(
                f"the input is {tuple(input.shape)}; this layer has weights for each place of [N, "
                f"{', '.join(map(str, wanted))}] (or without N): build it with another in_channels or input_size"
            )
        batch = input if input.dim() == self.dims + 2 else input.unsqueeze(0)
        output = in_layout_of(batch, self._multiplied(self._columns(batch)))
        if self.bias is not None:
            output = output + self.bias
        return output if input.dim() == self.dims + 2 else output.squeeze(0)

    def _columns(self, batch: Tensor) -> Tensor:
        """The windows' cells as ``[place, group, N, C / groups * cells]``."""
        sides = [cells for pair in reversed(self.window.padding) for cells in pair]
        padded = functional.pad(batch, sides) if any(sides) else batch
        if self.dims == 1:
            padded = padded.unsqueeze(-2)
        ones = (1,) * (2 - self.dims)
        win = self.window
        columns = functional.unfold(padded, (*ones, *win.kernel_size), (*ones, *win.dilation), 0, (*ones, *win.stride))
        return columns.unflatten(1, (self.groups, -1)).permute(3, 1, 0, 2)

    def _multiplied(self, columns: Tensor) -> Tensor:
        weight = self.weight.flatten(0, self.dims - 1).flatten(2).unflatten(1, (self.groups, -1))
        output = columns @ weight.transpose(-1, -2)  # [place, group, N, K / groups]
        return output.permute(2, 1, 3, 0).flatten(1, 2).unflatten(-1, self.output_size)

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return (
            f"{self.in_channels}, {self.out_channels}, input_size={self.input_size}, "
            f"kernel_size={self.window.kernel_size}, stride={self.window.stride}, padding={self.window.padding}, "
            f"dilation={self.window.dilation}, groups={self.groups}, bias={self.bias is not None}"
        )


class LocallyConnected1d(_LocallyConnected):
    """`LocallyConnected2d` along one axis: ``[N, C, L]`` (or ``[C, L]``) to ``[N, K, P]``.

    ``weight`` is ``[P, K, C / groups, R]``, ``bias`` ``[K, P]``.

    >>> layer = LocallyConnected1d(2, 4, input_size=10, kernel_size=3, stride=2)
    >>> layer.weight.shape, layer(torch.zeros(8, 2, 10)).shape
    (torch.Size([4, 4, 2, 3]), torch.Size([8, 4, 4]))
    """

    dims = 1


class LocallyConnected2d(_LocallyConnected):
    """A convolution that shares nothing: the window at each place ``(p, q)`` has weights and biases of its own.

    ``y[n, k, p, q] = bias[k, p, q] + sum over c, r, t of weight[p, q, k, c, r, t] * x[n, c, ps + rd - b, qs + td - b]``

    Shapes: ``[N, C, H, W]`` (or ``[C, H, W]``) to ``[N, K, P, Q]`` (or ``[K, P, Q]``) with the sizes of a convolution.
    ``weight`` is ``[P, Q, K, C / groups, R, S]``: ``weight[p, q]`` is the kernel of an ordinary convolution, used at
    one place. ``bias`` is ``[K, P, Q]``. As the weights belong to places, ``input_size`` ``(H, W)`` is fixed.
    ``padding``: an integer, one per axis, a ``(begin, end)`` pair per axis, ``"same"`` or ``"valid"``; zeros.
    New weights are uniform in ``±1 / sqrt(C / groups R S)``, as a convolution's. The windows are copied side by side
    (im2col) and multiplied place by place, so the layer takes ``R S`` times its input's memory for a moment.

    Backward: ``x`` gets, from every window that holds it, the output's gradient times that place's weight; the weight
    of a place gets the output's gradient times its window, summed over the batch and over no places.

    Raises `ModelError` where groups does not divide the channels, `GeometryError` for windows that do not fit and
    inputs of another size.

    K. Fukushima: Neocognitron, 1980, needs no sharing; Y. Taigman et al.: DeepFace, 2014, uses such layers for faces.

    >>> layer = LocallyConnected2d(3, 8, input_size=(6, 5), kernel_size=3)
    >>> layer.weight.shape, layer(torch.zeros(2, 3, 6, 5)).shape
    (torch.Size([4, 3, 8, 3, 3, 3]), torch.Size([2, 8, 4, 3]))
    >>> shared = nn.Conv2d(3, 8, 3)
    >>> _ = layer.load_state_dict({"weight": shared.weight.expand_as(layer.weight),
    ...                            "bias": shared.bias[:, None, None].expand_as(layer.bias)})
    >>> x = torch.rand(2, 3, 6, 5)
    >>> torch.allclose(layer(x), shared(x), atol=1e-6)
    True
    """

    dims = 2


def _sizes(input_size: IntOrTuple, dims: int) -> tuple[int, ...]:
    if isinstance(input_size, int):
        return (input_size,) * dims
    if len(input_size) != dims:
        raise GeometryError(f"input_size is {input_size!r}; give {dims} integer{'s' * (dims > 1)}, one per axis")
    return tuple(input_size)
