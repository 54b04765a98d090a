"""The report says what runs, and says it of nothing that does not; reading refuses what a graph could get wrong."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import switchgrad
from fusion.small_models import make
from switchgrad.fusion import report
from switchgrad.fusion.rules import RULES
from switchgrad.kernels import native


def rows(model, mode="both"):
    return {row.operations: row.runs or row.reason for row in report(model).rows if row.mode in (mode, "both")}


def test_a_table_that_reads_well():
    model, _ = make("pool first")
    text = str(report(model))
    lines = text.splitlines()
    assert lines[0].split() == ["operations", "mode", "runs"]
    assert "conv + tail.0 + tail.1  both  ops.conv_relu_max_pool2d" in text
    assert lines[-1] == f"{len(report(model).fused)} fused, {len(report(model).left)} as written"
    assert all(row.reason for row in report(model).left)
    assert str(report(switchgrad.optimize(model))) == text


def test_modes_differ():
    model, _ = make("residual")
    stem = ("stem.0", "stem.1", "stem.2", "pool")
    assert rows(model, "evaluation")[stem] == "ops.conv_relu_max_pool2d, batch norm folded in"
    assert stem not in rows(model, "training")


def test_reasons():
    class Kept(nn.Sequential):
        def forward(self, x):
            y = self[0](x)
            return self[1](y) + y.sum()

    assert "2 places" in rows(Kept(nn.Conv2d(1, 1, 1), nn.MaxPool2d(2)))["0",]
    assert "where the winners stood" in rows(nn.Sequential(nn.MaxPool2d(2, return_indices=True)))["0",]
    assert (
        "padding_mode is 'reflect'" in rows(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")))["0",]
    )
    assert rows(nn.Sequential(nn.Conv2d(2, 2, 1, groups=2), nn.MaxPool2d(2))) == {
        ("0",): "the convolution has 2 groups",
        ("1",): "ops.max_pool2d",
    }
    assert rows(nn.Sequential(nn.Conv2d(2, 2, 1), nn.MaxPool2d(2)).half())["0",].startswith("the kernel takes float32")
    assert "below 0" in " ".join(rows(nn.Sequential(nn.Conv2d(1, 1, 1), nn.LeakyReLU(-1.0), nn.MaxPool2d(2))).values())


def test_a_wide_convolution_is_fused_in_training_alone():
    model = nn.Sequential(nn.Conv2d(64, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
    assert rows(model, "training") == {("0", "1", "2"): "ops.conv_relu_max_pool2d"}
    found = rows(model, "evaluation")
    assert "64 channels" in found["0",]
    assert found["1", "2"] == "ops.relu_max_pool2d"


def test_a_global_mean_and_its_linear_layer():
    found = rows(make("residual")[0])
    assert found["avgpool", "flatten", "fc"] == "ops.global_avg_pool_linear"

    class Means(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            y = F.adaptive_avg_pool2d(x, 1)
            return self.fc(x.mean((2, 3))) + self.fc(y.view(y.size(0), -1))

    model = Means()
    assert list(rows(model).values()) == ["ops.global_avg_pool_linear"] * 2
    optimized = switchgrad.optimize(model)
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(optimized(x), model(x))
    single = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    x = torch.randn(3, 4, 5)
    assert torch.equal(switchgrad.optimize(single)(x), single(x))


def test_large_fully_connected_layers_are_streamed():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(1024, 1024)

        def forward(self, x):
            return F.leaky_relu(F.linear(F.linear(x, self.fc.weight).relu(), self.fc.weight, self.fc.bias))

    last = ", its weight's gradient last"
    model = nn.Sequential(nn.Linear(1024, 1030), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(1030, 1020), nn.ReLU())
    assert rows(model, "training") == {
        ("0", "1"): f"ops.linear_relu{last}",
        ("2",): "ops.dropout",
        ("3", "4"): f"ops.linear_relu{last}",
    }
    assert rows(model, "evaluation") == {("0", "1"): f"ops.linear_relu{last}", ("3", "4"): f"ops.linear_relu{last}"}
    assert list(rows(Functional()).values())[:2] == [f"ops.linear_relu{last}", f"ops.linear{last}"]
    for layers in ([nn.Linear(100, 100), nn.ReLU()], [nn.Linear(1024, 1024).bfloat16()]):
        assert not report(nn.Sequential(*layers)).fused
    with torch.autocast("cpu", torch.bfloat16):
        assert rows(model, "evaluation")["0", "1"] == "linear and relu, while autocast is on"
    fast = switchgrad.optimize(model.eval())
    assert list(fast.state_dict()) == list(model.state_dict())
    for batch in (1000, 3):
        x = torch.randn(batch, 1024, requires_grad=True)
        with torch.profiler.profile() as profile:
            ours = fast(x)
        assert ("switchgrad::linear" in {event.key for event in profile.key_averages()}) == (batch < 1000)
        torch.testing.assert_close(ours, model(x))
        torch.testing.assert_close(
            *(torch.autograd.grad(y.sum(), (x, *net.parameters())) for y, net in ((ours, fast), (model(x), model)))
        )
    exported = torch.export.export(fast, (x,)).module()
    torch.testing.assert_close(exported(x), ours)


def test_pictures_before_tiles_are_laid_channels_last():
    def laid(*layers):
        return "Sequential" in {name for names in rows(nn.Sequential(*layers)) for name in names}

    first, tiles = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
    assert laid(first, nn.ReLU(), tiles)
    assert not laid(first, nn.ReLU(), nn.Conv2d(16, 8, 3))  # no tiles
    assert not laid(nn.Conv2d(9, 16, 3), nn.ReLU(), tiles)  # too much to copy
    assert not laid(nn.BatchNorm2d(3), first, tiles)
    assert not laid(first, nn.MaxPool2d(2), tiles)  # fused

    class Asks(nn.Sequential):
        def forward(self, x):
            return super().forward(x).is_contiguous()

    assert not rows(Asks(first, tiles)).keys() & {("Asks",)}
    model = nn.Sequential(first, nn.ReLU(), tiles)
    seen = []
    model[1].register_forward_hook(lambda m, given, y: seen.append(y))
    x = torch.randn(8, 3, 8, 8)
    for given in (x, x.contiguous(memory_format=torch.channels_last), x[:7], x[0]):
        assert switchgrad.optimize(model)(given).stride() == model(given).stride()
    last = [y.is_contiguous(memory_format=torch.channels_last) for y in seen if y.dim() == 4]
    assert last == [True, False, True, True, False, False]  # ours and PyTorch's, for each


class Viewed(nn.Module):
    """Views beside a block: of what came in, and of the same numbers as another type."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, x, beside):
        y = self.block(x)
        return y, beside.view(beside.shape[0], -1), y.mean((2, 3)).view(torch.int32)


