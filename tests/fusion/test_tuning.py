"""Tuning measures each block both ways with real shapes, keeps the faster, and disturbs nothing."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import switchgrad
from fusion.small_models import make
from switchgrad.errors import ModelError
from switchgrad.fusion import report, tuning
from switchgrad.fusion.timings import Timing, timings_of


@pytest.mark.parametrize("name", ["residual", "control flow", "functional"])
def test_it_measures_and_changes_nothing(name, monkeypatch):
    monkeypatch.setattr(tuning, "_ROUNDS", 3)
    model, x = make(name)
    before, seeds = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    tuned = switchgrad.optimize(model, x, tune=True)
    assert torch.equal(seeds, torch.get_rng_state())
    assert hooks == [len(module._forward_pre_hooks) for module in model.modules()]
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.testing.assert_close(tuned.eval()(x), model.eval()(x))
    measured = [row for row in report(tuned).rows if row.timing]
    assert measured
    assert all("ms fused" in row.timing for row in measured)
    assert "ms fused" in str(report(tuned))
    assert str(report(pickle.loads(pickle.dumps(tuned)))) == str(report(tuned))


@pytest.mark.parametrize("fused_ms", [1.0, 3.0])
def test_the_faster_way_is_taken(fused_ms, monkeypatch):
    monkeypatch.setattr(tuning, "_time", lambda owner, block, x, training: Timing(fused_ms, 2.0))
    model, x = nn.Sequential(nn.Conv2d(64, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), torch.randn(1, 64, 6, 6)
    tuned = switchgrad.optimize(model, x, tune=True)
    found = report(tuned)
    if fused_ms < 2:  # also where the rule of thumb would not
        assert [(row.operations, row.mode) for row in found.rows] == [(("0", "1", "2"), "both")]
    else:
        assert found.fused == ()
        assert "3 ms fused, 2 ms as written" in found.left[0].reason
        assert {name for _, name in timings_of(tuned)} == {"_0 + _1 + _2", "_1 + _2", "_2"}
    torch.testing.assert_close(tuned(x), model(x))


def test_time_of_a_block_is_that_of_running_it():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), torch.randn(8, 16, 64, 64)
    tuned = switchgrad.optimize(model, x, tune=True)
    timing = timings_of(tuned)[False, "_0 + _1"]
    assert 0 < timing.fused_ms < 1000
    assert timing.fused_ms < timing.written_ms  # PyTorch's pool alone takes several times as long


def test_tune_needs_an_example():
    with pytest.raises(ModelError, match="tune needs an example_input"):
        switchgrad.optimize(nn.ReLU(), tune=True)


def test_an_example_shows_a_misread_forward():
    mode = {"sign": 1}

    class Hidden(nn.Sequential):
        def forward(self, x):
            return super().forward(x) * mode["sign"]

    model, x = Hidden(nn.ReLU(), nn.MaxPool2d(2)), torch.rand(1, 1, 4, 4)
    switchgrad.optimize(model, x)
    switchgrad.optimize(model, (x,))
    calls = iter((1, 1))  # while it is read, in both modes

    class Changing(nn.Sequential):
        def forward(self, x):
            return super().forward(x) * next(calls, -1)

    with pytest.raises(ModelError, match="differs from the original"):
        switchgrad.optimize(Changing(nn.ReLU(), nn.MaxPool2d(2)), x)
