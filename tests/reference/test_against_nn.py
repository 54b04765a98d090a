"""The package's own layers and operators mean what is written out: same values, same gradients."""

from __future__ import annotations

import pytest
import torch

from declarations.reference_layers import normal
from harness.written_out import close, seeded
from switchgrad import nn
from switchgrad import reference as ref


def held(layer, arguments, module, x):
    """Ours on ``arguments`` (x first) against ``module`` on ``x``: output and gradient of x."""
    watched = x.clone().requires_grad_()
    wanted = module(watched)
    y, kept = layer.forward(*arguments)
    close(y, wanted, "output", 1e-11)
    delta = torch.randn(y.shape, generator=seeded("delta"), dtype=y.dtype)
    wanted.backward(delta)
    gradients = layer.backward(delta, kept)
    close(gradients[0], watched.grad, "gradient of the input", 1e-11)
    return gradients


@pytest.mark.parametrize("size", [3, 5])
def test_local_contrast_norm(size):
    x = normal(seeded("lcn"), 2, 3, 7, 8)
    held(ref.LocalContrastNorm(size), [x], nn.LocalContrastNorm(size), x)


@pytest.mark.parametrize(("dims", "kind"), [(1, nn.LocallyConnected1d), (2, nn.LocallyConnected2d)])
def test_locally_connected(dims, kind):
    x = normal(seeded("local"), 2, 3, *(7, 6)[:dims])
    module = kind(3, 4, tuple(x.shape[2:]), 3, stride=2, padding=1).double()
    w, b = module.weight.detach(), module.bias.detach()
    _, dw, db = held(ref.LocallyConnected(stride=2, padding=1), [x, w, b], module, x)
    close(dw, module.weight.grad, "gradient of the weights")
    close(db, module.bias.grad, "gradient of the biases")


def test_maxout():
    x, module = normal(seeded("maxout"), 5, 4), nn.Maxout(4, 3, pieces=2).double()
    W = module.linear.weight.detach().unflatten(0, (3, 2)).transpose(0, 1)
    b = module.linear.bias.detach().unflatten(0, (3, 2)).T
    _, dW, db = held(ref.Maxout(), [x, W, b], module, x)
    close(dW.transpose(0, 1).flatten(0, 1), module.linear.weight.grad, "gradient of the weights")
    close(db.T.flatten(), module.linear.bias.grad, "gradient of the biases")


def test_drop_connect():
    x, module = normal(seeded("connect"), 5, 4), nn.DropConnect(4, 3, p=0.3).double()
    torch.manual_seed(3)
    M = (torch.nn.functional.dropout(torch.ones(5, 3, 4, dtype=x.dtype), 0.3) > 0).double()
    m = (torch.nn.functional.dropout(torch.ones(5, 3, dtype=x.dtype), 0.3) > 0).double()
    torch.manual_seed(3)  # the layer now draws the same masks
    arguments = [x, module.weight.detach(), module.bias.detach(), M, m]
    _, dW, db, *_ = held(ref.DropConnect(0.3), arguments, module, x)
    close(dW, module.weight.grad, "gradient of the weights")
    close(db, module.bias.grad, "gradient of the biases")


@pytest.mark.parametrize("settings", [(2,), (3, 2, 1)], ids=str)
def test_max_pool(settings):
    x = normal(seeded("pool"), 2, 3, 7, 8)
    held(ref.MaxPool(*settings), [x], nn.MaxPool2d(*settings), x)


@pytest.mark.parametrize("settings", [(2,), (3, 2, 1)], ids=str)
def test_average_pool(settings):
    x = normal(seeded("average"), 2, 3, 7, 8)
    held(ref.AveragePool(*settings), [x], nn.AvgPool2d(*settings), x)


@pytest.mark.parametrize("p", [1, 2, 0.5])
def test_lp_pool_also_where_nothing_is_to_pool(p):
    x = normal(seeded("norm"), 2, 3, 6, 8)
    x[:, :, :2, :4], x[0, 0, 5] = 0, 0
    held(ref.LpPool(p, 2), [x], nn.LPPool2d(p, 2), x)


def test_residual_add():
    """``a[l+2] = g(z[l+2] + a[l])`` with a linear layer on the longer way."""
    x, inner = normal(seeded("residual"), 5, 4), torch.nn.Linear(4, 4).double()
    watched = x.clone().requires_grad_()
    wanted = torch.relu(inner(watched) + watched)
    z, kept_linear = ref.Linear().forward(x, inner.weight.detach(), inner.bias.detach())
    total, _ = ref.Add().forward(x, z)
    y, kept_relu = ref.ReLU().forward(total)
    close(y, wanted, "output")
    wanted.backward(x.sin())
    past, through = ref.Add().backward(ref.ReLU().backward(x.sin(), kept_relu)[0], None)
    close(past + ref.Linear().backward(through, kept_linear)[0], watched.grad, "gradient of the input")
