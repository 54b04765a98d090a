"""Reading a module's forward with torch.fx, and refusing wherever the graph could mean something else than the code.

`torch.fx` runs a forward once with stand-ins for the tensors. What it cannot see it takes for a constant: randomness,
the kind of a value, attributes that forward writes. Each of these is caught here and makes the module unreadable; it
then runs as it was written, and its sub-modules are read one by one.
"""

from __future__ import annotations

import inspect
import math
import operator
import random
import sys
import warnings
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import Attribute
from torch.nn import functional

from switchgrad import ops
from switchgrad.fusion.stages import plain_class, read

_POOLS = [ops.max_pool1d, ops.max_pool2d, ops.max_pool3d]
_GIVES_A_TENSOR: set[object] = {
    operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.iadd, torch.add, torch.sub,
    torch.mul, torch.cat, torch.sigmoid, torch.tanh, functional.softmax, functional.log_softmax, functional.interpolate,
}  # fmt: skip
_INSIDE_TORCH = (
    "torch.fx",
    "torch._",
    "torch.utils",
    "torch.overrides",
    "torch.nn.parameter",
    "torch.nn.modules.module",
)


class Unreadable(Exception):
    """A forward that cannot be read; the text says why."""


def trace(module: nn.Module, leaves: Collection[nn.Module]) -> fx.Graph:
    """The graph of ``module``'s forward for tensors as its required arguments and the defaults of all others.

    Modules in ``leaves`` are called, all others are read through. `Unreadable` says why a forward cannot be read.
    """
    if "forward" in vars(module):
        raise Unreadable("its forward was replaced on the object")
    if isinstance(module, (fx.GraphModule, torch.jit.ScriptModule)):
        raise Unreadable(f"a {type(module).__name__} keeps code of its own")
    reader = _Reader(leaves)
    before = _Attributes(module)
    seeds = _random_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = reader.trace(module)
    except Unreadable:
        raise
    except Exception as problem:
        raise Unreadable(f"its forward cannot be read: {_sentence(problem)}") from problem
    finally:
        changed = before.restore()
    if changed:
        raise Unreadable(f"its forward changes the attribute {changed!r}")
    if _random_state() != seeds:
        _restore_random_state(seeds)
        raise Unreadable("its forward draws random numbers that do not depend on its input")
    for node in graph.nodes:
        if _may_copy(node):
            node.target = "reshape"
    return graph


def _may_copy(node: fx.Node) -> bool:
    """Whether ``node`` is a ``view`` of what only the forward knows, and nobody else reads there.

    A fused operator may give its maps channels last, which cannot be viewed as rows of features.
    """
    if node.op != "call_method" or node.target != "view" or not isinstance(node.args[0], fx.Node):
        return False
    viewed = node.args[0]
    sizes = (*node.args[1:], *node.kwargs.values())
    others = (user for user in viewed.users if user is not node)
    return (
        viewed.op.startswith("call_")
        and not any(isinstance(size, torch.dtype) for size in sizes)
        and all(user.target in ("size", "dim", getattr) for user in others)
    )


def required_arguments(module: nn.Module) -> list[str]:
    """The names of the arguments that forward cannot do without; `Unreadable` for ``*args`` and ``**kwargs``."""
    parameters = list(inspect.signature(plain_class(module).forward).parameters.values())[1:]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise Unreadable(f"its forward takes {parameter}, any number of arguments")
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise Unreadable(f"its forward wants {parameter.name} by name")
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty]


