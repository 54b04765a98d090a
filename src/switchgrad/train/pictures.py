"""``curves.png`` and ``confusion.png``, drawn with matplotlib's objects: no pyplot, no state that outlives the call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from torch import Tensor

from switchgrad.train.atomic import replacing
from switchgrad.train.position import Row

TRAIN, VAL = "#d97706", "#2563eb"
MOST_NUMBERED, MOST_NAMED = 20, 60


def draw_curves(path: Path, rows: Sequence[Row], best_epoch: int) -> None:
    """Loss (on a logarithmic axis where it spans a decade) and accuracy over the epochs, the best epoch marked."""
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    _lines(loss, rows, "loss", best_epoch)
    _lines(accuracy, rows, "accuracy", best_epoch)
    values = [value for row in rows for value in (row.train_loss, row.val_loss)]
    if min(values) > 0 and max(values) > 10 * min(values):
        loss.set_yscale("log")
        loss.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        loss.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        loss.yaxis.set_minor_formatter(NullFormatter())
    loss.set_title("Loss (nats)")
    accuracy.set_title("Accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    accuracy.legend(loc="lower right", frameon=False)
    _save(figure, path)


def draw_confusion(path: Path, confusion: Tensor, classes: Sequence[str]) -> None:
    """Counts ``[true, predicted]`` coloured by their share of the row; numbers up to 20 classes, names up to 60."""
    count = len(classes)
    side = min(max(4.0, 0.45 * count + 1.5), 14.0)
    figure = Figure(figsize=(side, side), dpi=120, layout="constrained")
    axes = figure.subplots()
    shares = confusion.double() / confusion.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(shares.sqrt().numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if count <= MOST_NAMED:
        names = [name if len(name) <= 16 else name[:15] + "…" for name in classes]
        upright = max(map(len, names)) <= 2
        axes.set_xticks(range(count), names, rotation=0 if upright else 90, parse_math=False)
        axes.set_yticks(range(count), names, parse_math=False)
    if count <= MOST_NUMBERED:
        for true in range(count):
            for predicted in range(count):
                number, share = int(confusion[true, predicted]), float(shares[true, predicted])
                colour = "white" if share > 0.4 else "black" if number else "#bbbbbb"
                axes.text(predicted, true, str(number), ha="center", va="center", color=colour, fontsize=8)
    _save(figure, path)


def _lines(axes: Axes, rows: Sequence[Row], quantity: str, best_epoch: int) -> None:
    epochs = [row.epoch for row in rows]
    marker = "o" if len(rows) < 12 else None
    for part, label, colour in (("train", "training", TRAIN), ("val", "held out", VAL)):
        values = [getattr(row, f"{part}_{quantity}") for row in rows]
        axes.plot(epochs, values, marker=marker, color=colour, label=label)
    axes.axvline(best_epoch, color="#888888", lw=1, ls=":", label=f"best epoch ({best_epoch})")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
