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

SMALL = "so few cells that the call through Python's autograd is most of the time"
STARTS = "where the random windows lie is computed by a dozen small steps before the kernel runs"
SAME = "PyTorch's own kernel under another name"
LEFT = "not reached"


@dataclass(frozen=True)
class Case:
    kind: str
    shape: tuple[int, ...]
    window: tuple[Any, ...]  # kernel size, stride, padding; or the output size
    channels_last: bool = False

    @property
    def name(self) -> str:
        form = " channels_last" if self.channels_last else ""
        return f"{self.kind} {'x'.join(map(str, self.shape))} {'/'.join(map(str, self.window))}{form}"

    @property
    def dims(self) -> int:
        return len(self.shape) - 2

    @property
    def selects(self) -> bool:
        """Whether results are numbers of the input, so that they are the same to the last bit."""
        return self.kind in ("max", "adaptive_max", "fractional_max", "max_unpool")

    def input(self) -> Tensor:
        x = torch.randn(self.shape)
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

    def why(self, forward: dict[str, float], backward: dict[str, float]) -> str:
        """The reason for a row that PyTorch wins, by what takes the time."""
        lost = [ours for ours, torch in _pairs(forward, backward) if ours > torch]
        if max(lost) < 0.1:
            return SMALL
        if self.kind == "fractional_max":
            return STARTS
        return SAME if max(ours / torch for ours, torch in _pairs(forward, backward)) < 1.08 else LEFT


def _pairs(*measured: dict[str, float]) -> list[tuple[float, float]]:
    return [(times["ours"], times["torch"]) for times in measured]


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


def cases() -> list[Case]:
    """All rows, member by member."""
    rows = [Case(kind, shape, window) for kind in ("max", "avg") for shape, window in WINDOWS]
    rows += [Case(kind, shape, window, True) for kind in ("max", "avg") for shape, window in CHANNELS_LAST]
    rows += [Case("lp", shape, window) for shape, window in WINDOWS if len(window) == 2 and shape != (64, 32, 5000)]
    rows += [Case(kind, shape, window) for kind in ("adaptive_max", "adaptive_avg") for shape, window in BINS]
    rows += [Case("fractional_max", shape, window) for shape, window in RANDOM]
    return rows + [Case("max_unpool", shape, window) for shape, window in POOLED]
