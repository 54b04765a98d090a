"""The optimized model gives what the original gives: values, gradients and buffers, in training and in evaluation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import switchgrad
from fusion.small_models import MODELS, make
from harness.compare import require_near
from switchgrad import models


def leaves(output):
    """The tensors of an output that are differentiable, in order; numbers beside them."""
    found = torch.utils._pytree.tree_leaves(output)
    return [t for t in found if isinstance(t, torch.Tensor)], [t for t in found if not isinstance(t, torch.Tensor)]


def step(model, x, training):
    """Outputs, gradients (input first, then parameters by name) and buffers after one pass."""
    model.train(training)
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    torch.manual_seed(5)
    outputs, rest = leaves(model(x))
    generator = torch.Generator().manual_seed(7)
    model.zero_grad()
    sum(
        (t * torch.rand(t.shape, generator=generator, dtype=torch.float64).to(t.dtype)).sum() for t in outputs
    ).backward()
    gradients = {"input": x.grad, **{name: p.grad for name, p in model.named_parameters() if p.grad is not None}}
    return outputs, rest, {n: g.clone() for n, g in gradients.items()}, {n: b.clone() for n, b in model.named_buffers()}


def without_dropout(model):
    """Masks come from another stream than PyTorch's; what they do is looked at in a test of its own."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "rate"):
            module.rate = 0.0
    return model


def agree(model, x):
    model = without_dropout(model)
    optimized = switchgrad.optimize(copy.deepcopy(model))
    exact = copy.deepcopy(model).double()
    for training in (True, False, True):
        truth = step(exact, x.double(), training)
        theirs = step(model, x, training)
        ours = step(optimized, x, training)
        assert ours[1] == theirs[1]
        assert len(ours[0]) == len(theirs[0])
        for got, peer, true in zip(ours[0], theirs[0], truth[0], strict=True):
            assert got.stride() == peer.stride() or got.dim() != 4
            require_near(got, peer, true, 2, "output")
        for part, factor in ((2, 3), (3, 2)):
            assert ours[part].keys() == theirs[part].keys()
            for name, got in ours[part].items():
                if got.is_floating_point():
                    require_near(got, theirs[part][name], truth[part][name], factor, name)
                else:
                    assert torch.equal(got, theirs[part][name])


@pytest.mark.parametrize("name", MODELS)
def test_small_model(name):
    agree(*make(name))


@pytest.mark.parametrize("name", ["functional", "residual", "branches", "pictures", "pool first"])
def test_channels_last(name):
    model, x = make(name)
    agree(model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize("name", models.names())
def test_zoo(name):
    torch.manual_seed(3)
    card = models.card(name)
    agree(models.create(name), torch.rand(2, *card.input_shape))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype):
    model, x = make("residual")
    optimized = switchgrad.optimize(copy.deepcopy(model)).to(dtype).eval()
    peer = copy.deepcopy(model).to(dtype).eval()
    truth = copy.deepcopy(model).to(dtype).double().eval()(x.to(dtype).double())
    require_near(optimized(x.to(dtype)), peer(x.to(dtype)), truth, 2, str(dtype))


def test_an_empty_batch():
    model, x = make("residual")
    model.eval()
    assert switchgrad.optimize(model)(x[:0]).shape == model(x[:0]).shape


def test_the_original_speaks_where_the_input_does_not_fit():
    network = switchgrad.optimize(models.create("lenet5"))
    with pytest.raises(switchgrad.errors.ModelError, match=r"built for \[N, 1, 28, 28\]"):
        network(torch.zeros(2, 1, 20, 20))


def test_autocast():
    model, x = make("residual")
    exact, optimized = copy.deepcopy(model).double(), switchgrad.optimize(copy.deepcopy(model))
    for training in (True, False):
        for net in (model, optimized, exact):
            net.train(training)
        with torch.autocast("cpu", torch.bfloat16):
            theirs, ours = model(x), optimized(x)
        assert ours.dtype == theirs.dtype
        require_near(ours, theirs, exact(x.double()), 2, "autocast")


def test_gradient_through_folded_weights():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)).eval()
    optimized = switchgrad.optimize(model)
    x = torch.randn(2, 1, 6, 6)
    optimized(x).square().sum().backward()
    ours = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("relu", [False, True])
def test_dropout_drops_its_share_and_repeats(relu):
    layers = [nn.ReLU()] * relu + [nn.Dropout(0.3)]
    optimized, x = switchgrad.optimize(nn.Sequential(*layers)), torch.ones(100, 200, requires_grad=True)
    torch.manual_seed(4)
    y = optimized(x)
    y.sum().backward()
    assert abs((y == 0).double().mean().item() - 0.3) < 0.02
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / 0.7))
    assert torch.equal(x.grad, y)
    torch.manual_seed(4)
    assert torch.equal(optimized(x), y)
    assert not torch.equal(optimized(x), y)
    assert torch.equal(optimized.eval()(x), x)
