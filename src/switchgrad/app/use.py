"""The commands that train a network and use it: ``train``, ``evaluate``, ``predict``."""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from switchgrad.app import console
from switchgrad.errors import DataError, RunError

if TYPE_CHECKING:
    from switchgrad.train import Evaluation, Run

_BATCH = 64
_PARTS = {"val": "held-out ", "train": "training ", "all": ""}


def examples(*commands: str) -> str:
    """An epilogue that shows commands as they are typed."""
    return "Examples:\n\n" + "\n\n".join(f"  [cyan]{command}[/cyan]" for command in commands)


def train(fields: Mapping[str, Any], *, out: Path | None, config: Path | None, resume: Path | None) -> None:
    """Train, or go on with a run, and print what came out; ``fields`` are those given on the command line."""
    from switchgrad.train import fit
    from switchgrad.train import resume as go_on

    progress = console.train_progress()
    try:
        if resume is not None:
            if config is not None or out is not None:
                raise typer.BadParameter(
                    "--resume takes the recipe and the folder from the run; leave --config and --out out"
                )
            run = go_on(resume, progress=progress, **fields)
        else:
            run = fit(out=out, progress=progress, **_with_config(fields, config))
    finally:
        progress.finish("")
    best, last = run.description.epoch, run.metrics[-1]
    print(f"accuracy  {run.accuracy:.2%} of the held-out pictures (epoch {best}; last epoch {last.val_accuracy:.2%})")
    print(f"training  {sum(row.seconds for row in run.metrics):.1f} s, {len(run.metrics)} epochs")
    print(f"run       {run.folder}")
    print(f"report    {run.folder / 'report.html'}")


def _with_config(fields: Mapping[str, Any], config: Path | None) -> dict[str, Any]:
    from switchgrad.train import Recipe

    if config is None and "data" not in fields:
        raise typer.BadParameter(
            "name the data: switchgrad train digits, or a folder with a sub-folder of pictures for each class"
        )
    if config is None:
        return dict(fields)
    try:
        recipe = Recipe.from_toml(config.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"there is no recipe {config}; give a run's config.toml") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{config} cannot be read: {error}") from error
    return {**recipe.to_fields(), **fields}


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA", help="Other data, by name or folder (default: the run's own held-out pictures)."
        ),
    ] = None,
    data_root: Annotated[str | None, typer.Option(help="Folder that holds data sets already on this machine.")] = None,
    split: Annotated[str, typer.Option(metavar="val|train|all", help="Which part of the data.")] = "val",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves PyTorch's number.")] = 0,
) -> None:
    """Measure a run's best weights: accuracy, loss, and each class's precision and recall.

    Classes of other data are matched by name; one that the run does not know is refused.
    """
    from switchgrad.train import Run

    if split not in _PARTS:
        raise typer.BadParameter("--split is val, train or all")
    _use_threads(threads)
    loaded = Run.load(run)
    dataset = loaded.load_data(data, data_root)
    _print_evaluation(loaded, loaded.evaluate(dataset, split), dataset.name, split)


def _print_evaluation(run: Run, result: Evaluation, name: str, split: str) -> None:
    right = int(result.confusion.diagonal().sum())
    print(f"accuracy  {result.accuracy:.2%} ({right:,} of {len(result):,} {_PARTS[split]}pictures of {name})")
    if len(run.classes) > 10:
        print(f"top 5     {result.top_k(5):.2%}")
    print(f"loss      {result.loss:.4f} nats")
    print()
    rows = [
        (name, f"{score.support:,}", f"{score.precision:.2%}", f"{score.recall:.2%}", f"{score.f1:.2%}")
        for name, score in zip(run.classes, result.per_class(), strict=True)
    ]
    console.table(
        ("class", "pictures", "precision", "recall", "F1"), [[c.replace("nan%", "-") for c in r] for r in rows]
    )


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    pictures: Annotated[list[Path], typer.Argument(metavar="PATH", help="Picture files, or folders of them.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to name for each picture.")] = 1,
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write path, rank, class, probability; - is stdout.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves PyTorch's number.")] = 0,
) -> None:
    """Name what is on pictures, with the run's best weights.

    A file that cannot be read is named on stderr and left out; the exit code is then 1.
    """
    from switchgrad.train import Run

    _use_threads(threads)
    loaded = Run.load(run)
    files = list(find_pictures(pictures))
    if not files:
        raise DataError(f"there are no pictures in {', '.join(map(str, pictures))}; give picture files or their folder")
    skipped: list[str] = []
    guesses = _guesses(loaded, files, min(top, len(loaded.classes)), skipped)
    if csv_file is None:
        rows = [(str(path), name, f"{share:.2%}") for path, _, name, share in guesses]
        if rows:
            console.table(("picture", "class", "probability"), rows, words=2)
    else:
        with _opened(csv_file) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("path", "rank", "class", "probability"))
            writer.writerows((path, rank, name, f"{share:.6f}") for path, rank, name, share in guesses)
    if skipped:
        console.error(f"{len(skipped)} of {len(files)} pictures could not be read and were left out")
        raise typer.Exit(1)


def find_pictures(paths: Sequence[Path]) -> Iterator[Path]:
    """Files as they are, and every picture below a folder, in the order of their names."""
    from switchgrad.data.images import SUFFIXES

    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        else:
            yield path


def _guesses(run: Run, files: Sequence[Path], top: int, skipped: list[str]) -> Iterator[tuple[Path, int, str, float]]:
    import torch

    from switchgrad import data

    for start in range(0, len(files), _BATCH):
        read: list[tuple[Path, torch.Tensor]] = []
        for path in files[start : start + _BATCH]:
            try:
                read.append((path, data.read_image(path, run.description.input_size, run.description.in_channels)))
            except DataError as problem:
                skipped.append(str(path))
                console.error(str(problem))
        if not read:
            continue
        shares, classes = run.predict(torch.stack([image for _, image in read])).topk(top)
        for (path, _), row_shares, row_classes in zip(read, shares.tolist(), classes.tolist(), strict=True):
            for rank, (share, number) in enumerate(zip(row_shares, row_classes, strict=True), 1):
                yield path, rank, run.classes[number], share


@contextlib.contextmanager
def _opened(name: str) -> Generator[TextIO]:
    if name == "-":
        yield sys.stdout
        return
    with Path(name).open("w", encoding="utf-8", newline="") as file:
        yield file


def _use_threads(threads: int) -> None:
    import torch

    if threads < 0:
        raise typer.BadParameter("--threads is a whole number; 0 leaves PyTorch's number")
    if threads:
        torch.set_num_threads(threads)
