"""The layers of a module that are looked at as a whole, and their names."""

from __future__ import annotations

from torch import nn

from switchgrad.models.summarise.facts import is_known


def leaves(module: nn.Module) -> dict[nn.Module, str]:
    """Every layer that is known as one or has no layers within, with its (first) name.

    A module of the user's own without layers within, given by itself, is no leaf: the functions that it calls are what
    there is to see.

    >>> list(leaves(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU()))).values())
    ['0', '1.0']
    >>> list(leaves(nn.ReLU()).values())
    ['(model)']
    """
    if is_ready_made(module) and (is_known(module) or not _has_children(module)):
        return {module: "(model)"}
    found: dict[nn.Module, str] = {}
    _collect(module, "", found)
    return found


def _collect(module: nn.Module, name: str, found: dict[nn.Module, str]) -> None:
    for child_name, child in module.named_children():
        path = f"{name}.{child_name}" if name else child_name
        if is_known(child) or not _has_children(child):
            found.setdefault(child, path)
        else:
            _collect(child, path, found)


def is_ready_made(layer: nn.Module) -> bool:
    """Whether the layer is PyTorch's or ours, so that its name says what it does."""
    return type(layer).__module__.startswith(("torch.nn.", "switchgrad."))


def _has_children(module: nn.Module) -> bool:
    return any(True for _ in module.children())
