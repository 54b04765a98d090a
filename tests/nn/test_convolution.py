"""Convolution as a layer: PyTorch's in everything but the arithmetic."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn as peer

from switchgrad import nn
from switchgrad.errors import GeometryError


@pytest.mark.parametrize(
    "arguments",
    [
        {"padding": 1},
        {"padding": "same", "bias": False},
        {"stride": 2},
        {"groups": 4},
        {"dilation": 2},
        {"padding": 1, "padding_mode": "reflect"},
    ],
)
@pytest.mark.parametrize("relu", [False, True])
def test_layers_are_pytorchs(arguments: dict[str, object], relu: bool) -> None:
    torch.manual_seed(1)
    theirs = peer.Conv2d(16, 32, 3, **arguments)  # type: ignore[arg-type]
    torch.manual_seed(1)
    ours = (nn.ConvReLU2d if relu else nn.Conv2d)(16, 32, 3, **arguments)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(8, 16, 20, 20)
    wanted = theirs(x).relu() if relu else theirs(x)
    torch.testing.assert_close(ours(x), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("slope", [None, 0.0, 0.1], ids=["no relu", "relu", "leaky relu"])
def test_blocks_are_pytorchs_layers_in_a_row(padding_mode: str, slope: float | None) -> None:
    arguments = {"padding": "same", "padding_mode": padding_mode}
    pooling = {"pool_size": 3, "pool_stride": 2, "pool_padding": 1, "ceil_mode": True}
    conv = peer.Conv2d(3, 8, 3, **arguments)  # type: ignore[arg-type]
    ours = (
        nn.ConvMaxPool2d(3, 8, 3, **arguments, **pooling)
        if slope is None
        else nn.ConvReLUMaxPool2d(3, 8, 3, **arguments, **pooling, negative_slope=slope)
    )
    ours.load_state_dict(conv.state_dict())
    x = torch.randn(4, 3, 10, 11, requires_grad=True)
    active = conv(x) if slope is None else F.leaky_relu(conv(x), slope)
    wanted = F.max_pool2d(active, 3, 2, 1, ceil_mode=True)
    grad = torch.randn_like(wanted)
    results = [
        (y, *torch.autograd.grad(y, (x, *layer.parameters()), grad)) for y, layer in ((ours(x), ours), (wanted, conv))
    ]
    for got, right in zip(*results, strict=True):
        torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-5)


def test_blocks_give_switches_and_refuse_windows_that_never_fit() -> None:
    y, switches = nn.ConvReLUMaxPool2d(1, 2, 3, return_switches=True)(torch.randn(1, 1, 6, 6))
    assert switches.codes.shape == y.shape
    with pytest.raises(GeometryError, match="of the pooling, kernel_size is 0"):
        nn.ConvMaxPool2d(1, 2, 3, pool_size=0)


def test_the_algorithm_is_the_layers() -> None:
    torch.manual_seed(1)
    layer, x = nn.Conv2d(3, 4, 3, algorithm="winograd2"), torch.randn(1, 3, 9, 9)
    by_tiles = layer(x)
    layer.algorithm = "direct"
    assert torch.equal(layer(x), torch.conv2d(x, layer.weight, layer.bias))
    torch.testing.assert_close(by_tiles, layer(x), rtol=1e-4, atol=1e-5)
    assert "algorithm='direct'" in repr(layer)


def test_an_unknown_algorithm_is_refused_when_the_layer_is_made() -> None:
    with pytest.raises(GeometryError, match="give one of auto, direct, winograd2, winograd4"):
        nn.Conv2d(3, 4, 3, algorithm="fft")  # type: ignore[arg-type]
