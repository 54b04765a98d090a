"""Small networks in the styles that people write: each with an input that it takes. They know nothing of ours."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Functional(nn.Module):
    """Functions instead of layers, weights held by the module itself."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 2, 3, 3) / 4)
        self.bias = nn.Parameter(torch.randn(6))
        self.scale = nn.Parameter(torch.rand(6) + 0.5)
        self.shift = nn.Parameter(torch.randn(6))
        self.register_buffer("mean", torch.randn(6))
        self.register_buffer("variance", torch.rand(6) + 0.5)
        self.head = nn.Linear(54, 3)

    def forward(self, x):
        x = F.conv2d(x, self.weight, self.bias, padding=1)
        x = F.batch_norm(x, self.mean, self.variance, self.scale, self.shift, self.training)
        x = F.max_pool2d(F.relu(x), 3, stride=2)
        x = torch.max_pool2d(x, 2, stride=1, padding=1)[:, :, :3, :3]
        return F.log_softmax(self.head(x.reshape(x.shape[0], -1)), 1)


class Methods(nn.Module):
    """Methods of tensors, in place and not."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 5, 3, bias=False)
        self.conv2 = nn.Conv2d(5, 4, 3)

    def forward(self, x):
        x = torch.max_pool2d(self.conv1(x).relu_(), 2)
        return self.conv2(x).relu().mean((2, 3))


class Block(nn.Module):
    """A residual block, as in ResNet: one ReLU for two places, in place."""

    def __init__(self, inside, outside, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample = None
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class Residual(nn.Module):
    """A small ResNet: stem with pool, blocks, global pool, linear."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.layers = nn.Sequential(Block(6, 6, 1), Block(6, 8, 2))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = self.layers(self.pool(self.stem(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Branches(nn.Module):
    """Inception's kind: four branches side by side, one of which pools."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(2, 3, 1)
        self.three = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1, bias=False))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(2, 3, 1, bias=False))
        self.norm = nn.BatchNorm2d(11)

    def forward(self, x):
        both = torch.cat([F.relu(self.one(x)), self.three(x), self.pooled(x), F.max_pool2d(x, 3, 1, 1)], 1)
        return F.max_pool2d(self.norm(both), 2, ceil_mode=True).relu()


class Shared(nn.Module):
    """One convolution, normalisation and pool used twice, and a weight tied to another's."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.pool = nn.MaxPool2d(2)
        self.twin = nn.Conv2d(2, 2, 3, padding=1)
        self.twin.weight = self.conv.weight

    def forward(self, x):
        x = self.pool(torch.relu(self.norm(self.conv(x))))
        x = self.pool(torch.relu(self.norm(self.conv(x))))
        return self.twin(x)


class Dictionary(nn.Module):
    """A dictionary of maps, as detectors give it, and a tuple in it."""

    def __init__(self):
        super().__init__()
        self.body = nn.ModuleDict({"one": nn.Conv2d(2, 4, 3), "two": nn.Conv2d(4, 4, 3)})
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        one = F.leaky_relu(self.body["one"](x), 0.1)
        two = self.pool(F.leaky_relu(self.body["two"](one), 0.1))
        return {"one": one, "both": (two, two.mean()), "size": two.shape[-1]}


class ControlFlow(nn.Module):
    """What a value decides cannot be read as a whole; its parts can."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        x = self.features(x)
        if x.mean() > 0:
            x = x * 2
        while x.shape[-1] > 2:
            x = self.pool(x)
        return x


class InPlace(nn.Module):
    """ReLUs in place whose input others read as well, so that they must see the change."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        h = self.conv(x)
        pooled = self.pool(self.relu(h))
        other = self.conv(x.flip(-1))
        half = self.pool(F.relu(other[:, :2], inplace=True))
        return pooled.sum((2, 3)) + h.mean((2, 3)) + other.mean((2, 3)) + half.sum()


