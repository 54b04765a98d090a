"""A copy of a module that has its own structure and modes, and the same parameters, buffers and hooks."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from switchgrad.errors import ModelError

# Dictionaries that a copy shares: what is put into one of the two is in both, and a hook's handle removes it from both.
_SHARED = (
    "_parameters", "_buffers", "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip


def share(model: nn.Module) -> nn.Module:
    """Another tree of modules on the same tensors; `ModelError` where an attribute cannot be copied.

    >>> layer = nn.Linear(2, 3)
    >>> other = share(layer)
    >>> other is layer, other.weight is layer.weight
    (False, True)
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for name, value in vars(module).items():
            if name in _SHARED or isinstance(value, torch.Tensor):
                memo[id(value)] = value
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            memo[id(tensor)] = tensor
    try:
        return copy.deepcopy(model, memo)
    except Exception as problem:
        raise ModelError(
            f"this {type(model).__name__} cannot be copied ({type(problem).__name__}: {problem}); optimize needs a "
            "module that copy.deepcopy can copy"
        ) from problem
