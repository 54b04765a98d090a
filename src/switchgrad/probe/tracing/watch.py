"""A forward pass watched: calls of layers by hooks, calls of functions between them by a mode, the rest by the tape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from switchgrad.models.summarise.facts import is_known
from switchgrad.models.summarise.sight import tensors_in
from switchgrad.probe.leaves import leaves
from switchgrad.probe.tensors import mapped
from switchgrad.probe.tracing.record import Kind
from switchgrad.probe.tracing.taps import Tap, alias

_VIEWS_BY_NAME = frozenset({"T", "mT", "H", "mH", "real", "imag"})
_NO_STEP = frozenset({"requires_grad_", "register_hook", "retain_grad", "backward", "detach", "detach_", "__repr__"})
_ARITHMETIC = frozenset({"add", "sub", "mul", "div", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"})
_MOST_HIDDEN = 50


@dataclass(slots=True, eq=False)
class Seen:
    """A step while it happens."""

    kind: Kind
    name: str
    type: str
    call: int = 1
    module: nn.Module | None = None
    function: Callable[..., Any] | None = None
    arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
    inputs: list[Tap] = field(default_factory=lambda: list[Tap]())
    outputs: list[Tap] = field(default_factory=lambda: list[Tap]())
    parameters: list[tuple[str, Tap]] = field(default_factory=lambda: list[tuple[str, Tap]]())
    random: Tensor | None = None
    functions: list[str] = field(default_factory=lambda: list[str]())
    stand_ins: list[tuple[Tensor, Tensor]] = field(default_factory=lambda: list[tuple[Tensor, Tensor]]())

    def settle(self, result: Any) -> Any:
        """What was done in place to a stand-in is done to the tensor itself, which takes the stand-in's place."""
        for tensor, stand_in in self.stand_ins:
            tensor.copy_(stand_in)
        own = {id(stand_in): tensor for tensor, stand_in in self.stand_ins}
        return mapped(result, lambda tensor: own.get(id(tensor), tensor)) if own else result


