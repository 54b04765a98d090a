"""metrics.csv: exact numbers, one line an epoch, and a damaged file told from a good one."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgrad.errors import RunError
from switchgrad.train.position import Row
from switchgrad.train.record import append_row, read_rows, write_rows

NUMBER = st.floats(0, 1e6)
ROWS = st.lists(st.builds(Row, st.integers(1, 999), *[NUMBER] * 7), max_size=5)


@given(ROWS)
def test_rows_come_back_exactly(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("record") / "metrics.csv"
    write_rows(path, rows[:2])
    for row in rows[2:]:
        append_row(path, row)
    assert read_rows(path) == rows
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(line["val_loss"]) for line in table] == [row.val_loss for row in rows]


def test_columns(tmp_path):
    write_rows(tmp_path / "m.csv", [Row(1, 0.05, 2.5, 0.25, 2.25, 0.5, 1.5, 1000.0)])
    assert (tmp_path / "m.csv").read_text() == (
        "epoch,lr,train_loss,train_accuracy,val_loss,val_accuracy,seconds,samples_per_second\n"
        "1,0.05,2.5,0.25,2.25,0.5,1.5,1000.0\n"
    )


def test_a_torn_last_line_is_not_a_row(tmp_path):
    path = tmp_path / "m.csv"
    row = Row(1, 0.05, 2.5, 0.25, 2.25, 0.5, 1.5, 1000.0)
    write_rows(path, [row])
    path.write_text(path.read_text() + "2,0.04,2.1")
    assert read_rows(path) == [row]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not the record of a run: its columns should be epoch, lr,"),
        ("a,b\n1,2\n", "is not the record of a run"),
        (
            "epoch,lr,train_loss,train_accuracy,val_loss,val_accuracy,seconds,samples_per_second\nx,1,1,1,1,1,1,1\n",
            "a line",
        ),
        ("epoch,lr,train_loss,train_accuracy,val_loss,val_accuracy,seconds,samples_per_second\n1,1\n", "holds a line"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path, text, sentence):
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(RunError, match=sentence):
        read_rows(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(RunError, match="cannot be read"):
        read_rows(tmp_path / "none.csv")
