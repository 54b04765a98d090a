"""From names to things: the data that a recipe names, the network that a recipe or a checkpoint names."""

from __future__ import annotations

import torch
from torch import nn

from switchgrad import data, models
from switchgrad.data import Dataset
from switchgrad.data import Progress as Reading
from switchgrad.errors import RunError
from switchgrad.train.batches import seed_for, seed_globals
from switchgrad.train.description import Description
from switchgrad.train.recipe import Recipe

PYTHON = "python:"
"""Begins the name, in a recipe, of a network that was given as a module and can only be given again."""


def load_data(recipe: Recipe, reading: Reading | None = None) -> Dataset:
    """The data that a recipe names; ``reading(done, total, what)`` hears of downloads and of pictures read."""
    return data.load(
        recipe.data,
        recipe.data_root,
        image_size=recipe.image_size,
        val_fraction=recipe.val_fraction,
        seed=recipe.split_seed,
        bad_files="skip" if recipe.bad_files == "skip" else "refuse",
        progress=reading,
    )


def make_network(recipe: Recipe, dataset: Dataset) -> nn.Module:
    """The network that a recipe names, sized for the data, its weights drawn from the recipe's seed."""
    seed_globals(seed_for(recipe.seed, "weights"))
    return models.create(
        recipe.model,
        num_classes=dataset.num_classes,
        in_channels=dataset.in_channels,
        input_size=dataset.input_size,
        **recipe.model_options,
    )


def build_network(description: Description) -> nn.Module:
    """The network that a checkpoint describes, with fresh weights; the caller's random state is left as it was."""
    if description.model.startswith(PYTHON):
        name = description.model.removeprefix(PYTHON)
        raise RunError(f"this run trained a module of your own; give it again: Run.load(folder, model={name}(...))")
    with torch.random.fork_rng(devices=()):
        return models.create(
            description.model,
            num_classes=len(description.classes),
            in_channels=description.in_channels,
            input_size=description.input_size,
            **description.model_options,
        )
