"""Convolution by a connection table against an ordinary convolution with zeros where nothing is connected."""

import pytest
import torch
from torch.nn import functional

from switchgrad.errors import GeometryError, ModelError
from switchgrad.nn.mapped_conv import MappedConv2d

TABLE = [[0, 2], [1], [2, 0, 1], [2]]  # the third list is out of order on purpose


def dense_by_hand(layer):
    """The ordinary weight, filled pair by pair in the order that the docstring promises."""
    dense = torch.zeros(4, 3, *layer.weight.shape[1:], dtype=layer.weight.dtype)
    pairs = [(k, c) for k, inputs in enumerate(TABLE) for c in inputs]
    for place, (k, c) in enumerate(pairs):
        dense[k, c] = layer.weight.detach()[place]
    return dense


@pytest.fixture
def layer():
    torch.manual_seed(2)
    return MappedConv2d(3, 4, TABLE, (3, 2), stride=(1, 2), padding=1, dilation=(2, 1), dtype=torch.float64)


def test_values_and_gradients_are_those_of_the_masked_convolution(layer):
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64, requires_grad=True)
    dense = dense_by_hand(layer).requires_grad_()
    other = x.detach().clone().requires_grad_()
    expected = functional.conv2d(other, dense, layer.bias.detach(), (1, 2), 1, (2, 1))
    result = layer(x)
    torch.testing.assert_close(result, expected)
    gradient = torch.randn_like(result)
    result.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(x.grad, other.grad)
    pairs = [(k, c) for k, inputs in enumerate(TABLE) for c in inputs]
    torch.testing.assert_close(layer.weight.grad, torch.stack([dense.grad[k, c] for k, c in pairs]))
    torch.testing.assert_close(layer.bias.grad, gradient.sum((0, 2, 3)))


def test_an_output_map_ignores_the_maps_that_it_is_not_connected_to(layer):
    x = torch.randn(1, 3, 9, 8, dtype=torch.float64)
    before = layer(x)
    x[:, 1] += 100
    changed = (layer(x) != before).flatten(2).any(-1)[0]
    assert changed.tolist() == [False, True, True, False]


def test_only_real_weights_are_stored(layer):
    assert {name: tuple(value.shape) for name, value in layer.state_dict().items()} == {
        "weight": (7, 3, 2),
        "bias": (4,),
    }
    other = MappedConv2d(3, 4, TABLE, (3, 2), stride=(1, 2), padding=1, dilation=(2, 1), dtype=torch.float64)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(1, 3, 9, 8, dtype=torch.float64)
    assert torch.equal(other(x), layer(x))


def test_new_weights_fill_the_bounds_of_their_own_fan_in():
    torch.manual_seed(3)
    layer = MappedConv2d(64, 2, [list(range(64)), [0]], 5)
    assert layer.fan_in == (1600, 25)
    wide, narrow = layer.weight[:64].abs().max(), layer.weight[64].abs().max()
    assert 0.95 / 40 < wide <= 1 / 40
    assert 0.7 / 5 < narrow <= 1 / 5
    layer.uniform_by_fan_in([0.0, 1.0])
    assert layer.weight[:64].count_nonzero() == 0
    assert layer.bias[0] == 0
    assert layer.weight[64].abs().max() > 0.7


def test_without_bias_and_unbatched():
    layer = MappedConv2d(3, 4, TABLE, 3, bias=False, dtype=torch.float64)
    x = torch.randn(3, 5, 5, dtype=torch.float64)
    assert layer.bias is None
    torch.testing.assert_close(layer(x), functional.conv2d(x, dense_by_hand(layer)))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([[0], [1]], "lists 2 output maps"),
        ([[0], [1], [2], []], r"output map 3 is connected to \[\]"),
        ([[0], [1], [2], [3]], r"output map 3 is connected to \[3\].*from 0 to 2"),
        ([[0, 0], [1], [2], [1]], "each once"),
        ([[-1], [1], [2], [1]], "output map 0"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table, words):
    with pytest.raises(ModelError, match=words):
        MappedConv2d(3, 4, table, 3)


def test_padding_must_be_alike_on_both_sides():
    with pytest.raises(ModelError, match="both sides"):
        MappedConv2d(3, 4, TABLE, 3, padding=((0, 1), (1, 1)))
    with pytest.raises(ModelError, match='padding is "same"'):
        MappedConv2d(3, 4, TABLE, 3, padding="same")


@pytest.mark.parametrize(
    ("shape", "words"), [((1, 4, 9, 9), r"wants \[N, 3, H, W\]"), ((3, 9), "wants"), ((1, 3, 2, 9), "spans 3 cells")]
)
def test_input_that_does_not_fit_is_refused(shape, words):
    with pytest.raises(GeometryError, match=words):
        MappedConv2d(3, 4, TABLE, 3)(torch.zeros(shape))
