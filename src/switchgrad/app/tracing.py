"""``switchgrad trace``: one training iteration, step by step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from switchgrad.app import console
from switchgrad.app.subject import (
    DEFAULT_DATA,
    Example,
    Subject,
    by_name,
    class_number,
    example_of,
    from_run,
    is_own,
    is_run,
    load_dataset,
    own,
    read_sizes,
)

if TYPE_CHECKING:
    from torch import Tensor

    from switchgrad.probe.tracing import Trace


def _in_a_folder(file: Path | None) -> Path | None:
    """Refuse a file that cannot be written before anything is computed for it."""
    if file is not None and not file.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {file.parent}; make it, or name another file")
    if file is not None and file.is_dir():
        raise typer.BadParameter(f"{file} is a folder; name a file in it")
    return file


def trace(
    model: Annotated[
        str, typer.Argument(metavar="MODEL_OR_RUN", help="A network's name, a run's folder, or your own: file.py:Name.")
    ],
    image: Annotated[
        Path | None, typer.Argument(metavar="IMAGE", help="A picture file (default: a held-out picture of the data).")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="The right class, by name or number (default: the data's own label).")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data set or folder with the picture (default: the run's own, or digits)."),
    ] = None,
    index: Annotated[int, typer.Option(help="Which held-out picture of the data, from 0.")] = 0,
    data_root: Annotated[str | None, typer.Option(help="Folder that holds data sets already on this machine.")] = None,
    input_size: Annotated[
        str | None,
        typer.Option(metavar="28x28 | 1x28x28", help="Size that a fresh network is built for."),
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="Show this step alone, by name or number; may be given several times.")
    ] = None,
    crop: Annotated[int, typer.Option(min=2, max=64, help="Rows and columns of a tensor that are shown at most.")] = 8,
    lr: Annotated[float, typer.Option(help="Learning rate of the update.")] = 0.1,
    optimizer: Annotated[str, typer.Option(metavar="sgd|adam", help="Rule of the update.")] = "sgd",
    seed: Annotated[int, typer.Option(help="Draws fresh weights, and what dropout drops.")] = 0,
    eval_mode: Annotated[
        bool, typer.Option("--eval", help="Evaluation mode: nothing is dropped, running statistics are used.")
    ] = False,
    brief: Annotated[bool, typer.Option("--brief", help="The table alone, without each step's numbers.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write it as a page that needs nothing else, with grids drawn.",
            callback=_in_a_folder,
        ),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Draw each step as an SVG file in this folder.")
    ] = None,
) -> None:
    """Show one training iteration of a network, step by step, on one picture.

    For each layer: shapes, some of the numbers, the rule in words, what came back (the gradient of its output, its
    weights and its input), which cells won in max pooling; then the loss and the update. Nothing is changed.

    On a terminal values are blue, gradients yellow, winners in reverse; in a pipe winners stand in brackets.
    """
    import switchgrad
    from switchgrad.app import trace_text
    from switchgrad.probe.tracing import page
    from switchgrad.train.atomic import write_text

    sizes = None if input_size is None else read_sizes(input_size)
    subject, example = _subject(model, image, data, index, data_root, sizes, seed)
    classes = subject.classes or example.classes
    target = example.label if label is None else class_number(label, classes, subject.name)
    told = example.told
    if target is None:
        target = _first_guess(subject, example.input)
        told += f"; no --label was given, so the network's own guess, {target}, is taken as the target"
    story = switchgrad.trace(
        subject.model,
        example.input,
        target,
        lr=lr,
        optimizer=optimizer,
        training=not eval_mode,
        seed=seed,
        classes=classes,
    )
    title, layers = f"{subject.name} on {told}", layer or ()
    trace_text.show(story, title, side=crop, layers=layers, brief=brief)
    if html is not None:
        write_text(html, page.render(story, side=crop, layers=layers, title=f"One training iteration: {title}"))
        console.note(f"page      {html}")
    if pictures is not None:
        _draw(story, pictures, crop, layers)


def _draw(story: Trace, folder: Path, side: int, layers: Sequence[str]) -> None:
    from switchgrad.probe.tracing.crops import crops_of
    from switchgrad.probe.tracing.picture import picture
    from switchgrad.probe.tracing.tables import chosen_steps
    from switchgrad.train.atomic import write_text

    crops = crops_of(story, side)
    folder.mkdir(parents=True, exist_ok=True)
    for step in chosen_steps(story, layers):
        name = re.sub(r"[^\w.-]+", "-", step.title).strip("-")
        text = picture(step, crops[step.number - 1], weights=bool(step.parameters))
        write_text(folder / f"{step.number:02}-{name}.svg", text)
    console.note(f"pictures  {folder}")


def _subject(
    name: str,
    image: Path | None,
    data: str | None,
    index: int,
    root: str | None,
    sizes: tuple[int, ...] | None,
    seed: int,
) -> tuple[Subject, Example]:
    """The network and what it is shown."""
    if is_own(name):
        subject = own(name, sizes, seed)
        return subject, _for_own(subject, image, data, index, root, seed)
    if is_run(name):
        subject = from_run(name)
        if sizes is not None:
            raise typer.BadParameter("a run has its input size already; leave --input-size out")
        return subject, _for_run(subject, image, data, index, root)
    return _fresh(name, image, data, index, root, sizes, seed)


def _for_run(subject: Subject, image: Path | None, data: str | None, index: int, root: str | None) -> Example:
    from switchgrad.data import read_image

    run = subject.run
    if run is None or subject.prepare is None:
        raise typer.BadParameter("not a run")
    if image is not None:
        pixels = read_image(image, run.description.input_size, run.description.in_channels)
        return Example(subject.prepare(pixels[None]), None, str(image))
    dataset = run.load_data(data, root)
    pixels, label = example_of(dataset, index)
    number = class_number(dataset.classes[label], run.classes, subject.name)
    return Example(subject.prepare(pixels), number, f"held-out picture {index} of {dataset.name}")


def _fresh(
    name: str,
    image: Path | None,
    data: str | None,
    index: int,
    root: str | None,
    sizes: tuple[int, ...] | None,
    seed: int,
) -> tuple[Subject, Example]:
    """A network of the zoo, built for the picture; without data the picture is brought to the network's own size."""
    from switchgrad import models
    from switchgrad.data import normalise, read_image

    size = None if sizes is None else (sizes[max(len(sizes) - 2, 0)], sizes[-1])
    if image is not None and data is None:
        card = models.card(name)
        channels = sizes[0] if sizes is not None and len(sizes) == 3 else card.input_shape[0]
        height, width = size or (card.input_shape[1], card.input_shape[2])
        pixels = read_image(image, (height, width), channels)[None]
        subject = by_name(name, (channels, height, width), None, seed)
        return subject, Example(normalise(pixels, [0.5] * channels, [0.5] * channels), None, str(image))
    models.card(name)
    dataset = load_dataset(data or DEFAULT_DATA, root, size)
    subject = by_name(name, (dataset.in_channels, *dataset.input_size), dataset.num_classes, seed)
    if image is not None:
        pixels = read_image(image, dataset.input_size, dataset.in_channels)[None]
        return subject, Example(normalise(pixels, dataset.mean, dataset.std), None, str(image), dataset.classes)
    pixels, label = example_of(dataset, index)
    told = f"held-out picture {index} of {dataset.name}"
    return subject, Example(normalise(pixels, dataset.mean, dataset.std), label, told, dataset.classes)


