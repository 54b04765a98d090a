"""`check`: everything that is wrong or odd with a data set, all at once, before hours go into training on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from switchgrad.data import folder, images, reading
from switchgrad.data.dataset import Dataset, Progress, Split
from switchgrad.data.folder import Listing
from switchgrad.data.image_folder import leaked, split_items
from switchgrad.data.loading import find_arrays
from switchgrad.data.reading import Outcome, Problem
from switchgrad.errors import DataError

_SMALL = (16, 16)  # pictures are only looked at, so they are decoded small
_TINY_CLASS = 10
_IMBALANCE = 10
_SHOWN = 3
_ODD_ONE_AMONG = 10


@dataclass(frozen=True)
class Notice:
    """Something worth knowing about a data set, and the files or folders concerned.

    >>> print(Notice("CMYK: turned into RGB", ("a.jpg", "b.jpg", "c.jpg", "d.jpg")))
    CMYK: turned into RGB (4: a.jpg, b.jpg, c.jpg, ...)
    """

    text: str
    paths: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.paths:
            return self.text
        more = ", ..." if len(self.paths) > _SHOWN else ""
        return f"{self.text} ({len(self.paths)}: {', '.join(self.paths[:_SHOWN])}{more})"


@dataclass(frozen=True)
class Report:
    """What `check` found. ``problems`` keep the data set from loading, ``warnings`` deserve a look, ``notes`` inform.

    ``train_counts`` and ``val_counts`` hold each class's number of good pictures, in the order of ``classes``.
    """

    source: str
    classes: tuple[str, ...] = ()
    train_counts: tuple[int, ...] = ()
    val_counts: tuple[int, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Notice, ...] = ()
    notes: tuple[Notice, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the data set loads."""
        return not self.problems

    def __str__(self) -> str:
        lines = [
            f"{self.source}: {sum(self.train_counts):,} training and {sum(self.val_counts):,} validation pictures, "
            f"{len(self.classes)} classes"
        ]
        for title, found in (("problem", self.problems), ("warning", self.warnings), ("note", self.notes)):
            lines += [f"{title}: {entry}" for entry in found]
        return "\n".join(lines if len(lines) > 1 else [*lines, "nothing to complain of"])


