"""Sizes and settings that do not fit are told in a sentence; masks are drawn as they should be."""

from __future__ import annotations

import pytest
import torch

from switchgrad import reference as ref
from switchgrad.errors import GeometryError


def zeros(*shape):
    return torch.zeros(shape)


def conv(x, w, b, kind=ref.Convolution, **settings):
    return lambda: kind(**settings).forward(zeros(*x), zeros(*w), zeros(*b))


WRONG = {
    "depth": (conv((1, 3, 5, 5), (2, 1, 3, 3), (2,)), r"filters of shape \(2, 1, 3, 3\) in 1 groups do not fit"),
    "axes": (conv((3, 5, 5), (2, 3, 3, 3), (2,)), r"do not fit an input of shape \(3, 5, 5\)"),
    "groups": (conv((1, 3, 5), (2, 1, 3), (2,), ref.ConvolutionIm2col, groups=2), "G must divide K and C"),
    "no groups": (conv((1, 3, 5), (2, 3, 3), (2,), groups=0), "in 0 groups do not fit"),
    "bias": (conv((1, 1, 5), (2, 1, 3), (1,)), r"the bias has shape \(1,\); wanted \(2,\)"),
    "window": (conv((1, 1, 2), (2, 1, 3), (2,)), "the window spans 3 cells along spatial axis 0, but the input has 2"),
    "transposed": (
        conv((1, 2, 5), (3, 1, 3), (1,), ref.TransposedConvolution),
        r"a transposed convolution's w has shape \(3, 1, 3\); wanted \(2, any, any\)",
    ),
    "transposed groups": (
        conv((1, 3, 5), (3, 1, 3), (2,), ref.TransposedConvolution, groups=2),
        "3 channels in 2 groups; the number of groups must divide the number of channels",
    ),
    "output padding": (
        conv((1, 1, 5), (1, 1, 3), (1,), ref.TransposedConvolution, stride=2, output_padding=2),
        "output_padding is 2; give at least 0 and less than the stride or the dilation",
    ),
    "1x1": (conv((1, 2, 5), (3, 4), (3,), ref.PointwiseConvolution), r"wanted \(3, 2\)"),
    "depthwise": (
        conv((1, 2, 5), (3, 1, 2), (3,), ref.DepthwiseConvolution),
        "3 filters for 2 channels; a depthwise convolution has as many for each channel",
    ),
    "locally connected": (
        conv((1, 1, 5), (4, 2, 1, 3), (2, 3), ref.LocallyConnected),
        r"a locally connected layer's w has shape \(4, 2, 1, 3\); wanted \(3, 2, 1, 3\)",
    ),
    "linear": (conv((2, 3), (4, 5), (4,), ref.Linear), r"wanted \(any, 5\)"),
    "maxout": (conv((2, 3), (2, 4, 5), (2, 4), ref.Maxout), r"wanted \(any, 5\)"),
    "slopes": (lambda: ref.PReLU().forward(zeros(2, 3, 4), zeros(4)), r"alpha has shape \(4,\); wanted \(3,\)"),
    "gamma": (conv((4, 3), (2,), (3,), ref.BatchNorm), r"gamma has shape \(2,\); wanted \(3,\)"),
    "batch of one": (conv((1, 3), (3,), (3,), ref.BatchNorm), "has 1 value a channel; statistics need at least 2"),
    "classes": (
        lambda: ref.CrossEntropy().forward(zeros(2, 3), torch.tensor([0, 3])),
        "the classes run from 0 to 3, but there are 3 scores",
    ),
    "targets": (lambda: ref.SquaredError().forward(zeros(2, 3), zeros(3)), r"wanted \(2, 3\)"),
    "negatives": (conv((2, 3), (2, 3), (1, 3), ref.Triplet), r"the negative has shape \(1, 3\); wanted \(2, 3\)"),
    "norm": (lambda: ref.LpPool(0, 2), "p is 0; give a finite number above 0"),
    "divisor": (lambda: ref.AveragePool(2, divisor=0), "divisor is 0; give another number"),
    "p": (lambda: ref.Dropout(1.0), r"p is 1.0; the probability of leaving out is at least 0 and below 1"),
    "mask": (lambda: ref.Dropout().forward(zeros(2, 3), zeros(3)), r"the mask has shape \(3,\); wanted \(2, 3\)"),
    "even window": (lambda: ref.LocalContrastNorm(4), "kernel_size is 4; a window around a place is odd"),
    "shortcut": (lambda: ref.Add().forward(zeros(2), zeros(3)), r"the shortcut has shape \(2,\); wanted \(3,\)"),
    "concat": (lambda: ref.Concat().forward(zeros(2, 1, 4), zeros(2, 3, 5)), r"wanted \(2, any, 4\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_told(name):
    call, sentence = WRONG[name]
    with pytest.raises(GeometryError, match=sentence):
        call()


@pytest.mark.parametrize("layer", [ref.Dropout(0.3), ref.SpatialDropout(0.3)], ids=lambda layer: type(layer).__name__)
def test_drawn_masks_are_bernoulli_and_repeat(layer):
    x = torch.zeros(200, 50, 2, dtype=torch.float64)
    mask, again = (layer.draw(x, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(mask, again)
    assert mask.unique().tolist() == [0, 1]
    assert abs(mask.mean().item() - 0.7) < 0.02
    assert layer.forward(x, mask)[0].shape == x.shape


def test_drawn_masks_of_connections_differ_by_example():
    layer, W = ref.DropConnect(0.3), torch.zeros(40, 30, dtype=torch.float64)
    mask, of_biases = layer.draw(torch.zeros(5, 30), W, torch.Generator().manual_seed(4))
    assert (mask.shape, of_biases.shape) == ((5, 40, 30), (5, 40))
    assert abs(mask.mean().item() - 0.7) < 0.02
    assert not torch.equal(mask[0], mask[1])


def test_dropping_out_keeps_the_mean():
    """Dividing by 1 - p: over many masks, dropout changes nothing on average."""
    x, layer = torch.ones(20_000, 1, dtype=torch.float64), ref.Dropout(0.3)
    mask = layer.draw(x, torch.Generator().manual_seed(4))
    assert abs(layer.forward(x, mask)[0].mean().item() - 1) < 0.01