class _Reader(fx.Tracer):
    def __init__(self, leaves: Collection[nn.Module]) -> None:
        super().__init__(autowrap_modules=(math,), autowrap_functions=tuple(_POOLS))
        self._autowrap_search.append(ops)  # so that ops.max_pool2d in a forward is a node too
        self.proxy_buffer_attributes = True
        self._leaves = {id(leaf) for leaf in leaves}
        self._modules: dict[str, nn.Module] = {}

    def trace(self, root: nn.Module | Callable[..., Any], concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """The graph; an optimised module's is that of the forward that its user wrote."""
        if isinstance(root, nn.Module):
            self._modules = dict(root.named_modules())
            self.traced_func_name = "plain_forward" if hasattr(type(root), "plain_forward") else "forward"
            self._required = required_arguments(root)
        return super().trace(root, concrete_args)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        """``self`` and a stand-in for each required argument."""
        del is_module, concrete_args
        return root_fn, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in self._required)]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether ``m`` is called rather than read through."""
        del module_qualified_name
        return id(m) in self._leaves

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A node for a leaf; the code of any other."""
        del forward
        if self.is_leaf_module(m, ""):
            return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)
        return plain_class(m).forward(m, *args, **kwargs)

    def create_arg(self, a: Any) -> Any:
        """Refuse a tensor that forward made itself: the graph would repeat it as a constant."""
        if isinstance(a, Tensor) and type(a) is not nn.Parameter and not self._is_known(a):
            raise Unreadable("its forward makes a tensor that does not depend on its input")
        return super().create_arg(a)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """The stand-in for what ``node`` will give."""
        return _Value(node, self)

    def gives_a_tensor(self, node: fx.Node) -> bool:
        """Whether the value of ``node`` is certain to be one tensor."""
        if node.op in ("placeholder", "get_attr") or node.target in _GIVES_A_TENSOR:
            return True
        stage = read(node, self._modules)
        return stage is not None and not stage.problem

    def _is_known(self, tensor: Tensor) -> bool:
        return tensor in self.tensor_attrs or any(tensor is buffer for buffer in self.root.buffers())


class _Typed:
    """What ``isinstance`` asks of a stand-in: a tensor where that is certain, else the forward cannot be read."""

    node: fx.Node
    tracer: Any

    @property
    def __class__(self) -> type:  # pyright: ignore
        caller = str(sys._getframe(1).f_globals.get("__name__", ""))  # pyright: ignore[reportPrivateUsage]
        if caller.startswith(_INSIDE_TORCH) or caller == __name__:
            return type(self)
        if self.tracer.gives_a_tensor(self.node):
            return Tensor
        raise Unreadable("its forward asks for the type of a value that is not known before it runs")


class _Value(_Typed, fx.Proxy):  # pyright: ignore[reportUnsafeMultipleInheritance]
    def __getattr__(self, k: str) -> Any:
        return _Part(self, k)  # pyright: ignore[reportCallIssue]


class _Part(_Typed, Attribute):  # pyright: ignore
    def __getattr__(self, k: str) -> Any:
        return _Part(self, k)  # pyright: ignore[reportCallIssue]


class _Attributes:
    """What the modules below ``root`` hold, so that a forward that writes to them is seen and undone."""

    def __init__(self, root: nn.Module) -> None:
        self._held = [(module, dict(vars(module))) for module in root.modules()]
        self._contents = [
            (name, value, _copy(value))
            for _, held in self._held
            for name, value in held.items()
            if type(value) in (list, dict, set)
        ]

    def restore(self) -> str:
        """Put everything back as it was; the name of the first attribute that had changed, or nothing."""
        changed = ""
        for module, held in self._held:
            now = vars(module)
            different = [n for n in {**held, **now} if n not in now or n not in held or now[n] is not held[n]]
            if different:
                changed = changed or different[0]
                now.clear()
                now.update(held)
        for name, value, content in self._contents:
            if not _same(value, content):
                changed = changed or name
                value.clear()
                (value.extend if isinstance(value, list) else value.update)(content)
        return changed


def _copy(value: Any) -> Any:
    return type(value)(value)


def _same(value: Any, content: Any) -> bool:
    if len(value) != len(content):
        return False
    if isinstance(value, dict):
        return all(a is b and value[a] is content[b] for a, b in zip(value, content, strict=True))
    return all(a is b for a, b in zip(value, content, strict=True))


def _random_state() -> tuple[Any, ...]:
    state: Any = np.random.get_state()  # noqa: NPY002 - what a forward would draw from
    kind, numbers, *rest = state
    return random.getstate(), (kind, bytes(numbers), *rest), bytes(torch.get_rng_state().numpy())


def _restore_random_state(state: tuple[Any, ...]) -> None:
    kind, numbers, *rest = state[1]
    random.setstate(state[0])
    np.random.set_state((kind, np.frombuffer(numbers, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(torch.frombuffer(bytearray(state[2]), dtype=torch.uint8))


def _sentence(problem: Exception) -> str:
    text = str(problem).strip().split("\n")[0].rstrip(".")
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__
