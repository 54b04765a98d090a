"""An optimized model is the same model: its parameters, names, hooks, copies and files."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn

import switchgrad
from fusion.small_models import MODELS, Functional, Residual, make
from switchgrad.errors import FusionWarning, ModelError
from switchgrad.fusion import report
from switchgrad.fusion.executing import KEY


def programs(model):
    return vars(model)[KEY]


def fused_operators(model):
    """What the program that fits now really runs, from its source text."""
    chosen = programs(model).choose(model)
    return [] if chosen is None else [block.runs for block in chosen.blocks]


@pytest.mark.parametrize("name", MODELS)
def test_names_tensors_and_classes_stay(name):
    model, _ = make(name)
    before = {n: dict(vars(m)) for n, m in model.named_modules()}
    optimized = switchgrad.optimize(model)
    assert list(optimized.state_dict()) == list(model.state_dict())
    for (n, ours), (m, theirs) in zip(optimized.named_parameters(), model.named_parameters(), strict=True):
        assert n == m
        assert ours is theirs
    for ours, theirs in zip(optimized.buffers(), model.buffers(), strict=True):
        assert ours is theirs
    assert isinstance(optimized, type(model))
    assert str(optimized) == str(model)
    for n, module in model.named_modules():  # the original is untouched
        assert dict(vars(module)) == before[n]
        assert not isinstance(module, switchgrad.fusion.modules.Optimized)
    optimized.load_state_dict(model.state_dict())
    model.load_state_dict(optimized.state_dict())


def test_modes_are_their_own_and_tensors_are_shared():
    model, _ = make("residual")
    optimized = switchgrad.optimize(model)
    optimized.eval()
    assert model.training
    assert all(m.training for m in model.modules())
    assert not any(m.training for m in optimized.modules())
    optimized.double()
    assert {t.dtype for t in model.buffers() if t.is_floating_point()} == {torch.float64}
    model.register_buffer("late", torch.zeros(1))
    assert "late" in optimized.state_dict()


@pytest.mark.parametrize("name", ["functional", "residual", "control flow", "shared", "nested"])
@pytest.mark.parametrize("how", ["deepcopy", "pickle", "save"])
def test_copies_run_fused_and_alone(name, how):
    model, x = make(name)
    optimized = switchgrad.optimize(model).eval()
    if how == "deepcopy":
        other = copy.deepcopy(optimized)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(optimized))
    else:
        file = io.BytesIO()
        torch.save(optimized, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    torch.testing.assert_close(other(x), optimized(x), rtol=0, atol=0)
    assert [KEY in vars(m) for m in other.modules()] == [KEY in vars(m) for m in optimized.modules()]
    if KEY in vars(optimized):
        assert fused_operators(other) == fused_operators(optimized) != []
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert any(p.abs().sum() > 0 for p in optimized.parameters())


def test_optimizing_twice_is_optimizing_once():
    model, x = make("residual")
    once = switchgrad.optimize(model)
    twice = switchgrad.optimize(once)
    assert type(twice).__mro__.count(switchgrad.fusion.modules.Optimized) == 1
    assert twice.fc.weight is model.fc.weight
    assert fused_operators(twice) == fused_operators(once)
    torch.testing.assert_close(twice.eval()(x), once.eval()(x), rtol=0, atol=0)


def test_folded_weights_follow_the_parameters():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    optimized = switchgrad.optimize(model)
    x = torch.randn(2, 1, 5, 5)

    def same():
        with torch.no_grad():
            torch.testing.assert_close(optimized(x), model(x))

    same()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for tensor in (model[0].weight, model[0].bias, model[1].weight, model[1].bias, model[1].running_mean):
        with torch.no_grad():
            tensor.add_(0.5)
        same()
    model[1].running_var.mul_(2)
    same()
    model[0].weight = nn.Parameter(torch.randn(2, 1, 3, 3))
    same()
    optimized.load_state_dict(before)
    same()
    with torch.inference_mode():
        torch.testing.assert_close(optimized(x), model(x))
    model[0].weight.data.mul_(3)
    optimized.eval()
    same()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items() if name != "0.weight")


def test_folded_weights_are_kept_while_nothing_changes():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    optimized = switchgrad.optimize(model).eval()
    (fold,) = programs(optimized).choose(optimized).program.folds
    with torch.no_grad():
        arguments = model[0].weight, model[0].bias, model[1]
        assert fold(*arguments)[0] is fold(*arguments)[0]


def test_a_changed_setting_counts():
    torch.manual_seed(1)
    model, x = nn.Sequential(nn.LeakyReLU(0.1), nn.MaxPool2d(2)), torch.randn(1, 1, 6, 6)
    optimized = switchgrad.optimize(model)
    for layers in (model, optimized):
        layers[0].negative_slope, layers[1].kernel_size = 0.5, 3
    assert torch.equal(optimized(x), model(x))
    assert optimized(x).shape[-1] == 2


def hooked(model, name, calls):
    module = model.get_submodule(name)
    forward = module.register_forward_hook(lambda m, args, out: calls.append(("forward", name, tuple(out.shape))))
    backward = module.register_full_backward_hook(lambda m, gi, go: calls.append(("backward", name)))
    return forward, backward


@pytest.mark.parametrize("name", ["stem.0", "stem.1", "pool", "stem", "layers.1", "avgpool"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_hooks_run(name, when):
    model, x = make("residual")
    model.eval()
    wanted = model(x)
    calls: list = []
    if when == "before":
        handles = hooked(model, name, calls)
        optimized = switchgrad.optimize(model)
        assert any("hooks" in row.reason for row in report(model).left)
    else:
        optimized = switchgrad.optimize(model)
        handles = hooked(optimized, name, calls)
    x = x.requires_grad_()
    got = optimized(x)
    got.sum().backward()
    assert [call[0] for call in calls] == ["forward", "backward"]
    torch.testing.assert_close(got, wanted)
    fused = fused_operators(optimized)
    for handle in handles:
        handle.remove()
    optimized(x)
    assert len(calls) == 2
    if when == "after":
        assert len(fused_operators(optimized)) >= len(fused)
        assert "ops.conv_relu_max_pool2d, batch norm folded in" in fused_operators(optimized)


def test_global_hooks_see_every_module():
    model, x = make("residual")
    optimized, seen = switchgrad.optimize(model), []
    handle = nn.modules.module.register_module_forward_hook(lambda m, args, out: seen.append(m))
    try:
        optimized(x)
    finally:
        handle.remove()
    assert set(seen) == set(optimized.modules())


def test_a_replaced_layer_runs_and_is_told():
    model, x = make("residual")
    optimized = switchgrad.optimize(model).eval()
    optimized.fc = nn.Linear(8, 5)
    with pytest.warns(FusionWarning, match="replaced"):
        assert optimized(x).shape == (2, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimized(x)  # told once
        again = switchgrad.optimize(optimized)
        assert again(x).shape == (2, 5)


def test_a_changed_attribute_is_seen():
    class Doubling(nn.Sequential):
        double = False

        def forward(self, x):
            return super().forward(x) * (2 if self.double else 1)

    optimized, x = switchgrad.optimize(Doubling(nn.ReLU(), nn.MaxPool2d(2))), torch.rand(1, 1, 4, 4)
    once = optimized(x)
    optimized.double = True
    with pytest.warns(FusionWarning):
        assert torch.equal(optimized(x), once * 2)


def test_frozen_normalisation_in_a_training_model():
    model, x = make("residual")
    optimized = switchgrad.optimize(model).train()
    for net in (model, optimized):
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    torch.testing.assert_close(optimized(x), model(x))
    assert "conv2d, batch norm folded in" in fused_operators(optimized)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())


def test_partly_in_evaluation():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = Functional(), nn.Dropout(0.5)

        def forward(self, x):
            return self.two(self.one(x))

    torch.manual_seed(0)
    model, x = Whole(), torch.randn(2, 2, 8, 8)
    optimized = switchgrad.optimize(model)
    optimized.one.eval()
    with pytest.warns(FusionWarning, match="mode"):
        optimized(x)
    assert fused_operators(optimized.one)


def test_other_arguments_run_as_written():
    model, x = make("pool first")
    optimized = switchgrad.optimize(model)
    torch.testing.assert_close(optimized(x=x), model(x))
    with pytest.warns(FusionWarning, match="just the tensors x"):
        assert torch.equal(optimized(x, scale=3.0), model(x, 3.0))


def test_what_cannot_be_optimized_is_refused():
    class Locked(nn.Module):
        def __init__(self):
            super().__init__()
            import threading

            self.lock = threading.Lock()

    with pytest.raises(ModelError, match=r"takes a torch\.nn\.Module, and this is a function"):
        switchgrad.optimize(lambda x: x)
    with pytest.raises(ModelError, match="cannot be copied"):
        switchgrad.optimize(Locked())
    with pytest.raises(ModelError, match="wrapped in a DataParallel"):
        switchgrad.optimize(nn.DataParallel(nn.ReLU()))
    with pytest.raises(ModelError, match="wrapped in a OptimizedModule"):
        switchgrad.optimize(torch.compile(nn.ReLU()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lazy = nn.LazyLinear(3)
    with pytest.raises(ModelError, match="has no size yet"):
        switchgrad.optimize(lazy)


def test_references_between_modules_lead_to_the_copy():
    class Referring(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.conv = nn.MaxPool2d(2), nn.Conv2d(1, 1, 3)
            self.plain_list = [self.conv, self.pool]
            self.method = self.pool.forward

        def forward(self, x):
            for layer in self.plain_list:
                x = layer(x)
            return x

    optimized = switchgrad.optimize(Referring())
    assert optimized.plain_list[0] is optimized.conv
    assert optimized.method.__self__ is optimized.pool
    assert fused_operators(optimized) == ["ops.conv_max_pool2d"]


def test_slices_of_a_sequential():
    model, x = nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU(), nn.MaxPool2d(2)), torch.randn(1, 2, 6, 6)
    optimized = switchgrad.optimize(model)
    assert torch.equal(optimized[:2](x), model[:2](x))


def test_residual_network_is_really_fused():
    optimized = switchgrad.optimize(Residual()).eval()
    source = programs(optimized).choose(optimized).program.source
    assert source.count("_conv_pool(") == 1
    assert source.count("_folded = ") == 6
    assert ".bn1(" not in source
