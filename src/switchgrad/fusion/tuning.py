"""Which way to run each chain is the fastest here, for the shapes of an example: every candidate is timed.

Candidates of a chain are the blocks of every rule that fits a piece of it, and each operation as the model wrote it:
all of them with the maps as they come, and with all maps of the forward in the other layout. The cheapest cut of each
chain makes a forward in each layout, and these are timed as wholes.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from switchgrad.fusion.chains import Block, Link, candidates, find
from switchgrad.fusion.executing import Reading
from switchgrad.fusion.layouts import ENTRIES, other_layout
from switchgrad.fusion.modules import take_programs
from switchgrad.fusion.planning import Plan, in_mode, plan
from switchgrad.fusion.program import write
from switchgrad.fusion.sharing import share
from switchgrad.fusion.timing_file import TimingFile, describe, describe_whole
from switchgrad.fusion.timings import WRITTEN, Layout, Timings, keep_timings

_ROUNDS, _LONGEST_S = 11, 0.4  # each candidate runs so often, or until so many seconds a candidate have passed
_LEAST_ROUNDS = 3


def tune(root: nn.Module, example: Sequence[Any], file: TimingFile) -> None:
    """Time every candidate below ``root`` with the inputs that ``example`` leads to, and keep the milliseconds.

    Training is timed forward and backward, evaluation forward alone; statistics, parameters and generators stay as
    they are. What ``file`` knows already is taken from there, and what it does not is written into it.
    """
    with torch.random.fork_rng(devices=[]):
        for module, arguments in _arguments(root, plan(root), example).items():
            timings = Timings()
            for training in (True, False):
                _Tuner(module, training, timings, file).tune(arguments)
            keep_timings(module, timings)


def _arguments(
    root: nn.Module, plans: Mapping[nn.Module, Plan], example: Sequence[Any]
) -> dict[nn.Module, tuple[Any, ...]]:
    """What each module that has a program is called with, the first time; with the gradients that it asks for."""
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
        with in_mode(twin, False), torch.enable_grad():
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
    return tuple(_copy(value) if isinstance(value, Tensor) else value for value in values)


def _copy(value: Tensor) -> Tensor:
    return value.detach().clone().requires_grad_(value.requires_grad)


class _Tuner:
    """One module in one mode."""

    def __init__(self, module: nn.Module, training: bool, timings: Timings, file: TimingFile) -> None:
        self.owner = copy.deepcopy(_plain_twin(module))  # statistics move here, and nowhere else
        self.training, self.timings, self.file = training, timings, file
        self.modules = dict(self.owner.named_modules())

    def tune(self, arguments: tuple[Any, ...]) -> None:
        """Time the chains in each layout, then the whole in each."""
        with in_mode(self.owner, self.training):
            found = plan(self.owner)[self.owner]
            if not found.compiled or len(arguments) != len(found.compiled[self.training].reading.inputs):
                return
            reading = found.compiled[self.training].reading
            recorder = _Recorder(self.owner, reading.graph, self.training)
            values, outputs = recorder.values(arguments)
            self._chains("", reading.graph, values)
            layouts: list[Layout] = [""]
            layout = other_layout(reading.graph, arguments, outputs)
            if layout:
                moved = tuple(ENTRIES[layout](value) for value in _copies(arguments))
                try:
                    values, _ = recorder.values(tuple(_copies(moved)))
                    self._chains(layout, reading.graph, values)
                    layouts.append(layout)
                except RuntimeError:  # an operation that does not take this layout
                    pass
            if layouts != [""]:
                self._wholes(layouts, reading, arguments)

    def _chains(self, layout: Layout, graph: fx.Graph, values: Mapping[fx.Node, Any]) -> None:
        for links, blocks in candidates(graph, self.modules, self.training):
            ways: dict[tuple[str, str], tuple[str, Callable[[], Any]]] = {}
            pieces = [(link, None) for link in links] + [(block, block) for block in blocks]
            for piece, block in pieces:
                operator = WRITTEN if block is None else block.rule.operator
                what = describe(piece.stages, operator, values, self.training)
                ways[piece.name, operator] = what, self._way(piece, block, values[piece.stages[0].input])
            for (name, operator), ms in self._times(ways).items():
                self.timings.chains[self.training, layout, name, operator] = ms

    def _times(self, ways: Mapping[tuple[str, str], tuple[str, Callable[[], Any]]]) -> dict[tuple[str, str], float]:
        """Milliseconds of each; those that the file knows are not run, and equal work is run once."""
        fresh = {what: way for what, way in ways.values() if self.file.get(what) is None}
        for what, ms in zip(fresh, milliseconds(list(fresh.values())), strict=True):
            self.file.put(what, ms)
        return {key: self.file[what] for key, (what, _) in ways.items()}

    def _way(self, piece: Link | Block, block: Block | None, input: Tensor) -> Callable[[], Any]:
        graph = _alone(piece)
        blocks: list[Block] = []
        if block is not None:
            fitting = [b for _, found in candidates(graph, self.modules, self.training) for b in found]
            blocks = [b for b in fitting if b.rule is block.rule and len(b.stages) == len(block.stages)]
        program = write(graph, blocks)
        return self._runner(program.run, (input,), in_place=piece.stages[0].in_place)

    def _wholes(self, layouts: Sequence[Layout], reading: Reading, arguments: tuple[Any, ...]) -> None:
        ways: dict[tuple[str, str], tuple[str, Callable[[], Any]]] = {}
        for layout in layouts:
            costs = self.timings.costs(self.training, layout)
            blocks, _, _ = find(reading.graph, self.modules, self.training, costs)
            program = write(reading.graph, blocks, layout)
            what = describe_whole(self.owner, reading.graph, arguments, blocks, layout, self.training)
            followed = any(isinstance(value, Tensor) and value.requires_grad for value in arguments)
            ways[layout, ""] = what, self._runner(program.run, arguments, in_place=followed)
        for (layout, _), ms in self._times(ways).items():
            self.timings.whole[self.training, layout] = ms  # pyright: ignore[reportArgumentType]

    def _runner(self, run: Callable[..., Any], inputs: tuple[Any, ...], in_place: bool = False) -> Callable[[], Any]:
        owner = self.owner

        def forward() -> Any:
            with torch.no_grad():
                return run(owner, *(_copies(inputs) if in_place else inputs))

        def both() -> Any:
            # A leaf is not changed in place, so the block gets what was made of it.
            given = [x * 1 if in_place and isinstance(x, Tensor) else x for x in inputs]
            with torch.enable_grad():
                ys = [y for y in tree_leaves(run(owner, *given)) if isinstance(y, Tensor) and y.requires_grad]
            if ys:
                torch.autograd.grad(ys, wanted, [torch.ones_like(y) for y in ys], allow_unused=True)

        wanted = [t for t in (*inputs, *owner.parameters()) if isinstance(t, Tensor) and t.requires_grad]
        return both if self.training and wanted else forward


def milliseconds(ways: Sequence[Callable[[], Any]]) -> list[float]:
    """Medians of runs in turns, so that a busy moment hits all of them."""
    for way in ways:
        way()
    spent: list[list[float]] = [[] for _ in ways]
    end = time.perf_counter() + _LONGEST_S * len(ways)
    for turn in range(_ROUNDS):
        if turn >= _LEAST_ROUNDS and time.perf_counter() > end:
            break
        for way, times in zip(ways, spent, strict=True):
            start = time.perf_counter()
            way()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) * 1e3 for times in spent]


class _Recorder(fx.Interpreter):
    """Runs a graph as it was written and remembers what each node gave."""

    def __init__(self, module: nn.Module, graph: fx.Graph, training: bool) -> None:
        super().__init__(module, garbage_collect_values=False, graph=graph)
        self._training = training
        self._values: dict[fx.Node, Any] = {}

    def values(self, arguments: tuple[Any, ...]) -> tuple[dict[fx.Node, Any], Any]:
        """The value of every node, before anything worked on it in place, and what the graph gives."""
        self._values = {}
        with torch.set_grad_enabled(self._training):
            given = [a * 1 if isinstance(a, Tensor) and a.requires_grad else a for a in _copies(arguments)]
            outputs = self.run(*given)
        return self._values, outputs

    def fetch_attr(self, target: str) -> Any:
        """What ``target`` names; "" is the module itself."""
        return super().fetch_attr(target) if target else self.module

    def run_node(self, n: fx.Node) -> Any:
        """One node's value."""
        value = super().run_node(n)
        self._values[n] = _copy(value) if isinstance(value, Tensor) else value
        return value


def _alone(piece: Link | Block) -> fx.Graph:
    """A graph of the piece's own nodes, whose one input is the piece's."""
    graph = fx.Graph()
    stages = piece.stages
    copies: dict[fx.Node, fx.Node] = {stages[0].input: graph.placeholder("input")}

    def copied(node: fx.Node) -> fx.Node:
        if node not in copies:
            for source in node.all_input_nodes:
                copied(source)
            copies[node] = graph.node_copy(node, lambda source: copies[source])
        return copies[node]

    graph.output(copied(stages[-1].node))
    return graph
