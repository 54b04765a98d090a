"""A whole training step as one CUDA graph for each shape of batch: recorded once, replayed from then on.

Launching a kernel costs the host about as long as a small kernel runs, and a step launches hundreds; a graph launches
them all at once. The same kernels run on the same numbers in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from switchgrad.train.step import Outcome

WARM_UP = 3
MOST_GRAPHS = 4

Run: TypeAlias = Callable[[Tensor, Tensor], Outcome]


class CannotRecord(Exception):
    """A step cannot be held by a graph; the message is the reason, without a full stop."""


class Recorder(Protocol):
    """What records: `cuda_graph.CudaRecorder`, or in tests something that runs the function again at each replay."""

    def warm_up(self, step: Callable[[], Outcome]) -> Outcome:
        """Run ``step`` as a stream that can be captured will run it."""
        ...

    def rehearse(self, step: Callable[[], Outcome]) -> tuple[Outcome, str]:
        """The same, and the reason why it cannot be recorded, or nothing."""
        ...

    def record(self, step: Callable[[], Outcome]) -> tuple[Outcome, Callable[[], None]]:
        """Record ``step`` without running it: where its outcome will lie, and what runs it; or `CannotRecord`."""
        ...


class _Recorded:
    """A graph with the places where its input and its outcome lie."""

    def __init__(self, run: Run, recorder: Recorder, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x.clone(), y.clone()
        self.outcome, self.replay = recorder.record(lambda: run(self.x, self.y))

    def __call__(self, x: Tensor, y: Tensor) -> Outcome:
        self.x.copy_(x)
        self.y.copy_(y)
        self.replay()
        return self.outcome


class GraphedStep:
    """``run`` behind graphs: the first batches of a shape train as they are, then their step is recorded and replayed.

    These first three steps are steps of the training like all others; they let libraries choose their kernels and the
    optimiser make its state, which a graph cannot hold. An epoch has batches of two sizes at most, so there are two
    graphs; a shape beyond the fourth runs without. Where a step cannot be recorded, ``tell`` gets one sentence that
    says why, and all steps run without.

    The outcome of a replay lies where the next one writes: read it before. ``written`` are the tensors that a step
    changes: a replay passes PyTorch's count of changes by, so it is moved on here, for those who keep what they once
    computed from weights.
    """

    def __init__(
        self, run: Run, recorder: Recorder, tell: Callable[[str], None], written: Sequence[Tensor] = ()
    ) -> None:
        """Nothing is recorded yet."""
        self.run, self.recorder, self.tell, self.written = run, recorder, tell, tuple(written)
        self.given_up = False
        self.seen: dict[object, int] = {}
        self.recorded: dict[object, _Recorded] = {}

    def __call__(self, x: Tensor, y: Tensor) -> Outcome:
        """One step, by the graph of this shape where there is one."""
        shape = _shape(x, y)
        if shape not in self.recorded and not self._record(shape, x, y):
            return self._run_unrecorded(shape, x, y)
        outcome = self.recorded[shape](x, y)
        torch.autograd.graph.increment_version(self.written)
        return outcome

    def _record(self, shape: object, x: Tensor, y: Tensor) -> bool:
        warm = self.seen.get(shape, 0) >= WARM_UP
        if self.given_up or not warm or len(self.recorded) == MOST_GRAPHS:
            return False
        try:
            self.recorded[shape] = _Recorded(self.run, self.recorder, x, y)
        except CannotRecord as reason:
            self._give_up(str(reason))
        return not self.given_up

    def _run_unrecorded(self, shape: object, x: Tensor, y: Tensor) -> Outcome:
        self.seen[shape] = self.seen.get(shape, 0) + 1
        if self.given_up or self.seen[shape] > WARM_UP:
            return self.run(x, y)
        if self.seen[shape] < WARM_UP:
            return self.recorder.warm_up(lambda: self.run(x, y))
        outcome, reason = self.recorder.rehearse(lambda: self.run(x, y))
        if reason:
            self._give_up(reason)
        return outcome

    def _give_up(self, reason: str) -> None:
        self.given_up = True
        self.tell(f"steps run without a CUDA graph: {reason}; cuda_graphs=False skips the attempt")


def _shape(x: Tensor, y: Tensor) -> object:
    return x.shape, x.stride(), x.dtype, y.shape
