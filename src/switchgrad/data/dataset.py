"""What every source turns into: two splits of labelled pictures in memory, and what the network must know of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from switchgrad.errors import DataError

Progress: TypeAlias = Callable[[int, int, str], None]
"""``progress(done, total, what)``: called as bytes arrive or pictures are read; ``what`` names the step."""

_AT_ONCE = 1 << 16  # values counted at a time: what counting widens stays in the cache
_LEAST_STD = 1 / 255  # a constant channel must not be divided by 0


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled pictures in memory: ``images`` uint8 ``[N, C, H, W]``, ``labels`` int64 ``[N]``.

    ``paths`` holds each picture's file, relative to the data set's folder, where the pictures came from files.
    Raises `DataError` where shapes or dtypes differ from these.

    >>> split = Split(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([3, 1]))
    >>> len(split), split.select(torch.tensor([1])).labels
    (2, tensor([1]))
    """

    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    paths: tuple[str, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.ndim != 4 or not images.is_contiguous():
            raise DataError(
                f"the images of a split are {images.dtype} of shape {tuple(images.shape)}; "
                "give a contiguous uint8 tensor of shape [N, C, H, W]"
            )
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise DataError(
                f"the labels of a split are {labels.dtype} of shape {tuple(labels.shape)}; "
                f"give an int64 tensor of shape [{len(images)}], one label a picture"
            )
        if self.paths is not None and len(self.paths) != len(images):
            raise DataError(f"a split has {len(images)} images but {len(self.paths)} paths; give one path a picture")

    def __len__(self) -> int:
        return len(self.images)

    def select(self, index: Tensor) -> Split:
        """The pictures at ``index`` (int64 ``[M]``), in that order."""
        paths = None if self.paths is None else tuple(self.paths[i] for i in index.tolist())
        return Split(self.images[index], self.labels[index], paths)

    def class_counts(self, num_classes: int) -> list[int]:
        """Number of pictures of each class.

        >>> Split(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([2, 0, 2])).class_counts(3)
        [1, 0, 2]
        """
        return torch.bincount(self.labels, minlength=num_classes).tolist()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set ready to train on: ``train`` and ``val`` splits with the same classes, channels and size.

    ``val`` is the official test set where the source has one, else a seeded, stratified part that training never
    sees. ``mean`` and ``std`` are per channel, over the training pictures scaled to 0..1; a constant channel has
    ``std`` 1/255. ``source`` is what was given to `load`. Build one from your own tensors with `from_splits`.

    Raises `DataError` where the splits do not fit together, are empty, or hold labels outside the classes.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.train.images.shape[1:] != self.val.images.shape[1:]:
            shapes = tuple(self.train.images.shape[1:]), tuple(self.val.images.shape[1:])
            raise DataError(f"the training pictures are {shapes[0]} but the validation pictures {shapes[1]}")
        if len(set(self.classes)) != len(self.classes) or not self.classes:
            raise DataError(f"the classes are {self.classes}; give at least one, each name once")
        if not len(self.mean) == len(self.std) == self.in_channels:
            raise DataError(f"mean and std need one value for each of {self.in_channels} channels")
        for what, split in (("training", self.train), ("validation", self.val)):
            _check_labels(what, split, self.num_classes)

    @classmethod
    def from_splits(cls, name: str, source: str, classes: Sequence[str], train: Split, val: Split) -> Dataset:
        """A data set from its two splits, ``mean`` and ``std`` measured on ``train``.

        >>> images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
        >>> split = Split(images, torch.tensor([0, 1]))
        >>> Dataset.from_splits("two", "memory", ("black", "white"), split, split).mean
        (0.5,)
        """
        if len(train) == 0:
            raise DataError(f"{name} has no training pictures; give at least one")
        mean, std = channel_statistics(train.images)
        return cls(name, source, tuple(classes), train, val, mean, std)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def in_channels(self) -> int:
        """Channels of each picture: 1 (grey) or 3 (red, green, blue)."""
        return self.train.images.shape[1]

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of each picture, in pixels."""
        return self.train.images.shape[2], self.train.images.shape[3]

    def __repr__(self) -> str:
        height, width = self.input_size
        return (
            f"Dataset({self.name}: {len(self.train):,} training and {len(self.val):,} validation pictures, "
            f"{self.in_channels}x{height}x{width}, {self.num_classes} classes)"
        )


def _check_labels(what: str, split: Split, num_classes: int) -> None:
    if len(split) == 0:
        raise DataError(f"there are no {what} pictures; give at least one")
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= num_classes:
        raise DataError(
            f"the {what} labels run from {low} to {high}, but there are {num_classes} classes (0 to {num_classes - 1})"
        )


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 ``[N, C, H, W]``, scaled to 0..1.

    Both follow from how often each of the 256 values occurs, so the sums are exact and no thread is needed (threads
    that wait for each other at every step made this the slowest part of loading on a busy machine). The standard
    deviation is that of the population, at least 1/255.

    >>> channel_statistics(torch.tensor([[[[0, 51]], [[9, 9]]]], dtype=torch.uint8))
    ((0.1, 0.0352...), (0.1, 0.0039...))
    """
    values = np.arange(256, dtype=np.int64)
    means: list[float] = []
    stds: list[float] = []
    for counts in _histograms(images.numpy()):
        count = int(counts.sum())
        total, squares = int(counts @ values), int(counts @ values**2)
        means.append(total / count / 255)
        stds.append(max(math.sqrt(squares * count - total * total) / count / 255, _LEAST_STD))
    return tuple(means), tuple(stds)


def _histograms(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """How often each value occurs in each channel, ``[C, 256]``."""
    pictures = max(_AT_ONCE // max(images[0, 0].size, 1), 1)
    result = np.zeros((images.shape[1], 256), np.int64)
    for start in range(0, len(images), pictures):
        for channel, counts in enumerate(result):
            counts += np.bincount(images[start : start + pictures, channel].reshape(-1), minlength=256)
    return result


def stratified_split(labels: Tensor, val_fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of a training and a validation part that hold every class in about the same share.

    Of the ``n`` pictures of a class, ``val_fraction n`` rounded to the nearest (at least 1, at most ``n - 1``) are
    drawn for validation; a class with a single picture keeps it for training. Both results are sorted, and the same
    ``seed`` gives the same parts everywhere. Raises `DataError` unless ``0 < val_fraction < 1``.

    >>> train, val = stratified_split(torch.tensor([0] * 10 + [1] * 5 + [2]), 0.2, seed=0)
    >>> len(train), len(val), (val >= 10).sum().item()
    (13, 3, 1)
    """
    if not 0 < val_fraction < 1:
        raise DataError(f"val_fraction is {val_fraction}; give a share between 0 and 1, such as 0.2")
    generator = torch.Generator("cpu").manual_seed(seed)
    keys = torch.rand(len(labels), generator=generator, dtype=torch.float64, device="cpu")
    in_val = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        drawn = members[keys[members].argsort(stable=True)][: _val_count(len(members), val_fraction)]
        in_val[drawn] = True
    return (~in_val).nonzero().flatten(), in_val.nonzero().flatten()


def _val_count(members: int, val_fraction: float) -> int:
    if members < 2:
        return 0
    return min(max(int(members * val_fraction + 0.5), 1), members - 1)
