"""A whole training step on CUDA: time and peak memory of PyTorch eager, torch.compile and `switchgrad.optimize`.

    python benchmarks/step_gpu.py              # all rows, writes results/step_gpu.json
    python benchmarks/step_gpu.py --dry-run    # everything once on the CPU, small, without writing

Forward, loss, backward and SGD with momentum (PyTorch's fused one, for every side) on one batch, in float32 (with TF32
in convolutions, PyTorch's default) and under autocast to bfloat16. ``graph`` is the optimized step as
`switchgrad.train` runs it: recorded in a CUDA graph and replayed. All ways start from the same weights. A network's
rows are measured only after the gradients agree: the error of the optimized network's against float64, without TF32,
is at most four times that of PyTorch's.

Each way is built, measured and thrown away before the next one, so that its peak memory is its own. PyTorch's eager
step is measured again at the end: ``drift`` says by how much the device changed meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import switchgrad
from measure_gpu import Machine, run
from networks import NETWORKS, convolutions
from step import gradients, relative
from switchgrad.train.cuda_graph import CudaRecorder
from switchgrad.train.graphs import WARM_UP, GraphedStep
from switchgrad.train.step import Outcome

CASES = (("vgg_cifar", 128), ("resnet18", 64), ("vgg16", 32))
GATE_BATCH = 2


def tiny() -> nn.Module:
    """What a dry run trains."""
    return nn.Sequential(*convolutions((4, 0, 6, 0), norm=True), nn.Flatten(), nn.Linear(6 * 4, 5))


@dataclass(frozen=True)
class Case:
    """A network, the shape of a picture, classes, a batch, and whether autocast is on."""

    network: str
    make: Callable[[], nn.Module]
    picture: tuple[int, int, int]
    classes: int
    batch: int
    autocast: bool

    @property
    def name(self) -> str:
        return f"{self.network} batch {self.batch} {'bfloat16 autocast' if self.autocast else 'float32'}"

    def data(self, machine: Machine, batch: int, last: bool) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(batch, *self.picture, generator=generator).to(machine.name)
        labels = torch.randint(0, self.classes, (batch,), generator=generator).to(machine.name)
        return (images.contiguous(memory_format=torch.channels_last) if last else images), labels


class Again:
    """What stands for the recorder of CUDA graphs in a dry run: calls the step again."""

    def warm_up(self, step: Callable[[], Outcome]) -> Outcome:
        return step()

    def rehearse(self, step: Callable[[], Outcome]) -> tuple[Outcome, str]:
        return step(), ""

    def record(self, step: Callable[[], Outcome]) -> tuple[Outcome, Callable[[], None]]:
        outcome = step()

        def replay() -> None:
            step()

        return outcome, replay


# name: (channels last, optimized, how it is called)
WAYS: dict[str, tuple[bool, bool, str]] = {
    "torch": (False, False, "eager"),
    "channels_last": (True, False, "eager"),
    "compile": (False, False, "compile"),
    "compile_channels_last": (True, False, "compile"),
    "optimized": (False, True, "eager"),
    "optimized_channels_last": (True, True, "eager"),
    "graph": (False, True, "graph"),
    "graph_channels_last": (True, True, "graph"),
}
OURS = tuple(name for name, (_, optimized, _) in WAYS.items() if optimized)


def build(case: Case, network: nn.Module, way: str, machine: Machine) -> Callable[[], object]:
    """One step of ``network``, in one of the ways, on a batch that stays."""
    last, optimized, how = WAYS[way]
    model = copy.deepcopy(network)
    model = model.to(memory_format=torch.channels_last) if last else model  # pyright: ignore[reportCallIssue]
    model = switchgrad.optimize(model) if optimized else model
    called: Any = torch.compile(model, backend="eager" if machine.dry else "inductor") if how == "compile" else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, fused=True)

    def step(x: Tensor, y: Tensor) -> Outcome:
        optimizer.zero_grad()
        with torch.autocast(machine.name, torch.bfloat16, enabled=case.autocast):
            scores = called(x)
        loss = nn.functional.cross_entropy(scores.float(), y)
        loss.backward()
        optimizer.step()
        return Outcome(loss.detach(), (scores.argmax(1) == y).sum())

    x, y = case.data(machine, case.batch, last)
    if how != "graph":
        return lambda: step(x, y)
    graphed = GraphedStep(step, Again() if machine.dry else CudaRecorder(torch.device("cuda", 0)), refuse)
    return lambda: graphed(x, y)


def peak_of(step: Callable[[], object], way: str, machine: Machine) -> int:
    """The peak memory of a step; of one that is recorded, from the first step to the recording."""
    if WAYS[way][2] == "graph":
        return machine.peak_bytes(lambda: [step() for _ in range(WARM_UP + 1)])
    for _ in range(WARM_UP):
        step()
    return machine.peak_bytes(step)


def refuse(sentence: str) -> None:
    """A step that could not be recorded is no figure."""
    raise SystemExit(sentence)


def gate(case: Case, network: nn.Module, machine: Machine) -> None:
    """Stop where the gradients of an optimized network are much further from float64's than PyTorch's."""
    with exactly():
        for last in (False, True):
            images, labels = case.data(machine, GATE_BATCH, last)
            exact = gradients(copy.deepcopy(network).double(), images.double(), labels)
            with torch.autocast(machine.name, torch.bfloat16, enabled=case.autocast):
                theirs = gradients(copy.deepcopy(network), images, labels)
                ours = gradients(switchgrad.optimize(copy.deepcopy(network)), images, labels)
            error, allowed = max(relative(ours, exact)), 3 * max(relative(theirs, exact)) + 1e-5
            if not error <= allowed:
                raise SystemExit(
                    f"{case.name}{', channels last' if last else ''}: gradients differ from PyTorch's: relative error "
                    f"{error:.3g} where {allowed:.3g} is allowed"
                )


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Convolutions and matrix products without TF32."""
    matmul, before = torch.backends.cuda.matmul, torch.backends.cuda.matmul.allow_tf32
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        matmul.allow_tf32 = False
        try:
            yield
        finally:
            matmul.allow_tf32 = before


