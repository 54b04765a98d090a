"""docs/pooling.md names every pooling operator, is what its script writes, and its links lead somewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import pooling_docs  # noqa: E402  (found by the line above)
import pooling_entries  # noqa: E402
from switchgrad import nn  # noqa: E402

LAYERS = {"gem_pool": "GeM", "vlad": "OrderlessPool"}  # the others are called as their operators
NO_LAYERS = {"auto_pooling_loss", "dynamic_k", "k_means", "loss_max_weights", "windows"}
NO_LAYERS |= {"box_area", "box_iou", "distance_box_iou", "generalized_box_iou", "nms", "batched_nms"}
NO_LAYERS |= {f"wavelet_bands{dims}d" for dims in (1, 2, 3)}  # `WaveletPool` keeps the band that pools


def test_no_operator_is_missing() -> None:
    assert pooling_docs.missing() == []


def test_names_are_those_of_operators_and_stand_once() -> None:
    names = [name for entry in pooling_entries.ENTRIES for name in entry.names]
    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(pooling_docs.ops, name)] == []


def test_every_pooling_is_a_layer() -> None:
    called = {name.lower(): name for name in nn.__all__}
    names = {name for entry in pooling_entries.ENTRIES for name in entry.names} - NO_LAYERS
    assert [name for name in names if LAYERS.get(name) not in nn.__all__ and name.replace("_", "") not in called] == []


def test_page_and_pictures_are_up_to_date() -> None:
    assert pooling_docs.out_of_date() == []


def test_a_missing_operator_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling_docs, "ENTRIES", pooling_entries.ENTRIES[1:])
    assert "max_pool2d" in pooling_docs.missing()


@pytest.mark.parametrize("entry", pooling_entries.ENTRIES, ids=lambda entry: entry.title)
def test_tests_exist(entry: pooling_entries.Entry) -> None:
    assert (ROOT / entry.test).is_file(), entry.test
    assert entry.when[-1] in ".?"
    assert pooling_docs.what(entry)
