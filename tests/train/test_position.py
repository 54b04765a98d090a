"""Where a run stands: which epoch is best, when to stop, and an exact round trip through JSON."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgrad.errors import RunError
from switchgrad.train import Position, Row


def play(values, monitor="val_accuracy", min_delta=0.0):
    """Close an epoch for each (accuracy, loss); return the position and the epochs that were called best."""
    position, best = Position(), []
    for epoch, (accuracy, loss) in enumerate(values, 1):
        position.tally(1.0, 1, 2)
        if position.close_epoch(Row(epoch, 0.1, 1.0, 0.5, loss, accuracy, 1.0, 2.0), monitor, min_delta):
            best.append(epoch)
    return position, best


def test_the_running_sums_are_exact():
    position = Position()
    for loss, correct, count in [(0.1, 3, 5), (0.2, 1, 5), (0.3, 2, 2)]:
        position.tally(loss, correct, count)
    assert (position.step, position.seen, position.correct) == (3, 12, 6)
    assert position.train_loss == (0.1 * 5 + 0.2 * 5 + 0.3 * 2) / 12
    assert position.train_accuracy == 0.5


def test_the_best_epoch_has_the_highest_accuracy_then_the_lowest_loss_then_comes_first():
    assert play([(0.5, 2), (0.7, 3), (0.7, 2.5), (0.7, 2.5), (0.6, 1)])[1] == [1, 2, 3]
    assert play([(0.5, 2), (0.7, 3), (0.6, 1), (0.9, 1)], monitor="val_loss")[1] == [1, 3]


def test_patience_counts_epochs_without_improvement_of_the_monitored_value():
    assert play([(0.5, 2), (0.5, 1), (0.5, 1)])[0].waited == 2  # a lower loss alone does not move accuracy
    assert play([(0.5, 2), (0.55, 1), (0.62, 1)], min_delta=0.1)[0].waited == 0
    assert play([(0.5, 2), (0.55, 1), (0.58, 1)], min_delta=0.1)[0].waited == 2
    assert play([(0.5, 2), (0.4, 1.5), (0.3, 1.6)], monitor="val_loss")[0].waited == 1


def test_an_epoch_begins_with_empty_sums():
    position, _ = play([(0.5, 2)])
    assert (position.epoch, position.step, position.seen, position.correct, position.loss_sum, position.seconds) == (
        1,
        0,
        0,
        0,
        0,
        0,
    )


NUMBER = st.floats(0, 1e9)


@given(st.lists(st.tuples(NUMBER, NUMBER), max_size=4), st.sampled_from(["val_accuracy", "val_loss"]), NUMBER)
def test_round_trip_through_json_is_exact(values, monitor, seconds):
    position, _ = play(values, monitor)
    position.tally(1 / 3, 1, 3)
    position.seconds = seconds
    assert Position.from_fields(json.loads(json.dumps(position.to_fields()))) == position


DAMAGE = [
    (lambda f: f.pop("history"), "history"),
    (lambda f: f.update(epoch="2"), "epoch should be int"),
    (lambda f: f.update(step=True), "step should be int"),
    (lambda f: f.update(loss_sum=None), "loss_sum should be float"),
    (lambda f: f.update(more=1), "unknown field more"),
    (lambda f: f.update(epoch=3), "says that 3 epochs are done, but records 2"),
    (lambda f: f.update(best_epoch=5), "says that 2 epochs"),
    (lambda f: f.update(best_epoch=0), "contradict each other"),
    (lambda f: f.update(seen=-1), "contradict each other"),
    (lambda f: f["history"][0].pop("lr"), "lr"),
    (lambda f: f["history"][0].update(epoch=2), "records 2"),
    (lambda f: f.update(history=[3]), "cannot be read"),
    (lambda f: f.update(history=7), "cannot be read"),
]


@pytest.mark.parametrize(("damage", "sentence"), DAMAGE)
def test_damage_is_told_in_words(damage, sentence):
    fields = play([(0.5, 2), (0.6, 1)])[0].to_fields()
    damage(fields)
    with pytest.raises(RunError, match=sentence):
        Position.from_fields(fields)


def test_every_field_is_saved():
    assert Position().to_fields().keys() == {spec.name for spec in dataclasses.fields(Position)}