def test_views_that_are_no_shapes_of_maps_stay_views():
    model, x = Viewed(), torch.randn(3, 1, 8, 8)
    optimized = switchgrad.optimize(model)
    assert ("block.0", "block.1", "block.2") in rows(model)
    y, viewed, words = optimized(x, x)
    assert viewed.data_ptr() == x.data_ptr()
    torch.testing.assert_close(words.view(torch.float32), y.mean((2, 3)).detach())
    for run in (model, optimized):  # what came in cannot be viewed so: PyTorch's refusal, and no copy
        with pytest.raises(RuntimeError, match="view size is not compatible"):
            run(x, x.transpose(2, 3))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_maps_of_one_channel_go_out_as_they_came_in(layout):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.ReLU())
    x = torch.randn(2, 1, 8, 8).to(memory_format=layout)
    assert rows(model) == {("0", "1", "2"): "ops.conv_relu_max_pool2d"}
    assert switchgrad.optimize(model)(x).stride() == model(x).stride()


def test_dense_convolutions_run_in_tiles():
    model = nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 17, 3), nn.BatchNorm2d(17), nn.ReLU())
    assert rows(model, "training") == {
        ("0", "1"): "ops.conv_bias_relu",
        ("2",): "ops.conv2d",
        ("3", "4"): "ops.batch_norm_relu",
    }
    assert rows(model, "evaluation")["2", "3", "4"] == "ops.conv_bias_relu, batch norm folded in"
    for layer, reason in (
        (nn.Conv2d(16, 16, 3, 2), "the stride is (2, 2) and not 1"),
        (nn.Conv2d(16, 16, 7), "the kernel has 7x7 taps and not 3x3 or 5x5"),
        (nn.Conv2d(15, 16, 3), "a convolution of 15 channels to 16 is left to PyTorch"),
        (nn.Conv2d(16, 16, 3).half(), "the kernels take float32 or float64"),
    ):
        assert rows(nn.Sequential(layer))["0",].startswith(reason)
    assert rows(nn.Sequential(nn.Conv2d(16, 16, 3), nn.LeakyReLU()))["0",] == "ops.conv2d"
    with torch.autocast("cpu", torch.bfloat16):
        assert rows(model, "training")["2",] == "conv2d, while autocast is on"


class Called(nn.Module):
    """A convolution as a function, of a weight that it holds itself and of one of a layer's."""

    def __init__(self, channels, dtype=torch.float32):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, channels, 3, 3, dtype=dtype))
        self.inner = nn.Conv2d(channels, 8, 3, dtype=dtype)

    def forward(self, x):
        one = F.max_pool2d(F.relu(F.conv2d(x, self.weight)), 2)
        return one + F.max_pool2d(F.relu(F.conv2d(x, self.inner.weight, self.inner.bias)), 2)


