"""The members of the pooling family that PyTorch has, and the shapes they are measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import switchgrad

ours, theirs = switchgrad.ops, torch.nn.functional
Function = Callable[[Tensor], Tensor]

CALL_MS = 0.03
CALL = (
    "the call through Python's autograd: an autograd function takes 0.005 ms and an operator behind it 0.004, where "
    "PyTorch's whole call takes 0.003; backward 0.009 more; up to twice that where large tensors emptied the caches"
)
EQUAL = "equal within the noise"
COPY = "as fast as a copy of the bytes: memory is the limit"
TURNS = "the kernel is as fast or faster; the call takes 0.01 ms more, up to 0.1 behind work that empties the caches"
WINNER = "the kernel takes little more than reading the map does; the rest is the call through Python"
CELLS = "all cells are cleared and the winners written, as PyTorch does; the rest is the call through Python"
SUMS = "a window's addition waits for its neighbour's to the same cell, as PyTorch's does; four planes go side by side"
UNPOOLED = "the kernel is as fast as PyTorch's: both write every cell and look at every index; the rest is the call"
SMALL = "on small maps the call and the threads' start take their part; larger ones reach the target"
LEFT = "not reached"
REASONS = {  # what a kind does that PyTorch does not, forward and backward
    "fractional_max": (
        "where the random windows lie is computed by a dozen small steps before the kernel runs",
        "a byte and its window's start are looked up for each winner, where PyTorch keeps 8 bytes that name the cell; "
        "two or four maps side by side and a smaller table are no faster",
    ),
    "max_unpool": (
        UNPOOLED,
        "of several values in one cell only the last gets the gradient, so each index is looked up in its box first, a "
        "quarter more work; eight indices compared at once and asking ahead for memory are slower",
    ),
    "max": (WINNER, SUMS),
    "adaptive_max": (WINNER, CELLS),
    "adaptive_max channels_last": (WINNER, CELLS),
    "max channels_last": (WINNER, SUMS),
    "avg channels_last": (TURNS, TURNS),
    "adaptive_avg channels_last": (TURNS, TURNS),
    "adaptive_avg": (TURNS, LEFT),
    "avg": (SMALL, SMALL),
}


@dataclass(frozen=True)
class Case:
    kind: str
    shape: tuple[int, ...]
    window: tuple[Any, ...]  # kernel size, stride, padding; or the output size
    channels_last: bool = False
    dtype: torch.dtype = torch.float32
    wanted: float = 1.0  # times as fast as PyTorch, forward
    wanted_backward: float = 1.0

    @property
    def name(self) -> str:
        form = " channels_last" if self.channels_last else ""
        dtype = "" if self.dtype == torch.float32 else f" {str(self.dtype)[6:]}"
        return f"{self.kind} {'x'.join(map(str, self.shape))} {'/'.join(map(str, self.window))}{dtype}{form}"

    @property
    def dims(self) -> int:
        return len(self.shape) - 2

    @property
    def selects(self) -> bool:
        """Whether results are numbers of the input, so that they are the same to the last bit."""
        return self.kind in ("max", "adaptive_max", "fractional_max", "max_unpool")

    def input(self) -> Tensor:
        x = torch.randn(self.shape).to(self.dtype)
        if self.kind == "lp":
            x = x.abs()  # where PyTorch is right
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x

    def functions(self) -> tuple[Function, Function]:
        """Our pooling and PyTorch's."""
        end = "" if self.kind == "max_unpool" else "_pool"
        pair = [getattr(module, f"{self.kind}{end}{self.dims}d") for module in (ours, theirs)]
        if self.kind == "lp":
            return tuple(lambda x, f=f: f(x, 2, *self.window) for f in pair)
        if self.kind == "fractional_max":
            samples = torch.rand(*self.shape[:2], self.dims)
            return tuple(lambda x, f=f: f(x, *self.window, _random_samples=samples) for f in pair)
        if self.kind == "max_unpool":
            indices = self._indices()
            return tuple(lambda x, f=f: f(x, indices, *self.window) for f in pair)
        return tuple(lambda x, f=f: f(x, *self.window) for f in pair)

    def _indices(self) -> Tensor:
        """Where the pooled cells of a map twice as large stood."""
        large = torch.randn(*self.shape[:2], *(2 * h for h in self.shape[2:]))
        pool = {1: theirs.max_pool1d, 2: theirs.max_pool2d, 3: theirs.max_pool3d}[self.dims]
        return pool(large, *self.window, return_indices=True)[1]

    def bytes_moved(self, x: Tensor, y: Tensor) -> int:
        """What the forward has to read and write: unpooling reads an index of eight bytes for each value as well."""
        return x.nbytes + y.nbytes + (8 * x.numel() if self.kind == "max_unpool" else 0)

    def bytes_moved_backward(self, x: Tensor, y: Tensor) -> int:
        """As many, but that the slopes of norms are found from the input and the norms themselves."""
        return (2 if self.kind == "lp" else 1) * self.bytes_moved(x, y)

    def onnx_node(self) -> tuple[str, dict[str, Any]] | None:
        """Name and attributes of the ONNX operator, if there is one."""
        if self.kind in ("adaptive_avg", "adaptive_max"):
            whole = {"adaptive_avg": "GlobalAveragePool", "adaptive_max": "GlobalMaxPool"}[self.kind]
            return (whole, {}) if self.window == (1,) else None
        names = {"max": "MaxPool", "avg": "AveragePool", "lp": "LpPool"}
        if self.kind not in names:
            return None
        kernel, stride, padding = (*self.window, 0)[:3]
        attributes: dict[str, Any] = {
            "kernel_shape": [kernel] * self.dims,
            "strides": [stride] * self.dims,
            "pads": [padding] * 2 * self.dims,
        }
        extra = {"avg": {"count_include_pad": 1}, "lp": {"p": 2}}.get(self.kind, {})
        return names[self.kind], attributes | extra

    def met(self, forward: dict[str, float], backward: dict[str, float]) -> bool:
        """Whether both ways are as many times as fast as PyTorch as they should be."""
        return not self._lost(forward, backward)

    def why(self, forward: dict[str, float], backward: dict[str, float]) -> str:
        """The reason for a row that falls short, by what takes the time."""
        lost = self._lost(forward, backward)
        if all(wanted * way["ours"] < 1.05 * way["torch"] for way, wanted, _ in lost):
            return EQUAL
        if all(way["ours"] - way["torch"] / wanted < CALL_MS for way, wanted, _ in lost):
            return CALL
        if all(way["ours"] < 1.3 * way[limit] < 2 * way["torch"] for way, _, limit in lost):
            return COPY
        is_whole = self.kind in ("max", "avg") and self.window[0] == self.shape[-1]
        kind = f"adaptive_{self.kind}" if is_whole else self.kind
        layout = " channels_last" if self.channels_last else ""
        worst = max(lost, key=lambda way: way[1] * way[0]["ours"] / way[0]["torch"])
        return REASONS.get(kind + layout, (LEFT, LEFT))[worst[0] is backward]

    def why_no_copy(self) -> str:
        """Why a large map takes longer than a copy of its bytes, where PyTorch takes longer still."""
        if self.kind == "lp":
            return "copies: powers, sums and roots pass through the caches one after the other"
        if self.kind == "fractional_max":
            return "copies: windows at random places are looked up one by one"
        if self.dtype.itemsize == 2:
            return "copies: 16-bit numbers are widened and rounded back"
        if self.kind.startswith("adaptive") or self.window[1] > 2:
            return "copies: windows more than two cells apart are taken one by one"
        if self.window[0] > self.window[1]:
            return "copies: every cell is in several windows"
        return "copies: a copy within the caches gains more than sums and choices do"

    def _lost(self, forward: dict[str, float], backward: dict[str, float]) -> list[tuple[dict[str, float], float, str]]:
        """The ways that fall short: what was measured, what was wanted, and which measurement is the limit."""
        ways = ((forward, self.wanted, "copy"), (backward, self.wanted_backward, "fill"))
        return [way for way in ways if way[0]["torch"] < way[1] * way[0]["ours"]]


