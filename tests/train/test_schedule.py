"""The learning rate against closed forms written out by hand."""

import math

import pytest

from switchgrad.train import Recipe, learning_rate


def rates(steps_per_epoch, **fields):
    recipe = Recipe(**fields)
    return [learning_rate(recipe, step, steps_per_epoch) for step in range(recipe.epochs * steps_per_epoch)]


def test_constant_without_warmup():
    assert rates(3, epochs=2, lr=0.3, schedule="constant", warmup_epochs=0) == [0.3] * 6


def test_warmup_rises_in_a_line_and_ends_at_the_peak():
    assert rates(4, epochs=2, lr=0.8, schedule="constant", warmup_epochs=1) == pytest.approx(
        [0.2, 0.4, 0.6] + [0.8] * 5
    )


def test_warmup_of_part_of_an_epoch():
    assert rates(4, epochs=1, lr=1.0, schedule="constant", warmup_epochs=0.5) == pytest.approx([0.5, 1, 1, 1])


def test_cosine_passes_through_its_known_points():
    values = rates(4, epochs=3, lr=2.0, warmup_epochs=1)
    assert values[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    expected = [2.0, 1 + math.sqrt(2 + math.sqrt(2)) / 2, 1 + math.sqrt(0.5), 1 + math.sqrt(2 - math.sqrt(2)) / 2, 1.0]
    assert values[4:9] == pytest.approx(expected)
    assert values[9] == pytest.approx(1 - math.sqrt(2 - math.sqrt(2)) / 2)
    assert values[-1] > 0


def test_steps_drop_after_their_milestones():
    values = rates(2, epochs=6, lr=1.0, schedule="step", milestones=(2, 5), gamma=0.1, warmup_epochs=0)
    assert values == pytest.approx([1.0] * 4 + [0.1] * 6 + [0.01] * 2)


def test_warmup_through_the_whole_run():
    assert rates(4, epochs=1, lr=1.0, warmup_epochs=1) == pytest.approx([0.25, 0.5, 0.75, 1.0])
