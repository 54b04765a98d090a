"""``report.html``: the story of a run on one page that needs nothing beside itself."""

from __future__ import annotations

import base64
import io
import math
import platform
from collections.abc import Sequence
from html import escape
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from switchgrad.data import Dataset
from switchgrad.page import document, facts, section, table
from switchgrad.train.atomic import write_text
from switchgrad.train.charts import Line, line_chart
from switchgrad.train.evaluation import Evaluation, Mistake
from switchgrad.train.folder import RunFolder
from switchgrad.train.pictures import draw_confusion, draw_curves
from switchgrad.train.recipe import Recipe
from switchgrad.train.run import Run

MOST_CLASSES_IN_MATRIX = 20
WORST = 24
_STYLE = Path(__file__).with_name("report.css")


def write_report(folder: RunFolder, run: Run, dataset: Dataset, evaluation: Evaluation) -> None:
    """Draw ``curves.png`` and ``confusion.png`` and write ``report.html``, from the best weights' ``evaluation``."""
    draw_curves(folder.curves, run.metrics, run.description.epoch)
    draw_confusion(folder.confusion, evaluation.confusion, run.classes)
    write_text(folder.report, render(run, dataset, evaluation))


def render(run: Run, dataset: Dataset, evaluation: Evaluation) -> str:
    """The page as text."""
    title = f"{run.recipe.model} on {dataset.name}"
    sections = [
        _header(run, title, evaluation),
        section("Curves", _curves(run)),
        section("Worst mistakes", _mistakes(evaluation, dataset, run.classes)),
        section("Classes", _classes(evaluation, run.classes)),
        section("Confusion", _confusion(evaluation.confusion, run.classes)),
        section("Recipe", _recipe(run)),
        section("Reproduce", _reproduce(run)),
    ]
    style = _STYLE.read_text(encoding="utf-8")
    return document(f"{title}: {percent(evaluation.accuracy)}", style, sections)


def percent(share: float) -> str:
    """A share of one as a percentage, or a dash for NaN.

    >>> percent(0.98889), percent(float("nan"))
    ('98.89%', '–')
    """
    return "–" if math.isnan(share) else f"{share:.2%}"


def _header(run: Run, title: str, evaluation: Evaluation) -> str:
    rows, best = run.metrics, run.description.epoch
    wrong = len(evaluation) - int(evaluation.confusion.diagonal().sum())
    seconds = sum(row.seconds for row in rows)
    figures = {
        "best epoch": f"{best} of {run.recipe.epochs}",
        "last epoch": percent(rows[-1].val_accuracy),
        "loss": f"{evaluation.loss:.4f} nats",
        "training time": duration(seconds),
        "speed": f"{rows[-1].samples_per_second:,.0f} pictures/s",
        "parameters": f"{sum(p.numel() for p in run.model.parameters()):,}",
        "seed": str(run.recipe.seed),
    }
    if len(run.classes) > 10:
        figures["in the best five"] = percent(evaluation.top_k(5))
    return (
        f'<header>\n<h1>{escape(title)}</h1>\n<p class="score"><strong>{percent(evaluation.accuracy)}</strong>'
        f"<span>of {len(evaluation):,} held-out pictures right, {wrong:,} wrong</span></p>\n"
        f'{facts(figures)}\n<p class="note">The best epoch was chosen on the held-out pictures '
        "themselves, so its accuracy is slightly hopeful; the last epoch's was not chosen.</p>\n</header>"
    )


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(4.25), duration(75), duration(7260)
    ('4.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _harder(recipe: Recipe) -> list[str]:
    """Why the numbers of training do not compare with those of held-out pictures."""
    smoothed = ["labels smoothed"] if recipe.label_smoothing else []
    return ["as the weights change", *(["pictures augmented"] if recipe.augment != "none" else []), *smoothed]


def _curves(run: Run) -> str:
    rows, best = run.metrics, run.description.epoch
    epochs = [row.epoch for row in rows]
    loss = [
        Line("training", "train", [r.train_loss for r in rows]),
        Line("held out", "val", [r.val_loss for r in rows]),
    ]
    accuracy = [
        Line("training", "train", [r.train_accuracy for r in rows]),
        Line("held out", "val", [r.val_accuracy for r in rows]),
    ]
    values = [value for line in loss for value in line.values]
    log = min(values) > 0 and max(values) > 10 * min(values)
    told = f"over {len(rows)} epochs, in training and on held-out pictures; the numbers are in the table below"
    charts = (
        ("Loss (nats)" + (", logarithmic" if log else ""), line_chart(f"Loss {told}", epochs, loss, best, _short, log)),
        ("Accuracy", line_chart(f"Accuracy {told}", epochs, accuracy, best, lambda v: f"{100 * v:.4g}%", False)),
    )
    figures = "".join(f"<figure><figcaption>{name}</figcaption>{svg}</figure>" for name, svg in charts)
    key = (
        f'<p class="key"><span><i class="train"></i>training ({", ".join(_harder(run.recipe))})</span>'
        f'<span><i class="val"></i>held out</span><span><i class="best"></i>best epoch ({best})</span></p>'
    )
    head = ["epoch", "rate", "training loss", "accuracy", "held-out loss", "accuracy", "seconds"]
    body = "".join(
        f'<tr{" class=best-row" if r.epoch == best else ""}><th scope="row">{r.epoch}</th><td>{r.lr:.3g}</td>'
        f"<td>{r.train_loss:.4f}</td><td>{percent(r.train_accuracy)}</td><td>{r.val_loss:.4f}</td>"
        f"<td>{percent(r.val_accuracy)}</td><td>{r.seconds:.2f}</td></tr>"
        for r in rows
    )
    numbers = table(head, body, "Every epoch; the best one is set off.")
    return f'<div class="charts">{figures}</div>{key}<details><summary>The numbers</summary>{numbers}</details>'


def _short(value: float) -> str:
    return f"{value:.3g}"


def _mistakes(evaluation: Evaluation, dataset: Dataset, classes: Sequence[str]) -> str:
    worst = evaluation.worst(WORST)
    if not worst:
        return "<p>None: every held-out picture was recognised.</p>"
    items = "".join(f"<li>{_mistake(mistake, dataset, classes)}</li>" for mistake in worst)
    wrong = int((evaluation.predictions != evaluation.labels).sum())
    shown = f"The {len(worst)} with the highest loss of {wrong}" if wrong > len(worst) else f"All {wrong}"
    return f'<p class="soft">{shown}, the worst first.</p><ul class="mistakes">{items}</ul>'


def _mistake(mistake: Mistake, dataset: Dataset, classes: Sequence[str]) -> str:
    picture = dataset.val.images[mistake.index]
    true, predicted = escape(classes[mistake.true]), escape(classes[mistake.predicted])
    place = dataset.val.paths[mistake.index] if dataset.val.paths else f"held-out picture {mistake.index}"
    style = ' class="small"' if max(picture.shape[1:]) < 100 else ""
    return (
        f'<figure><img{style} src="{data_uri(picture)}" alt="{true}, taken for {predicted}" loading="lazy">'
        f"<figcaption><b>{true}</b> taken for <b>{predicted}</b><small>{percent(mistake.confidence)} sure, "
        f"loss {mistake.loss:.2f}</small><small>{escape(place)}</small></figcaption></figure>"
    )


def data_uri(picture: Tensor) -> str:
    """A uint8 picture ``[C, H, W]`` as the address of a PNG that holds it; of other than 1 or 3 channels the first."""
    channels = picture if picture.shape[0] == 3 else picture[:1]
    image = Image.fromarray(
        channels.permute(1, 2, 0).squeeze(2).numpy() if len(channels) == 1 else channels.permute(1, 2, 0).numpy()
    )
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _classes(evaluation: Evaluation, classes: Sequence[str]) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{score.support:,}</td><td>{_bar(score.precision)}</td>'
        f"<td>{_bar(score.recall)}</td><td>{percent(score.f1)}</td></tr>"
        for name, score in zip(classes, evaluation.per_class(), strict=True)
    )
    caption = (
        "Precision: how many of the pictures called so are so. Recall: how many of those that are so were called so. "
        "F1: their harmonic mean."
    )
    return table(["class", "pictures", "precision", "recall", "F1"], body, caption)


