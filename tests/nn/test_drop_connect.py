"""DropConnect: what its masks do, one example at a time, and that evaluation is their mean."""

import pytest
import torch

from switchgrad.errors import GeometryError, ModelError
from switchgrad.nn import DropConnect


def test_evaluation_is_the_linear_layer_and_the_mean_of_the_masks():
    torch.manual_seed(0)
    layer = DropConnect(6, 3, p=0.4, dtype=torch.float64)
    x = torch.randn(6, dtype=torch.float64)
    many = layer(x.expand(20000, 6))
    plain = layer.eval()(x)
    torch.testing.assert_close(plain, torch.nn.functional.linear(x, layer.weight, layer.bias))
    error = many.std(0) / len(many) ** 0.5
    assert ((many.mean(0) - plain).abs() < 5 * error).all()
    variance = 0.4 / 0.6 * ((layer.weight * x) ** 2).sum(1) + 0.4 / 0.6 * layer.bias**2
    torch.testing.assert_close(many.var(0), variance, rtol=0.06, atol=0)


@pytest.mark.parametrize("per_example", [True, False])
def test_a_weight_is_kept_and_scaled_or_dropped(per_example):
    torch.manual_seed(0)
    layer = DropConnect(4, 5, p=0.25, per_example=per_example, dtype=torch.float64)
    kept = layer(torch.eye(4, dtype=torch.float64).repeat(50, 1))  # each row shows one column of a masked weight
    bias = {0.0, *(layer.bias / 0.75).tolist()}
    near = torch.tensor(sorted(bias), dtype=torch.float64)
    columns = (layer.weight.T / 0.75).repeat(50, 1)
    without = (kept[..., None] - near).abs().amin(-1) < 1e-12
    with_weight = (kept[..., None] - columns[..., None] - near).abs().amin(-1) < 1e-12
    assert (without | with_weight).all()
    if per_example:
        assert 0.15 < without.double().mean() < 0.35
    else:
        assert torch.equal(kept[:4], kept[4:8])


def test_only_kept_weights_get_a_gradient():
    torch.manual_seed(0)
    layer = DropConnect(8, 8, p=0.5, bias=False, dtype=torch.float64)
    x = torch.rand(1, 8, dtype=torch.float64) + 0.5
    layer(x).sum().backward()
    kept = layer.weight.grad != 0
    torch.testing.assert_close(layer.weight.grad, torch.where(kept, (x / 0.5).expand(8, 8), 0.0))
    assert 8 < kept.sum() < 56


def test_masks_repeat_with_the_seed_and_differ_between_examples():
    layer = DropConnect(16, 16)
    x = torch.rand(1, 16).expand(2, 16)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(first, layer(x))
    assert not torch.equal(first[0], first[1])


def test_gradients_by_finite_differences():
    layer = DropConnect(3, 2, dtype=torch.float64)

    def call(x, weight, bias):
        torch.manual_seed(0)
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    x = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(call, (x, *layer.parameters()))


def test_the_state_is_a_linear_layers():
    layer = DropConnect(4, 2)
    layer.load_state_dict(torch.nn.Linear(4, 2).state_dict())
    assert "in_features=4, out_features=2, bias=True, p=0.5" in repr(layer)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_a_probability_out_of_range_is_refused(p):
    with pytest.raises(ModelError, match="from 0 to below 1"):
        DropConnect(4, 2, p)


def test_another_width_is_refused():
    with pytest.raises(GeometryError, match=r"wants \[..., 4\]"):
        DropConnect(4, 2)(torch.zeros(3, 5))
