"""`replace_pooling`: every pooling layer of ``torch.nn`` in a model becomes ours; nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from switchgrad.errors import ModelError
from switchgrad.nn import averaging, norms, pooling, stochastic
from switchgrad.ops.checks import described

__all__ = ["Swap", "Swaps", "replace_pooling"]


@dataclass(frozen=True, slots=True)
class Swap:
    """One layer: the names under which it stood, what it was, what it is now (None: there is no layer of ours)."""

    names: tuple[str, ...]
    before: str
    after: str | None


class Swaps(tuple[Swap, ...]):
    """What `replace_pooling` did: a tuple of `Swap`, printed as a table."""

    __slots__ = ()

    def __str__(self) -> str:
        if not self:
            return "no pooling layer of torch.nn"
        rows = [(", ".join(s.names) or "(the model)", s.before, s.after or "kept: no layer of ours") for s in self]
        heads = ("layer", "was", "is")
        widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(3)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in (heads, *rows))


def replace_pooling(model: nn.Module) -> Swaps:
    """Swap every pooling layer of ``torch.nn`` in ``model`` for ours, in place, and say what was swapped.

    Max, average, Lp, adaptive, fractional pooling and unpooling, in every number of dimensions. Names and
    ``state_dict`` stay as they were; so do hooks, training mode and further attributes; a layer that stands in several
    places stays one layer, and a model that is itself a pooling layer becomes ours. Layers of classes derived from
    torch's are kept and listed, for nobody knows what they do. Layers that are ours already are left alone.

    The result is a tuple of `Swap` that prints as a table.

    Numbers may change in one place: Lp pooling follows our rule, which takes absolute values (torch's takes
    signed powers, which differ for odd ones) and does not scale up windows that ``ceil_mode`` cuts short.

    Raises `ModelError` for what is no model (a function, a class) and where a pooling layer was scripted or traced, for
    TorchScript cannot be changed; the model is then as it was. Arguments that only torch accepts are refused by the new
    layers when they run.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 5), torch.nn.MaxPool2d(2), torch.nn.AvgPool2d(3, 1))
    >>> print(replace_pooling(model))
    layer  was                 is
    1      torch.nn.MaxPool2d  switchgrad.nn.MaxPool2d
    2      torch.nn.AvgPool2d  switchgrad.nn.AvgPool2d
    >>> model(torch.rand(1, 1, 28, 28)).shape
    torch.Size([1, 6, 10, 10])
    """
    _check(model)
    found: dict[int, tuple[nn.Module, list[str]]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        found.setdefault(id(module), (module, []))[1].append(name)
    swaps: list[Swap] = []
    for module, names in found.values():
        before = type(module)
        if before in _OURS:
            _become_ours(module, *_OURS[before])
            swaps.append(Swap(tuple(names), _name(before), _name(type(module))))
        elif any(base in _OURS for base in before.__mro__):
            swaps.append(Swap(tuple(names), _name(before), None))
    return Swaps(swaps)


def _check(model: object) -> None:
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else described(model)
        raise ModelError(f"model is {what}; give a torch.nn.Module that was made")
    names = {layer.__name__ for layer in _OURS}
    for name, part in model.named_modules():
        if isinstance(part, torch.jit.ScriptModule) and (part is model or part.original_name in names):
            where = f'the module "{name}"' if name else "the model"
            raise ModelError(
                f"{where} is a scripted or traced {part.original_name}, which cannot be changed; replace the pooling "
                "first, then script or trace the model"
            )


def _become_ours(module: nn.Module, ours: type[nn.Module], more: Callable[[], dict[str, Any]]) -> None:
    # The object stays, so that parents, hooks and everybody who holds it see the change; these layers keep their
    # arguments as attributes of torch's names and have no parameters.
    module.__class__ = ours
    for name, value in more().items():
        module.__dict__.setdefault(name, value)


def _name(layer: type[nn.Module]) -> str:
    module = layer.__module__
    for prefix in ("torch.nn", "switchgrad.nn"):
        if module.startswith(prefix):
            return f"{prefix}.{layer.__name__}"
    return f"{module}.{layer.__name__}"


def _pairs() -> Iterator[tuple[type[nn.Module], tuple[type[nn.Module], Callable[[], dict[str, Any]]]]]:
    """torch's layers with ours and the attributes that only ours have."""
    for dims in (1, 2, 3):
        yield getattr(nn, f"MaxPool{dims}d"), (getattr(pooling, f"MaxPool{dims}d"), lambda: {"return_switches": False})
        yield getattr(nn, f"MaxUnpool{dims}d"), (getattr(pooling, f"MaxUnpool{dims}d"), dict)
        average = getattr(averaging, f"AvgPool{dims}d")
        yield getattr(nn, f"AvgPool{dims}d"), (average, lambda: {"dilation": 1, "divisor_override": None})
        yield getattr(nn, f"LPPool{dims}d"), (getattr(norms, f"LPPool{dims}d"), lambda: {"padding": 0, "dilation": 1})
        yield getattr(nn, f"AdaptiveAvgPool{dims}d"), (getattr(averaging, f"AdaptiveAvgPool{dims}d"), dict)
        adaptive = getattr(averaging, f"AdaptiveMaxPool{dims}d")
        yield getattr(nn, f"AdaptiveMaxPool{dims}d"), (adaptive, lambda: {"return_switches": False})
    fractional = {"generator": None, "mode": "pseudorandom", "return_switches": False}
    yield nn.FractionalMaxPool2d, (stochastic.FractionalMaxPool2d, lambda: fractional)
    yield nn.FractionalMaxPool3d, (stochastic.FractionalMaxPool3d, lambda: fractional)


_OURS = dict(_pairs())
