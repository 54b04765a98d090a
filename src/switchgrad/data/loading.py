"""`load`: from the name of a data set, or the path of a folder, to a `Dataset` in memory."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from switchgrad.data import archives, cifar, digits, idx, image_folder, images, locate
from switchgrad.data.dataset import Dataset, Progress, Split, stratified_split
from switchgrad.data.image_folder import BadFiles
from switchgrad.data.locate import IdxPlace
from switchgrad.data.reading import check_size, require_memory
from switchgrad.data.sources import SOURCES, IdxFiles, Source, names
from switchgrad.errors import DataError

_MOST_PLAIN_CLASSES = 256


def load(
    name_or_path: str | Path = "digits",
    root: str | Path | None = None,
    *,
    image_size: int | tuple[int, int] | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    bad_files: BadFiles = "refuse",
    download: bool = True,
    progress: Progress | None = None,
) -> Dataset:
    """Load a data set by name, or from a folder, whole into memory.

    ``name_or_path`` is one of `names`, or the path of an image folder (``train/`` and ``val/`` with a sub-folder a
    class, or just the class folders) or of a folder with idx or CIFAR files. A name wins over a folder of the same
    name in the current folder; write ``./mnist`` for the folder.

    The files of a named set are looked for in ``root/<name>/`` and in ``root`` itself, then in ``$SWITCHGRAD_DATA``
    and in ``~/.cache/switchgrad`` likewise; where they are in none, they are downloaded (to ``$SWITCHGRAD_DATA``, else
    to the cache) and their SHA-256 is checked, unless ``download`` is False. ``digits`` needs no files.

    ``image_size`` (a side, or ``(H, W)``) scales the pictures to cover that size and cuts off what sticks out; without
    it, named sets keep their size, and folders of photographs become 64 x 64 (see `reading.working_size`). A folder
    has 3 channels, or 1 where every picture in it is stored grey.

    Where there is no official test set and no ``val/`` (or ``validation/``, ``valid/``, ``test/``), ``val_fraction`` of
    each class is held out, drawn with ``seed``. Classes are numbered in the order of their names; the classes of
    ``val`` are matched by name.

    Bad files (damaged, truncated, empty, no pictures, too large) are all listed in one error before anything trains;
    with ``bad_files="skip"`` they are left out with a warning. ``progress(done, total, what)`` is called during
    downloads (bytes) and while pictures are read.

    Raises `DataError` for an unknown name, missing or damaged files, classes that only ``val`` has, and data that
    would take more than half of the machine's memory. Warns (`DataWarning`) of left-out files, of classes without
    validation pictures, of a single class, and of pictures that are in both splits.

    >>> load("digits")
    Dataset(digits: 1,438 training and 359 validation pictures, 1x8x8, 10 classes)
    >>> load("digit")
    Traceback (most recent call last):
    switchgrad.errors.DataError: 'digit' is neither a folder nor the name of a data set; did you mean 'digits'? ...
    """
    size = None if image_size is None else check_size(image_size)
    if bad_files not in ("refuse", "skip"):
        raise DataError(f'bad_files is {bad_files!r}; give "refuse" or "skip"')
    dataset = find_arrays(
        name_or_path, root, val_fraction=val_fraction, seed=seed, download=download, progress=progress
    )
    if dataset is not None:
        return _resized(dataset, size)
    return image_folder.load(
        _path(name_or_path),
        str(name_or_path),
        image_size=size,
        val_fraction=val_fraction,
        seed=seed,
        bad_files=bad_files,
        progress=progress,
    )


def find_arrays(
    name_or_path: str | Path,
    root: str | Path | None,
    *,
    val_fraction: float,
    seed: int,
    download: bool = False,
    progress: Progress | None = None,
) -> Dataset | None:
    """The data set where it is a named one or lies in idx or CIFAR files, in its own size; None for image folders."""
    base = _root(root)
    if isinstance(name_or_path, str) and name_or_path in SOURCES:
        return _load_named(SOURCES[name_or_path], base, val_fraction, seed, download, progress)
    return _load_files(_path(name_or_path), str(name_or_path), val_fraction, seed)


def _root(root: str | Path | None) -> Path | None:
    if root is None:
        return None
    base = Path(root).expanduser()
    if not base.is_dir():
        raise DataError(f"the data root {root} is not a folder; give the folder that holds the data sets")
    return base


def _path(name_or_path: str | Path) -> Path:
    path = Path(name_or_path).expanduser()
    if path.exists():
        return path
    text = str(name_or_path)
    wanted = text.lower().replace("_", "-")
    longer = [name for name in names() if name.startswith(f"{wanted}-")]
    close = longer or difflib.get_close_matches(wanted, names(), n=3)
    hint = f"did you mean {' or '.join(repr(name) for name in close)}? " if close else ""
    raise DataError(f"{text!r} is neither a folder nor the name of a data set; {hint}known names: {', '.join(names())}")


def _load_named(
    source: Source, root: Path | None, val_fraction: float, seed: int, download: bool, progress: Progress | None
) -> Dataset:
    if source.layout == "digits":
        train, val = _held_out(digits.read(), val_fraction, seed)
        return Dataset.from_splits(source.name, source.name, source.classes, train, val)
    if source.idx is None:
        place = locate.locate_cifar(source, root, download, progress)
        return _from_cifar(place, source.name)
    files = locate.locate_idx(source, root, download, progress)
    return _from_idx(files, source.idx, source.name, source.name, source.classes, val_fraction, seed)


def _load_files(path: Path, source: str, val_fraction: float, seed: int) -> Dataset | None:
    """The CIFAR or idx files in a folder, or a CIFAR archive; None where there are none."""
    folder = path if path.is_dir() else path.parent
    place = cifar.find(folder)
    if place is not None and (path.is_dir() or place.path == path):
        return _from_cifar(place, source)
    if not path.is_dir():
        raise DataError(f"{path} is a file; give a folder of pictures, of idx files or of CIFAR files")
    return _load_idx_folder(path, source, val_fraction, seed)


def _load_idx_folder(path: Path, source: str, val_fraction: float, seed: int) -> Dataset | None:
    emnist = [s for s in SOURCES.values() if s.idx and s.idx.transposed and locate.find_idx(s, path)]
    if len(emnist) > 1:
        raise DataError(
            f"{path} holds several sets of EMNIST ({', '.join(s.name for s in emnist)}); "
            "give the name of one and this folder as --data-root (root=)"
        )
    if emnist:
        known = emnist[0]
    else:
        train = locate.idx_pair(path, "train-{kind}")
        if train is None:
            return None
        known = SOURCES.get(locate.recognise(train[1]) or "")
    files = known.idx if known and known.idx else IdxFiles("train-{kind}", "t10k-{kind}")
    place = _idx_place(path, files)
    classes = known.classes if known else None
    return _from_idx(place, files, known.name if known else path.resolve().name, source, classes, val_fraction, seed)


def _idx_place(path: Path, files: IdxFiles) -> IdxPlace:
    pairs = {"train": locate.idx_pair(path, files.train)}
    pairs["val"] = locate.idx_pair(path, files.val) or locate.idx_pair(path, "test-{kind}")
    return IdxPlace({split: pair for split, pair in pairs.items() if pair is not None})


def _from_cifar(place: cifar.Place, source: str) -> Dataset:
    train, val, classes = cifar.read(place, SOURCES[place.name].classes)
    return Dataset.from_splits(place.name, source, classes, train, val)


def _from_idx(
    place: IdxPlace,
    files: IdxFiles,
    name: str,
    source: str,
    classes: tuple[str, ...] | None,
    val_fraction: float,
    seed: int,
) -> Dataset:
    splits = {key: _read_pair(place.archive, pair, files) for key, pair in place.files.items()}
    if "val" in splits:
        train, val = splits["train"], splits["val"]
    else:
        train, val = _held_out(splits["train"], val_fraction, seed)
    if classes is None:
        count = max(int(split.labels.max()) for split in splits.values()) + 1
        classes = tuple(str(number) for number in range(min(count, _MOST_PLAIN_CLASSES)))
    return Dataset.from_splits(name, source, classes, train, val)


def _read_pair(archive: Path | None, pair: tuple[Path, Path], files: IdxFiles) -> Split:
    pictures, labels = pair
    if archive is None:
        return idx.read_split(pictures, labels, files.first_label, files.transposed)
    arrays = [
        idx.read_bytes(archives.zip_member(archive, member.name), dims, f"{archive}: {member.name}")
        for member, dims in ((pictures, 3), (labels, 1))
    ]
    return idx.to_split(arrays[0], arrays[1], str(labels), files.first_label, files.transposed)


def _held_out(split: Split, val_fraction: float, seed: int) -> tuple[Split, Split]:
    train, val = stratified_split(split.labels, val_fraction, seed)
    return split.select(train), split.select(val)


def _resized(dataset: Dataset, size: tuple[int, int] | None) -> Dataset:
    if size is None or size == dataset.input_size:
        return dataset
    require_memory(len(dataset.train) + len(dataset.val), size, dataset.in_channels)
    train, val = (replace(split, images=_fit_all(split.images, size)) for split in (dataset.train, dataset.val))
    return Dataset.from_splits(dataset.name, dataset.source, dataset.classes, train, val)


def _fit_all(pictures: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Every picture scaled by the rule for files, so that `read_image` agrees."""
    result = np.empty((*pictures.shape[:2], *size), np.uint8)
    for row, pixels in zip(result, pictures.numpy(), strict=True):
        row[:] = images.fit(pixels, size)
    return torch.from_numpy(result)
