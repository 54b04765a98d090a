"""Lets a `torch.overrides.TorchFunctionMode` see our operators as it sees PyTorch's functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch.overrides import handle_torch_function

P = ParamSpec("P")
R = TypeVar("R")

UNFUSED = "unfused"  # the attribute that modes look for


def overridable(unfused: Callable[..., Any] | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function ask the active modes first; ``unfused`` says the same in operators that modes know.

    A mode that changes what ReLU or pooling does to gradients meets a fused operator as one call; it then calls the
    function's ``unfused`` instead, and meets the parts. Modes belong to a thread, and the compiler guards on them.

    >>> @overridable()
    ... def double(input):
    ...     return 2 * input
    >>> class Loud(torch.overrides.TorchFunctionMode):
    ...     def __torch_function__(self, func, types, args=(), kwargs=None):
    ...         print(func.__name__)
    ...         return func(*args, **(kwargs or {}))
    >>> with Loud():
    ...     y = double(3)
    double
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if torch._C._is_torch_function_mode_enabled():  # pyright: ignore[reportPrivateUsage]
                return handle_torch_function(call, args[:1], *args, **kwargs)
            return function(*args, **kwargs)

        setattr(call, UNFUSED, unfused)
        return call

    return decorate
