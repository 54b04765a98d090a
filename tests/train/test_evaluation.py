"""Evaluation against brute force: plain loops over every picture."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from switchgrad.errors import ModelError, RunError
from switchgrad.train import evaluate


def brute_force(scores, labels):
    rows = []
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        highest = max(row)
        total = sum(math.exp(value - highest) for value in row)
        probabilities = [math.exp(value - highest) / total for value in row]
        predicted = row.index(highest)
        rank = sum(v > row[label] or (v == row[label] and k < label) for k, v in enumerate(row))
        rows.append((predicted, -(row[label] - highest - math.log(total)), probabilities[predicted], rank))
    return rows


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 50), st.integers(0, 10**6))
def test_every_number_equals_brute_force(count, classes, batch_size, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-3, 4, (count, classes), generator=generator).float()  # whole numbers: ties are common
    labels = torch.randint(0, classes, (count,), generator=generator)
    result = evaluate(nn.Identity(), scores, labels, num_classes=classes, batch_size=batch_size)
    rows = brute_force(scores, labels)

    assert len(result) == count
    assert result.predictions.tolist() == [row[0] for row in rows]
    assert result.losses.tolist() == pytest.approx([row[1] for row in rows], abs=1e-12)
    assert result.confidences.tolist() == pytest.approx([row[2] for row in rows], abs=1e-12)
    assert result.ranks.tolist() == [row[3] for row in rows]
    right = sum(row[0] == label for row, label in zip(rows, labels.tolist(), strict=True))
    assert result.accuracy == right / count == result.top_k(1)
    assert result.loss == pytest.approx(math.fsum(row[1] for row in rows) / count, abs=1e-12)
    for k in range(1, classes + 1):
        assert result.top_k(k) == sum(row[3] < k for row in rows) / count
    assert result.top_k(classes) == 1

    confusion = [[0] * classes for _ in range(classes)]
    for row, label in zip(rows, labels.tolist(), strict=True):
        confusion[label][row[0]] += 1
    assert result.confusion.tolist() == confusion
    for k, score in enumerate(result.per_class()):
        tp, called, support = confusion[k][k], sum(line[k] for line in confusion), sum(confusion[k])
        assert score.support == support
        for value, part, whole in (
            (score.precision, tp, called),
            (score.recall, tp, support),
            (score.f1, 2 * tp, called + support),
        ):
            assert math.isnan(value) if whole == 0 else value == part / whole

    wrong = sorted(
        (i for i, row in enumerate(rows) if row[0] != labels[i]), key=lambda i: (-result.losses[i].item(), i)
    )
    assert [mistake.index for mistake in result.worst(5)] == wrong[:5]
    for mistake in result.worst(99):
        row = rows[mistake.index]
        assert (mistake.true, mistake.predicted) == (labels[mistake.index].item(), row[0])
        assert (mistake.loss, mistake.confidence) == pytest.approx((row[1], row[2]), abs=1e-12)


def test_the_last_partial_batch_counts():
    scores = torch.zeros(10, 2)
    scores[9, 1] = 5.0
    result = evaluate(nn.Identity(), scores, torch.tensor([1] * 10), num_classes=2, batch_size=4)
    assert result.accuracy == 0.1


def test_every_picture_goes_through_the_network_once_and_in_order():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return x

    scores = torch.randn(23, 3)
    evaluate(Spy(), scores, torch.zeros(23, dtype=torch.int64), num_classes=3, batch_size=5)
    assert torch.equal(torch.cat(seen), scores)
    assert [len(part) for part in seen] == [5, 5, 5, 5, 3]


def test_modes_gradients_and_statistics_are_left_alone():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2))
    net.train()
    net[0].eval()
    mean = net[0].running_mean.clone()
    first = evaluate(net, torch.randn(9, 3), torch.zeros(9, dtype=torch.int64), num_classes=2)
    assert [module.training for module in net] == [False, True, True]
    assert net.training
    assert torch.equal(net[0].running_mean, mean)
    assert net[2].weight.grad is None
    assert not first.losses.requires_grad
    net(torch.randn(4, 3)).sum().backward()  # nothing in the module became an inference tensor


def test_modes_come_back_after_an_error_too():
    net = nn.Sequential(nn.Linear(3, 2)).train()
    with pytest.raises(RunError):
        evaluate(net, torch.full((2, 3), math.inf), torch.zeros(2, dtype=torch.int64), num_classes=2)
    assert net.training
    assert net[0].training


def test_losses_are_float64_and_exact_where_float32_is_not():
    scores = torch.tensor([[40.0, 0.0]])
    result = evaluate(nn.Identity(), scores, torch.tensor([0]), num_classes=2)
    assert result.loss == pytest.approx(math.log1p(math.exp(-40.0)), rel=1e-6, abs=0) or result.loss == 0
    assert result.losses.dtype == torch.float64


def test_wrong_input_is_refused_in_words():
    identity, two = nn.Identity(), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(RunError, match=r"there are 0 pictures and 0 labels; give at least one picture"):
        evaluate(identity, torch.zeros(0, 2), two[:0], num_classes=2)
    with pytest.raises(RunError, match=r"there are 3 pictures and 2 labels"):
        evaluate(identity, torch.zeros(3, 2), two, num_classes=2)
    with pytest.raises(RunError, match=r"the labels run from 0 to 7, but there are 2 classes \(0 to 1\)"):
        evaluate(identity, torch.zeros(2, 2), torch.tensor([0, 7]), num_classes=2)
    with pytest.raises(ModelError, match=r"scores of shape \[2, 2, 1\] for 2 pictures; a classifier gives"):
        evaluate(identity, torch.zeros(2, 2, 1), two, num_classes=2)
    with pytest.raises(ModelError, match="the network scores 2 classes, but the data have 3"):
        evaluate(identity, torch.zeros(2, 2), two, num_classes=3)
    with pytest.raises(RunError, match="scores that are not finite"):
        evaluate(identity, torch.tensor([[0.0, math.nan]] * 2), two, num_classes=2)


def test_it_may_be_stopped_between_batches():
    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(
            nn.Identity(),
            torch.zeros(10, 2),
            torch.zeros(10, dtype=torch.int64),
            num_classes=2,
            batch_size=2,
            between=stop,
        )
