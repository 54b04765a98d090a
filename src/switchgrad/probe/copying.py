"""A copy of a module to work on, so that the user's own is never touched."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from switchgrad.errors import ModelError


def copied(module: nn.Module) -> nn.Module:
    """A deep copy: its own weights, buffers and modes; no gradients. What ``torch.compile`` wrapped is unwrapped.

    Tensors that hang on an old tape (the ``weight`` that weight normalisation computes) are copied as plain values:
    the next forward pass computes them again.

    Raises `ModelError` for what cannot be copied or has no Python layers to look at.
    """
    module = getattr(module, "_orig_mod", module)
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            f"{type(module).__name__} is compiled by TorchScript and hides its layers; give the module itself"
        )
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        raise ModelError("the module has lazy layers without sizes yet; run one batch through it first")
    try:
        twin = copy.deepcopy(module, _values_of_results(module))
    except Exception as error:
        raise ModelError(
            f"{type(module).__name__} cannot be copied ({_first_line(error)}), and the original is never touched; give "
            "it a __deepcopy__, or take out what cannot be copied"
        ) from error
    for parameter in twin.parameters():
        parameter.grad = None
    return twin


def _values_of_results(module: nn.Module) -> dict[int, object]:
    """What deepcopy shall take for the tensors that it refuses: results of a computation, kept as attributes."""
    kept = (value for part in module.modules() for value in vars(part).values())
    return {id(value): value.detach().clone() for value in kept if isinstance(value, Tensor) and not value.is_leaf}


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
