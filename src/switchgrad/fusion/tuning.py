"""Which blocks are worth fusing on this machine, for the shapes of an example: each is timed both ways."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from switchgrad.fusion.chains import Block, find
from switchgrad.fusion.modules import take_programs
from switchgrad.fusion.planning import Plan, in_mode, plan
from switchgrad.fusion.program import write
from switchgrad.fusion.sharing import share
from switchgrad.fusion.timings import Timing, Timings, keep_timings

_ROUNDS, _LONGEST_S = 15, 0.4  # each block is run so often both ways, or until so many seconds have passed


def tune(root: nn.Module, example: Sequence[Any]) -> None:
    """Time every block below ``root`` that could be fused, with the inputs that ``example`` leads to, and keep that.

    Training is timed forward and backward, evaluation forward alone; statistics, parameters and generators stay as
    they are.
    """
    with torch.random.fork_rng(devices=[]):
        seen = _arguments(root, plan(root), example)
        for module, arguments in seen.items():
            timings: Timings = {}
            keep_timings(module, timings)
            for training in (True, False):
                _tune_module(module, arguments, training, timings)


def _arguments(
    root: nn.Module, plans: Mapping[nn.Module, Plan], example: Sequence[Any]
) -> dict[nn.Module, tuple[Any, ...]]:
    """What each module that has a program is called with, the first time."""
    seen: dict[nn.Module, tuple[Any, ...]] = {}
    twin = _plain_twin(root)
    handles: list[Any] = []
    running = set(_running(root, plans, set()))
    for module, other in zip(root.modules(), twin.modules(), strict=True):
        if module in running:

            def look(_: nn.Module, arguments: tuple[Any, ...], owner: nn.Module = module) -> None:
                seen.setdefault(owner, _copies(arguments))

            handles.append(other.register_forward_pre_hook(look))
    try:
        with in_mode(twin, False), torch.no_grad():
            twin(*_copies(example))
    finally:
        for handle in handles:  # the twin shares its dictionaries of hooks with the original
            handle.remove()
    return seen


def _running(module: nn.Module, plans: Mapping[nn.Module, Plan], covered: set[nn.Module]) -> Iterator[nn.Module]:
    """The modules that run a program of their own, rather than within that of a module around them."""
    found = plans.get(module)
    if found is not None and found.compiled and module not in covered:
        yield module
        for compiled in found.compiled.values():
            covered.update((*compiled.reading.read_through, *(leaf for leaf, _ in compiled.modes)))
    for child in module.children():
        yield from _running(child, plans, covered)


def _plain_twin(root: nn.Module) -> nn.Module:
    twin = share(root)
    for module in twin.modules():
        take_programs(module)
    return twin


def _copies(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(value.detach().clone() if isinstance(value, Tensor) else value for value in values)


def _tune_module(module: nn.Module, arguments: tuple[Any, ...], training: bool, timings: Timings) -> None:
    """Time the blocks; where one is slower fused, the shorter ones that then fit are timed as well."""
    scratch = copy.deepcopy(_plain_twin(module))  # statistics move here, and nowhere else
    modules = dict(scratch.named_modules())
    with in_mode(scratch, training):
        found = plan(scratch)[scratch]
        reading = found.compiled[training].reading if found.compiled else None
        if reading is None or len(arguments) != len(reading.inputs):
            return
        values = _Recorder(scratch, reading.graph).values(arguments)
        while True:
            blocks, _, _ = find(reading.graph, modules, training, timings)
            fresh = [block for block in blocks if (training, block.name) not in timings]
            if not fresh:
                return
            for block in fresh:
                timings[training, block.name] = _time(scratch, block, values[block.stages[0].input], training)


class _Recorder(fx.Interpreter):
    """Runs a graph as it was written and remembers what each node gave."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, garbage_collect_values=False, graph=graph)
        self._values: dict[fx.Node, Any] = {}

    def values(self, arguments: tuple[Any, ...]) -> dict[fx.Node, Any]:
        """The value of every node, before anything worked on it in place."""
        with torch.no_grad():
            self.run(*_copies(arguments))
        return self._values

    def fetch_attr(self, target: str) -> Any:
        """What ``target`` names; "" is the module itself."""
        return super().fetch_attr(target) if target else self.module

    def run_node(self, n: fx.Node) -> Any:
        """One node's value."""
        value = super().run_node(n)
        self._values[n] = value.detach().clone() if isinstance(value, Tensor) else value
        return value


def _time(owner: nn.Module, block: Block, input: Tensor, training: bool) -> Timing:
    """Milliseconds of the block fused and as written, medians of runs in turns."""
    ways: list[Callable[[], Any]] = []
    for fused in (True, False):
        graph = _alone(block)
        blocks, _, _ = find(graph, dict(owner.named_modules()), training, {})
        program = write(graph, [b for b in blocks if b.rule is block.rule] if fused else [])
        ways.append(_runner(owner, program.run, input, training))
    for way in ways:
        way()
    spent: list[list[float]] = [[], []]
    begin = time.perf_counter()
    while len(spent[0]) < _ROUNDS and (len(spent[0]) < 3 or time.perf_counter() - begin < _LONGEST_S):
        for way, times in zip(ways, spent, strict=True):
            start = time.perf_counter()
            way()
            times.append(time.perf_counter() - start)
    fused_ms, written_ms = (statistics.median(times) * 1e3 for times in spent)
    return Timing(fused_ms, written_ms)


def _alone(block: Block) -> fx.Graph:
    """A graph of the block's own nodes, whose one input is the block's."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {block.stages[0].input: graph.placeholder("input")}

    def copied(node: fx.Node) -> fx.Node:
        if node not in copies:
            for source in node.all_input_nodes:
                copied(source)
            copies[node] = graph.node_copy(node, lambda source: copies[source])
        return copies[node]

    graph.output(copied(block.stages[-1].node))
    return graph


def _runner(owner: nn.Module, run: Callable[..., Tensor], input: Tensor, training: bool) -> Callable[[], Any]:
    parameters = [p for p in owner.parameters() if p.requires_grad]

    def forward() -> Tensor:
        with torch.no_grad():
            return run(owner, input)

    def both() -> Any:
        x = (input * 1).requires_grad_()
        with torch.enable_grad():
            y = run(owner, x * 1)  # not a leaf, since the block may work on it in place
        return torch.autograd.grad(y, [x, *parameters], torch.ones_like(y), allow_unused=True)

    return both if training else forward
