"""What the command line prints: results on stdout, progress on stderr, colour and bars on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from switchgrad.train.position import Position, Row
from switchgrad.train.progress import Plan, Progress

HEAD = "  epoch      lr  train loss  accuracy   held-out loss  accuracy   seconds"
_REFRESH_S = 0.1


def error(message: str) -> None:
    """One line on stderr, ``error:`` in red where that is a terminal."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text("error: ", "bold red") + Text(message))


def warning(message: str) -> None:
    """One line on stderr, ``warning:`` in yellow where that is a terminal."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text("warning: ", "bold yellow") + Text(message))


def note(message: str) -> None:
    """A line on stderr: what goes on, not what came out."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(message))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> None:
    """A table on stdout, its first ``words`` columns flush left; ruled on a terminal, plain columns in a pipe."""
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        for row in (head, *rows):
            cells = [
                cell.ljust(w) if i < words else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            ]
            print("  ".join(cells).rstrip())
        return
    ruled = Table(header_style="bold", show_edge=False)
    for column, name in enumerate(head):
        ruled.add_column(Text(name), justify="left" if column < words else "right", overflow="fold")
    for row in rows:
        ruled.add_row(*(Text(cell) for cell in row))
    Console().print(ruled)


def epoch_line(row: Row, epochs: int, best: bool) -> str:
    """One epoch under `HEAD`."""
    return (
        f"{f'{row.epoch}/{epochs}':>7} {row.lr:>7.2g}  {row.train_loss:>10.4f} {row.train_accuracy:>9.2%}"
        f"   {row.val_loss:>13.4f} {row.val_accuracy:>9.2%}  {row.seconds:>8.1f}{'  best' if best else ''}"
    )


def plan_line(plan: Plan) -> str:
    """What is about to be trained, in a sentence."""
    threads = f", {plan.threads} thread{'s' if plan.threads > 1 else ''}" if plan.device == "cpu" else ""
    return (
        f"{plan.recipe.model} ({plan.parameters:,} parameters) on {plan.pictures:,} pictures, {plan.held_out:,} held "
        f"out; {plan.recipe.epochs} epochs of {plan.steps} steps on {plan.device}{threads}; {plan.folder.path}"
    )


def train_progress() -> Progress:
    """A bar and a coloured table for a terminal, plain lines for anything else."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


class LineProgress(Progress):
    """One plain line an epoch on stderr."""

    def start(self, plan: Plan, position: Position) -> None:
        """Say what will be trained, and head the table."""
        self.epochs = plan.recipe.epochs
        self.write(plan_line(plan))
        if position.epoch or position.step:
            self.write(f"going on after epoch {position.epoch}, step {position.step}")
        self.write(HEAD)

    def note(self, sentence: str) -> None:
        """One line."""
        self.write(sentence)

    def epoch(self, row: Row, best: bool) -> None:
        """One line."""
        self.write(epoch_line(row, self.epochs, best))

    def finish(self, reason: str) -> None:
        """Say so where training ended early."""
        if reason == "early stop":
            self.write("stopped early: no improvement for as many epochs as patience allows")

    def write(self, line: str) -> None:
        """One line, at once."""
        print(line, file=sys.stderr, flush=True)


class BarProgress(LineProgress):
    """The same lines above a bar with loss, accuracy, samples a second and the time left."""

    def __init__(self) -> None:
        """The bar starts with the run."""
        self.console = Console(stderr=True, highlight=False)
        self.bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
            transient=True,
            expand=True,
        )
        self.task = TaskID(0)
        self.drawn_at = 0.0
        self.reader = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            console=self.console,
            transient=True,
            expand=True,
        )
        self.readings: dict[str, TaskID] = {}

    def reading(self, done: int, total: int, what: str) -> None:
        """A bar for each thing that is downloaded or read."""
        if what not in self.readings:
            self.readings[what] = self.reader.add_task(what, total=total)
            self.reader.start()
        self.reader.update(self.readings[what], completed=done, total=total)

    def start(self, plan: Plan, position: Position) -> None:
        """Head the table and show the bar."""
        self.reader.stop()
        super().start(plan, position)
        self.steps = plan.steps
        self.task = self.bar.add_task(
            "",
            total=plan.recipe.epochs * plan.steps,
            completed=position.epoch * plan.steps + position.step,
            epoch=f"{position.epoch + 1}/{self.epochs}",
            figures="",
        )
        self.bar.start()

    def step(self, position: Position) -> None:
        """Move the bar, ten times a second at most."""
        if monotonic() - self.drawn_at < _REFRESH_S:
            return
        self.drawn_at = monotonic()
        speed = position.seen / position.seconds if position.seconds else 0.0
        self.bar.update(
            self.task,
            completed=position.epoch * self.steps + position.step,
            epoch=f"{position.epoch + 1}/{self.epochs}",
            figures=f"loss {position.train_loss:.4f}  accuracy {position.train_accuracy:.2%}  {speed:,.0f}/s",
        )

    def epoch(self, row: Row, best: bool) -> None:
        """The epoch's line above the bar, green where it is the best so far."""
        self.console.print(Text(epoch_line(row, self.epochs, best), "green" if best else ""), soft_wrap=True)

    def finish(self, reason: str) -> None:
        """Take the bars away."""
        self.reader.stop()
        self.bar.stop()
        super().finish(reason)

    def write(self, line: str) -> None:
        """One line above the bar."""
        self.console.print(Text(line), soft_wrap=True)
