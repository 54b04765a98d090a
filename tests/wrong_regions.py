"""RoI max pooling in plain PyTorch, bin by bin, done right and with one thing wrong each; wrong sums over bins.

Each mutant of the maxima overrides one method. That the right one passes the harness is a test as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from declarations.regions import half_up
from harness.declaration import Mutant
from right_average import _NoBackward as Rescaled
from switchgrad import ops
from switchgrad.ops.layout import in_layout_of

VALUES, GRADIENTS = "values_equal_the_loops", "gradients_equal_the_loops"


class Maxima:
    """Called as `roi_pool` is."""

    def __call__(self, x: Tensor, boxes: Tensor, output_size: Any) -> Tensor:
        places = (output_size, output_size) if isinstance(output_size, int) else output_size
        out = []
        for box in boxes.tolist():
            n, x1, y1, x2, y2 = int(box[0]), *(self.rounded(v) for v in box[1:])
            for p in range(places[0]):
                for q in range(places[1]):
                    rows = self.cells(p, places[0], y1, y2, x.shape[2])
                    columns = self.cells(q, places[1], x1, x2, x.shape[3])
                    out.append(self.largest(x[n], rows, columns))
        pooled = torch.stack(out) if out else x.new_zeros((0, x.shape[1])) + 0 * x.sum()
        pooled = pooled.unflatten(0, (len(boxes), *places)).permute(0, 3, 1, 2)
        return in_layout_of(x, pooled)

    def rounded(self, corner: float) -> int:
        return half_up(corner)

    def cells(self, p: int, count: int, low: int, high: int, size: int) -> range:
        length = self.length(low, high)
        first, last = p * length // count + low, -(-(p + 1) * length // count) + low
        return range(min(max(first, 0), size), min(max(last, 0), size))

    def length(self, low: int, high: int) -> int:
        return max(high - low + 1, 1)

    def largest(self, maps: Tensor, rows: range, columns: range) -> Tensor:
        if not len(rows) or not len(columns):
            return self.nothing(maps)
        window = maps[:, rows.start : rows.stop, columns.start : columns.stop].flatten(1)
        return window.gather(1, self.winner(window.detach()).unsqueeze(1)).squeeze(1)

    def nothing(self, maps: Tensor) -> Tensor:
        return torch.where(torch.zeros((), dtype=torch.bool), maps[:, 0, 0], 0)

    def winner(self, window: Tensor) -> Tensor:
        """First of ties; NaN before all, of several the last."""
        nan, place = window.isnan(), torch.arange(window.shape[1])
        last = torch.where(nan, place, -1).amax(1)
        best = window.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).argmax(1)
        return torch.where(nan.any(1), last, best)


MAXIMA: dict[str, list[Mutant]] = {VALUES: [], GRADIENTS: []}


def mutant(name: str, killed_by: str = VALUES) -> Callable[[type[Maxima]], type[Maxima]]:
    """Adds a variant to those that the check sees."""

    def add(variant: type[Maxima]) -> type[Maxima]:
        MAXIMA[killed_by].append(Mutant(name, variant(), killed_by))
        return variant

    return add


@mutant("halves rounded to even")
class _(Maxima):
    def rounded(self, corner: float) -> int:
        return round(corner)


@mutant("corners cut off")
class _(Maxima):
    def rounded(self, corner: float) -> int:
        return int(corner)


@mutant("the last cell is left out")
class _(Maxima):
    def length(self, low: int, high: int) -> int:
        return max(high - low, 1)


@mutant("boxes inside out have no cell")
class _(Maxima):
    def length(self, low: int, high: int) -> int:
        return max(high - low + 1, 0)


@mutant("bins do not overlap")
class _(Maxima):
    def cells(self, p: int, count: int, low: int, high: int, size: int) -> range:
        found = super().cells(p, count, low, high, size)
        last = (p + 1) * self.length(low, high) // count + low
        return range(found.start, max(min(found.stop, last), found.start))


@mutant("bins without a cell give the lowest number")
class _(Maxima):
    def nothing(self, maps: Tensor) -> Tensor:
        return maps[:, 0, 0] * 0 - torch.inf


@mutant("the smallest cell")
class _(Maxima):
    def winner(self, window: Tensor) -> Tensor:
        return super().winner(-window)


@mutant("NaN is nothing")
class _(Maxima):
    def winner(self, window: Tensor) -> Tensor:
        return window.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).argmax(1)


@mutant("the last of ties")  # both zeros are ties
class _(Maxima):
    def winner(self, window: Tensor) -> Tensor:
        return window.shape[1] - 1 - super().winner(window.flip(1))


@mutant("every cell that ties gets the gradient", GRADIENTS)
class _(Maxima):
    def largest(self, maps: Tensor, rows: range, columns: range) -> Tensor:
        found = super().largest(maps, rows, columns)
        if not len(rows) or not len(columns):
            return found
        window = maps[:, rows.start : rows.stop, columns.start : columns.stop].flatten(1)
        ties = torch.where(window.detach() == found.detach().unsqueeze(1), window, 0)
        return found.detach() + ties.sum(1) - ties.detach().sum(1)


@mutant("the gradient of overlapping bins is halved", GRADIENTS)
class _(Maxima):
    def largest(self, maps: Tensor, rows: range, columns: range) -> Tensor:
        return Rescaled.apply(super().largest(maps, rows, columns), 0.5)


def _wrong(name: str, change: Callable[..., tuple[Tensor, Tensor, dict[str, Any]]]) -> Callable[..., Tensor]:
    """An operator of ours on other features, boxes or options."""

    def function(x: Tensor, boxes: Tensor, **arguments: Any) -> Tensor:
        features, table, options = change(x, boxes, dict(arguments))
        return getattr(ops, name)(features, table, **options)

    return function


FIRST = torch.tensor([0, 1, 1, 1, 1])
AVERAGES = (
    Mutant("the largest cell", lambda x, b, **a: ops.roi_pool(x, b, **a), VALUES),
    Mutant("samples", lambda x, b, **a: ops.roi_align(x, b, **a), VALUES),
    Mutant("no scale", _wrong("roi_avg_pool", lambda x, b, a: (x, b, a | {"spatial_scale": 1.0})), VALUES),
    Mutant("rows and columns exchanged", _wrong("roi_avg_pool", lambda x, b, a: (x, b[:, [0, 2, 1, 4, 3]], a)), VALUES),
    Mutant("the first picture alone", _wrong("roi_avg_pool", lambda x, b, a: (x, b * FIRST.to(b), a)), VALUES),
    Mutant("channels from the end", _wrong("roi_avg_pool", lambda x, b, a: (x.flip(1), b, a)), VALUES),
    Mutant("the gradient twice", lambda x, b, **a: Rescaled.apply(ops.roi_avg_pool(x, b, **a), 2.0), GRADIENTS),
)  # fmt: skip
ALIGN = (
    Mutant("always aligned", _wrong("roi_align", lambda x, b, a: (x, b, a | {"aligned": True})), VALUES),
    Mutant("never aligned", _wrong("roi_align", lambda x, b, a: (x, b, a | {"aligned": False})), VALUES),
    Mutant("one sample a bin", _wrong("roi_align", lambda x, b, a: (x, b, a | {"sampling_ratio": 1})), VALUES),
    Mutant("corners rounded", _wrong("roi_align", lambda x, b, a: (x, b.round(), a)), VALUES),
    Mutant("no scale", _wrong("roi_align", lambda x, b, a: (x, b, a | {"spatial_scale": 1.0})), VALUES),
    Mutant("the gradient twice", lambda x, b, **a: Rescaled.apply(ops.roi_align(x, b, **a), 2.0), GRADIENTS),
)