def _bar(share: float) -> str:
    if math.isnan(share):
        return "–"
    return f'{percent(share)}<meter min="0" max="1" value="{share:.4f}" aria-hidden="true"></meter>'


def _confusion(confusion: Tensor, classes: Sequence[str]) -> str:
    if len(classes) > MOST_CLASSES_IN_MATRIX:
        return _confused_pairs(confusion, classes)
    names = [escape(name) for name in classes]
    head = "".join(f'<th scope="col" title="{name}">{name}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row" title="{name}">{name}</th>{_matrix_row(confusion[true], true)}</tr>'
        for true, name in enumerate(names)
    )
    return (
        '<p class="soft">Rows: the true class; columns: what it was taken for; colours: the share of the row.</p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix"><table class="matrix">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _matrix_row(counts: Tensor, true: int) -> str:
    total = max(int(counts.sum()), 1)
    cells: list[str] = []
    for predicted, count in enumerate(counts.tolist()):
        depth = 0.12 + 0.88 * math.sqrt(count / total)
        style = (
            "none" if not count else ("right" if predicted == true else "wrong") + (" strong" if depth > 0.65 else "")
        )
        tint = f' style="--v:{depth:.2f}"' if count else ""
        cells.append(f'<td class="{style}"{tint}>{count}</td>')
    return "".join(cells)


def _confused_pairs(confusion: Tensor, classes: Sequence[str]) -> str:
    wrong = confusion.clone().fill_diagonal_(0)
    order: list[int] = wrong.flatten().argsort(descending=True, stable=True)[:MOST_CLASSES_IN_MATRIX].tolist()
    pairs = [(cell // len(classes), cell % len(classes), int(wrong.flatten()[cell])) for cell in order]
    body = "".join(
        f'<tr><th scope="row">{escape(classes[true])}</th><td>{escape(classes[predicted])}</td><td>{count:,}</td>'
        f"<td>{percent(count / int(confusion[true].sum()))}</td></tr>"
        for true, predicted, count in pairs
        if count
    )
    if not body:
        return "<p>No two classes were confused.</p>"
    return table(["true class", "taken for", "times", "share of the class"], body, "The pairs confused most often.")


def _recipe(run: Run) -> str:
    return facts({name: _setting(value) for name, value in run.recipe.to_fields().items()})


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value in ([], {}) else str(value)


def _reproduce(run: Run) -> str:
    folder = run.folder.as_posix()
    commands = "\n".join(
        (
            f"switchgrad train --config {folder}/config.toml    # the same run again",
            f"switchgrad evaluate {folder}                      # measure the best weights",
            f"switchgrad predict {folder} PICTURE               # use them",
        )
    )
    return (
        f"<pre>{escape(commands)}</pre>\n"
        '<p class="note">On one thread of one machine the same recipe gives the same weights, bit for bit; '
        "more threads or another machine may add in another order. This one was made with PyTorch "
        f"{escape(torch.__version__)} and Python {platform.python_version()}.</p>"
    )
