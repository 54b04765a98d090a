"""Networks that slide: every cell of the map is the network's answer to one crop."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from switchgrad import models
from switchgrad.errors import ModelError
from switchgrad.nn import ChannelMaxout, DropConnect, MaxPool2d, Residual, to_fully_convolutional


def crops(model, picture, size, stride):
    """The answers to all crops of ``size`` at multiples of ``stride``, as a map."""
    windows = picture.unfold(2, size, stride).unfold(3, size, stride)  # [1, C, P, Q, size, size]
    _, _, p, q, _, _ = windows.shape
    scores = model(windows[0].permute(1, 2, 0, 3, 4).flatten(0, 1))
    return scores.view(p, q, -1).permute(2, 0, 1)[None]


def small_vgg(size):
    """Three blocks of 3x3 convolutions and pools (total stride 8), then three linear layers, as VGG has them."""
    blocks, channels = [], 2
    for width in (4, 6, 8):
        blocks += [nn.Conv2d(channels, width, 3), nn.ReLU(), MaxPool2d(2)]
        channels = width
    features = nn.Sequential(*blocks)
    cells = features(torch.zeros(1, 2, size, size)).shape[2]
    classifier = nn.Sequential(
        *(nn.Linear(8 * cells**2, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 5), nn.Softmax(1))
    )
    net = nn.Sequential()
    net.features, net.pool, net.flatten, net.classifier = (
        features,
        nn.AdaptiveAvgPool2d(cells),
        nn.Flatten(),
        classifier,
    )
    return net


def settled(net):
    """In double, with statistics unlike those of a new batch norm, ready to answer."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.double().eval()


def test_a_small_vgg_in_double():
    torch.manual_seed(0)
    net = settled(small_vgg(36))
    x = torch.randn(1, 2, 36 + 3 * 8, 36 + 8, dtype=torch.float64)
    sliding = to_fully_convolutional(net, 36)
    assert sliding(x).shape == (1, 5, 4, 2)
    torch.testing.assert_close(sliding(x), crops(net, x, 36, 8), rtol=1e-12, atol=1e-12)


def test_g9_trained_on_224_it_gives_6x6_on_384_the_36_crops_at_stride_32():
    torch.manual_seed(0)
    layers, channels = [], 3
    for width in (2, 3, 3, 4, 4):
        layers += [nn.Conv2d(channels, width, 3), nn.ReLU(), MaxPool2d(2)]
        channels = width
    net = settled(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 5 * 5, 8), nn.ReLU(), nn.Linear(8, 10)))
    picture = torch.randn(1, 3, 384, 384, dtype=torch.float64)
    with torch.no_grad():
        scores = to_fully_convolutional(net, (3, 224, 224))(picture)
        assert scores.shape == (1, 10, 6, 6)
        torch.testing.assert_close(scores, crops(net, picture, 224, 32), rtol=1e-12, atol=1e-12)


class Functional(nn.Module):
    """Calls instead of layers, and a global average before the classes."""

    def __init__(self, head):
        super().__init__()
        self.conv, self.norm, self.fc, self.head = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 4), head

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.norm(self.conv(x))), 2)
        return functional.log_softmax(self.fc(self.head(x)).relu(), -1)


HEADS = {
    "mean": lambda x: x.mean((2, 3)),
    "adaptive, flatten": lambda x: torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1),
    "adaptive max, view": lambda x: functional.adaptive_max_pool2d(x, (1, 1)).view(x.size(0), -1),
    "adaptive, reshape": lambda x: functional.adaptive_avg_pool2d(x, 1).reshape(x.shape[0], 6),
}


@pytest.mark.parametrize("head", HEADS)
def test_functional_calls(head):
    torch.manual_seed(0)
    net = settled(Functional(HEADS[head]))
    x = torch.randn(1, 1, 14, 16, dtype=torch.float64)
    torch.testing.assert_close(to_fully_convolutional(net, (1, 10, 10))(x), crops(net, x, 10, 2))


def test_our_layers_and_residual_blocks():
    torch.manual_seed(0)
    block = Residual(nn.Conv2d(4, 4, 1))
    net = nn.Sequential(nn.Conv2d(1, 8, 3), ChannelMaxout(2), block, MaxPool2d(2), nn.Flatten(), DropConnect(36, 3))
    settled(net)
    x = torch.randn(1, 1, 12, 10, dtype=torch.float64)
    torch.testing.assert_close(to_fully_convolutional(net, 8)(x), crops(net, x, 8, 2))


def test_a_network_of_the_zoo():
    net = settled(models.create("lenet5-1998"))
    sliding = to_fully_convolutional(net, (1, 32, 32))
    x = torch.randn(1, 1, 40, 36, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(sliding(x), crops(net, x, 32, 4))


def test_padding_shows_at_the_borders_of_crops_only():
    torch.manual_seed(0)
    net = settled(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(32, 2)))
    x = torch.randn(1, 1, 5, 5, dtype=torch.float64)
    sliding, cropped = to_fully_convolutional(net, 4)(x), crops(net, x, 4, 1)
    assert sliding.shape == cropped.shape
    assert not torch.allclose(sliding, cropped)
    torch.testing.assert_close(to_fully_convolutional(net, 4)(x[..., :4, :4]).flatten(1), net(x[..., :4, :4]))


def test_names_modes_and_the_model_itself_are_kept():
    net = small_vgg(36)
    net.train()
    net.features.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    sliding = to_fully_convolutional(net, 36)
    assert list(sliding.state_dict()) == list(before)
    assert sliding.training
    assert sliding.classifier.training
    assert not sliding.features.training
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    x = torch.randn(2, 2, 44, 44)
    sliding(x).sum().backward()
    assert all(p.grad is not None for p in sliding.parameters())
    assert all(p.grad is None for p in net.parameters())


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, x):
        return (x * torch.sigmoid(self.conv(functional.adaptive_avg_pool2d(x, 1)))).flatten(1)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (nn.Sequential(nn.Conv2d(2, 2, 1), Branches(), nn.Flatten()), r"gives \(2, 32\)"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.Flatten(), nn.LayerNorm(32)), "LayerNorm.*no counterpart"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.Flatten(), nn.BatchNorm1d(32)), "BatchNorm1d.*no counterpart"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten()), "only pooling to 1x1"),
        (SqueezeExcite(), "maps of several sizes"),
    ],
)
def test_what_has_no_counterpart_is_refused(net, words):
    with pytest.raises(ModelError, match=words):
        to_fully_convolutional(net, (2, 4, 4))


def test_a_forward_that_cannot_be_traced_is_refused():
    class Outer(Branches):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)

    with pytest.raises(ModelError, match="Outer cannot be traced"):
        to_fully_convolutional(Outer(), (2, 4, 4))
    with pytest.raises(ModelError, match=r"give \(C, H, W\)"):
        to_fully_convolutional(nn.Linear(3, 3), 4)