def measure_case(case: Case, network: nn.Module, machine: Machine, seconds: float) -> dict[str, Any]:
    times: dict[str, float] = {}
    peaks: dict[str, int] = {}
    for way in (*WAYS, "torch again"):
        machine.forget()
        name = way.removesuffix(" again")
        step = build(case, network, name, machine)
        peaks[way] = peak_of(step, name, machine)
        times[way] = machine.median_ms(step, seconds)
        del step
    peers = [way for way in WAYS if way not in OURS]
    fastest, best = (min(ways, key=times.__getitem__) for ways in (peers, OURS))
    return {
        "case": case.name,
        **{f"{way}_ms": times[way] for way in WAYS},
        **{f"{way}_bytes": peaks[way] for way in WAYS},
        "fastest_peer": fastest,
        "fastest_of_ours": best,
        "times_fastest": times[fastest] / times[best],
        "times_torch": times["torch"] / times[best],
        "memory_of_torch": peaks[best] / peaks["torch"] if peaks["torch"] else None,
        "drift": times["torch again"] / times["torch"],
    }


def cases(machine: Machine) -> Iterator[Case]:
    if machine.dry:
        for autocast in (False, True):
            yield Case("tiny", tiny, (3, 8, 8), 5, 4, autocast)
        return
    for name, batch in CASES:
        make, picture, classes = NETWORKS[name]
        for autocast in (False, True):
            yield Case(name, make, picture, classes, batch, autocast)


def measure(machine: Machine, options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for case in cases(machine):
        if options.only not in case.name:
            continue
        torch.manual_seed(0)
        network = case.make().to(machine.name)
        gate(case, network, machine)
        rows.append(measure_case(case, network, machine, options.seconds))
    return rows


if __name__ == "__main__":
    run("step_gpu", measure)