def _for_own(
    subject: Subject, image: Path | None, data: str | None, index: int, root: str | None, seed: int
) -> Example:
    """What a module of one's own is shown: a picture where one is named, random numbers of ``--input-size`` else."""
    import torch

    from switchgrad.data import normalise, read_image

    shape = subject.input_shape
    if image is not None:
        if shape is None or len(shape) != 3:
            raise typer.BadParameter("say which pictures your module takes: --input-size 1x28x28")
        pixels = read_image(image, (shape[1], shape[2]), shape[0])[None]
        return Example(normalise(pixels, [0.5] * shape[0], [0.5] * shape[0]), None, str(image))
    if data is not None or shape is None:
        dataset = load_dataset(data or DEFAULT_DATA, root, None if shape is None else (shape[-2], shape[-1]))
        pixels, label = example_of(dataset, index)
        told = f"held-out picture {index} of {dataset.name}"
        return Example(normalise(pixels, dataset.mean, dataset.std), label, told, dataset.classes)
    generator = torch.Generator().manual_seed(seed)
    return Example(torch.randn(1, *shape, generator=generator), None, "random numbers")


def _first_guess(subject: Subject, input: Tensor) -> int:
    import torch

    from switchgrad.errors import ModelError
    from switchgrad.probe.copying import copied

    with torch.no_grad(), torch.random.fork_rng(devices=()):
        output = copied(subject.model).eval()(input)
    if not isinstance(output, torch.Tensor) or output.dim() != 2:
        raise ModelError(f"{subject.name} gives no scores [N, classes]; trace it in Python with a loss of your own")
    return int(output[0].argmax())
