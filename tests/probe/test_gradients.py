"""check_gradients: right gradients pass, each kind of wrong one is found and placed, kinks are told from faults."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import switchgrad
from switchgrad import models
from switchgrad.errors import ModelError
from switchgrad.probe.gradients.differences import judge


def layer(forward, backward):
    """A layer of one's own with this backward: ``backward(saved input, dy)``."""

    class Rule(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return forward(x)

        @staticmethod
        def backward(ctx, dy):
            return backward(ctx.saved_tensors[0], dy)

    class Layer(nn.Module):
        def forward(self, x):
            return Rule.apply(x)

    return Layer()


def relu(x):
    return x.clamp(min=0)


@pytest.mark.parametrize(
    ("net", "x"),
    [
        (models.create("lenet5", input_size=(8, 8)), torch.randn(2, 1, 8, 8)),
        (nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(True), nn.MaxPool2d(2)), torch.randn(2, 2, 6, 6)),
        (nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), nn.Tanh(), nn.Linear(5, 2)), torch.randn(3, 6)),
        (nn.LSTM(3, 4), torch.randn(5, 2, 3)),
        (nn.ReLU(inplace=True), torch.randn(2, 3)),
        (switchgrad.nn.MaxPool2d(3, 2, 1), torch.randn(1, 2, 7, 7)),
        (nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 2)), torch.randint(0, 7, (2, 4))),
        (nn.Conv2d(4, 2, 3).to(memory_format=torch.channels_last), torch.randn(1, 4, 5, 5)),
    ],
    ids=["lenet5", "normalised", "dropout", "lstm", "inplace", "pool", "embedding", "channels_last"],
)  # fmt: skip
def test_right_gradients_pass(net, x):
    report = switchgrad.check_gradients(net, x, samples=12, training=True)
    assert report.ok, str(report)
    assert report.faults == ()
    assert {check.name for check in report.tensors} >= set(dict(net.named_parameters()))
    assert all(check.worst.error < 1e-5 for check in report.tensors)
    assert report.sentence.startswith("right: every gradient agrees")


