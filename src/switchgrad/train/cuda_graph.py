"""The recorder of `graphs` for a CUDA device: PyTorch's graphs, and what it takes to fail without leaving traces."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from switchgrad.train.graphs import CannotRecord, GraphedStep, Run
from switchgrad.train.recipe import Recipe
from switchgrad.train.step import Outcome, Step, hold_back

_WAITS = "synchronizing CUDA operation"


def make_run(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    device: torch.device,
    tell: Callable[[str], None],
) -> Run:
    """What makes the steps of a run on ``device``: behind graphs on CUDA, unless the recipe leaves them out."""
    if device.type != "cuda":
        return Step(model, optimizer, recipe)
    step = Step(model, optimizer, recipe, guard=hold_back)
    if not recipe.cuda_graphs:
        return step
    return GraphedStep(step, CudaRecorder(device), tell, [*model.parameters(), *model.buffers()])


class CudaRecorder:
    """Records steps on ``device`` into graphs that share their memory, since they never run at the same time."""

    def __init__(self, device: torch.device) -> None:
        """A stream to record on; a device's default stream cannot be recorded."""
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.pool: Any = None

    def warm_up(self, step: Callable[[], Outcome]) -> Outcome:
        """Run ``step`` on the stream that will be recorded, after all that was asked for before."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            outcome = step()
        current.wait_stream(self.stream)
        for tensor in outcome:
            tensor.record_stream(current)
        return outcome

    def rehearse(self, step: Callable[[], Outcome]) -> tuple[Outcome, str]:
        """Run ``step`` and watch whether it makes the host wait for the device, which a graph cannot."""
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                outcome = self.warm_up(step)
            finally:
                torch.cuda.set_sync_debug_mode(before)
        waits = [told for told in caught if _WAITS in str(told.message)]
        for told in caught:
            if told not in waits:
                warnings.warn_explicit(told.message, told.category, told.filename, told.lineno)
        return outcome, f"the host waits for the device at {waits[0].filename}:{waits[0].lineno}" if waits else ""

    def record(self, step: Callable[[], Outcome]) -> tuple[Outcome, Callable[[], None]]:
        """Capture ``step``; PyTorch registers the device's default generator, from which dropout draws, by itself."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                outcome = step()
        except RuntimeError as error:
            del graph
            self._recover(current)
            raise CannotRecord(f"its capture failed ({_first_line(error)})") from error
        self.pool = graph.pool()
        return outcome, graph.replay

    def _recover(self, current: torch.cuda.Stream) -> None:
        """What a failed capture leaves behind: its stream in use, and a generator that believes to be captured."""
        torch.cuda.set_stream(current)
        torch.cuda.synchronize(self.device)
        with torch.cuda.device(self.device):
            generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(fresh_generator(self.device).graphsafe_get_state())


def fresh_generator(device: torch.device) -> torch.Generator:
    """A generator whose state nobody has used."""
    return torch.Generator(device=device)


def _first_line(error: BaseException) -> str:
    """What went wrong first: the end of a capture fails too, in words that say less."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
