"""The commands that look and change nothing: ``summary``, ``info``, ``data check``."""

from __future__ import annotations

from typing import Annotated

import typer

from switchgrad.app import console


def summary(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A network's name.")],
    input: Annotated[
        str | None, typer.Option(metavar="CxHxW", help="The input's channels, height and width (default: its card's).")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes (default: its card's).")] = None,
) -> None:
    """Show a network layer by layer: shapes, parameters, multiply-adds, memory, what a cell sees."""
    from switchgrad import models

    card = models.card(name)
    channels, height, width = card.input_shape if input is None else read_shape(input)
    network = models.create(
        name,
        num_classes=card.num_classes if classes is None else classes,
        in_channels=channels,
        input_size=(height, width),
    )
    print(models.summary(network, (channels, height, width)))


def read_shape(text: str) -> tuple[int, int, int]:
    """``3x64x48`` as channels, height and width.

    >>> read_shape("3x64x48")
    (3, 64, 48)
    """
    try:
        channels, height, width = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no input; give channels x height x width: 1x28x28") from error
    return channels, height, width


def info() -> None:
    """Say which versions, library and instruction set are in use, and which kernel serves which operator, and why."""
    from switchgrad import kernels

    found = kernels.info()
    for name, version in found.versions.items():
        print(f"{name:<12}  {version}")
    print(f"{'library':<12}  {found.library}")
    print(f"{'instructions':<12}  {found.isa}")
    print()
    rows = [(o.name, o.device, o.kernel, o.reason) for o in found.operators]
    console.table(("operator", "device", "kernel", "why"), rows, words=4)


def check(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A folder of pictures or of a data set's files, or a data set's name.")
    ],
    data_root: Annotated[str | None, typer.Option(help="Folder that holds data sets already on this machine.")] = None,
) -> None:
    """Look through data before training: every problem at once, with its file, its class, and what to do.

    The exit code is 1 where there are problems, 0 where there are warnings at most.
    """
    from switchgrad import data

    report = data.check(path, data_root)
    print(report)
    if report.problems:
        raise typer.Exit(1)
