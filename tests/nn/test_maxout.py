"""Maxout: values, the winner's gradient, ties, and every axis."""

import pytest
import torch

from switchgrad.errors import GeometryError, ModelError
from switchgrad.nn import ChannelMaxout, Maxout


def test_dense_is_the_largest_of_its_linear_pieces():
    torch.manual_seed(0)
    layer = Maxout(5, 4, pieces=3, dtype=torch.float64)
    x = torch.randn(2, 6, 5, dtype=torch.float64)
    z = x @ layer.linear.weight.T + layer.linear.bias
    wanted = torch.stack([z[..., 3 * j : 3 * j + 3].amax(-1) for j in range(4)], -1)
    torch.testing.assert_close(layer(x), wanted, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(layer(x[0, 0]), wanted[0, 0], rtol=1e-14, atol=1e-14)


def test_gradients_by_finite_differences():
    torch.manual_seed(0)
    layer = Maxout(3, 2, pieces=2, dtype=torch.float64)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def call(x, weight, bias):
        return torch.func.functional_call(layer, {"linear.weight": weight, "linear.bias": bias}, (x,))

    inputs = (x, *layer.parameters())
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


def test_a_tie_pays_the_first_piece_alone():
    x = torch.tensor([[2.0, 2.0, 1.0, 5.0]], requires_grad=True)
    ChannelMaxout(2)(x).sum().backward()
    assert x.grad.tolist() == [[1.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 6), 1), ((2, 6, 5), 1), ((2, 6, 4, 3), 1), ((6, 4, 3), 0), ((2, 4, 6), -1)]
)
def test_channels_along_any_axis(shape, axis):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    layer = ChannelMaxout(3, axis)
    wanted = x.unflatten(axis, (2, 3)).amax(axis + 1 if axis >= 0 else axis)
    assert torch.equal(layer(x), wanted)
    gradient = torch.randn_like(wanted)
    assert torch.equal(*(torch.autograd.grad(y, x, gradient)[0] for y in (layer(x), wanted)))


def test_channels_last_stays():
    x = torch.randn(2, 4, 5, 5).to(memory_format=torch.channels_last)
    assert ChannelMaxout(2)(x).is_contiguous(memory_format=torch.channels_last)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ModelError, match="at least 1"):
        Maxout(3, 0)
    with pytest.raises(ModelError, match="at least 1"):
        ChannelMaxout(0)
    with pytest.raises(GeometryError, match=r"wants \[..., 3\]"):
        Maxout(3, 2)(torch.zeros(2, 4))
    with pytest.raises(GeometryError, match="multiple of 2 channels"):
        ChannelMaxout(2)(torch.zeros(1, 3, 4, 4))
    with pytest.raises(GeometryError, match="axis 1"):
        ChannelMaxout(2)(torch.zeros(4))
