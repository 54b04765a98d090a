"""meProp: which gradients stay, where, and that digits are learned from one in twenty of them."""

import pytest
import torch
from torch import nn

from switchgrad.backprop import MeProp, meprop, meprop_layers
from switchgrad.errors import ModelError


def kept(k, g, **options):
    x = torch.zeros_like(g, requires_grad=True)
    y = meprop(x, k, **options)
    assert torch.equal(y, x)
    return torch.autograd.grad(y, x, g)[0]


def test_by_element_the_largest_of_each_example_stay():
    torch.manual_seed(0)
    g = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    for k, stay in ((1, 1), (7, 7), (0.25, 12), (1.0, 48), (1000, 48)):
        dx = kept(k, g)
        assert (dx != 0).flatten(1).sum(1).tolist() == [stay] * 5
        for example, got in zip(g, dx, strict=True):
            bound = example.abs().flatten().sort(descending=True).values[stay - 1]
            assert torch.equal(got, torch.where(example.abs() >= bound, example, 0))


@pytest.mark.parametrize("axis", [1, -1])
def test_by_unit_whole_maps_stay(axis):
    torch.manual_seed(0)
    g = torch.randn(5, 6, 4, 6, dtype=torch.float64)
    others = [a for a in range(4) if a != axis % 4]
    sums = g.abs().sum(others)
    best = sums.topk(2).indices
    dx = kept(2, g, by="unit", axis=axis)
    keep = torch.zeros(6, dtype=torch.bool).index_fill(0, best, True)
    shape = [6 if a == axis % 4 else 1 for a in range(4)]
    assert torch.equal(dx, g * keep.view(shape))


def test_one_axis_and_no_examples():
    assert kept(1, torch.tensor([1.0, -3.0, 2.0])).tolist() == [0.0, -3.0, 0.0]
    assert kept(2, torch.zeros(0, 4)).shape == (0, 4)
    assert kept(2, torch.zeros(0, 4), by="unit").shape == (0, 4)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 5), (5,)])
def test_a_linear_layer_by_unit_multiplies_only_the_rows_that_stay(shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(5, 8, bias=bias, dtype=torch.float64)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    leaves = [x, *layer.parameters()]
    g = torch.randn(*shape[:-1], 8, dtype=torch.float64)
    ours = torch.autograd.grad(MeProp(layer, 3, by="unit")(x), leaves, g)
    wanted = torch.autograd.grad(meprop(layer(x), 3, by="unit", axis=-1), leaves, g)
    torch.testing.assert_close(ours, wanted)
    assert (ours[1].abs().sum(1) > 0).sum() == 3


def test_keeping_everything_is_the_plain_backward():
    layer = nn.Conv2d(2, 3, 3, dtype=torch.float64)
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    for by in ("element", "unit"):
        assert torch.autograd.gradcheck(MeProp(layer, 1.0, by), (x,), fast_mode=True)
        linear = MeProp(nn.Linear(5, 4, dtype=torch.float64), 1.0, by)
        assert torch.autograd.gradcheck(linear, (x,), fast_mode=True)


def test_a_convolution_by_unit_updates_whole_filters():
    torch.manual_seed(0)
    layer = MeProp(nn.Conv2d(2, 6, 3), 2, by="unit")
    for x in (torch.randn(4, 2, 5, 5), torch.randn(2, 5, 5)):
        layer.zero_grad()
        layer(x).square().sum().backward()
        assert (layer.layer.weight.grad.flatten(1).abs().sum(1) > 0).sum() == 2


def test_the_context_acts_on_layers_and_leaves_nothing_behind():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10))
    x = torch.randn(1, 1, 4, 4)
    plain = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    with meprop_layers(net, 1, skip=["4"]) as names:
        value = net(x).square().sum()
    sparse = torch.autograd.grad(value, list(net.parameters()))
    assert names == ["0", "2"]
    assert [(g.flatten(1).abs().sum(1) > 0).sum().item() for g in sparse[0:4:2]] == [1, 1]
    assert torch.equal(sparse[4], plain[4])
    after = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(plain, after, strict=True))
    with pytest.raises(ZeroDivisionError), meprop_layers(net, 1):
        1 / 0  # noqa: B018
    assert all(not module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("by", ["element", "unit"])
def test_a_twentieth_of_the_gradients_trains_digits_within_one_percent(by, digits):
    def accuracy(sparse):
        found = []
        for seed in range(3):
            torch.manual_seed(seed)
            hidden = nn.Linear(64, 256)
            layer = MeProp(hidden, 0.05, by) if sparse else hidden
            net = nn.Sequential(nn.Flatten(), layer, nn.ReLU(), nn.Linear(256, 10))
            rule = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
            found.append(digits.train(net, rule, 400, seed))
        return sum(found) / len(found)

    full = accuracy(sparse=False)
    assert full > 0.97
    assert accuracy(sparse=True) >= full - 0.01  # measured: 0.5 % less by element, 0.2 % by unit


@pytest.mark.parametrize("k", [0, -1, 0.0, 1.5, True, float("nan")])
def test_a_k_out_of_range_is_refused(k):
    with pytest.raises(ModelError, match="k is"):
        meprop(torch.zeros(2, 2), k)


def test_other_mistakes_are_refused():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with pytest.raises(ModelError, match='"element" or "unit"'):
        meprop(torch.zeros(2, 2), 1, by="row")
    with pytest.raises(ModelError, match=r"skip is \['1'\]"), meprop_layers(net, 1, skip=["1"]):
        pass
    with pytest.raises(ModelError, match="not all"), meprop_layers(net, 1, skip=["0"]):
        pass
