"""A finished (or stopped) run, as a thing to use: its best weights, its record, its predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from switchgrad import data
from switchgrad.data import Dataset
from switchgrad.errors import RunError
from switchgrad.train.checkpoint import WEIGHTS, put_weights, read
from switchgrad.train.description import Description, digest
from switchgrad.train.evaluation import Evaluation, evaluate
from switchgrad.train.folder import RunFolder
from switchgrad.train.named import build_network, load_data
from switchgrad.train.position import Row
from switchgrad.train.recipe import Recipe
from switchgrad.train.record import read_rows

_BATCH = 256


@dataclass(frozen=True, repr=False)
class Run:
    """A run: ``folder``, ``recipe``, ``metrics`` (a `Row` each epoch), and ``model`` with the best weights.

    The model is in evaluation mode, on the CPU. ``accuracy`` and ``loss`` are those of the best weights on the
    held-out pictures; as the best epoch was chosen on the same pictures, they are slightly hopeful: compare with the
    last row of ``metrics``.
    """

    folder: Path
    recipe: Recipe
    metrics: tuple[Row, ...]
    model: nn.Module
    description: Description

    def __repr__(self) -> str:
        told = f"{self.recipe.model} on {self.recipe.data}, {self.accuracy:.2%} after epoch {self.description.epoch}"
        return f"Run({self.folder}: {told})"

    @property
    def accuracy(self) -> float:
        """Share of the held-out pictures that the best weights get right."""
        return self.description.accuracy

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the best weights on the held-out pictures, in nats."""
        return self.description.loss

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""
        return self.description.classes

    @classmethod
    def load(cls, folder: str | Path, model: nn.Module | None = None) -> Run:
        """The run in ``folder``. A network that was given as a module must be given again as ``model``.

        `RunError` where the folder is no run, holds no best weights yet, or they do not fit the network.
        """
        files = RunFolder(Path(folder))
        recipe = files.read_recipe()
        if not files.best.is_file():
            raise RunError(f"{folder} has no best weights yet, as no epoch was finished; resume it")
        checkpoint = read(files.best, WEIGHTS)
        description = Description.from_fields(checkpoint.fields)
        network = build_network(description) if model is None else model
        put_weights(network, checkpoint.tensors, files.best)
        rows = read_rows(files.metrics) if files.metrics.is_file() else []
        return cls(files.path, recipe, tuple(rows), network.eval(), description)

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities ``[N, classes]``, float32, of uint8 pictures ``[N, C, H, W]`` or of one ``[C, H, W]``.

        The pictures have the size and channels that the run was trained on; ``switchgrad.data.read_image`` brings a
        file to them. `RunError` where they differ.
        """
        batch = images[None] if images.dim() == 3 else images
        shape = (self.description.in_channels, *self.description.input_size)
        if batch.dtype != torch.uint8 or tuple(batch.shape[1:]) != shape:
            raise RunError(
                f"the pictures are {images.dtype} of shape {list(images.shape)}; this run takes uint8 [N, "
                f"{', '.join(map(str, shape))}], as switchgrad.data.read_image gives them"
            )
        with torch.inference_mode():
            scores = [self.model(self.prepare(part)) for part in batch.split(_BATCH)]
        return torch.cat(scores).softmax(1).cpu()

    def prepare(self, images: Tensor) -> Tensor:
        """The network's input from uint8 pictures: scaled, the training set's mean taken off, divided by its std."""
        device = next(self.model.parameters()).device
        return data.normalise(images.to(device), self.description.mean, self.description.std)

    def load_data(self, source: str | None = None, root: str | None = None) -> Dataset:
        """The run's own data, or with ``source`` other data, at the size that the network takes.

        `RunError` where the run's own data are no longer those that it was trained on: a held-out picture could
        then be one that the weights have seen.
        """
        where = root or self.recipe.data_root
        if source is not None:
            return data.load(source, where, image_size=self.description.input_size)
        dataset = load_data(self.recipe.replace(data_root=where))
        if digest(dataset) != self.description.data_digest:
            raise RunError(
                f"the pictures of {self.recipe.data} are not those that the run was trained on; to measure it on other "
                "data name them: switchgrad evaluate RUN DATA"
            )
        return dataset

    def evaluate(self, dataset: Dataset, split: str = "val") -> Evaluation:
        """Evaluate the best weights on ``split`` ("val", "train" or "all") of a data set, its classes matched by name.

        `RunError` where the data have a class that the run does not know, or pictures of another shape.
        """
        splits = {"val": (dataset.val,), "train": (dataset.train,), "all": (dataset.train, dataset.val)}
        if split not in splits:
            raise RunError(f"split is {split!r}; give 'val', 'train' or 'all'")
        images = torch.cat([part.images for part in splits[split]])
        labels = torch.cat([part.labels for part in splits[split]])
        shape = (self.description.in_channels, *self.description.input_size)
        if tuple(images.shape[1:]) != shape:
            raise RunError(
                f"the pictures of {dataset.name} have the shape {list(images.shape[1:])}; this run takes {list(shape)}"
            )
        return evaluate(
            self.model,
            images,
            class_map(dataset.classes, self.classes)[labels],
            num_classes=len(self.classes),
            prepare=self.prepare,
        )


def class_map(theirs: tuple[str, ...], ours: tuple[str, ...]) -> Tensor:
    """Our number of each of their classes, found by name.

    >>> class_map(("bees", "ants"), ("ants", "bees", "wasps")).tolist()
    [1, 0]
    >>> class_map(("bees", "moths"), ("ants", "bees"))
    Traceback (most recent call last):
    switchgrad.errors.RunError: the data have classes that this run was not trained on: 'moths'; it knows 'ants', 'bees'
    """
    strangers = [name for name in theirs if name not in ours]
    if strangers:
        raise RunError(
            f"the data have classes that this run was not trained on: {_some(strangers)}; it knows {_some(ours)}"
        )
    return torch.tensor([ours.index(name) for name in theirs])


def _some(names: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
