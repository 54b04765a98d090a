"""Residual and conv-pool-add blocks against their formulas."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from switchgrad.errors import GeometryError, ModelError
from switchgrad.nn import ConvPoolAdd, Residual


def test_g27_weights_and_biases_of_zero_leave_the_activation_as_it_was():
    body = nn.Linear(4, 4)
    nn.init.zeros_(body.weight)
    nn.init.zeros_(body.bias)
    a = torch.relu(torch.randn(5, 4))
    assert torch.equal(Residual(body)(a), a)


def test_values_shortcut_and_activation():
    torch.manual_seed(0)
    body, shortcut = nn.Linear(4, 3), nn.Linear(4, 3)
    x = torch.randn(2, 4)
    z = body(x) + shortcut(x)
    assert torch.equal(Residual(body, shortcut)(x), z.clamp_min(0))
    assert torch.equal(Residual(body, shortcut, None)(x), z)
    assert torch.equal(Residual(body, shortcut, nn.Tanh())(x), z.tanh())
    assert set(Residual(body, shortcut, nn.PReLU()).state_dict()) == {
        *("body.weight", "body.bias", "shortcut.weight", "shortcut.bias", "activation.weight")
    }


def test_the_gradient_goes_both_ways():
    body = nn.Linear(3, 3, dtype=torch.float64)
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Residual(body), (x,))
    g = torch.randn(2, 3, dtype=torch.float64)
    (grad,) = torch.autograd.grad(Residual(body, activation=None)(x), x, g)
    torch.testing.assert_close(grad, g + g @ body.weight)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(GeometryError, match=r"body gives \(2, 1\) and the shortcut \(2, 3\)"):
        Residual(nn.Linear(3, 1))(torch.zeros(2, 3))


@pytest.mark.parametrize(("channels", "stride", "size"), [(64, 1, (5, 7)), (3, 1, (6, 6)), (64, 2, (7, 8))])
def test_conv_pool_add(channels, stride, size):
    torch.manual_seed(0)
    block = ConvPoolAdd(channels, stride=stride, dtype=torch.float64)
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    pooled = functional.max_pool2d(x, 3, stride, 1)
    hidden = functional.conv2d(pooled, block.conv1.weight, block.conv1.bias, padding=1).relu()
    branch = functional.conv2d(hidden, block.conv2.weight, block.conv2.bias, padding=1)
    carried = x
    if isinstance(block.shortcut, nn.Conv2d):
        carried = functional.conv2d(x, block.shortcut.weight, block.shortcut.bias, stride)
    assert (channels == 64 and stride == 1) == isinstance(block.shortcut, nn.Identity)
    torch.testing.assert_close(block(x), branch + carried)


def test_conv_pool_add_by_finite_differences():
    block = ConvPoolAdd(2, 3, dtype=torch.float64)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,))


def test_no_kernels_are_refused():
    with pytest.raises(ModelError, match="kernels 0"):
        ConvPoolAdd(3, 0)
