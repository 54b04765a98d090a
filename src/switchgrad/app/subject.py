"""What ``trace`` and ``check-gradients`` look at: a network by name, a run, or a module of one's own; and its input."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import typer

from switchgrad.errors import DataError, ModelError
from switchgrad.train.batches import seed_globals

if TYPE_CHECKING:
    from torch import Tensor, nn

    from switchgrad.data import Dataset
    from switchgrad.train import Run

DEFAULT_DATA = "digits"


@dataclass(frozen=True)
class Subject:
    """A network and what is known of it: the shape (C, H, W) that it takes, the names of its classes."""

    name: str
    model: nn.Module
    input_shape: tuple[int, ...] | None
    classes: tuple[str, ...] = ()
    prepare: Callable[[Tensor], Tensor] | None = None
    run: Run | None = None


@dataclass(frozen=True)
class Example:
    """One input ``[1, ...]``, its label where it has one, and where it came from."""

    input: Tensor
    label: int | None
    told: str
    classes: tuple[str, ...] = ()


def is_run(name: str) -> bool:
    """Whether ``name`` is a run's folder."""
    return (Path(name) / "config.toml").is_file()


def is_own(name: str) -> bool:
    """Whether ``name`` is a module of one's own, as ``file.py:Name`` or ``package.module:Name``."""
    return ":" in name


def from_run(name: str) -> Subject:
    """The run's network with its best weights."""
    from switchgrad.train import Run

    run = Run.load(name)
    shape = (run.description.in_channels, *run.description.input_size)
    return Subject(f"{run.recipe.model} of {name}", run.model, shape, run.classes, run.prepare, run)


def by_name(name: str, shape: tuple[int, ...] | None, classes: int | None, seed: int) -> Subject:
    """A network of the zoo with fresh weights, for ``shape`` and ``classes`` or those of its card."""
    from switchgrad import models

    card = models.card(name)
    channels, height, width = card.input_shape if shape is None else picture_shape(shape)
    seed_globals(seed)
    count = card.num_classes if classes is None else classes
    model = models.create(name, num_classes=count, in_channels=channels, input_size=(height, width))
    return Subject(name, model, (channels, height, width))


def picture_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """``shape`` as channels, height and width."""
    if len(shape) != 3:
        raise typer.BadParameter(f"{'x'.join(map(str, shape))} is no picture; give channels x height x width: 1x28x28")
    return shape[0], shape[1], shape[2]


def own(name: str, shape: tuple[int, ...] | None, seed: int) -> Subject:
    """A module of one's own: an instance, or a class or function that makes one without arguments."""
    from torch import nn

    place, _, attribute = name.rpartition(":")
    seed_globals(seed)
    try:
        found = getattr(_import(place), attribute)
        made = found if isinstance(found, nn.Module) else found()
    except Exception as error:
        text = str(error).strip().split("\n")[0] or type(error).__name__
        raise ModelError(f"{name} cannot be made: {text}; give file.py:Name of a module") from error
    if not isinstance(made, nn.Module):
        raise ModelError(f"{name} is a {type(made).__name__}; give a torch.nn.Module or what makes one")
    return Subject(name, made, shape)


def _import(place: str) -> ModuleType:
    path = Path(place)
    if path.suffix != ".py":
        sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(place)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ModelError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def load_dataset(name: str, root: str | None, size: tuple[int, int] | None) -> Dataset:
    """A data set by name or folder."""
    from switchgrad import data

    return data.load(name, root, image_size=size)


def example_of(dataset: Dataset, index: int) -> tuple[Tensor, int]:
    """A held-out picture ``[1, C, H, W]``, bytes, and its label."""
    if not 0 <= index < len(dataset.val):
        raise DataError(f"--index is {index}; {dataset.name} has held-out pictures 0 to {len(dataset.val) - 1}")
    return dataset.val.images[index : index + 1], int(dataset.val.labels[index])


def read_sizes(text: str) -> tuple[int, ...]:
    """``1x28x28`` or ``20x4`` as sizes, without the batch.

    >>> read_sizes("20x4")
    (20, 4)
    """
    try:
        sizes = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise typer.BadParameter(f"{text!r} is no shape; give sizes without the batch: 1x28x28")
    return sizes


def class_number(label: str, classes: tuple[str, ...], outputs: str) -> int:
    """The number of a class given by name or number."""
    if label in classes:
        return classes.index(label)
    if label.isdigit():
        return int(label)
    known = ", ".join(classes[:12]) + (", ..." if len(classes) > 12 else "")
    raise DataError(f'there is no class "{label}" in {outputs}; known are {known or "numbers from 0"}')
