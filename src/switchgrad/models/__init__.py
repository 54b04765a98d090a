"""Networks by name, their cards, and the table that shows what a network is made of.

>>> from switchgrad import models
>>> models.names()
['convnet', 'lenet5', 'lenet5-1998']
>>> net = models.create("lenet5", num_classes=10, in_channels=1, input_size=(28, 28))
>>> sum(p.numel() for p in net.parameters()) == models.card("lenet5").parameters == 61_706
True
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import cast

from torch import nn

from switchgrad.errors import ModelError
from switchgrad.models.convnet import CONVNET, convnet
from switchgrad.models.lenet import LENET5, LENET5_1998, lenet5, lenet5_1998
from switchgrad.models.network import Card, Task
from switchgrad.models.summarise import Row, Summary, summary

__all__ = ["Card", "Row", "Summary", "card", "create", "names", "summary"]

_TABLE: dict[str, tuple[Callable[..., nn.Module], Card]] = {
    "convnet": (convnet, CONVNET),
    "lenet5": (lenet5, LENET5),
    "lenet5-1998": (lenet5_1998, LENET5_1998),
}


def names() -> list[str]:
    """The names that `create` and `card` know, in alphabetical order."""
    return sorted(_TABLE)


def card(name: str) -> Card:
    """The card of a network: paper, input, parameters, multiply-adds and named layers. Raises `ModelError`.

    >>> card("convnet").taps["pool2"]
    (64, 5, 5)
    """
    return _entry(name)[1]


def create(
    name: str,
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    input_size: tuple[int, int] | None = None,
    **options: object,
) -> nn.Module:
    """Build a network with fresh random weights (drawn from PyTorch's global generator: seed that for a repeat).

    It takes float pictures ``[N, in_channels, H, W]`` and gives scores ``[N, num_classes]``. ``input_size`` is
    ``(H, W)`` in pixels, by default that of the network's card. ``options`` are the network's own: ``dropout`` for
    ``convnet``; the others have none.

    Raises `ModelError` for a name or an option that does not exist, and for sizes that the network cannot take.

    >>> create("convnet", num_classes=2, in_channels=3, input_size=(64, 64), dropout=0.25)[-1]
    Linear(in_features=12544, out_features=2, bias=True)
    >>> create("lenet")
    Traceback (most recent call last):
    switchgrad.errors.ModelError: there is no model "lenet"; did you mean "lenet5"? Known: convnet, lenet5, lenet5-1998
    """
    builder, known = _entry(name)
    for what, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if not _is_count(value):
            raise ModelError(f"{what} is {value!r}; give a whole number of at least 1")
    height, width = _size(known.input_shape[1:] if input_size is None else input_size)
    _check_options(name, builder, options)
    return builder(Task(num_classes, in_channels, height, width), **options)


def _entry(name: str) -> tuple[Callable[..., nn.Module], Card]:
    if name in _TABLE:
        return _TABLE[name]
    near = difflib.get_close_matches(str(name).lower(), names(), n=1, cutoff=0.4)
    hint = f'did you mean "{near[0]}"? Known' if near else "known"
    raise ModelError(f'there is no model "{name}"; {hint}: {", ".join(names())}')


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _size(value: object) -> tuple[int, int]:
    """``value`` as height and width in pixels."""
    sides = tuple(cast("Sequence[int]", value)) if isinstance(value, list | tuple) else ()
    if len(sides) != 2 or not all(_is_count(side) for side in sides):
        raise ModelError(f"input_size is {value!r}; give (height, width) in pixels, both whole numbers of at least 1")
    return sides[0], sides[1]


def _check_options(name: str, builder: Callable[..., nn.Module], options: dict[str, object]) -> None:
    known = [p.name for p in inspect.signature(builder).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = [option for option in options if option not in known]
    if unknown:
        has = f"its options are {', '.join(known)}" if known else "it has no options of its own"
        raise ModelError(f'{name} has no option "{unknown[0]}"; {has}')
