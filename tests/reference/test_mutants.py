"""The checks notice every wrong layer in `wrong_layers` and `wrong_losses`, each at the check that it names."""

import pytest

from harness.written_out import CHECKS
from wrong_layers import seen
from wrong_losses import WRONG

BY_SETTINGS = ("MarginForgotten", "OutputPaddingForgotten")  # the only ones that are wrong by a setting


@pytest.mark.parametrize("mutant", WRONG, ids=lambda mutant: mutant.name)
def test_a_wrong_layer_is_seen(mutant):
    assert next(seen(mutant, CHECKS), None) == mutant.killed_by


@pytest.mark.parametrize("mutant", WRONG, ids=lambda mutant: mutant.name)
def test_it_dies_of_its_one_method(mutant):
    """With the same settings, the layer that it derives from passes."""
    kind = type(mutant.case.layer)
    if kind.__name__ not in BY_SETTINGS:
        right = kind.__base__(**vars(mutant.case.layer))
        assert list(seen(mutant.with_layer(right), CHECKS)) == []


@pytest.mark.parametrize("mutant", WRONG, ids=lambda mutant: mutant.name)
def test_differences_see_it_without_pytorch(mutant):
    """Finite differences alone know a wrong backward, wherever there is a derivative."""
    if mutant.killed_by == "gradients" and not mutant.case.kink:
        assert "differences" in seen(mutant, CHECKS)
