"""``switchgrad check-gradients``: autograd held to finite differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from switchgrad.app import console
from switchgrad.app.subject import Subject, by_name, from_run, is_own, is_run, own, read_sizes

if TYPE_CHECKING:
    from torch import Tensor

    from switchgrad.probe.gradients import GradientReport


def check_gradients(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A network's name, a run's folder, or your own: file.py:Name.")
    ],
    input: Annotated[
        str | None,
        typer.Option(metavar="CxHxW", help="The input's shape, without the batch (default: the network's)."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="How many random inputs there are in the batch.")] = 2,
    integers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The inputs are whole numbers below N, for embeddings.")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Classes of a fresh network (default: its card's).")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Entries checked of a larger tensor; smaller ones whole.")] = 48,
    directions: Annotated[int, typer.Option(min=0, help="Random directions through each larger tensor besides.")] = 2,
    tolerance: Annotated[float, typer.Option(help="Relative error up to which a gradient is right.")] = 1e-5,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst entries to list.")] = 5,
    train_mode: Annotated[
        bool, typer.Option("--train/--eval", help="Training or evaluation mode; dropout drops the same each time.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Draws the input, fresh weights, samples and directions.")] = 0,
) -> None:
    """Hold autograd to finite differences, parameter by parameter: for people who write layers of their own.

    Computed in double on a copy. Kinks (a ReLU at 0, a tie of a maximum) are counted and not called wrong. Where a
    gradient is wrong, the layer at fault is named, and the exit code is 1.
    """
    import switchgrad

    if not 0 < tolerance < 1:
        raise typer.BadParameter(f"--tolerance is {tolerance}; give a share between 0 and 1")
    subject = _subject(model, None if input is None else read_sizes(input), classes, seed)
    report = switchgrad.check_gradients(
        subject.model,
        _input(subject, batch, integers, seed),
        samples=samples,
        directions=directions,
        tolerance=tolerance,
        training=train_mode,
        seed=seed,
    )
    _show(report, worst)
    if not report.ok:
        raise typer.Exit(1)


def _subject(name: str, shape: tuple[int, ...] | None, classes: int | None, seed: int) -> Subject:
    if is_own(name):
        if shape is None:
            raise typer.BadParameter("say what your module takes: --input 3x8x8 (without the batch)")
        return own(name, shape, seed)
    if is_run(name):
        if shape is not None:
            raise typer.BadParameter("a run has its input shape already; leave --input out")
        return from_run(name)
    return by_name(name, shape, classes, seed)


def _input(subject: Subject, batch: int, integers: int | None, seed: int) -> Tensor:
    import torch

    generator = torch.Generator().manual_seed(seed)
    shape = (batch, *(subject.input_shape or ()))
    if integers is not None:
        return torch.randint(0, integers, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def _show(report: GradientReport, worst: int) -> None:
    head, rows = report.rows()
    console.table(head, rows, words=2)
    if worst:
        print()
        entries = [
            (name, str(list(e.index)), f"{e.autograd:.8g}", f"{e.numeric:.8g}", f"{e.error:.1e}", e.judgement)
            for name, e in report.worst_entries(worst)
        ]
        console.table(("worst entries", "index", "autograd", "numeric", "error", ""), entries, words=2)
    if report.skipped:
        print(f"\nnot checked, as they need no gradient: {', '.join(report.skipped)}")
    print()
    for line in (report.sentence, *report.blame()):
        print(line)
