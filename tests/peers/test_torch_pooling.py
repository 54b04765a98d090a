"""PyTorch's documented examples and its own samples of pooling give the same on ours; what differs is named."""

from __future__ import annotations

import pytest
import torch

from peers import documented, operator_samples
from peers.replaced import FUNCTIONS, LAYERS, differ, replaced

IN_DATABASE = [name for name in FUNCTIONS if not name.startswith("lp_pool")]

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's examples and database warn of themselves


@pytest.mark.parametrize("name", documented.documented())
def test_documented_examples(name: str) -> None:
    assert bool(documented.differing(name)) == (name in documented.KNOWN)


def test_the_known_difference_is_as_described() -> None:
    x = -torch.ones(1, 1, 2, 2)
    assert torch.nn.LPPool2d(1.2, 2)(x).isnan().all()
    with replaced():
        assert torch.nn.LPPool2d(1.2, 2)(x).item() == pytest.approx(4 ** (1 / 1.2))


def test_every_layer_has_examples() -> None:
    assert {f"torch.nn.{name}" for name in LAYERS} <= set(documented.documented())
    assert sum(len(documented.examples(name)) for name in documented.documented()) > 90


@pytest.mark.parametrize("name", IN_DATABASE)
def test_samples_of_the_database(name: str) -> None:
    count, twice, wrong = operator_samples.differing(name, every=8)
    assert wrong == []
    assert count >= 6
    assert bool(twice) == ("unpool" in name)


@pytest.mark.parametrize("name", IN_DATABASE)
def test_wrong_inputs_of_the_database_are_refused(name: str) -> None:
    assert operator_samples.refusals(name)[2] == []


def test_allowances_are_used() -> None:
    used = [message for name in IN_DATABASE for message in operator_samples.refusals(name)[1]]
    assert len(used) == 2, used


def test_what_is_not_in_the_database() -> None:
    """Lp pooling has no entry of its own in PyTorch's database; its documented examples are above."""
    assert list(operator_samples.database()) == IN_DATABASE


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (torch.tensor([1.0]), torch.tensor([1.1])),
        (torch.tensor([1.0]), torch.tensor([[1.0]])),
        (torch.tensor([1]), torch.tensor([1.0])),
        ((torch.tensor([1.0]),), (torch.tensor([1.0]), torch.tensor([2]))),
        (torch.tensor([float("nan")]), torch.tensor([1.0])),
    ],
)
def test_differences_are_seen(ours: object, theirs: object) -> None:
    assert differ(ours, theirs)
    assert not differ(theirs, theirs)


def test_a_wrong_operator_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = operator_samples.ops.avg_pool2d
    monkeypatch.setattr(operator_samples.ops, "avg_pool2d", lambda *a, **k: pool(*a, **k) * 1.01)
    assert len(operator_samples.differing("avg_pool2d")[2]) == 7
