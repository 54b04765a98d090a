"""Which part of each tensor to show: the same place in neighbouring steps, so that the eye can follow a number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor

from switchgrad.geometry import Window
from switchgrad.probe.tracing.record import Flow, Parameter, Step, Trace

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of the last two axes (of fewer: one row), at one place of all axes before them."""

    index: tuple[int, ...]
    rows: Span
    columns: Span

    def cut(self, tensor: Tensor) -> list[list[float]]:
        """The numbers."""
        part = _plane(tensor)[self.index][slice(*self.rows), slice(*self.columns)]
        return cast("list[list[float]]", part.double().tolist())


@dataclass(frozen=True, slots=True)
class Crops:
    """What to show of a step."""

    inputs: tuple[Crop, ...]
    outputs: tuple[Crop, ...]
    parameters: tuple[Crop, ...]


def crops_of(trace: Trace, side: int) -> list[Crops]:
    """What to show of each step, at most ``side`` by ``side`` cells (a vector: twice as many as ``side``).

    The busiest channel and place (by the gradient that came back) of the last map that a chain of steps leads to; from
    there backwards through windows and layers that keep the place, so that pooled cells stand over their windows.
    """
    wanted: dict[int, Crop] = {}
    found: list[Crops] = []
    for step in reversed(trace.steps):
        outputs = [busiest(flow, side) for flow in step.outputs]
        if outputs and step.number in wanted:
            outputs[0] = wanted[step.number]
        if outputs and step.window is not None and step.winners is not None:
            outputs[0] = _fewer(outputs[0], step.window, side)
        inputs = [_follow(step, flow, outputs, side) for flow in step.inputs]
        for flow, crop in zip(step.inputs, inputs, strict=True):
            if flow.source:
                wanted.setdefault(flow.source, crop)
        parameters = [_weight(parameter, inputs, outputs, side) for parameter in step.parameters]
        found.append(Crops(tuple(inputs), tuple(outputs), tuple(parameters)))
    return found[::-1]


def busiest(flow: Flow, side: int) -> Crop:
    """Where most gradient came back (where none did: where the values are largest), in the first sample."""
    gradient = flow.gradient
    return largest(flow.value if gradient is None or not bool(gradient.any()) else gradient, side, batched=True)


def largest(tensor: Tensor, side: int, *, batched: bool = False, index: tuple[int, ...] | None = None) -> Crop:
    """The rectangle around the largest number of ``tensor``; ``batched`` stays with the first sample."""
    size = _plane(tensor).detach().double().nan_to_num().abs()
    chosen: list[int] = list(index or ())
    if not chosen and batched and size.dim() > 2:
        chosen = [0]
    part = size[tuple(chosen)]
    while part.dim() > 2:
        best = int(part.flatten(1).norm(dim=1).argmax()) if part.numel() else 0
        chosen.append(best)
        part = part[best]
    row, column = divmod(int(part.argmax()), part.shape[1]) if part.numel() else (0, 0)
    wide = side if part.shape[0] > 1 else 2 * side
    return Crop(tuple(chosen), _span(row, part.shape[0], side), _span(column, part.shape[1], wide))


def _plane(tensor: Tensor) -> Tensor:
    """At least two axes: a vector is one row."""
    return tensor.reshape(1, -1) if tensor.dim() < 2 else tensor


def _span(centre: int, size: int, side: int) -> Span:
    start = max(0, min(centre - side // 2, size - side))
    return start, min(start + side, size)


def _fewer(crop: Crop, window: Window, side: int) -> Crop:
    """As many pooled cells as have their windows within ``side`` cells of the input."""
    if window.dims < 2:
        places = max(1, (2 * side - window.effective[0]) // window.stride[0] + 1)
        return replace(crop, columns=(crop.columns[0], min(crop.columns[1], crop.columns[0] + places)))
    spans: list[Span] = []
    for axis, (start, stop) in zip((-2, -1), (crop.rows, crop.columns), strict=True):
        places = max(1, (side - window.effective[axis]) // window.stride[axis] + 1)
        spans.append((start, min(stop, start + places)))
    return replace(crop, rows=spans[0], columns=spans[1])


def _follow(step: Step, flow: Flow, outputs: list[Crop], side: int) -> Crop:
    """What to show of an input, given what is shown of the output."""
    if not outputs or not step.outputs:
        return busiest(flow, side)
    out, shape = outputs[0], step.outputs[0].shape
    if flow.shape == shape:
        return out
    if step.window is None or step.window.dims < 2 or len(flow.shape) != len(shape):
        return busiest(flow, side)
    start = busiest(flow, side)
    index = out.index if step.winners is not None else start.index
    if step.winners is not None and max(step.window.effective) > side:
        return largest(flow.value if flow.gradient is None else flow.gradient, side, index=index)
    spans = [
        _under(span, step.window, axis, flow.shape[axis], side)
        for axis, span in zip((-2, -1), (out.rows, out.columns), strict=True)
    ]
    return Crop(index, spans[0], spans[1])


def _under(span: Span, window: Window, axis: int, size: int, side: int) -> Span:
    """The cells of the input under the windows of ``span``, at most ``side`` of them."""
    first = max(0, span[0] * window.stride[axis] - window.padding[axis][0])
    last = (span[1] - 1) * window.stride[axis] - window.padding[axis][0] + window.effective[axis]
    stop = min(size, last, first + side)
    return max(0, min(first, stop - 1)), stop


def _weight(parameter: Parameter, inputs: list[Crop], outputs: list[Crop], side: int) -> Crop:
    """Of a kernel that of the channels shown, of anything else the place of its largest gradient."""
    tensor = parameter.value if parameter.gradient is None else parameter.gradient
    if tensor.dim() >= 4 and inputs and outputs and len(inputs[0].index) == len(outputs[0].index) == tensor.dim() - 2:
        index = (outputs[0].index[1], inputs[0].index[1], *(0,) * (tensor.dim() - 4))
        if all(place < size for place, size in zip(index, tensor.shape, strict=False)):
            return largest(tensor, side, index=index)
    return largest(tensor, side)


def told(crop: Crop, shape: tuple[int, ...]) -> str:
    """Which rows and columns a crop shows, in words; nothing where it shows all of them.

    >>> told(Crop((0, 3), (2, 8), (0, 6)), (1, 6, 28, 28))
    'rows 2–7 of 28, columns 0–5 of 28'
    >>> told(Crop((), (0, 1), (0, 10)), (10,))
    ''
    """
    size = (1, 1, *shape)
    spans = (("rows", crop.rows, size[-2]), ("columns", crop.columns, size[-1]))
    return ", ".join(
        f"{name} {start}–{stop - 1} of {cells}" for name, (start, stop), cells in spans if stop - start < cells
    )
