"""Tuning measures every candidate with real shapes, keeps the fastest cut and layout, and disturbs nothing."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from torch import nn

import switchgrad
from fusion.small_models import make
from switchgrad.errors import ModelError
from switchgrad.fusion import measured, report, timing_file, tuning
from switchgrad.fusion.executing import KEY
from switchgrad.fusion.timings import timings_of


def clock(monkeypatch, times):
    """Let work take what ``times`` says: the first whose words all stand in its description."""

    def milliseconds(self, ways):
        return {
            key: next(ms for words, ms in times if all(w in what for w in words)) for key, (what, _) in ways.items()
        }

    monkeypatch.setattr(tuning._Tuner, "_times", milliseconds)


def chosen(model, training):
    return vars(model)[KEY].choose(model.train(training))


@pytest.mark.parametrize("name", ["residual", "control flow", "functional", "in place", "dictionary", "signal"])
def test_it_measures_and_changes_nothing(name, monkeypatch):
    monkeypatch.setattr(tuning, "_ROUNDS", 1)
    model, x = make(name)
    before, seeds = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    tuned = switchgrad.optimize(model, x, tune=True)
    assert torch.equal(seeds, torch.get_rng_state())
    assert hooks == [len(module._forward_pre_hooks) for module in model.modules()]
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    theirs, ours = (torch.utils._pytree.tree_leaves(net.eval()(x)) for net in (model, tuned))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
        assert not isinstance(b, torch.Tensor) or a.stride() == b.stride()
    assert all(" ms" in row.timing for row in report(tuned).fused)
    assert str(report(pickle.loads(pickle.dumps(tuned)))) == str(report(tuned))


@pytest.mark.parametrize("ours_ms", [1.0, 7.0])
def test_the_faster_way_is_taken(ours_ms, monkeypatch):
    clock(monkeypatch, [(["conv_relu_max_pool2d"], ours_ms), (["ops."], 5.0), ([], 2.0)])
    model, x = nn.Sequential(nn.Conv2d(64, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), torch.randn(1, 64, 6, 6)
    tuned = switchgrad.optimize(model, x, tune=True)
    found = report(tuned)
    if ours_ms < 6:  # also where the rule of thumb would not
        assert [(row.operations, row.mode) for row in found.rows] == [(("0", "1", "2"), "both")]
        assert found.rows[0].timing == "1 ms, 6 ms as written"
    else:
        assert found.fused == ()
        assert found.left[0].reason == "6 ms, 7 ms by ops.conv_relu_max_pool2d"
    torch.testing.assert_close(tuned(x), model(x))


def test_the_cheapest_cut_wins_though_a_longer_block_beats_its_parts_as_written(monkeypatch):
    clock(monkeypatch, [(["conv_relu_max_pool2d"], 5.0), (["relu_max_pool2d"], 0.5), (["ops."], 9.0), ([], 2.0)])
    model, x = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), torch.randn(1, 2, 6, 6)
    found = report(switchgrad.optimize(model, x, tune=True))
    assert [row.operations for row in found.fused] == [("1", "2")]


def test_the_table_has_every_candidate(monkeypatch):
    clock(monkeypatch, [(["maps channels_last"], 1.0), (["ops."], 2.0), ([], 3.0)])
    model, x = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), torch.randn(1, 2, 6, 6)
    found = measured(switchgrad.optimize(model, x, tune=True))
    assert measured(model).rows == ()
    rows = {(row.mode, row.layout, row.piece, row.operator): row.ms for row in found.rows}
    pieces = {("_0", ""): 3.0, ("_1", ""): 3.0, ("_1", "ops.max_pool2d"): 2.0}
    pieces |= {("_0 + _1", "ops.relu_max_pool2d"): 2.0}
    for mode in ("training", "evaluation"):
        for layout in ("", "channels_last"):
            assert {key[2:]: ms for key, ms in rows.items() if key[:2] == (mode, layout) and key[2]} == pieces
        assert rows[mode, "channels_last", "", ""] == 1.0
    lines = str(found).splitlines()
    assert lines[0].split() == ["module", "mode", "maps", "piece", "by", "ms"]
    assert len(lines) == 1 + len(found.rows)
    assert any("channels last" in line and "the whole" in line for line in lines)


def test_a_fully_connected_layer_is_a_candidate(monkeypatch):
    clock(monkeypatch, [(["linear_relu"], 1.0), (["as written"], 2.0), ([], 5.0)])
    model, x = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU()), torch.randn(2, 1024)
    tuned = switchgrad.optimize(model, x, tune=True)
    assert [row.runs for row in report(tuned).fused] == ["ops.linear_relu (streamed), its weight's gradient last"]
    torch.testing.assert_close(tuned(x), model(x))
    torch.testing.assert_close(tuned.bfloat16()(x.bfloat16()), model.bfloat16()(x.bfloat16()))


@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4"])
def test_each_algorithm_of_a_convolution_is_a_candidate(algorithm, monkeypatch):
    clock(monkeypatch, [(["conv_bias_relu", algorithm], 1.0), (["as written"], 2.0), ([], 5.0)])
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU()), torch.randn(1, 16, 6, 6)
    tuned = switchgrad.optimize(model, x, tune=True)
    assert [row.runs for row in report(tuned).fused if len(row.operations) == 2] == [
        f"ops.conv_bias_relu ({algorithm})"
    ]
    with torch.profiler.profile() as profile:
        ours = tuned(x)
    assert "switchgrad::winograd_conv" in {event.key for event in profile.key_averages()}
    torch.testing.assert_close(ours, model(x))
    torch.testing.assert_close(tuned.bfloat16()(x.bfloat16()), model.bfloat16()(x.bfloat16()))


@pytest.mark.parametrize("channels_last_ms", [1.0, 9.0])
@pytest.mark.parametrize("given", [torch.contiguous_format, torch.channels_last])
def test_a_whole_forward_runs_in_the_faster_layout(channels_last_ms, given, monkeypatch):
    other = "channels_last" if given is torch.contiguous_format else "contiguous"
    clock(monkeypatch, [([f"maps {other}"], channels_last_ms), (["as written"], 3.0), ([], 4.0)])
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.randn(2, 3, 6, 6).to(memory_format=given)
    tuned, seen = switchgrad.optimize(model, x, tune=True), []
    torch.testing.assert_close(tuned(x), model(x))
    assert tuned(x).stride() == model(x).stride()
    if channels_last_ms > 4:
        assert KEY not in vars(tuned)
        return
    assert chosen(tuned, training=True).layout == chosen(tuned, training=False).layout == other
    assert other.replace("_", " ") in str(report(tuned))
    tuned[1].register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    tuned(x)
    assert not seen[0].is_contiguous(memory_format=given)


def test_a_forward_that_asks_for_the_layout_keeps_it(monkeypatch):
    class Viewed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            y = self.conv(x)
            return y.view(x.shape[0], 2, -1), y

    clock(monkeypatch, [(["maps channels_last"], 1.0), ([], 4.0)])
    tuned = switchgrad.optimize(Viewed(), torch.randn(2, 3, 6, 6), tune=True)
    assert KEY not in vars(tuned)


def test_a_layer_alone_runs_as_written_in_the_faster_layout(monkeypatch):
    clock(monkeypatch, [(["maps channels_last"], 1.0), (["ops."], 9.0), ([], 4.0)])
    x = torch.randn(2, 3, 6, 6)
    tuned = switchgrad.optimize(nn.MaxPool2d(2), x, tune=True)
    assert [row.runs for row in report(tuned).fused] == ["with all maps channels last"]
    assert torch.equal(tuned(x), nn.functional.max_pool2d(x, 2))


@pytest.mark.parametrize("tuned_with", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("given", [torch.contiguous_format, torch.channels_last])
def test_maps_go_out_as_they_came_in(tuned_with, given, monkeypatch):
    clock(monkeypatch, [(["maps c"], 1.0), ([], 4.0)])
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    x = torch.randn(2, 3, 6, 6)
    tuned = switchgrad.optimize(model, x.contiguous(memory_format=tuned_with), tune=True)
    assert chosen(tuned, training=True).layout
    x = x.contiguous(memory_format=given)
    assert tuned(x).stride() == model(x).stride()


def test_a_chain_that_was_not_measured_follows_the_rules(monkeypatch):
    clock(monkeypatch, [(["maps"], 9.0), ([], 4.0)])
    model, x = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), torch.randn(1, 2, 6, 6)
    tuned = switchgrad.optimize(model, x, tune=True)
    for key in list(timings_of(tuned).chains):
        del timings_of(tuned).chains[key]
    assert [row.runs for row in report(tuned).rows] == ["ops.conv_relu_max_pool2d"]


def test_blocks_and_layers_are_timed_in_milliseconds():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), torch.randn(8, 16, 64, 64)
    costs = timings_of(switchgrad.optimize(model, x, tune=True)).costs(False, "")
    ours, written = costs["_0 + _1", "ops.relu_max_pool2d"], costs["_0", ""] + costs["_1", ""]
    assert 0 < ours < 1000
    assert 0 < written < 1000


def test_a_file_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_ROUNDS", 1)
    path = tmp_path / "timings.json"
    model, x = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), torch.randn(1, 2, 6, 6)
    first = switchgrad.optimize(model, x, tune=path)
    (known,) = json.loads(path.read_text())["milliseconds"].values()
    assert all(ms > 0 for ms in known.values())
    assert any("ops.conv_relu_max_pool2d" in work and "1x2x6x6" in work for work in known)

    ran = []
    monkeypatch.setattr(tuning, "milliseconds", lambda ways: ran.extend(ways) or [1.0] * len(ways))
    again = switchgrad.optimize(model, x, tune=str(path))
    assert ran == []
    assert str(report(again)) == str(report(first))
    switchgrad.optimize(model, torch.randn(2, 2, 6, 6), tune=path)  # other shapes are other work
    assert ran
    ran.clear()
    monkeypatch.setattr(timing_file, "machine", lambda: "another machine")
    switchgrad.optimize(model, x, tune=path)
    assert ran
    assert len(json.loads(path.read_text())["milliseconds"]) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read as timings"),
        ("[]", "holds no timings of this version"),
        ('{"format": "other", "milliseconds": {}}', "holds no timings of this version"),
        ('{"format": "switchgrad timings 1", "milliseconds": {"m": {"w": NaN}}}', "which is no time"),
        ('{"format": "switchgrad timings 1", "milliseconds": {"m": {"w": "1"}}}', "which is no time"),
        ('{"format": "switchgrad timings 1", "milliseconds": {"m": 3}}', "which is no time"),
    ],
)
def test_a_file_that_holds_no_timings_is_refused(text, says, tmp_path):
    path = tmp_path / "timings.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=says):
        switchgrad.optimize(nn.ReLU(), torch.zeros(1), tune=path)
    assert path.read_text() == text


def test_a_file_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_ROUNDS", 1)
    with pytest.raises(ModelError, match="cannot be written"):
        switchgrad.optimize(nn.MaxPool2d(2), torch.zeros(1, 1, 4, 4), tune=tmp_path / "none" / "timings.json")


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