# From LeNet to the stems of ResNets, one axis and three, 1 to 512 channels, odd sizes.
WINDOWS = (
    ((128, 6, 28, 28), (2, 2)),
    ((128, 16, 10, 10), (2, 2)),
    ((128, 32, 26, 26), (2, 2)),
    ((32, 64, 112, 112), (3, 2, 1)),
    ((32, 64, 112, 112), (2, 2)),
    ((32, 256, 28, 28), (2, 2)),
    ((16, 512, 14, 14), (2, 2)),
    ((8, 64, 111, 111), (3, 3)),
    ((8, 64, 57, 57), (2, 1)),
    ((16, 128, 13, 13), (5, 1, 2)),
    ((4, 1, 512, 512), (2, 2)),
    ((64, 32, 5000), (2, 2)),
    ((4, 32, 16, 56, 56), (2, 2)),
    ((1, 1, 8, 8), (2, 2)),
)
CHANNELS_LAST = (
    ((32, 64, 112, 112), (2, 2)),
    ((32, 64, 112, 112), (3, 2, 1)),
    ((16, 512, 14, 14), (2, 2)),
    ((32, 512, 7, 7), (7, 7)),
)
BINS = (
    ((32, 64, 56, 56), (7,)),
    ((8, 64, 55, 53), (7,)),
    ((32, 512, 14, 14), (1,)),
    ((32, 512, 7, 7), (1,)),
    ((64, 32, 5000), (12,)),
    ((4, 32, 16, 30, 31), (5,)),
)
CHANNELS_LAST_BINS = (((32, 512, 14, 14), (1,)), ((32, 512, 7, 7), (1,)))
HALVES_AND_DOUBLES = (torch.bfloat16, torch.float16, torch.float64)
RANDOM = (
    ((32, 64, 36, 36), (2, 25)),
    ((16, 128, 25, 25), (2, 18)),
    ((4, 16, 16, 28, 28), (2, 9)),
)
POOLED = (
    ((32, 64, 56, 56), (2, 2)),
    ((128, 6, 14, 14), (2, 2)),
    ((16, 512, 7, 7), (2, 2)),
    ((64, 32, 2500), (2, 2)),
    ((4, 32, 8, 28, 28), (2, 2)),
)


