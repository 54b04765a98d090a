"""The recorder for CUDA devices, driven through stand-ins for PyTorch's graphs: order of streams, and how it fails."""

import warnings

import pytest
import torch
from torch import nn

from switchgrad.train import Recipe, cuda_graph
from switchgrad.train.cuda_graph import CudaRecorder, make_run
from switchgrad.train.graphs import CannotRecord, GraphedStep
from switchgrad.train.loop import make_optimizer
from switchgrad.train.step import Outcome, Step, hold_back, look_first

DEVICE = torch.device("cuda", 0)


class Stream:
    def __init__(self, name, log):
        self.name, self.log = name, log

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")


class Context:
    def __init__(self, log, name, at_end=None):
        self.log, self.name, self.at_end = log, name, at_end

    def __enter__(self):
        self.log.append(f"in {self.name}")

    def __exit__(self, *error):
        self.log.append(f"out of {self.name}")
        if self.at_end:
            raise RuntimeError(self.at_end)


class Graph:
    def __init__(self, log):
        self.replay = lambda: log.append("replay")

    def pool(self):
        return "the pool"


class Generator:
    state = "captured"

    def graphsafe_get_state(self):
        return "fresh"

    def graphsafe_set_state(self, state):
        self.state = state


@pytest.fixture
def cuda(monkeypatch):
    """`torch.cuda`, as far as the recorder uses it, that writes down what it is asked for."""
    log, mode = [], [0]
    generator = Generator()
    current = Stream("default", log)
    for name, value in {
        "Stream": lambda device: Stream("side", log),
        "CUDAGraph": lambda: Graph(log),
        "current_stream": lambda device: current,
        "stream": lambda stream: Context(log, stream.name),
        "graph": lambda graph, pool, stream: Context(log, f"capture on {stream.name} with {pool}"),
        "set_stream": lambda stream: log.append(f"back to {stream.name}"),
        "synchronize": lambda device: log.append("synchronize"),
        "default_generators": (generator,),
        "device": lambda device: Context([], "device"),
        "current_device": lambda: 0,
        "get_sync_debug_mode": lambda: mode[0],
        "set_sync_debug_mode": lambda value: mode.__setitem__(0, value),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: log.append(f"kept for {stream.name}"))
    monkeypatch.setattr(cuda_graph, "fresh_generator", lambda device: Generator())
    return log, mode, generator


def outcome():
    return Outcome(torch.tensor(1.0), torch.tensor(2))


def test_warming_up_runs_on_the_side_between_what_was_before_and_what_comes_after(cuda):
    log, _, _ = cuda
    assert CudaRecorder(DEVICE).warm_up(outcome).read() == (1.0, 2)
    assert log == [
        "side waits for default",
        "in side",
        "out of side",
        "default waits for side",
        *2 * ["kept for default"],
    ]


def test_a_rehearsal_finds_waiting_and_passes_other_warnings_on(cuda):
    _, mode, _ = cuda
    recorder = CudaRecorder(DEVICE)
    assert recorder.rehearse(outcome)[1] == ""

    def waits():
        assert mode == ["warn"]
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        return outcome()

    _, reason = recorder.rehearse(waits)
    assert reason.startswith("the host waits for the device at ")
    assert __file__ in reason
    assert mode == [0]

    def other():
        warnings.warn("something else", FutureWarning, stacklevel=1)
        return outcome()

    with pytest.warns(FutureWarning, match="something else"):
        assert recorder.rehearse(other)[1] == ""

    def fails():
        raise ValueError("a bug in the network")

    with pytest.raises(ValueError, match="a bug"):
        recorder.rehearse(fails)
    assert mode == [0]


def test_graphs_share_their_memory(cuda):
    log, _, _ = cuda
    recorder = CudaRecorder(DEVICE)
    for _ in range(2):
        found, replay = recorder.record(outcome)
        replay()
    assert found.read() == (1.0, 2)
    assert log == [
        "in capture on side with None", "out of capture on side with None", "replay",
        "in capture on side with the pool", "out of capture on side with the pool", "replay",
    ]  # fmt: skip


@pytest.mark.parametrize("at_end", [None, "CUDA error: operation failed due to a previous error during capture"])
def test_a_failed_capture_gives_its_first_cause_and_cleans_up(cuda, monkeypatch, at_end):
    log, _, generator = cuda
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool, stream: Context(log, "capture", at_end))

    def fails():
        raise torch.cuda.OutOfMemoryError("out of memory\nTried to allocate")

    recorder = CudaRecorder(torch.device("cuda", 0))
    with pytest.raises(CannotRecord, match=r"^its capture failed \(out of memory\)$"):
        recorder.record(fails)
    assert log[-2:] == ["back to default", "synchronize"]
    assert generator.state == "fresh"
    assert recorder.pool is None


def test_which_steps_run_where(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    net = nn.Linear(2, 2)
    recipe = Recipe()
    optimizer = make_optimizer(net, recipe)
    on_cpu = make_run(net, optimizer, recipe, torch.device("cpu"), pytest.fail)
    assert isinstance(on_cpu, Step)
    assert on_cpu.guard is look_first
    left_out = make_run(net, optimizer, recipe.replace(cuda_graphs=False), DEVICE, pytest.fail)
    assert isinstance(left_out, Step)
    assert left_out.guard is hold_back
    graphed = make_run(net, optimizer, recipe, DEVICE, pytest.fail)
    assert isinstance(graphed, GraphedStep)
    assert graphed.run.guard is hold_back
    assert all(a is b for a, b in zip(graphed.written, net.parameters(), strict=True))
