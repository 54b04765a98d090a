"""What an optimised module is: an object of a class that extends the user's by a ``forward`` that runs by program.

Its programs are derived from the module and never stored: copying or unpickling a module derives them again.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from switchgrad.fusion.executing import KEY, Compiled, Programs, Reading
from switchgrad.fusion.planning import plan
from switchgrad.fusion.stages import has_hooks, plain_class


class Optimized:
    """What an optimised module's class has besides the user's: a forward by program, and copies that derive anew."""

    plain_class: ClassVar[type[nn.Module]]

    def run_optimized(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program that fits, or the forward that the class was written with."""
        module = cast("nn.Module", self)
        if torch.jit.is_tracing():  # TorchScript keeps PyTorch's operators alone
            return self.plain_class.forward(module, *args, **kwargs)
        programs: Programs | None = vars(self).get(KEY)
        chosen = None if programs is None else programs.choose(module)
        if chosen is not None and not chosen.gains:  # a dropout in evaluation, say: nothing gains in this mode
            return self.plain_class.forward(module, *args, **kwargs)
        tensors = None if chosen is None else _tensors(chosen.inputs, args, kwargs)
        if programs is None or chosen is None or tensors is None:
            if programs is not None and programs.readings and not torch.compiler.is_compiling():
                _explain(module, programs, chosen)
            return self.plain_class.forward(module, *args, **kwargs)
        if torch.compiler.is_compiling():
            return chosen.run(module, *tensors)
        try:
            return chosen.run(module, *tensors)
        except (RuntimeError, ValueError, TypeError) as problem:
            # The module's own forward says it in its own words, or it can do what the program could not.
            result = self.plain_class.forward(module, *args, **kwargs)
            programs.warn_once(module, f"its program failed ({problem})")
            return result

    def train(self, mode: bool = True) -> Any:
        """Set the mode, and forget what was folded: weights may have changed unseen."""
        programs: Programs | None = vars(self).get(KEY)
        for compiled in programs.compiled if programs is not None else ():
            for fold in compiled.program.folds:
                fold.forget()
        return cast("Any", super()).train(mode)

    def __reduce_ex__(self, protocol: Any) -> Any:
        state = super().__reduce_ex__(2)[2]
        if isinstance(state, dict):
            state = {name: value for name, value in cast("dict[str, Any]", state).items() if name != KEY}
        return _blank, (self.plain_class,), state

    def __setstate__(self, state: Any) -> None:
        cast("Any", super()).__setstate__(state)
        module = cast("nn.Module", self)
        found = plan(module)[module]
        give_programs(module, found.readings, list(found.compiled.values()))


def _tensors(inputs: Sequence[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """The arguments in the order of the program's inputs, if they are what it was written for: those tensors alone."""
    if kwargs:
        names = inputs[len(args) :]
        if set(kwargs) != set(names):
            return None
        args = (*args, *(kwargs[name] for name in names))
    if len(args) != len(inputs):
        return None
    for value in args:
        if not isinstance(value, Tensor):
            return None
    return args


def _explain(module: nn.Module, programs: Programs, chosen: Compiled | None) -> None:
    if chosen is not None:
        why = f"it was not called with just the tensors {', '.join(chosen.inputs)}"
    elif torch_module._has_any_global_hook():  # pyright: ignore[reportPrivateUsage]
        return  # somebody watches every module's call: a passing state, and what was asked for
    elif any(has_hooks(m) for m in programs.readings[0].read_through if m is not module):
        return  # so does a hook on a block
    elif not all(reading.is_current() for reading in programs.readings):
        why = "an attribute or a sub-module was replaced"
    else:
        why = "its parts are partly in training and partly in evaluation mode"
    programs.warn_once(module, why)


@functools.cache
def optimized_class(plain: type[nn.Module]) -> type[nn.Module]:
    """The class that runs like ``plain`` by programs; it bears the same name."""

    @functools.wraps(plain.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.run_optimized(*args, **kwargs)

    members = {
        "plain_class": plain,
        "plain_forward": plain.forward,
        "forward": forward,
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
        "__doc__": plain.__doc__,
    }
    return type(plain.__name__, (Optimized, plain), members)


def give_programs(module: nn.Module, readings: Sequence[Reading], compiled: Sequence[Compiled]) -> None:
    """Make ``module`` run by programs from now on."""
    module.__class__ = optimized_class(plain_class(module))
    vars(module)[KEY] = Programs(readings, list(compiled))


def take_programs(module: nn.Module) -> None:
    """Make ``module`` what it was written as."""
    vars(module).pop(KEY, None)
    module.__class__ = plain_class(module)


def _blank(plain: type[nn.Module]) -> nn.Module:
    extended = optimized_class(plain)
    return extended.__new__(extended)


def is_optimized(module: nn.Module) -> bool:
    """Whether ``module`` itself has programs."""
    return isinstance(module, Optimized)


def convert(root: nn.Module) -> None:
    """Give programs to every module below ``root`` that gains by one."""
    for module, found in plan(root).items():
        if found.fuses:
            give_programs(module, found.readings, list(found.compiled.values()))