AVERAGES = (  # besides WINDOWS
    ((8, 64, 57, 57), (3, 1, 1)),
    ((64, 32, 5000), (5, 1, 2)),
)


def _average(shape: tuple[int, ...], window: tuple[Any, ...]) -> Case:
    """Averages of 2x2 windows should be five times as fast forward, and four times backward."""
    wanted, wanted_backward = (5.0, 4.0) if len(shape) == 4 and window == (2, 2) else (1.0, 1.0)
    return Case("avg", shape, window, wanted=wanted, wanted_backward=wanted_backward)


def cases() -> list[Case]:
    """All rows, member by member."""
    rows = [Case("max", shape, window) for shape, window in WINDOWS]
    rows += [_average(shape, window) for shape, window in WINDOWS + AVERAGES]
    rows += [Case("avg", (32, 64, 56, 56), (2, 2), dtype=dtype) for dtype in HALVES_AND_DOUBLES]
    rows += [Case(kind, shape, window, True) for kind in ("max", "avg") for shape, window in CHANNELS_LAST]
    rows += [Case("lp", shape, window) for shape, window in WINDOWS if len(window) == 2 and shape != (64, 32, 5000)]
    adaptive = ("adaptive_max", "adaptive_avg")
    rows += [Case(kind, shape, window) for kind in adaptive for shape, window in BINS]
    rows += [Case(kind, shape, window, True) for kind in adaptive for shape, window in CHANNELS_LAST_BINS]
    rows += [Case("fractional_max", shape, window) for shape, window in RANDOM]
    return rows + [Case("max_unpool", shape, window) for shape, window in POOLED]
