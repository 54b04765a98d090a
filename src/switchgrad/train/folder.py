"""A run's folder: what lies in it under which name, and how a new one is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from switchgrad.errors import RunError
from switchgrad.train.atomic import write_text
from switchgrad.train.recipe import Recipe


@dataclass(frozen=True)
class RunFolder:
    """The files of a run, by name.

    >>> RunFolder(Path("runs/digits-lenet5-1")).state.as_posix()
    'runs/digits-lenet5-1/last/state.safetensors'
    """

    path: Path

    @property
    def config(self) -> Path:
        """The recipe; ``switchgrad train --config`` of it replays the run."""
        return self.path / "config.toml"

    @property
    def metrics(self) -> Path:
        """One line an epoch."""
        return self.path / "metrics.csv"

    @property
    def best(self) -> Path:
        """The weights of the best epoch, with all that is needed to use them."""
        return self.path / "best.safetensors"

    @property
    def state(self) -> Path:
        """All that a resumed run needs."""
        return self.path / "last" / "state.safetensors"

    @property
    def curves(self) -> Path:
        """Loss and accuracy over the epochs, as a picture."""
        return self.path / "curves.png"

    @property
    def confusion(self) -> Path:
        """The confusion matrix of the best weights, as a picture."""
        return self.path / "confusion.png"

    @property
    def report(self) -> Path:
        """The whole story on one page."""
        return self.path / "report.html"

    def read_recipe(self) -> Recipe:
        """The recipe in ``config.toml``; `RunError` where this is no run's folder."""
        try:
            text = self.config.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise RunError(f"{self.path} is not the folder of a run: it has no config.toml") from error
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{self.config} cannot be read: {error}") from error
        return Recipe.from_toml(text)

    def write_recipe(self, recipe: Recipe) -> None:
        """Write ``config.toml``, with a line that says what it is for."""
        write_text(self.config, f"# Replay this run:  switchgrad train --config {self.config.name}\n{recipe.to_toml()}")


def create(out: str | Path | None, recipe: Recipe, data_name: str) -> RunFolder:
    """A new folder with the recipe in it: ``out``, or the next free ``runs/<data>-<model>-<n>``.

    Making a folder either succeeds or finds it there, so two runs that start at once never share one. `RunError` where
    ``out`` exists and is not an empty folder.
    """
    folder = RunFolder(_next_free(data_name, recipe.model) if out is None else _claim(Path(out)))
    folder.write_recipe(recipe)
    return folder


def _claim(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        occupied = any(path.iterdir())
    except OSError as error:
        raise RunError(f"the run's folder {path} cannot be made: {error}") from error
    if occupied:
        raise RunError(f"{path} is not empty, and a run never overwrites; give another folder, or resume that run")
    return path


def _next_free(data_name: str, model: str) -> Path:
    stem = "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", part).strip("-.") or "x" for part in (data_name, model))
    parent = Path("runs")
    parent.mkdir(exist_ok=True)
    taken = (re.fullmatch(re.escape(stem) + r"-(\d+)", entry.name) for entry in parent.iterdir())
    number = max((int(match[1]) for match in taken if match), default=0) + 1
    while True:
        path = parent / f"{stem}-{number}"
        try:
            path.mkdir()
            return path
        except FileExistsError:
            number += 1
        except OSError as error:
            raise RunError(f"the run's folder {path} cannot be made: {error}") from error