def check(
    name_or_path: str | Path,
    root: str | Path | None = None,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Look through a data set, as `load` would find it, and report everything at once instead of the first error.

    Every picture of an image folder is decoded. Problems are files that are unreadable, truncated, empty, no pictures
    or too large, each with file, class, reason and remedy, and classes that only the validation pictures have.
    Warnings are a single class, classes with fewer than 10 training pictures or none to validate on, a class 10 times
    as large as another, pictures that are in both splits or in two classes, suffixes that do not fit the content, a
    lone file of another format, empty class folders, and files that belong to no class. Notes tell of what is
    converted on the way: animations, CMYK, 16-bit grey, EXIF rotation.

    Nothing is downloaded. Never raises for what is wrong with the data.

    >>> print(check("digits"))
    digits: 1,438 training and 359 validation pictures, 10 classes
    nothing to complain of
    """
    source = str(name_or_path)
    try:
        dataset = find_arrays(name_or_path, root, val_fraction=val_fraction, seed=seed)
        if dataset is not None:
            return _check_arrays(source, dataset)
        listing = folder.find(Path(name_or_path).expanduser())
        train, val = split_items(listing, val_fraction, seed)
        _, outcomes = reading.read_all(train + val, _SMALL, progress, "checking pictures")
    except DataError as error:
        reason, _, remedy = str(error).rpartition("; ")
        return Report(source, problems=(Problem(source, "", reason or remedy, remedy if reason else ""),))
    return _check_folder(source, listing, outcomes[: len(train)], outcomes[len(train) :])


def _check_arrays(source: str, dataset: Dataset) -> Report:
    train, val = (tuple(split.class_counts(dataset.num_classes)) for split in (dataset.train, dataset.val))
    shared = set(_contents(dataset.train)) & set(_contents(dataset.val))
    leaks = [Notice(f"{len(shared)} pictures are in both the training and the validation split")] if shared else []
    warnings = [*_class_notices(dataset.classes, train, val), *leaks]
    return Report(source, dataset.classes, train, val, warnings=tuple(warnings))


def _contents(split: Split) -> Iterable[bytes]:
    return (picture.tobytes() for picture in split.images.numpy())


def _check_folder(source: str, listing: Listing, train: Sequence[Outcome], val: Sequence[Outcome]) -> Report:
    good_train, good_val = _good(train), _good(val)
    in_train, in_val = (Counter(o.item.class_name for o in part) for part in (good_train, good_val))
    classes = tuple(sorted(in_train))
    train_counts, val_counts = (tuple(counter[name] for name in classes) for counter in (in_train, in_val))
    problems = [outcome.problem for outcome in (*train, *val) if outcome.problem is not None]
    problems += [_unknown_class(name, count) for name, count in sorted(in_val.items()) if name not in in_train]
    good = good_train + good_val
    warnings = (
        *_class_notices(classes, train_counts, val_counts),
        *_copy_notices(listing, good_train, good_val),
        *_suffix_notices(good),
        *_folder_notices(listing),
    )
    return Report(
        source, classes, train_counts, val_counts, tuple(problems), warnings, tuple(_conversion_notes(listing, good))
    )


def _good(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.problem is None]


def _unknown_class(name: str, count: int) -> Problem:
    return Problem(
        name,
        name,
        f"the class has {count} validation pictures but no training pictures",
        "rename the folder, add training pictures, or remove it",
    )


def _class_notices(classes: Sequence[str], train: Sequence[int], val: Sequence[int]) -> list[Notice]:
    """One class, tiny classes, classes without validation pictures, classes of very different sizes."""
    notices: list[Notice] = []
    if len(classes) == 1:
        notices.append(Notice("there is only one class, so there is nothing to tell apart", tuple(classes)))
    tiny = tuple(f"{name} with {count}" for name, count in zip(classes, train, strict=True) if count < _TINY_CLASS)
    if tiny:
        notices.append(Notice(f"classes with fewer than {_TINY_CLASS} training pictures are hardly learnt", tiny))
    absent = tuple(name for name, count in zip(classes, val, strict=True) if count == 0)
    if absent:
        notices.append(Notice("classes without validation pictures: nothing will be known about them", absent))
    if train and max(train) >= _IMBALANCE * max(min(train), 1):
        largest, smallest = classes[train.index(max(train))], classes[train.index(min(train))]
        notices.append(
            Notice(f"{largest} has {max(train)} training pictures but {smallest} {min(train)}: accuracy will mislead")
        )
    return notices


def _copy_notices(listing: Listing, train: Sequence[Outcome], val: Sequence[Outcome]) -> list[Notice]:
    """The same content in both splits, in two classes, or more than once in a class."""
    groups: defaultdict[bytes, list[Outcome]] = defaultdict(list)
    for outcome in (*train, *val):
        groups[outcome.digest].append(outcome)
    copies = [group for group in groups.values() if len(group) > 1]
    crossed = [group for group in copies if len({o.item.class_name for o in group}) > 1]
    leaks = leaked(train, val)
    chance = "" if listing.val is not None else " by the seeded split"
    findings = (
        (f"pictures that are in both splits{chance}: accuracy will look too good", [f"{a} = {b}" for a, b in leaks]),
        ("the same picture in two classes: one of them is wrong", [_equal(group) for group in crossed]),
        ("pictures that are there more than once", [] if leaks or crossed else [_equal(group) for group in copies]),
    )
    return [Notice(text, tuple(paths)) for text, paths in findings if paths]


def _equal(group: Sequence[Outcome]) -> str:
    return " = ".join(outcome.item.shown for outcome in group)


def _suffix_notices(good: Sequence[Outcome]) -> list[Notice]:
    """Suffixes that promise another format than the content has, and a lone format in a class."""
    wrong = [
        f"{outcome.item.shown} is {outcome.format}"
        for outcome in good
        if images.SUFFIXES.get(outcome.item.path.suffix.lower()) != outcome.format
    ]
    text = "files whose suffix does not fit their content (they are read by content)"
    return [*([Notice(text, tuple(wrong))] if wrong else []), *_odd_ones(good)]


def _odd_ones(good: Sequence[Outcome]) -> list[Notice]:
    classes: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in good:
        classes[outcome.item.class_name].append(outcome)
    odd: list[str] = []
    for outcomes in classes.values():
        formats = Counter(outcome.format for outcome in outcomes)
        if len(formats) == 2 and len(outcomes) > _ODD_ONE_AMONG and min(formats.values()) == 1:
            odd += [f"{o.item.shown}, {o.format}" for o in outcomes if formats[o.format] == 1]
    return [Notice("the only file of its format in its class: is it a placeholder?", tuple(odd))] if odd else []


def _folder_notices(listing: Listing) -> list[Notice]:
    findings = (
        ("class folders without pictures are left out", listing.empty),
        ("files that are no pictures or lie outside of the class folders are left out", listing.stray),
        ("folders that take no part", listing.unused),
    )
    return [Notice(text, paths) for text, paths in findings if paths]


def _conversion_notes(listing: Listing, good: Sequence[Outcome]) -> list[Notice]:
    notes: defaultdict[str, list[str]] = defaultdict(list)
    grey = [outcome.item.shown for outcome in good if outcome.grey]
    if 0 < len(grey) < len(good):
        notes["grey among colour pictures: repeated to three channels"] = grey
    for outcome in good:
        for note in outcome.notes:
            notes[note].append(outcome.item.shown)
    split = [] if listing.val is not None else [Notice("no validation folder: a part is held out by the seed")]
    return [*split, *(Notice(text, tuple(paths)) for text, paths in notes.items())]
