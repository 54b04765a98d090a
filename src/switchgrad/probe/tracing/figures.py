"""A step's drawings: values and what came back, side by side over the same cells; the switches; the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from switchgrad.probe.tracing.crops import Crop, Crops, largest, told
from switchgrad.probe.tracing.draw import Drawing, Place, grid, switch_map
from switchgrad.probe.tracing.numbers import exponent, power, short
from switchgrad.probe.tracing.record import Flow, Step, Update, Winners

_MOST_LABELLED = 16
WEIGHT_SIDE = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with its caption: what it is, and a line about it."""

    symbol: str
    drawing: Drawing
    words: str


def value_figure(symbol: str, flow: Flow, crop: Crop, step: Step | None = None, labels: Sequence[str] = ()) -> Figure:
    """What went forward."""
    return _figure(symbol, "forward", flow.value, crop, winner_marks(step, crop), _block(step, crop), labels)


def gradient_figure(
    symbol: str, flow: Flow, crop: Crop, step: Step | None = None, labels: Sequence[str] = ()
) -> Figure | None:
    """What came back, over the same cells; None where nothing did."""
    if flow.gradient is None:
        return None
    return _figure(symbol, "gradient", flow.gradient, crop, winner_marks(step, crop), _block(step, crop), labels)


def tensor_figure(symbol: str, style: str, tensor: Tensor, crop: Crop) -> Figure:
    """Any tensor: a weight, its gradient."""
    return _figure(symbol, style, tensor, crop, set(), None, ())


def _figure(
    symbol: str,
    style: str,
    tensor: Tensor,
    crop: Crop,
    marks: set[Place],
    block: tuple[int, int] | None,
    labels: Sequence[str],
) -> Figure:
    values = crop.cut(tensor)
    if len(values) == 1 and len(values[0]) > 1:
        start, stop = crop.columns
        labels = labels[start:stop] if labels else [str(place) for place in range(start, stop)]
    else:
        labels = ()
    norm = tensor.double().norm().item()
    parts = [part for part in (power(exponent(values)), told(crop, tuple(tensor.shape)), f"norm {short(norm)}") if part]
    name = symbol + (f"[{', '.join(map(str, crop.index))}]" if crop.index else "")
    title = f"{name}, {', '.join(parts)}"
    return Figure(name, grid(values, style, title, winners=marks, block=block, labels=labels), "; ".join(parts))


def switches_figure(step: Step, crop: Crop) -> Figure | None:
    """The switch map over the output's cells, where windows have a fixed size."""
    won = step.winners
    if won is None or won.codes is None or won.window is None or won.window.dims > 2:
        return None
    kernel = won.window.kernel_size
    two = (1, kernel[0]) if len(kernel) == 1 else (kernel[0], kernel[1])
    codes = [[int(code) for code in row] for row in crop.cut(won.codes)]
    map = switch_map(codes, two, f"switch map of {step.title}")
    cells = " ".join(str(code) for code in range(two[1])) + (" …" if two[0] > 1 else "")
    return Figure("switches", map, f"the winner's place in its window, counted row by row: {cells}")


def _winners_of_maps(won: Winners, crop: Crop) -> set[Place]:
    """For maps and volumes, of which one plane is shown."""
    dims = len(won.input_size)
    indices = won.indices[crop.index[: won.indices.dim() - dims]].flatten().tolist()
    width = won.input_size[-1]
    plane = width * (won.input_size[-2] if dims > 1 else 1)
    before = crop.index[-1] if dims > 2 else 0
    places = {divmod(int(i) - before * plane, width) for i in indices if i >= 0 and i // plane == before}
    inside = {(r - crop.rows[0], c - crop.columns[0]) for r, c in places}
    height, wide = crop.rows[1] - crop.rows[0], crop.columns[1] - crop.columns[0]
    return {(r, c) for r, c in inside if 0 <= r < height and 0 <= c < wide}


def winner_marks(step: Step | None, crop: Crop) -> set[Place]:
    """Rows and columns, within a crop of a step's input, of the cells that won a window."""
    if step is None or step.winners is None:
        return set()
    dims = len(step.winners.input_size)
    if dims > 1:
        return _winners_of_maps(step.winners, crop)
    return _winners_of_signals(step.winners, crop)


def _winners_of_signals(won: Winners, crop: Crop) -> set[Place]:
    """For signals, whose rows are channels."""
    rows = won.indices[crop.index] if crop.index else won.indices
    return {
        (r - crop.rows[0], int(place) - crop.columns[0])
        for r in range(*crop.rows)
        for place in rows[r].tolist()
        if crop.columns[0] <= place < crop.columns[1]
    }


def _block(step: Step | None, crop: Crop) -> tuple[int, int] | None:
    """Rows and columns of a window, where windows tile the crop."""
    window = None if step is None or step.winners is None else step.winners.window
    if window is None or window.dims > 2 or window.stride != window.kernel_size or any(map(any, window.padding)):
        return None
    if any(d > 1 for d in window.dilation):
        return None
    tile = (1, window.kernel_size[0]) if window.dims == 1 else (window.kernel_size[-2], window.kernel_size[-1])
    aligned = crop.rows[0] % tile[0] == 0 and crop.columns[0] % tile[1] == 0
    return tile if aligned else None


def step_figures(step: Step, crops: Crops, classes: Sequence[str] = ()) -> dict[str, list[Figure]]:
    """Everything that is drawn of a step, by its place: ``x``, ``y``, ``dy``, ``dx``, ``switches``, ``weights``."""
    found: dict[str, list[Figure]] = {name: [] for name in ("x", "y", "dy", "dx", "switches", "weights")}
    for place, (flow, crop) in enumerate(zip(step.inputs, crops.inputs, strict=True)):
        name = _numbered("x", place, len(step.inputs))
        found["x"].append(value_figure(name, flow, crop, step))
        found["dx"] += _some(gradient_figure("d" + name, flow, crop, step))
    for place, (flow, crop) in enumerate(zip(step.outputs, crops.outputs, strict=True)):
        name = _numbered("y", place, len(step.outputs))
        names = classes if 1 < len(classes) <= _MOST_LABELLED and flow.shape[-1:] == (len(classes),) else ()
        found["y"].append(value_figure(name, flow, crop, labels=names))
        found["dy"] += _some(gradient_figure("d" + name, flow, crop, labels=names))
    if crops.outputs:
        found["switches"] = _some(switches_figure(step, crops.outputs[0]))
    for parameter, crop in zip(step.parameters, crops.parameters, strict=True):
        name = parameter.name.rsplit(".", 1)[-1]
        found["weights"].append(tensor_figure(name, "forward", parameter.value, crop))
        if parameter.gradient is not None:
            found["weights"].append(tensor_figure("d" + name, "gradient", parameter.gradient, crop))
    return found


def update_figures(update: Update, side: int = WEIGHT_SIDE) -> list[Figure]:
    """A weight before, its gradient, the weight after."""
    crop = largest(update.before if update.gradient is None else update.gradient, side)
    found = [tensor_figure("before", "forward", update.before, crop)]
    if update.gradient is not None:
        found.append(tensor_figure("gradient", "gradient", update.gradient, crop))
    return [*found, tensor_figure("after", "forward", update.after, crop)]


def _numbered(name: str, place: int, count: int) -> str:
    return name if count == 1 else name + "₁₂₃₄₅₆₇₈₉"[place] if place < 9 else f"{name}{place + 1}"


def _some(figure: Figure | None) -> list[Figure]:
    return [] if figure is None else [figure]