@pytest.mark.parametrize(
    "wrong",
    [
        layer(relu, lambda x, dy: dy),
        layer(relu, lambda x, dy: dy * (x > 0) * 0.5),
        layer(relu, lambda x, dy: -dy * (x > 0)),
        layer(relu, lambda x, dy: dy * (x < 0)),
        layer(relu, lambda x, dy: torch.zeros_like(dy)),
        layer(relu, lambda x, dy: dy * (x > 0) * 1.001),
        layer(relu, lambda x, dy: (dy * (x > 0)).flip(-1)),
        layer(relu, lambda x, dy: dy * (x > 0) / 0),
    ],
    ids=["identity", "half", "sign", "gate", "nothing", "a thousandth", "flipped", "nan"],
)
def test_a_wrong_backward_is_found_and_placed(wrong):
    """In the middle of a network: everything before it has wrong gradients, and the layer is named."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(nn.Tanh(), wrong), nn.Flatten(), nn.Linear(48, 2))
    report = switchgrad.check_gradients(net, torch.randn(2, 1, 6, 6), samples=20)
    assert not report.ok
    verdicts = {check.name: check.verdict for check in report.tensors}
    assert verdicts["0.weight"] == "wrong"
    assert verdicts["3.weight"] == verdicts["3.bias"] == "right"
    assert [(fault.layer, fault.type, fault.tensor) for fault in report.faults] == [("1.1", "Layer", "input")]
    assert 'layer "1.1" (Layer): its own backward is wrong at input[' in str(report)
    assert report.sentence.startswith("wrong: the gradients of ")
    entry = report.faults[0].entry
    assert entry.judgement == "wrong"
    assert not abs(entry.autograd - entry.numeric) <= 1e-4 * abs(entry.numeric) + 1e-9


def test_one_wrong_entry_of_many_is_found():
    """A random direction disagrees; halving it leads to the entry."""

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x @ w.T

        @staticmethod
        def backward(ctx, dy):
            x, w = ctx.saved_tensors
            dw = dy.T @ x
            dw[17, 23] += 0.1
            return dy @ w, dw

    class Linear(nn.Linear):
        def forward(self, x):
            return Wrong.apply(x, self.weight)

    report = switchgrad.check_gradients(nn.Sequential(Linear(40, 30)), torch.randn(3, 40), samples=5)
    check = next(check for check in report.tensors if check.name == "0.weight")
    wrong = [entry for entry in check.entries if entry.judgement == "wrong"]
    assert [entry.index for entry in wrong] == [(17, 23)]
    assert wrong[0].autograd - wrong[0].numeric == pytest.approx(0.1, abs=1e-6)
    assert report.faults[0].tensor == "weight"
    assert "bias" not in report.sentence
    assert [check.verdict for check in report.tensors if check.name == "input"] == ["right"]


def test_a_fault_between_layers_is_said_to_be_there():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x):
            h = self.a(x)
            return self.b(h * h.detach())

    report = switchgrad.check_gradients(Net(), torch.randn(2, 3))
    assert not report.ok
    assert report.faults == ()
    assert "no layer is wrong by itself" in str(report)


@pytest.mark.parametrize(
    ("net", "x"),
    [
        (nn.ReLU(), torch.zeros(1, 3)),
        (nn.MaxPool2d(2), torch.ones(1, 1, 4, 4)),
        (nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU()), torch.zeros(1, 4)),
    ],
    ids=["relu", "tie", "through weights"],
)
def test_kinks_are_reported_and_not_called_wrong(net, x):
    report = switchgrad.check_gradients(net, x)
    assert report.ok, str(report)
    assert sum(check.count("kink") for check in report.tensors) > 0
    assert "entries lie on a kink" in report.sentence
    assert "right, but for kinks" in str(report)


def test_beside_a_kink_a_gradient_must_be_one_of_the_sides():
    """At 0 the sides of a ReLU are 0 and 1: 3 is wrong there, too, and 0.7 is a subgradient."""
    for slope, ok in ((3.0, False), (-0.5, False), (0.7, True), (1.0, True)):
        net = layer(relu, lambda x, dy, slope=slope: torch.where(x > 0, dy, slope * dy * (x == 0)))
        assert switchgrad.check_gradients(net, torch.zeros(1, 2)).ok == ok, slope


def test_close_to_a_kink_the_step_is_made_smaller():
    x = torch.tensor([[3e-6, -4e-6, 1.0]], dtype=torch.float64)
    report = switchgrad.check_gradients(nn.ReLU(), x)
    assert report.ok
    assert all(entry.judgement == "right" for entry in report.tensors[0].entries)


def test_jumps_have_no_derivative():
    net = layer(torch.floor, lambda x, dy: torch.zeros_like(dy))
    report = switchgrad.check_gradients(net, torch.tensor([[1.0, 2.5]]))
    assert report.ok
    assert [e.judgement for e in sorted(report.tensors[0].entries, key=lambda e: e.index)] == ["jump", "right"]
    straight = layer(torch.floor, lambda x, dy: dy)
    assert not switchgrad.check_gradients(straight, torch.tensor([[2.5]])).ok


def test_a_judgement_by_hand():
    smooth = judge((0,), 6.0, lambda d: (3 + d) ** 2, 9.0, 3.0, 1e-9, 1e-5)
    assert smooth.judgement == "right"
    assert smooth.numeric == pytest.approx(6, abs=1e-8)
    assert judge((0,), 6.01, lambda d: (3 + d) ** 2, 9.0, 3.0, 1e-9, 1e-5).judgement == "wrong"
    assert judge((0,), 0.2, abs, 0.0, 0.0, 1e-9, 1e-5).judgement == "kink"
    assert judge((0,), 1.2, abs, 0.0, 0.0, 1e-9, 1e-5).judgement == "wrong"
    assert judge((0,), float("nan"), lambda d: d, 0.0, 0.0, 1e-9, 1e-5).judgement == "wrong"


def test_the_module_is_as_it_was():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    net.eval()
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    x = torch.randn(3, 4)
    random = torch.get_rng_state()
    switchgrad.check_gradients(net, x, training=True)
    assert torch.equal(torch.get_rng_state(), random)
    assert not net.training
    assert not x.requires_grad
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
        assert tensor.dtype in (torch.float32, torch.int64)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_frozen_and_unused_tensors_are_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
            self.a.weight.requires_grad_(False)

        def forward(self, x, words):
            return self.a(x) + words

    report = switchgrad.check_gradients(Net(), (torch.randn(1, 2), torch.tensor([1, 2])))
    assert report.ok
    assert set(report.skipped) == {"a.weight", "input 1"}
    assert {c.name: c.worst.numeric for c in report.tensors}["b.weight"] == 0


class Unsteady(nn.Module):
    def forward(self, x):
        return x * float(np.random.default_rng().random())


class Blows(nn.Module):
    def forward(self, x):
        return x / 0


class OnlySingle(nn.Module):
    def forward(self, x):
        if x.dtype != torch.float32:
            raise TypeError("float32 only")
        return x


class Breaks(nn.Module):
    def forward(self, x):
        return layer(relu, lambda x, dy: dy[:0])(x)


@pytest.mark.parametrize(
    ("net", "x", "sentence"),
    [
        (Unsteady(), torch.ones(2), "Unsteady gives other numbers for the same input and seed; draw from PyTorch's"),
        (Blows(), torch.ones(2), "Blows gives numbers that are not finite"),
        (OnlySingle(), torch.ones(2), "OnlySingle cannot take 2 in float64: float32 only"),
        (Breaks(), torch.ones(2), "the backward of Breaks fails: .*shape"),
        (nn.Linear(3, 2), torch.ones(2, 5), "Linear cannot take 2x5 in float64"),
        (nn.Flatten(), torch.ones(2, 2, dtype=torch.int64), "gives no floating-point tensor"),
    ],
)
def test_errors_are_one_sentence(net, x, sentence):
    with pytest.raises(ModelError, match=sentence):
        switchgrad.check_gradients(net, x)


def test_nothing_to_check_and_bad_settings_are_said():
    frozen = nn.Embedding(3, 2).requires_grad_(False)
    with pytest.raises(ModelError, match="no parameter or input that requires a gradient"):
        switchgrad.check_gradients(frozen, torch.tensor([1]))
    with pytest.raises(ModelError, match="samples is 0"):
        switchgrad.check_gradients(nn.Linear(2, 2), torch.ones(1, 2), samples=0)
    with pytest.raises(ModelError, match="tolerance is 2"):
        switchgrad.check_gradients(nn.Linear(2, 2), torch.ones(1, 2), tolerance=2)


def test_complex_paths_of_inputs_are_named():
    class Net(nn.Module):
        def forward(self, x, scale):
            return F.relu(x) * scale

    report = switchgrad.check_gradients(Net(), {"x": torch.randn(2, 2), "scale": torch.tensor(2.0)})
    assert [check.name for check in report.tensors] == ["input x", "input scale"]
    assert report.tensors[1].shape == ()
    assert "one number" in str(report)
