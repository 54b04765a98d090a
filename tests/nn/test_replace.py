"""`replace_pooling`: every pooling layer of torch.nn becomes ours, and nothing else changes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switchgrad.errors import ModelError
from switchgrad.nn import LPPool2d, replace_pooling

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "MaxPool1d": (lambda: nn.MaxPool1d(3, 2, 1), (2, 3, 9)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2, ceil_mode=True), (2, 3, 7, 9)),
    "MaxPool2d with indices": (lambda: nn.MaxPool2d(2, return_indices=True), (2, 3, 6, 6)),
    "MaxPool3d": (lambda: nn.MaxPool3d(2), (1, 2, 4, 4, 4)),
    "AvgPool1d": (lambda: nn.AvgPool1d(3, 2, 1), (2, 3, 9)),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (2, 3, 8, 7)),
    "AvgPool2d divided": (lambda: nn.AvgPool2d(2, divisor_override=3), (2, 3, 8, 7)),
    "AvgPool3d": (lambda: nn.AvgPool3d(2, 1), (1, 2, 3, 4, 4)),
    "LPPool1d": (lambda: nn.LPPool1d(2, 3), (2, 3, 9)),
    "LPPool2d": (lambda: nn.LPPool2d(2, 2, stride=1), (2, 3, 5, 4)),
    "LPPool3d": (lambda: nn.LPPool3d(2, 2), (1, 2, 4, 4, 4)),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(3), (2, 3, 7)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((None, 3)), (2, 3, 5, 7)),
    "AdaptiveAvgPool3d": (lambda: nn.AdaptiveAvgPool3d(2), (1, 2, 3, 4, 5)),
    "AdaptiveMaxPool1d": (lambda: nn.AdaptiveMaxPool1d(3), (2, 3, 7)),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d(3, return_indices=True), (2, 3, 5, 7)),
    "AdaptiveMaxPool3d": (lambda: nn.AdaptiveMaxPool3d(2), (1, 2, 3, 4, 5)),
    "FractionalMaxPool2d": (
        lambda: nn.FractionalMaxPool2d(2, output_size=3, _random_samples=torch.full((2, 3, 2), 0.4)),
        (2, 3, 7, 7),
    ),
}


def _same(left: Any, right: Any) -> None:
    for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (left, right)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_computes_the_same(name: str) -> None:
    make, shape = LAYERS[name]
    model = nn.Sequential(make())
    x = torch.randn(shape)
    before = model(x)
    (swap,) = replace_pooling(model)
    assert swap.names == ("0",)
    assert swap.before == f"torch.nn.{name.split()[0]}"
    assert swap.after == f"switchgrad.nn.{name.split()[0]}"
    assert type(model[0]).__module__.startswith("switchgrad.nn")
    _same(model(x), before)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        _same(twin(x), before)
    assert "kernel_size" in repr(model) or "output_size" in repr(model)
    assert replace_pooling(model) == ()


def test_unpooling_finds_its_way() -> None:
    pool, unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
    model = nn.ModuleDict({"pool": pool, "unpool": unpool})
    x = torch.randn(2, 3, 6, 6)
    before = unpool(*pool(x))
    assert len(replace_pooling(model)) == 2
    assert torch.equal(model["unpool"](*model["pool"](x)), before)


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.pool = nn.MaxPool2d(2)
        self.again = self.pool
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.again(self.pool(self.conv(x)).relu()))


def test_names_state_hooks_mode_and_sharing_stay() -> None:
    model, seen = _Net().eval(), []
    handle = model.pool.register_forward_hook(lambda *_: seen.append("forward"))
    model.pool.note = "mine"
    state, names = copy.deepcopy(model.state_dict()), [name for name, _ in model.named_modules()]
    x = torch.randn(2, 1, 14, 14)
    before, seen[:] = model(x), []
    swaps = replace_pooling(model)
    assert [s.names for s in swaps] == [("pool", "again"), ("head.0",)]
    torch.testing.assert_close(model(x), before)
    assert model.again is model.pool
    assert seen == ["forward", "forward"]
    handle.remove()
    assert (model.pool.note, model.pool.training) == ("mine", False)
    assert [name for name, _ in model.named_modules()] == names
    assert model.state_dict().keys() == state.keys()
    model.load_state_dict(state)


def test_gradients_flow() -> None:
    model = _Net()
    twin = copy.deepcopy(model)
    replace_pooling(model)
    x = torch.randn(2, 1, 14, 14)
    for net in (model, twin):
        net(x).square().sum().backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


class _Special(nn.MaxPool2d):
    def forward(self, input: Tensor) -> Tensor:
        return -super().forward(-input)


def test_derived_layers_are_kept_and_listed() -> None:
    model = nn.Sequential(_Special(2), nn.AvgPool2d(2))
    swaps = replace_pooling(model)
    assert type(model[0]) is _Special
    assert [s.after for s in swaps] == [None, "switchgrad.nn.AvgPool2d"]
    assert str(swaps).splitlines()[1].endswith("kept: no layer of ours")


def test_a_model_that_is_a_pooling_layer() -> None:
    model = nn.MaxPool2d(2)
    assert "(the model)" in str(replace_pooling(model))
    assert type(model).__module__ == "switchgrad.nn.pooling"


def test_nothing_to_do() -> None:
    assert str(replace_pooling(nn.Linear(2, 2))) == "no pooling layer of torch.nn"


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (None, "model is None; give a torch.nn.Module that was made"),
        (torch.relu, "model is of type builtin_function_or_method; give a torch.nn.Module that was made"),
        (nn.MaxPool2d, "model is the class MaxPool2d; give a torch.nn.Module that was made"),
    ],
)
def test_what_is_no_model_is_refused(model: Any, sentence: str) -> None:
    with pytest.raises(ModelError) as refusal:
        replace_pooling(model)
    assert str(refusal.value) == sentence


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_scripted_model_is_refused_and_stays_as_it_was() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)))
    with pytest.raises(ModelError, match=r"^the model is a scripted or traced Sequential, which cannot be changed;"):
        replace_pooling(scripted)
    mixed = nn.Sequential(nn.AvgPool2d(2), scripted)
    with pytest.raises(ModelError, match=r'^the module "1\.1" is a scripted or traced MaxPool2d, which cannot be'):
        replace_pooling(mixed)
    assert type(mixed[0]) is nn.AvgPool2d
    without = nn.Sequential(nn.AvgPool2d(2), torch.jit.script(nn.ReLU()))
    assert [swap.names for swap in replace_pooling(without)] == [("0",)]


def test_lp_pooling_layers_print_their_whole_window() -> None:
    layer = LPPool2d(2, 3, 2, True, padding=1, dilation=2)
    assert layer.extra_repr() == "norm_type=2, kernel_size=3, stride=2, padding=1, dilation=2, ceil_mode=True"
