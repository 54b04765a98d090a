"""What a cell sees, measured: the pixels that a gradient from one output cell reaches."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import switchgrad.nn
from switchgrad import models


class Residual(nn.Module):
    """Two paths of different depth, added."""

    def __init__(self, *layers):
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return functional.relu(x + self.body(x))


class Branches(nn.Module):
    """Maps of several paths, one after the other."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def conv(*arguments, **options):
    return nn.Conv2d(1, 1, *arguments, **options)


NETS = {
    "two 3x3": nn.Sequential(conv(3), conv(3)),
    "strides": nn.Sequential(conv(5, stride=2), nn.ReLU(), conv(3, stride=3), conv((1, 4))),
    "dilation": nn.Sequential(conv(3, dilation=4), nn.AvgPool2d(2), conv(3, padding=1, dilation=(1, 3))),
    "pools": nn.Sequential(conv(3, padding=1), nn.AvgPool2d(3, 2), nn.LPPool2d(2, 2), conv(2)),
    "subsampling": nn.Sequential(conv(5), switchgrad.nn.TrainableSubsampling2d(1), conv(3)),
    "mapped": nn.Sequential(switchgrad.nn.MappedConv2d(1, 2, [[0], [0]], 5), nn.Conv2d(2, 1, 3)),
    "residual": nn.Sequential(conv(3), Residual(conv(3, padding=1), nn.ReLU(), conv(5, padding=2)), conv(2, stride=2)),
    "branches": nn.Sequential(Branches(conv(1), conv(5, padding=2), conv(3, padding=1)), nn.Conv2d(3, 1, 2)),
    "border": nn.Sequential(nn.ZeroPad2d((1, 2, 3, 1)), conv(3), nn.Dropout(), nn.BatchNorm2d(1), nn.Hardtanh()),
    "adaptive": nn.Sequential(conv(2), nn.AdaptiveAvgPool2d(20), conv(3)),
}


@pytest.mark.parametrize("name", NETS)
def test_sight_is_what_gradients_reach(name):
    net = NETS[name].double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.1)  # positive weights: nothing cancels, no ReLU is silent
    size = 61  # (61 - 2 + 1) / 3 = 20 for the adaptive pool
    row = models.summary(net, (1, size, size)).rows[-1]

    def reach(p, q):
        x = torch.rand(1, 1, size, size, dtype=torch.float64, requires_grad=True)
        net(x)[0, :, p, q].sum().backward()
        rows, columns = x.grad[0, 0].nonzero().unbind(1)
        return (rows.min(), rows.max()), (columns.min(), columns.max())

    p, q = (places // 2 for places in row.output_shape[1:])
    here, below, right = reach(p, q), reach(p + 1, q), reach(p, q + 1)
    assert row.receptive_field == tuple(int(last - first + 1) for first, last in here)
    assert row.jump == (int(below[0][0] - here[0][0]), int(right[1][0] - here[1][0]))


def last(net, shape=(1, 24, 24)):
    row = models.summary(net, shape).rows[-1]
    return row.receptive_field, row.jump


def test_a_dense_layer_sees_the_whole_map():
    # As a convolution with a kernel of the map's size would: 3 + (22 - 1) and (2 + 4) + (10 - 1) * 2.
    assert last(nn.Sequential(conv(3), nn.Flatten(), nn.Linear(22 * 22, 5), nn.ReLU(), nn.Linear(5, 2))) == (
        (24, 24),
        None,
    )
    net = nn.Sequential(conv(5), switchgrad.nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 2))
    assert last(net) == ((24, 24), None)
    assert last(nn.Sequential(conv(3), nn.Flatten())) == ((3, 3), None)


def test_global_pools_see_the_whole_map():
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    assert last(nn.Sequential(conv(3), nn.AdaptiveMaxPool2d(1))) == ((24, 24), (22, 22))
    assert last(nn.Sequential(conv(3), Mean())) == ((24, 24), None)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Upsample(scale_factor=2),
        nn.ConvTranspose2d(1, 1, 2, stride=2),
        nn.AdaptiveAvgPool2d(7),
        nn.Softmax(dim=3),
        nn.PixelShuffle(1),
        nn.Linear(22, 22),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_is_not_known_stays_unknown(layer):
    assert last(nn.Sequential(conv(3), layer)) == (None, None)
    assert last(nn.Sequential(conv(3), layer, nn.ReLU(), conv(1))) == (None, None)


def test_one_unknown_path_makes_the_sum_unknown():
    assert last(nn.Sequential(Residual(nn.Softmax(dim=3)), conv(1))) == (None, None)
    assert last(nn.Sequential(Residual(nn.Softplus()), conv(1))) == ((1, 1), (1, 1))


def test_functions_outside_of_layers_make_it_unknown():
    class Net(nn.Module):
        def __init__(self, pool):
            super().__init__()
            self.pool, self.conv = pool, conv(3)

        def forward(self, x):
            return self.conv(self.pool(x))

    assert last(Net(lambda x: functional.max_pool2d(x, 2))) == (None, None)
    assert last(Net(lambda x: switchgrad.ops.max_pool2d(x, 2))) == (None, None)
    assert last(Net(switchgrad.nn.MaxPool2d(2))) == ((6, 6), (2, 2))


def test_a_map_overwritten_in_place_becomes_unknown():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv(3)

        def forward(self, x):
            x = x + 0
            x[:, :, 1:] = x[:, :, :-1].clone()
            return self.conv(x)

    assert last(Net()) == (None, None)


def test_constants_do_not_hide_what_is_seen():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(1, 1, 1))
            self.conv = conv(3)

        def forward(self, x):
            return self.conv((x - self.mean) / torch.full((1,), 2.0))

    assert last(Net()) == ((3, 3), (1, 1))


def test_a_list_of_features_has_no_sight():
    assert last(nn.Sequential(nn.Linear(4, 2)), (4,)) == (None, None)