def test_a_called_convolution_keeps_the_rules_of_a_layer():
    found = rows(Called(64), "evaluation")
    assert "64 channels" in found["conv2d",]
    assert "64 channels" in found["conv2d_1",]
    narrow = rows(Called(63), "evaluation")
    assert narrow["conv2d", "relu", "max_pool2d"] == narrow["conv2d_1", "relu_1", "max_pool2d_1"]
    assert narrow["conv2d", "relu", "max_pool2d"] == "ops.conv_relu_max_pool2d"
    assert rows(Called(4, torch.float16))["conv2d",].startswith("the kernel takes float32")


def test_autocast_is_told():
    model, x = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), torch.randn(1, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert rows(model)["0", "1", "2"] == "conv2d and ops.relu_max_pool2d, while autocast is on"
        with torch.profiler.profile() as profile:
            switchgrad.optimize(model)(x)
    assert rows(model)["0", "1", "2"] == "ops.conv_relu_max_pool2d"
    ran = {event.key for event in profile.key_averages()}
    assert {"aten::conv2d", "switchgrad::relu_max_pool"} <= ran
    assert "switchgrad::conv_max_pool" not in ran


def test_without_the_library_nothing_is_called_fused(monkeypatch):
    monkeypatch.setattr(native, "LIBRARY", None)
    model = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
    assert report(model).fused == ()
    assert "compiled kernels are missing" in report(model).left[0].reason
    x = torch.randn(1, 1, 4, 4)
    assert torch.equal(switchgrad.optimize(model)(x), model(x))


def test_every_rule_has_an_operator():
    for rule in RULES:
        assert rule.operator
        if rule.operator.startswith("ops."):
            assert callable(getattr(switchgrad.ops, rule.operator.removeprefix("ops.").split(" ")[0]))


class Odd(nn.Module):
    """A forward given as a function, around a pool."""

    def __init__(self, function):
        super().__init__()
        self.function, self.pool = function, nn.MaxPool2d(2)
        self.count, self.seen = 0, []
        self.constant = torch.ones(1)

    def forward(self, x):
        return self.pool(self.function(self, x))


def counting(m, x):
    m.count += 1
    return x


def listing(m, x):
    m.seen.append(x)
    return x


def on_type(m, x):
    return x if isinstance(x.sum(0).shape, tuple) else x * 2


REFUSED = {
    "control flow": (lambda m, x: x if x.sum() > 0 else -x, "control flow"),
    "python's chance": (lambda m, x: x if random.random() < 2 else x * 2, "random numbers"),
    "numpy's chance": (lambda m, x: x * float(np.random.rand()), "random numbers"),  # noqa: NPY002
    "torch's chance": (lambda m, x: x if torch.rand(1).item() < 2 else x * 2, "random numbers"),
    "a tensor of its own": (lambda m, x: x + torch.arange(2.0)[0], "makes a tensor"),
    "a counter": (counting, "changes the attribute 'count'"),
    "a list": (listing, "changes the attribute 'seen'"),
    "a type": (on_type, "asks for the type"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_graph_would_get_wrong_is_not_read(name):
    function, reason = REFUSED[name]
    model, x = Odd(function), torch.randn(2, 1, 4, 4)
    state = torch.get_rng_state(), random.getstate()
    found = report(model)
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1] == random.getstate()
    assert (model.count, model.seen) == (0, [])
    assert reason in found.rows[0].reason
    assert found.rows[1].runs == "ops.max_pool2d"
    optimized = switchgrad.optimize(model)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    wanted = model(x)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    assert torch.equal(optimized(x), wanted)
    assert type(optimized.pool).__mro__[1] is switchgrad.fusion.modules.Optimized


READ = {
    "a tensor kept as an attribute": lambda m, x: x * m.constant,
    "a tensor is a tensor": lambda m, x: x if isinstance(x, torch.Tensor) else x[0],
    "randomness that depends on the input": lambda m, x: x + torch.rand_like(x),
    "shapes": lambda m, x: F.pad(x, (0, x.shape[-1] % 2)),
}


@pytest.mark.parametrize("name", READ)
def test_what_a_graph_gets_right_is_read(name):
    model, x = Odd(READ[name]), torch.randn(2, 1, 4, 4)
    assert report(model).left == ()
    optimized = switchgrad.optimize(model)
    torch.manual_seed(1)
    wanted = model(x)
    torch.manual_seed(1)
    assert torch.equal(optimized(x), wanted)
    torch.manual_seed(1)
    torch.rand_like(x)
    assert not torch.equal(optimized(x), wanted) or "random" not in name


def test_a_patched_forward_runs():
    model = nn.Sequential(nn.MaxPool2d(2))
    model.forward = lambda x: x + 1
    assert torch.equal(switchgrad.optimize(model)(torch.zeros(1)), torch.ones(1))


def test_any_number_of_arguments():
    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.MaxPool2d(2)

        def forward(self, *parts):
            return sum(self.pool(part) for part in parts)

    model, x = Many(), torch.randn(1, 1, 4, 4)
    assert "any number of arguments" in report(model).rows[0].reason
    assert torch.equal(switchgrad.optimize(model)(x, x), model(x, x))
