"""Which modules of a tree can be read, and their programs for training and for evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass, field

from torch import fx, nn

from switchgrad.fusion.executing import Compiled, Reading
from switchgrad.fusion.stages import has_hooks, plain_class
from switchgrad.fusion.tracing import Unreadable, required_arguments, trace

_HOLDERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


@dataclass
class Plan:
    """What was found out about one module: its programs by mode, or why it has none."""

    readings: list[Reading] = field(default_factory=list[Reading])
    compiled: dict[bool, Compiled] = field(default_factory=dict[bool, Compiled])
    reason: str = ""

    @property
    def fuses(self) -> bool:
        """Whether any program runs otherwise than it was written."""
        return any(compiled.gains for compiled in self.compiled.values())


def plan(root: nn.Module) -> dict[nn.Module, Plan]:
    """A plan for each module of the tree that has a forward of its own, and for layers that fuse alone."""
    plans: dict[nn.Module, Plan] = {}
    for module in reversed(list(root.modules())):  # what is inside comes after what it is in
        if isinstance(module, _HOLDERS) or module in plans:
            continue
        plans[module] = _plan_layer(module) if is_layer(module) else _plan_forward(module, plans)
    return plans


def is_layer(module: nn.Module) -> bool:
    """Whether ``module`` is a layer of PyTorch's or ours: called, never read through."""
    home = plain_class(module).__module__
    ours = home.startswith(("torch.", "switchgrad.nn"))
    return (ours and plain_class(module) is not nn.Sequential) or isinstance(module, fx.GraphModule)


def _plan_forward(module: nn.Module, plans: dict[nn.Module, Plan]) -> Plan:
    inside = [m for m in module.modules() if m is not module]
    leaves = [m for m in inside if m not in plans or is_layer(m) or plans[m].reason or has_hooks(m)]
    through = [module, *(m for m in _reached(module, set(leaves)))]
    try:
        graphs: dict[bool, fx.Graph] = {}
        for training in (True, False):
            with in_mode(module, training):
                graphs[training] = trace(module, leaves)
        inputs = required_arguments(module)
    except Unreadable as why:
        return Plan(reason=str(why))
    if str(graphs[True]) == str(graphs[False]):
        return _write(module, {True: Reading(graphs[True], inputs, through, None)})
    return _write(module, {t: Reading(graph, inputs, through, t) for t, graph in graphs.items()})


def _reached(module: nn.Module, leaves: set[nn.Module]) -> list[nn.Module]:
    """The modules below ``module`` that are read through, and the lists that hold them."""
    found: list[nn.Module] = []
    for child in module.children():
        if child not in leaves or isinstance(child, _HOLDERS):
            found += [child, *_reached(child, leaves)]
    return list(dict.fromkeys(found))


def _plan_layer(module: nn.Module) -> Plan:
    """A layer that a fused operator of ours serves alone, so that it does so wherever its owner cannot be read."""
    graph = fx.Graph()
    node = graph.call_module("", (graph.placeholder("input"),))
    graph.output(node)
    return _write(module, {True: Reading(graph, ("input",), (), None)})


def _write(module: nn.Module, readings: dict[bool, Reading]) -> Plan:
    compiled: dict[bool, Compiled] = {}
    for training in (True, False):
        with in_mode(module, training):
            compiled[training] = Compiled(module, readings.get(training, readings[True]))
    return Plan(list(readings.values()), compiled)


@contextlib.contextmanager
def in_mode(root: nn.Module, training: bool) -> Generator[None]:
    """Every module in one mode, without calling ``train()``, which users override."""
    before = [(module, module.training) for module in root.modules()]
    try:
        for module, _ in before:
            module.training = training
        yield
    finally:
        for module, was in before:
            module.training = was
