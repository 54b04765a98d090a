"""An image folder as a `Dataset`: two splits, classes by name, bad files refused or left out."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from switchgrad.data import folder, reading
from switchgrad.data.dataset import Dataset, Progress, Split, stratified_split
from switchgrad.data.folder import Item, Listing
from switchgrad.data.reading import BadFilesError, Outcome
from switchgrad.errors import DataError, DataWarning

BadFiles: TypeAlias = Literal["refuse", "skip"]
Pixels: TypeAlias = npt.NDArray[np.uint8]

_NAMED = 5  # how many files or classes a warning names before it only counts


def load(
    path: Path,
    source: str,
    *,
    image_size: int | tuple[int, int] | None,
    val_fraction: float,
    seed: int,
    bad_files: BadFiles,
    progress: Progress | None,
) -> Dataset:
    """Read an image folder; see `switchgrad.data.load` for what each argument means."""
    listing = folder.find(path)
    train_items, val_items = split_items(listing, val_fraction, seed)
    items = train_items + val_items
    pixels, outcomes = reading.read_all(items, reading.working_size(items, image_size), progress)
    settle_problems(path, outcomes, bad_files)
    cut = len(train_items)
    classes = train_classes(path, outcomes[:cut])
    check_val_classes(path, outcomes[cut:], classes)
    channels = 1 if all(outcome.grey for outcome in outcomes if outcome.problem is None) else 3
    train, val = (_split(pixels[part], outcomes[part], classes, channels) for part in (slice(cut), slice(cut, None)))
    dataset = Dataset.from_splits(path.resolve().name, source, classes, train, val)
    for sentence in (*_class_warnings(dataset, listing), *_leak_warnings(outcomes[:cut], outcomes[cut:])):
        warnings.warn(f"{path}: {sentence}", DataWarning, stacklevel=3)
    return dataset


def split_items(listing: Listing, val_fraction: float, seed: int) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """The items to train on and those to validate on: by folder, else drawn class by class with ``seed``."""
    if listing.val is not None:
        return listing.train, listing.val
    names = sorted({item.class_name for item in listing.train})
    labels = torch.tensor([names.index(item.class_name) for item in listing.train])
    train, val = stratified_split(labels, val_fraction, seed)
    return tuple(listing.train[i] for i in train.tolist()), tuple(listing.train[i] for i in val.tolist())


def settle_problems(path: Path, outcomes: Sequence[Outcome], bad_files: BadFiles) -> None:
    """Raise `BadFilesError` for bad files, or warn of them where they are to be skipped."""
    problems = [outcome.problem for outcome in outcomes if outcome.problem is not None]
    if not problems:
        return
    if bad_files == "refuse" or len(problems) == len(outcomes):
        raise BadFilesError(str(path), len(outcomes), problems)
    lines = "\n".join(f"  {problem}" for problem in problems)
    warnings.warn(
        f"{len(problems)} of {len(outcomes)} pictures in {path} are left out:\n{lines}", DataWarning, stacklevel=4
    )


def train_classes(path: Path, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """The classes that have a training picture, sorted as text (as torchvision's ImageFolder numbers them)."""
    classes = sorted({outcome.item.class_name for outcome in outcomes if outcome.problem is None})
    if not classes:
        raise DataError(f"{path} has no training picture that can be read; add pictures to its class folders")
    return tuple(classes)


def check_val_classes(path: Path, outcomes: Sequence[Outcome], classes: tuple[str, ...]) -> None:
    """Raise `DataError` for validation classes that training does not know: they could only be counted wrong."""
    unknown = sorted({outcome.item.class_name for outcome in outcomes if outcome.problem is None} - set(classes))
    if unknown:
        close = difflib.get_close_matches(unknown[0], classes, n=1)
        hint = f" (is {unknown[0]!r} meant to be {close[0]!r}?)" if close else ""
        raise DataError(
            f"{path} has validation pictures of {_named(unknown)}, which have no training pictures{hint}; "
            f"rename the folder, add training pictures, or remove it (training has {_named(classes)})"
        )


def _split(pixels: Pixels, outcomes: Sequence[Outcome], classes: tuple[str, ...], channels: int) -> Split:
    good = [index for index, outcome in enumerate(outcomes) if outcome.problem is None]
    kept = pixels if len(good) == len(pixels) else pixels[good]
    number = {name: index for index, name in enumerate(classes)}
    return Split(
        torch.from_numpy(np.ascontiguousarray(kept[:, :channels])),
        torch.tensor([number[outcomes[index].item.class_name] for index in good], dtype=torch.int64),
        tuple(outcomes[index].item.name for index in good),
    )


def _class_warnings(dataset: Dataset, listing: Listing) -> list[str]:
    sentences: list[str] = []
    if listing.empty:
        sentences.append(f"{_named(listing.empty)} hold no pictures and are left out; fill or remove these folders")
    if dataset.num_classes == 1:
        sentences.append(f"there is only one class ({dataset.classes[0]}), so there is nothing to tell apart")
    counts = dataset.val.class_counts(dataset.num_classes)
    absent = [name for name, count in zip(dataset.classes, counts, strict=True) if count == 0]
    if absent:
        sentences.append(
            f"{_named(absent)} have no validation pictures; the other classes keep their numbers (they are matched by "
            "name), but nothing will be known about these"
        )
    return sentences


def _leak_warnings(train: Sequence[Outcome], val: Sequence[Outcome]) -> list[str]:
    leaks = leaked(train, val)
    if not leaks:
        return []
    pairs = ", ".join(f"{theirs} = {ours}" for theirs, ours in leaks[:_NAMED])
    return [
        f"{len(leaks)} validation pictures are also training pictures ({pairs}{_rest(leaks)}), so the validation "
        "accuracy will look better than it is; remove one of each pair"
    ]


def leaked(train: Sequence[Outcome], val: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Validation files with the very content of a training file: pairs of names, validation first."""
    ours = {outcome.digest: outcome.item.shown for outcome in train if outcome.problem is None}
    return [(o.item.shown, ours[o.digest]) for o in val if o.problem is None and o.digest in ours]


def _named(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:_NAMED]) + _rest(names)


def _rest(things: Sequence[object]) -> str:
    return f" and {len(things) - _NAMED} more" if len(things) > _NAMED else ""
