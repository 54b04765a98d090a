"""Exact evaluation: every picture counted once, sums in integers and float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from switchgrad.errors import ModelError, RunError


@dataclass(frozen=True)
class ClassScore:
    """How well one class was told apart: precision ``TP / (TP + FP)``, recall ``TP / (TP + FN)``, their harmonic mean.

    A rate whose denominator is 0 is NaN: a class that was never predicted has no precision.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Mistake:
    """A picture that the network got wrong: its place in the set, what it is, what it was taken for, how surely."""

    index: int
    true: int
    predicted: int
    confidence: float
    loss: float


@dataclass(frozen=True)
class Evaluation:
    """What a network made of ``N`` labelled pictures.

    ``labels`` and ``predictions`` are int64 ``[N]``; ``losses`` the cross-entropy of each picture in nats,
    ``confidences`` the probability of the predicted class, ``ranks`` how many classes scored above the true one (of
    equal scores the lower class number counts as above), all on the CPU.
    """

    num_classes: int
    labels: Tensor
    predictions: Tensor
    losses: Tensor
    confidences: Tensor
    ranks: Tensor

    def __len__(self) -> int:
        """Pictures evaluated."""
        return len(self.labels)

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.losses.sum().item() / len(self)

    @property
    def accuracy(self) -> float:
        """Share of pictures whose predicted class is the true one."""
        return int((self.predictions == self.labels).sum()) / len(self)

    def top_k(self, k: int) -> float:
        """Share of pictures whose true class is among the ``k`` highest scores."""
        return int((self.ranks < k).sum()) / len(self)

    @property
    def confusion(self) -> Tensor:
        """Counts ``[true, predicted]``, int64."""
        cells = self.labels * self.num_classes + self.predictions
        return torch.bincount(cells, minlength=self.num_classes**2).view(self.num_classes, self.num_classes)

    def per_class(self) -> list[ClassScore]:
        """Precision, recall and F1 of each class, in the order of the classes."""
        confusion = self.confusion
        right = confusion.diagonal().tolist()
        predicted, support = confusion.sum(0).tolist(), confusion.sum(1).tolist()
        return [
            ClassScore(_ratio(tp, p), _ratio(tp, s), _ratio(2 * tp, p + s), s)
            for tp, p, s in zip(right, predicted, support, strict=True)
        ]

    def worst(self, count: int) -> list[Mistake]:
        """The wrong pictures with the highest loss, worst first, at most ``count``."""
        wrong = (self.predictions != self.labels).nonzero().flatten()
        order = wrong[self.losses[wrong].argsort(descending=True, stable=True)][:count]
        return [
            Mistake(i, int(self.labels[i]), int(self.predictions[i]), self.confidences[i].item(), self.losses[i].item())
            for i in order.tolist()
        ]


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def check_scores(scores: Tensor, labels: Tensor) -> Tensor:
    """``scores`` if they are ``[N, classes]`` for ``N`` labels; `ModelError` otherwise."""
    if scores.dim() != 2 or len(scores) != len(labels):
        raise ModelError(
            f"the network gave scores of shape {list(scores.shape)} for {len(labels)} pictures; "
            f"a classifier gives [pictures, classes]"
        )
    return scores


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    batch_size: int = 256,
    prepare: Callable[[Tensor], Tensor] = lambda images: images,
    between: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate ``model`` on all of ``images`` ``[N, ...]`` with ``labels`` ``[N]``, each exactly once.

    The model runs in evaluation mode without gradients, and every module gets its own mode back. ``prepare`` turns a
    batch of ``images`` into the network's input; ``between`` is called before each batch and may raise to stop. Losses
    are computed in float64 from the network's scores. `RunError` where there is nothing to evaluate, a label is not a
    class, or a score is not finite.

    >>> scores = torch.tensor([[2., 1.], [0., 3.], [5., 0.]])
    >>> result = evaluate(nn.Identity(), scores, torch.tensor([0, 1, 1]), num_classes=2, batch_size=2)
    >>> round(result.accuracy, 3), result.confusion.tolist(), result.worst(1)[0].index
    (0.667, [[1, 0], [1, 1]], 2)
    """
    _check_labels(images, labels, num_classes)
    modes = {module: module.training for module in model.modules()}
    parts: list[tuple[Tensor, ...]] = []
    model.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(labels), batch_size):
                between()
                y = labels[start : start + batch_size]
                scores = check_scores(model(prepare(images[start : start + batch_size])), y)
                parts.append(_measure(scores.to(torch.float64), y.to(scores.device), num_classes))
    finally:
        for module, training in modes.items():
            module.training = training
    predictions, losses, confidences, ranks = (torch.cat(column) for column in zip(*parts, strict=True))
    return Evaluation(num_classes, labels.cpu(), predictions, losses, confidences, ranks)


def _check_labels(images: Tensor, labels: Tensor, num_classes: int) -> None:
    if len(labels) == 0 or len(labels) != len(images):
        raise RunError(
            f"there are {len(images)} pictures and {len(labels)} labels; "
            "give at least one picture, and a label for each"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise RunError(
            f"the labels run from {low} to {high}, but there are {num_classes} classes (0 to {num_classes - 1})"
        )


def _measure(scores: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, ...]:
    if scores.shape[1] != num_classes:
        raise ModelError(f"the network scores {scores.shape[1]} classes, but the data have {num_classes}")
    if not scores.isfinite().all():
        raise RunError("the network gave scores that are not finite: its weights are spoilt, or its input is")
    log_probabilities = scores.log_softmax(1)
    confidences = log_probabilities.amax(1).exp()
    own = scores.gather(1, labels[:, None])
    classes = torch.arange(num_classes, device=scores.device)
    above = (scores > own) | ((scores == own) & (classes < labels[:, None]))
    losses = -log_probabilities.gather(1, labels[:, None]).squeeze(1)
    return tuple(part.cpu() for part in (scores.argmax(1), losses, confidences, above.sum(1)))
