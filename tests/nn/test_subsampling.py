"""Trainable subsampling against loops, and its gradients against the definition."""

import pytest
import torch
from torch import nn

from switchgrad.errors import GeometryError, ModelError
from switchgrad.nn.subsampling import TrainableSubsampling1d, TrainableSubsampling2d, TrainableSubsampling3d


def by_loops(x, coefficient, bias, kernel, stride):
    n, c, h, w = x.shape
    rows, columns = (h - kernel[0]) // stride[0] + 1, (w - kernel[1]) // stride[1] + 1
    out = torch.empty(n, c, rows, columns, dtype=x.dtype)
    for p in range(rows):
        for q in range(columns):
            top, left = p * stride[0], q * stride[1]
            window = x[:, :, top : top + kernel[0], left : left + kernel[1]]
            out[:, :, p, q] = coefficient * window.sum((2, 3)) + bias
    return out


def layer_with_random_weights(*arguments, **options):
    layer = TrainableSubsampling2d(*arguments, **options, dtype=torch.float64)
    torch.manual_seed(1)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


@pytest.mark.parametrize(
    ("kernel", "stride", "size"),
    [(2, None, (6, 8)), (2, None, (7, 5)), (3, 2, (9, 8)), ((1, 3), (2, 1), (5, 5))],
)
def test_values_are_coefficient_times_sum_plus_bias(kernel, stride, size):
    layer = layer_with_random_weights(3, kernel, stride)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    pair = (kernel, kernel) if isinstance(kernel, int) else kernel
    step = pair if stride is None else (stride, stride) if isinstance(stride, int) else stride
    expected = by_loops(x, layer.coefficient, layer.bias, pair, step)
    torch.testing.assert_close(layer(x), expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(layer(x[0]), expected[0], rtol=1e-13, atol=1e-13)


def test_gradients_are_those_of_the_definition():
    layer = layer_with_random_weights(2)
    x = torch.randn(2, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(2, 2, 2, 3, dtype=torch.float64)
    layer(x).backward(gradient)
    sums = x.detach().unfold(2, 2, 2).unfold(3, 2, 2).sum((-1, -2))
    torch.testing.assert_close(layer.coefficient.grad, (sums * gradient).sum((0, 2, 3)))
    torch.testing.assert_close(layer.bias.grad, gradient.sum((0, 2, 3)))
    spread = (gradient * layer.coefficient.detach()[:, None, None]).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(x.grad, spread)
    assert torch.autograd.gradgradcheck(lambda x: layer(x), (x.detach()[:1].requires_grad_(),))


def test_a_new_layer_is_average_pooling():
    x = torch.randn(1, 4, 9, 9, dtype=torch.float64)
    layer = TrainableSubsampling2d(4, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x), torch.nn.functional.avg_pool2d(x, 3))


def test_state_dict_holds_one_coefficient_and_one_bias_a_map():
    state = layer_with_random_weights(6).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {"coefficient": (6,), "bias": (6,)}
    fresh = TrainableSubsampling2d(6, dtype=torch.float64)
    fresh.load_state_dict(state)
    x = torch.randn(1, 6, 4, 4, dtype=torch.float64)
    assert torch.equal(fresh(x), layer_with_random_weights(6)(x))


@pytest.mark.parametrize(
    ("shape", "words"),
    [((1, 5, 4, 4), "6 maps"), ((6, 4), "6 maps"), ((1, 6, 1, 4), "spans 2 cells")],
)
def test_input_that_does_not_fit_is_refused(shape, words):
    with pytest.raises(GeometryError, match=words):
        TrainableSubsampling2d(6)(torch.zeros(shape))


def test_no_maps_are_refused():
    with pytest.raises(ModelError, match="channels is 0; give an integer of at least 1"):
        TrainableSubsampling2d(0)


@pytest.mark.parametrize(
    ("kind", "shape"), [(TrainableSubsampling1d, (2, 3, 7)), (TrainableSubsampling3d, (2, 3, 4, 5, 6))]
)
def test_signals_and_volumes(kind: type[nn.Module], shape: tuple[int, ...]) -> None:
    """As the plane does it, one axis after the other: sums of single cells along axes that are not there."""
    layer = kind(3, 2, dtype=torch.float64)
    with torch.no_grad():
        layer.coefficient.copy_(torch.tensor([0.5, -2.0, 3.0]))
        layer.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    cells = x
    for axis in range(2, len(shape)):
        cells = cells.unfold(axis, 2, 2)
    sums = cells.flatten(len(shape)).sum(-1)
    each = (3, *[1] * (len(shape) - 2))
    torch.testing.assert_close(layer(x), sums * layer.coefficient.reshape(each) + layer.bias.reshape(each))
    torch.testing.assert_close(layer(x[0]), layer(x)[0])
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()))
    with pytest.raises(GeometryError, match="subsampling of 3 maps wants"):
        layer(x[:, :2])
