"""Linear layers as convolutions and back: the same numbers, whatever the geometry."""

import pytest
import torch
from torch import nn

from switchgrad.errors import GeometryError, ModelError
from switchgrad.nn import conv_to_linear, linear_to_conv

F64 = {"dtype": torch.float64}


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (2, 2, 3, 2), (6, 1, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_as_a_convolution(shape, bias):
    linear = nn.Linear(torch.Size(shape).numel(), 4, bias=bias, **F64)
    conv = linear_to_conv(linear, shape)
    x = torch.randn(3, *shape, **F64)
    torch.testing.assert_close(conv(x).flatten(1), linear(x.flatten(1)))
    assert conv(x).shape == (3, 4, *(1,) * (len(shape) - 1))
    assert (conv.bias is None) != bias


def test_g9_a_larger_map_gives_a_map_of_answers():
    linear = nn.Linear(512 * 7 * 7, 10)
    conv = linear_to_conv(linear, (512, 7, 7))
    x = torch.randn(1, 512, 12, 12)
    with torch.no_grad():
        scores = conv(x)
        assert scores.shape == (1, 10, 6, 6)
        torch.testing.assert_close(scores[:, :, 2, 5], linear(x[:, :, 2:9, 5:12].flatten(1)), rtol=1e-4, atol=1e-4)


def test_copies_keep_what_the_layer_was():
    linear = nn.Linear(8, 2, dtype=torch.bfloat16).requires_grad_(False).eval()
    conv = linear_to_conv(linear, (2, 2, 2))
    assert conv.weight.dtype == torch.bfloat16
    assert not conv.weight.requires_grad
    assert not conv.bias.requires_grad
    assert not conv.training
    assert conv.weight.data_ptr() != linear.weight.data_ptr()


CONVOLUTIONS = [
    (nn.Conv2d(2, 3, 2, **F64), (3, 4)),
    (nn.Conv2d(2, 4, 3, stride=2, padding=1, dilation=1, groups=2, bias=False, **F64), (4, 5)),
    (nn.Conv2d(1, 2, 3, padding="same", padding_mode="reflect", **F64), (4, 3)),
    (nn.Conv1d(2, 3, 3, dilation=2, **F64), (7,)),
    (nn.Conv3d(1, 2, 2, **F64), (2, 3, 2)),
]


@pytest.mark.parametrize(("conv", "size"), CONVOLUTIONS)
def test_a_convolution_as_a_linear_layer(conv, size):
    linear = conv_to_linear(conv, size)
    x = torch.randn(3, conv.in_channels, *size, **F64)
    torch.testing.assert_close(linear(x.flatten(1)), conv(x).flatten(1))
    assert (linear.bias is None) == (conv.bias is None)


def test_there_and_back():
    linear = nn.Linear(12, 5, **F64)
    back = conv_to_linear(linear_to_conv(linear, (3, 2, 2)), (2, 2))
    assert torch.equal(back.weight, linear.weight)
    assert torch.equal(back.bias, linear.bias)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ModelError, match="has 12 inputs"):
        linear_to_conv(nn.Linear(12, 5), (3, 2, 3))
    with pytest.raises(ModelError, match="then 1 to 3 sizes"):
        linear_to_conv(nn.Linear(12, 5), (12,))
    with pytest.raises(ModelError, match="ConvTranspose2d is a transposed"):
        conv_to_linear(nn.ConvTranspose2d(1, 1, 2), (3, 3))
    with pytest.raises(GeometryError, match="give 2 sizes"):
        conv_to_linear(nn.Conv2d(1, 1, 2), (3,))
    with pytest.raises(GeometryError, match="spans 4 cells"):
        conv_to_linear(nn.Conv2d(1, 1, 4), (3, 3))