class Flattened(nn.Module):
    """Dropout, views and flattening between convolutions and linear layers."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.drop, self.rate = nn.Dropout(0.3), 0.2
        self.one, self.two = nn.Linear(36, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = F.max_pool2d(self.conv(x), 2).relu()
        x = x.view(x.size(0), -1)
        x = F.dropout(F.relu(self.one(self.drop(x))), self.rate, self.training)
        return self.two(x)


class Tutorial(nn.Module):
    """Pictures of one channel, and views as they are usually written: rows of features, whatever the batch."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4 * 2 * 2, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.fc(x.view(-1, 4 * 2 * 2))


class Pictures(nn.Module):
    """Few channels at first, then enough for tiles; gives maps and features."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)
        self.second, self.third = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        y = F.relu(self.norm(self.first(x)))
        z = F.relu(self.second(y))
        return z, self.third(z + y).flatten(1)


class PoolFirst(nn.Module):
    """Pool before ReLU, dilated pools, normalisation after ReLU."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.tail = nn.Sequential(nn.MaxPool2d(2), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2, dilation=2), nn.ReLU())

    def forward(self, x, scale: float = 2.0, mask: Tensor | None = None):
        x = self.tail(self.conv(x)) * scale
        return x if mask is None else x * mask


class Nested(nn.Module):
    """Modules in modules in lists, and one that writes down what it saw."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList([nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), Watching(), nn.MaxPool2d(2))] * 2)
        self.stages.append(nn.Sequential(nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(inplace=True)), nn.MaxPool2d(2)))

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return x.flatten(1)


class Watching(nn.Module):
    """A layer that keeps the largest value it has seen."""

    def __init__(self):
        super().__init__()
        self.largest = 0.0

    def forward(self, x):
        self.largest = x.detach().abs().amax()
        return x


class Dense(nn.Module):
    """Convolutions of 3x3 wide enough for Winograd's tiles: as layers, as a call, with and without what follows."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 16, 1)
        self.one, self.two = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.Conv2d(16, 20, 3, padding="same")
        self.norm = nn.BatchNorm2d(16)
        self.weight = nn.Parameter(torch.randn(16, 20, 3, 3) / 8)

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(self.norm(self.one(x))) + x
        x = F.relu(self.two(x), inplace=True)
        return F.conv2d(x, self.weight, padding=(2, 0)).mean(1)


def signal() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(28, 2)
    )


def volume() -> nn.Module:
    return nn.Sequential(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2))


def unbatched() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(0), nn.Linear(36, 40))


IMAGES = (2, 2, 8, 8)
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "functional": (Functional, IMAGES),
    "methods": (Methods, IMAGES),
    "residual": (Residual, (2, 2, 12, 12)),
    "branches": (Branches, (2, 2, 7, 7)),
    "shared": (Shared, IMAGES),
    "dictionary": (Dictionary, IMAGES),
    "control flow": (ControlFlow, (2, 2, 12, 12)),
    "in place": (InPlace, IMAGES),
    "flattened": (Flattened, IMAGES),
    "tutorial": (Tutorial, (2, 1, 14, 14)),
    "pictures": (Pictures, (8, 3, 9, 8)),
    "pool first": (PoolFirst, (2, 2, 14, 14)),
    "nested": (Nested, IMAGES),
    "dense": (Dense, (2, 2, 9, 8)),
    "signal": (signal, (2, 2, 16)),
    "volume": (volume, (2, 2, 6, 6, 6)),
    "unbatched": (unbatched, (2, 8, 8)),
}


def make(name: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor]:
    """The model, with normalisation that is not the identity, and an input."""
    build, shape = MODELS[name]
    torch.manual_seed(len(name))
    model, x = build(), torch.randn(shape)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.running_mean, module.bias):
                nn.init.normal_(tensor)
            for tensor in (module.running_var, module.weight):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model.to(dtype), x.to(dtype)
