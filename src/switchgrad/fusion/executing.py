"""The programs of one module, and which of them fits the module's present state, if any."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import fx, nn
from torch.nn.modules import module as torch_module

from switchgrad.errors import FusionWarning
from switchgrad.fusion.chains import Block, find
from switchgrad.fusion.layouts import usual_layout
from switchgrad.fusion.program import write
from switchgrad.fusion.stages import plain_class
from switchgrad.fusion.timings import KEY as TIMINGS
from switchgrad.fusion.timings import WRITTEN, Layout, timings_of

KEY = "_switchgrad_programs"
_NOT_WATCHED = frozenset((KEY, TIMINGS, "training", "_compiled_call_impl", "_is_full_backward_hook"))
_MOST_PROGRAMS = 16


class Reading:
    """A forward as a graph, what it was read from, and whether that is still the same.

    ``read_through`` are the modules whose code is in the graph, ``training`` the mode that the graph holds for, or
    None where it is the same in both.
    """

    def __init__(
        self, graph: fx.Graph, inputs: Sequence[str], read_through: Sequence[nn.Module], training: bool | None
    ) -> None:
        self.graph, self.inputs, self.read_through, self.training = graph, tuple(inputs), tuple(read_through), training
        self._read = [_contents(module) for module in read_through]
        # What was found the same already: the ids of all values, which are held so that no other object gets their id.
        self._known: list[dict[tuple[int, ...], Sequence[object]]] = [{} for _ in read_through]

    def is_current(self) -> bool:
        """Whether no attribute and no sub-module was replaced in the modules that were read."""
        for at, module in enumerate(self.read_through):
            values = [*vars(module).values(), *module._modules.values()]  # pyright: ignore[reportPrivateUsage]
            ids = tuple(map(id, values))
            known = self._known[at]
            if ids not in known:
                if not _mean_the_same(self._read[at], _contents(module)):
                    return False
                if len(known) == _MOST_PROGRAMS:
                    known.clear()
                known[ids] = values
        return True


def _contents(module: nn.Module) -> dict[str, object]:
    own = {name: value for name, value in vars(module).items() if name not in _NOT_WATCHED}
    return {**own, **module._modules}  # pyright: ignore[reportPrivateUsage]


def _mean_the_same(before: dict[str, object], now: dict[str, object]) -> bool:
    """Equal constants count as the same, and private marks that somebody (torch.compile, say) left do not count."""
    if any(name not in before and not name.startswith("_") for name in now):
        return False
    for name, old in before.items():
        new = now.get(name)
        constant = isinstance(old, (int, float, str, tuple)) and type(old) is type(new)
        if name not in now or not (old is new or (constant and bool(old == new))):
            return False
    return True


class Compiled:
    """A program, and what must hold for it: the modes of the modules, and that nobody hooked or changed them."""

    def __init__(self, owner: nn.Module, reading: Reading) -> None:
        self.name = plain_class(owner).__name__
        self.training, timings = owner.training, timings_of(owner)
        self.layout: Layout = "" if timings is None else timings.layout(self.training)
        self.wholes = (
            {} if timings is None else {at: ms for (mode, at), ms in timings.whole.items() if mode == self.training}
        )
        self.costs = None if timings is None else timings.costs(self.training, self.layout)
        modules = dict(owner.named_modules())
        self.blocks, self.rests, stages = find(reading.graph, modules, self.training, self.costs)
        self.reading, self.inputs = reading, reading.inputs
        if timings is None:
            self.layout = usual_layout(reading.graph, self.blocks, stages)
        self.program = write(reading.graph, self.blocks, self.layout)
        self.run = self.program.run
        leaves = [stage.module for stage in stages if stage.module is not None]
        fused = [s.module for block in self.blocks for s in block.stages if s.module is not None]
        self.unhooked = [module for module in (*fused, *reading.read_through) if module is not owner]
        self.modes = [(module, module.training) for module in dict.fromkeys((owner, *leaves))]
        if reading.training is not None:
            self.modes += [(module, module.training) for module in reading.read_through]

        def is_sound() -> bool:
            return self.is_sound()

        # Asked once, while the model is compiled; the modes are read in the open, so that the compiler guards them.
        self.is_sound_now: Callable[[], bool] = torch.compiler.assume_constant_result(is_sound)

    @property
    def gains(self) -> bool:
        """Whether this runs anything otherwise than it was written."""
        return bool(self.blocks or self.layout)

    def layout_timing(self) -> str:
        """What tuning measured for the whole in its layout and as its maps come; empty where nobody tuned."""
        if not self.wholes:
            return ""
        return f"{self.wholes[self.layout]:.3g} ms, {self.wholes['']:.3g} ms with the maps as they come"

    def timing(self, block: Block) -> str:
        """What tuning measured for a block of this program; empty where nobody tuned."""
        found = (self.costs or {}).get((block.name, block.rule.operator))
        if found is None or self.costs is None:
            return ""
        written = sum(self.costs.get((link.name, WRITTEN), 0.0) for link in block.links)
        where = f", {self.layout.replace('_', ' ')}" if self.layout else ""
        return f"{found:.3g} ms, {written:.3g} ms as written{where}"

    def modes_fit(self) -> bool:
        """Whether every module is in the mode, training or evaluation, that the program was written for."""
        for module, training in self.modes:  # noqa: SIM110 - the compiler reads a loop, not a generator
            if module.training != training:
                return False
        return True

    def is_sound(self) -> bool:
        """Whether no module of the program has got a hook, an attribute or a sub-module since it was written."""
        for m in self.unhooked:  # `has_hooks`, without the calls: this runs before every forward
            if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks:  # pyright: ignore[reportPrivateUsage]
                return False
        return self.reading.is_current()


@dataclass
class Programs:
    """The programs of one module; the first that fits its present state runs."""

    readings: Sequence[Reading] = ()
    compiled: list[Compiled] = field(default_factory=list[Compiled])
    warned: bool = False

    def choose(self, owner: nn.Module) -> Compiled | None:
        """The program for the present state of ``owner``, written now where modes or hooks are new; or None."""
        if torch.compiler.is_compiling():
            return self._choose_for_compiler()
        if torch_module._has_any_global_hook():  # pyright: ignore[reportPrivateUsage]
            return None
        for compiled in self.compiled:
            if compiled.modes_fit() and compiled.is_sound():
                return compiled
        return self._write(owner)

    def _choose_for_compiler(self) -> Compiled | None:
        for compiled in self.compiled:
            if compiled.modes_fit() and compiled.is_sound_now():
                return compiled
        return None

    def _write(self, owner: nn.Module) -> Compiled | None:
        for reading in self.readings:
            compiled = Compiled(owner, reading)
            mode_fits = reading.training in (None, owner.training)
            uniform = all(module.training == owner.training for module in reading.read_through)
            if mode_fits and (uniform or reading.training is None) and compiled.is_sound():
                del self.compiled[_MOST_PROGRAMS:]
                self.compiled.append(compiled)
                return compiled
        return None

    def warn_once(self, owner: nn.Module, why: str) -> None:
        """Say that ``owner`` runs unfused, the first time."""
        if not self.warned:
            self.warned = True
            warnings.warn(
                f"the optimized {plain_class(owner).__name__} runs as it was written, because {why}; its sub-modules "
                "still run fused where they can, and switchgrad.optimize(model) optimizes the whole again",
                FusionWarning,
                stacklevel=4,
            )
