"""Locally connected layers against loops over places, and against the convolution whose weights they unshare."""

import itertools

import pytest
import torch
from torch.nn import functional

from switchgrad.errors import GeometryError, ModelError
from switchgrad.nn import LocallyConnected1d, LocallyConnected2d


def by_loops(layer, x):
    """Each output cell as one sum over its window, in plain Python order."""
    win, share = layer.window, layer.in_channels // layer.groups
    padded = functional.pad(x, [cells for pair in reversed(win.padding) for cells in pair])
    out = x.new_zeros(len(x), layer.out_channels, *layer.output_size)
    for n, k in itertools.product(range(len(x)), range(layer.out_channels)):
        first = k // (layer.out_channels // layer.groups) * share
        for place in itertools.product(*map(range, layer.output_size)):
            total = layer.bias[(k, *place)] if layer.bias is not None else x.new_zeros(())
            for c in range(share):
                for cell in itertools.product(*map(range, win.kernel_size)):
                    at = [p * s + r * d for p, s, r, d in zip(place, win.stride, cell, win.dilation, strict=True)]
                    total = total + layer.weight[(*place, k, c, *cell)] * padded[(n, first + c, *at)]
            out[(n, k, *place)] = total
    return out


CASES = [
    (LocallyConnected2d, {"in_channels": 2, "out_channels": 3, "input_size": (4, 5), "kernel_size": (2, 3)}),
    (
        LocallyConnected2d,
        {"in_channels": 2, "out_channels": 2, "input_size": 5, "kernel_size": 3, "stride": 2, "padding": (1, 2)},
    ),
    (
        LocallyConnected2d,
        {"in_channels": 1, "out_channels": 2, "input_size": (5, 4), "kernel_size": 2, "padding": ((1, 0), (0, 1))},
    ),
    (
        LocallyConnected2d,
        {"in_channels": 4, "out_channels": 2, "input_size": 4, "kernel_size": 2, "dilation": 2, "groups": 2},
    ),
    (
        LocallyConnected2d,
        {"in_channels": 1, "out_channels": 1, "input_size": 4, "kernel_size": 3, "padding": "same", "bias": False},
    ),
    (
        LocallyConnected1d,
        {"in_channels": 2, "out_channels": 3, "input_size": 7, "kernel_size": 3, "stride": 2, "padding": 1},
    ),
    (
        LocallyConnected1d,
        {"in_channels": 2, "out_channels": 4, "input_size": 7, "kernel_size": 2, "dilation": 3, "groups": 2},
    ),
]


@pytest.mark.parametrize(("kind", "arguments"), CASES)
def test_values_and_gradients(kind, arguments):
    torch.manual_seed(0)
    layer = kind(**arguments, dtype=torch.float64)
    x = torch.randn(2, layer.in_channels, *layer.input_size, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(layer(x), by_loops(layer, x), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(layer(x[0]), layer(x)[0], rtol=1e-13, atol=1e-13)
    gradient = torch.randn_like(layer(x))
    leaves = [x, *layer.parameters()]
    ours = torch.autograd.grad(layer(x), leaves, gradient)
    wanted = torch.autograd.grad(by_loops(layer, x), leaves, gradient)
    torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-12)


def test_gradients_by_finite_differences():
    layer = LocallyConnected2d(1, 2, 3, 2, dtype=torch.float64)
    x = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    inputs = (x, *layer.parameters())
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equal_weights_everywhere_are_a_convolution(layout):
    conv = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1, dtype=torch.float64)
    layer = LocallyConnected2d(3, 4, (7, 6), 3, stride=2, padding=1, dtype=torch.float64)
    layer.weight.data.copy_(conv.weight.expand_as(layer.weight))
    layer.bias.data.copy_(conv.bias[:, None, None].expand_as(layer.bias))
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64).to(memory_format=layout)
    torch.testing.assert_close(layer(x), conv(x), rtol=1e-13, atol=1e-13)
    assert layer(x).is_contiguous(memory_format=layout)
    layer(x).sum().backward()
    conv(x).sum().backward()  # sharing adds the gradients of the places
    torch.testing.assert_close(layer.weight.grad.sum((0, 1)), conv.weight.grad)
    torch.testing.assert_close(layer.bias.grad.sum((1, 2)), conv.bias.grad)


def test_empty_batch_and_half_precision():
    layer = LocallyConnected2d(2, 3, 4, 2, dtype=torch.bfloat16)
    assert layer(torch.zeros(0, 2, 4, 4, dtype=torch.bfloat16)).shape == (0, 3, 3, 3)
    assert layer(torch.zeros(1, 2, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_what_does_not_fit_is_refused():
    with pytest.raises(GeometryError, match=r"weights for each place of \[N, 2, 4, 4\]"):
        LocallyConnected2d(2, 3, 4, 2)(torch.zeros(1, 2, 4, 5))
    with pytest.raises(GeometryError, match="spans 5 cells"):
        LocallyConnected2d(2, 3, 4, 5)
    with pytest.raises(GeometryError, match="give 2 integers"):
        LocallyConnected2d(2, 3, (4, 4, 4), 2)
    with pytest.raises(ModelError, match="groups 2"):
        LocallyConnected1d(3, 4, 8, 2, groups=2)


def test_repr_names_the_arguments():
    assert "2, 3, input_size=(4, 4), kernel_size=(2, 2)" in repr(LocallyConnected2d(2, 3, 4, 2))
