"""Jordan's and the independently recurrent network over whole sequences, called as ``torch.nn.RNN`` is."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from switchgrad.errors import GeometryError, ModelError
from switchgrad.nn.recurrent_cells import IndRNNCell, JordanCell, at_least_one

__all__ = ["IndRNN", "Jordan"]


class _Stack(nn.Module):
    """Layers of cells one above the other; ``cells[layer * directions + direction]``."""

    cells: nn.ModuleList
    width: int  # of one direction's state
    directions: int = 1

    def __init__(self, input_size: int, num_layers: int, dropout: float, batch_first: bool) -> None:
        super().__init__()
        at_least_one(num_layers=num_layers)
        if not 0 <= dropout < 1:
            raise ModelError(f"dropout is {dropout}; give a share from 0 to below 1 of the values to drop")
        self.input_size, self.num_layers = input_size, num_layers
        self.dropout, self.batch_first = dropout, batch_first

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for cell in self.cells:
            cell.reset_parameters()  # pyright: ignore[reportCallIssue]

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``(output, last state)`` of a sequence; ``hx`` is the state to start from, zeros where none is given."""
        steps, states = self._checked(input, hx)
        last: list[Tensor] = []
        for layer in range(self.num_layers):
            if layer:
                steps = functional.dropout(steps, self.dropout, self.training)
            both = [self._run(layer * self.directions + way, steps, states, way) for way in range(self.directions)]
            steps = torch.cat([outputs for outputs, _ in both], -1)
            last += [state for _, state in both]
        state = torch.stack(last)
        if input.dim() == 2:
            return steps.squeeze(1), state.squeeze(1)
        return (steps.transpose(0, 1) if self.batch_first else steps), state

    def _run(self, index: int, steps: Tensor, states: Tensor, way: int) -> tuple[Tensor, Tensor]:
        """One layer in one direction: outputs ``[L, N, width]`` in the order of time, and the last state."""
        cell, state = self.cells[index], states[index]
        outputs: list[Tensor] = []
        drives = self._drives(cell, steps)
        for drive in drives.flip(0) if way else drives:
            output, state = self._step(cell, drive, state)
            outputs.append(output)
        stacked = torch.stack(outputs)
        return stacked.flip(0) if way else stacked, state

    def _drives(self, cell: nn.Module, steps: Tensor) -> Tensor:
        """What the inputs of all steps contribute, in one product."""
        raise NotImplementedError

    def _step(self, cell: nn.Module, drive: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _checked(self, input: Tensor, hx: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sequence as ``[L, N, features]`` and the first states as ``[layers * directions, N, width]``."""
        order = "[N, L, {0}] or [L, {0}]" if self.batch_first else "[L, N, {0}] or [L, {0}]"
        if not isinstance(input, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise GeometryError(
                f"the input is a {type(input).__name__}; give a padded tensor {order.format(self.input_size)}"
            )
        if input.dim() not in (2, 3) or input.shape[-1] != self.input_size:
            raise GeometryError(
                f"the input is {tuple(input.shape)}; this network wants {order.format(self.input_size)}"
            )
        steps = input.unsqueeze(1) if input.dim() == 2 else input.transpose(0, 1) if self.batch_first else input
        if not len(steps):
            raise GeometryError(f"the input is {tuple(input.shape)}; a sequence needs at least 1 step")
        wanted = (len(self.cells), steps.shape[1], self.width)
        if hx is None:
            return steps, steps.new_zeros(wanted)
        states = hx.unsqueeze(1) if input.dim() == 2 and hx.dim() == 2 else hx
        if tuple(states.shape) != wanted:
            asked = wanted if input.dim() == 3 else (wanted[0], wanted[2])
            raise GeometryError(f"hx is {tuple(hx.shape)}; for an input of {tuple(input.shape)} give {asked}")
        return steps, states


class Jordan(_Stack):
    """Jordan's network over a sequence: a `JordanCell` at each step, layers one above the other.

    Shapes: ``[L, N, input_size]`` (``[N, L, input_size]`` with ``batch_first``, ``[L, input_size]`` without a batch)
    to outputs of the same form with ``output_size`` features, and the last states ``[num_layers, N, output_size]`` (or
    without ``N``); ``hx`` has the form of the states. ``dropout`` acts on the outputs of every layer but the last, in
    training. It runs in one direction. Parameters are those of ``cells[layer]``.

    Backward: through time, step by step, by autograd. Errors as for `JordanCell`, and `GeometryError` for an empty
    sequence or a packed one.

    >>> net = Jordan(3, 16, 2, batch_first=True)
    >>> output, state = net(torch.zeros(4, 10, 3))
    >>> output.shape, state.shape
    (torch.Size([4, 10, 2]), torch.Size([1, 4, 2]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        nonlinearity: str = "tanh",
        output_nonlinearity: str = "tanh",
        decay: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, num_layers, dropout, batch_first)
        self.hidden_size, self.output_size, self.width = hidden_size, output_size, output_size
        inputs = [input_size, *[output_size] * (num_layers - 1)]
        names = (nonlinearity, output_nonlinearity)
        self.cells = nn.ModuleList(
            JordanCell(size, hidden_size, output_size, bias, *names, decay, device, dtype) for size in inputs
        )

    def _drives(self, cell: nn.Module, steps: Tensor) -> Tensor:
        return functional.linear(steps, cell.weight_ih, cell.bias_h)  # pyright: ignore[reportArgumentType]

    def _step(self, cell: nn.Module, drive: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return cell.step(drive, state)  # pyright: ignore[reportCallIssue]

    def extra_repr(self) -> str:
        """The arguments that the cells do not print."""
        return f"num_layers={self.num_layers}, batch_first={self.batch_first}, dropout={self.dropout}"


class IndRNN(_Stack):
    """The independently recurrent network over a sequence: an `IndRNNCell` at each step, layers one above the other.

    Shapes: ``[L, N, input_size]`` (``[N, L, input_size]`` with ``batch_first``, ``[L, input_size]`` without a batch)
    to outputs of the same form with ``hidden_size`` features (twice as many if ``bidirectional``: forward, then
    backward), and the last states ``[num_layers * directions, N, hidden_size]`` (or without ``N``); ``hx`` has the form
    of the states. ``dropout`` acts on the outputs of every layer but the last, in training. Parameters are those of
    ``cells[layer * directions + direction]``.

    Backward: through time by autograd; as units are independent, the gradient of a unit through ``T`` steps is a
    product of ``T`` numbers, no matrices. Errors as for `IndRNNCell`, and `GeometryError` for an empty sequence or a
    packed one.

    Li et al.: Independently recurrent neural network (IndRNN), 2018.

    >>> net = IndRNN(3, 16, num_layers=2, bidirectional=True)
    >>> output, state = net(torch.zeros(10, 4, 3))
    >>> output.shape, state.shape
    (torch.Size([10, 4, 32]), torch.Size([4, 4, 16]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "relu",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, num_layers, dropout, batch_first)
        self.hidden_size, self.width, self.bidirectional = hidden_size, hidden_size, bidirectional
        self.directions = 2 if bidirectional else 1
        inputs = [input_size, *[hidden_size * self.directions] * (num_layers - 1)]
        self.cells = nn.ModuleList(
            IndRNNCell(size, hidden_size, bias, nonlinearity, device, dtype)
            for size in inputs
            for _ in range(self.directions)
        )

    def clip_recurrent(self, steps: int, growth: float = 2.0) -> None:
        """`IndRNNCell.clip_recurrent` of every cell."""
        for cell in self.cells:
            cell.clip_recurrent(steps, growth)  # pyright: ignore[reportCallIssue]

    def _drives(self, cell: nn.Module, steps: Tensor) -> Tensor:
        return functional.linear(steps, cell.weight_ih, cell.bias)  # pyright: ignore[reportArgumentType]

    def _step(self, cell: nn.Module, drive: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        hidden = cell.step(drive, state)  # pyright: ignore[reportCallIssue]
        return hidden, hidden

    def extra_repr(self) -> str:
        """The arguments that the cells do not print."""
        return (
            f"num_layers={self.num_layers}, batch_first={self.batch_first}, dropout={self.dropout}, "
            f"bidirectional={self.bidirectional}"
        )
