"""What weights need around them to be used: which network, which classes, how pictures become its input."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from switchgrad.data import Dataset
from switchgrad.errors import RunError

MAX_CLASSES, MAX_CHANNELS, MAX_SIDE = 100_000, 1024, 4096


@dataclass(frozen=True)
class Description:
    """The metadata of ``best.safetensors``: enough to build the network again and to feed it.

    ``mean`` and ``std`` are per channel of pictures scaled to 0..1. ``accuracy`` and ``loss`` are those of these
    weights on the held-out pictures after epoch ``epoch``; ``data_digest`` is the fingerprint of all pictures and
    labels of the run.
    """

    model: str
    model_options: Mapping[str, object]
    classes: tuple[str, ...]
    in_channels: int
    input_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    data_digest: str
    epoch: int = 0
    accuracy: float = 0.0
    loss: float = 0.0

    def to_fields(self) -> dict[str, Any]:
        """Names and values that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Description:
        """Read what `to_fields` wrote, from a file that nobody vouches for: every size is bounded.

        `RunError` names the first field that is missing or makes no sense.
        """
        for name, is_sound in _SOUND.items():
            if name not in fields or not is_sound(fields[name]):
                raise RunError(
                    f"the checkpoint's description is damaged: {name} is {fields.get(name, 'missing')!r:.80}"
                )
        if not len(fields["mean"]) == len(fields["std"]) == fields["in_channels"]:
            raise RunError("the checkpoint's description is damaged: mean, std and in_channels differ in length")
        values = {name: tuple(v) if isinstance(v := fields[name], list) else v for name in _SOUND}
        return cls(**cast("dict[str, Any]", values))


def _whole(low: int, high: float) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _items(sound: Callable[[Any], bool], low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list) and low <= len(cast("list[Any]", value)) <= high and all(map(sound, value))
    )


def _text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 10_000


def _table(value: object) -> bool:
    return isinstance(value, dict)


_SOUND: dict[str, Callable[[Any], bool]] = {
    "model": _text,
    "model_options": _table,
    "classes": _items(_text, 1, MAX_CLASSES),
    "in_channels": _whole(1, MAX_CHANNELS),
    "input_size": _items(_whole(1, MAX_SIDE), 2, 2),
    "mean": _items(_number, 1, MAX_CHANNELS),
    "std": _items(lambda value: _number(value) and value > 0, 1, MAX_CHANNELS),
    "data_digest": _text,
    "epoch": _whole(0, math.inf),
    "accuracy": _number,
    "loss": _number,
}


def digest(dataset: Dataset) -> str:
    """A fingerprint of a data set: its classes, and every picture and label of both splits."""
    total = hashlib.blake2b("\0".join(dataset.classes).encode(), digest_size=16)
    for tensor in (dataset.train.images, dataset.train.labels, dataset.val.images, dataset.val.labels):
        total.update(str(tuple(tensor.shape)).encode())
        total.update(_bytes(tensor))
    return total.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data