class Watch(TorchFunctionMode):
    """While active on ``model``, notes every step of its forward pass in ``steps``.

    Each input of a step is handed on under another name (a view), so that its gradient is that of this call alone;
    what changes its input in place gets the tensor itself. Weights are tapped likewise.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.steps: list[Seen] = []
        self.leaves = leaves(model)
        self.parameters = {id(p): name for name, p in model.named_parameters()}
        self._model = model
        self._calls: Counter[nn.Module] = Counter()
        self._open: list[Seen] = []
        self._inside: list[str] = []
        self._lent: list[list[tuple[dict[str, Any], str, Tensor]]] = []
        self._makers: dict[Any, int] = {}
        self._busy = False
        self._hooks = ExitStack()

    def __enter__(self) -> Watch:
        for name, module in self._model.named_modules():
            enter, leave = (self._enter, self._leave) if module in self.leaves else (self._go_in(name), self._go_out)
            self._hooks.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
            self._hooks.callback(module.register_forward_hook(leave, with_kwargs=True, prepend=True).remove)
        super().__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        super().__exit__(*problem)
        self._hooks.close()

    @property
    def uncalled(self) -> tuple[str, ...]:
        """Layers that the forward pass neither called nor took a weight from."""
        used = {name for step in self.steps for name, _ in step.parameters}
        return tuple(
            name
            for layer, name in self.leaves.items()
            if layer not in self._calls and not any(self.parameters[id(p)] in used for p in layer.parameters())
        )

    def where(self) -> str:
        """The layer that has not ended, to begin a sentence about an error."""
        return f'layer "{self._open[-1].name}" ({self._open[-1].type}): ' if self._open else ""

    def know(self, tensor: Tensor) -> None:
        """An input of the network."""
        if tensor.grad_fn is not None:
            self._makers[tensor.grad_fn] = 0

    def arrive(self, output: Any) -> None:
        """The end: what nobody saw make the output gets its step, too."""
        for tensor in tensors_in(output):
            self._source(tensor)

    # Layers

    def _go_in(self, name: str) -> Callable[..., None]:
        def go_in(*_: Any) -> None:
            self._inside.append(name)

        return go_in

    def _go_out(self, *_: Any) -> None:
        self._inside.pop()

    def _enter(self, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        self._busy = True
        self._calls[layer] += 1
        step = Seen("layer", self.leaves[layer], type(layer).__name__, self._calls[layer], layer)
        step.random = torch.get_rng_state() if hasattr(layer, "return_switches") else None
        in_place = bool(getattr(layer, "inplace", False))
        inputs, named = mapped((inputs, named), lambda tensor: self._take(step, tensor, in_place))
        self._lent.append(self._lend(step, layer))
        self._open.append(step)
        self._busy = False
        return inputs, named

    def _leave(self, _layer: nn.Module, _inputs: Any, _named: Any, result: Any) -> Any:
        self._busy = True
        step = self._open.pop()
        for table, name, weight in self._lent.pop():
            table[name] = weight
        result = step.settle(result)
        self._put_out(step, result)
        self._busy = False
        return result

    def _lend(self, step: Seen, layer: nn.Module) -> list[tuple[dict[str, Any], str, Tensor]]:
        """Put tapped aliases in the place of the layer's weights; gives back what to put in again."""
        lent: list[tuple[dict[str, Any], str, Tensor]] = []
        for part in layer.modules() if is_known(layer) else (layer,):
            table: dict[str, Any] = part._parameters  # pyright: ignore[reportPrivateUsage]
            for key, weight in table.items():
                if weight is None:
                    continue
                tapped = alias(weight)
                step.parameters.append((self.parameters[id(weight)], Tap(tapped)))
                lent.append((table, key, weight))
                table[key] = tapped
        return lent

    # Functions between layers

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        name = _name(func)
        if self._busy or name in _NO_STEP or (func.__name__ == "__get__" and name not in _VIEWS_BY_NAME):
            return func(*args, **named)
        if self._open:
            result = func(*args, **named)
            if _is_differentiable(result):
                self._open[-1].functions.append(name)
            return result
        return self._function(func, name, args, named)

    def _function(self, func: Any, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if not any(tensor.requires_grad for tensor in tensors_in((args, named))):
            return func(*args, **named)
        in_place = _is_in_place(func.__name__) or bool(named.get("inplace")) or "out" in named
        step = Seen("function", self._inside[-1] if self._inside else "", name, function=func)
        given: dict[int, Tensor] = {}

        def take(tensor: Tensor) -> Tensor:
            taken = self._take(step, tensor, in_place)
            given[id(taken)] = tensor
            return taken

        step.arguments = mapped((args, named), take)
        result = step.settle(func(*step.arguments[0], **step.arguments[1]))
        if isinstance(result, Tensor) and id(result) in given and not in_place:
            return given[id(result)]  # nothing happened: contiguous, to, float of what is so already
        changed = args[0] if result is None and in_place else result
        if _is_differentiable(changed):
            self._put_out(step, changed)
        return result

    # Tensors

    def _take(self, step: Seen, tensor: Tensor, in_place: bool) -> Tensor:
        """Tap an input or weight of ``step`` and give what to hand on."""
        handed = tensor if in_place else alias(tensor)
        if in_place and tensor.requires_grad and tensor._is_view():  # pyright: ignore[reportPrivateUsage]
            handed = tensor.clone()  # the tape forgets hooks on a view that is changed in place
            step.stand_ins.append((tensor, handed))
        weight = self.parameters.get(id(tensor))
        if weight is not None:
            step.parameters.append((weight, Tap(handed)))
        else:
            step.inputs.append(Tap(handed, self._source(tensor)))
        return handed

    def _source(self, tensor: Tensor) -> int | None:
        """The number of the step that made ``tensor``; what no hook saw made gets a step of its own."""
        maker = tensor.grad_fn
        if maker is None:
            return None
        if maker not in self._makers:
            step = Seen("unseen", self._inside[-1] if self._inside else "", _between(maker, self._makers))
            self._put_out(step, tensor)
        return self._makers[maker]

    def _put_out(self, step: Seen, result: Any) -> None:
        self.steps.append(step)
        for tensor in tensors_in(result):
            step.outputs.append(Tap(tensor))
            if tensor.grad_fn is not None:
                self._makers[tensor.grad_fn] = len(self.steps)


def _name(func: Any) -> str:
    """``relu`` for ``torch.relu_``, ``sub`` for ``1 - x``, ``T`` for the property."""
    name = str(getattr(func, "__name__", func))
    if name == "__get__":
        return str(getattr(func.__self__, "__name__", name))
    plain = name.strip("_")
    if name.startswith("__") and plain[:1] in ("r", "i") and plain[1:] in _ARITHMETIC:
        return plain[1:]
    return plain


def _is_in_place(name: str) -> bool:
    dunder = name.startswith("__")
    return (
        name == "__setitem__"
        or (dunder and name[2:3] == "i" and name[3:-2] in _ARITHMETIC)
        or (name.endswith("_") and not dunder)
    )


def _is_differentiable(result: Any) -> bool:
    return any(tensor.grad_fn is not None for tensor in tensors_in(result))


def _between(maker: Any, known: Mapping[Any, int]) -> str:
    """Names of the tape's nodes from ``maker`` down to what is known, the first in time first."""
    names: list[str] = []
    ahead = [maker]
    passed: set[Any] = set()
    while ahead and len(names) < _MOST_HIDDEN:
        node = ahead.pop(0)
        if node in known or node in passed:
            continue
        passed.add(node)
        name = str(node.name()).rsplit("::", 1)[-1]
        if name not in ("torch::autograd::AccumulateGrad", "AccumulateGrad", "ViewBackward0", "AliasBackward0"):
            names.append(name.removesuffix("0"))
        ahead.extend(following for following, _ in node.next_functions if following is not None)
    return ", ".join(dict.fromkeys(reversed(names))) or "tape"
