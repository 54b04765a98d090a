"""Networks of the benchmarks that the zoo does not have, in torch.nn's layers as their papers draw them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn

import switchgrad

POOL = 0  # in a row of widths: a 2 x 2 max pool


def convolutions(widths: Sequence[int], channels: int = 3, norm: bool = False) -> Iterator[nn.Module]:
    """3 x 3 convolutions that keep the size, each with its ReLU, and pools between them."""
    for width in widths:
        if width == POOL:
            yield nn.MaxPool2d(2)
            continue
        yield nn.Conv2d(channels, width, 3, padding=1, bias=not norm)
        if norm:
            yield nn.BatchNorm2d(width)
        yield nn.ReLU(inplace=True)
        channels = width


def vgg_cifar() -> nn.Module:
    """VGG's kind for 32 x 32 pictures: two convolutions with batch norm before each of four pools (0.2 GMAC)."""
    widths = (64, 64, POOL, 128, 128, POOL, 256, 256, POOL, 512, 512, POOL)
    return nn.Sequential(*convolutions(widths, norm=True), nn.Flatten(), nn.Linear(512 * 2 * 2, 10))


def vgg16() -> nn.Module:
    """VGG-16 (configuration D of Simonyan and Zisserman, 2014) for 224 x 224 pictures and 1,000 classes."""
    widths = (64, 64, POOL, 128, 128, POOL, *(256,) * 3, POOL, *(512,) * 3, POOL, *(512,) * 3, POOL)
    head = (
        nn.Flatten(),
        *(nn.Linear(512 * 7 * 7, 4096), nn.ReLU(inplace=True), nn.Dropout()),
        *(nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout()),
        nn.Linear(4096, 1000),
    )
    return nn.Sequential(*convolutions(widths), *head)


def alexnet() -> nn.Module:
    """AlexNet in one tower (Krizhevsky, 2014) for 224 x 224 pictures and 1,000 classes."""
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
        *convolutions((384, 256, 256), channels=192),
        *(nn.MaxPool2d(3, 2), nn.Flatten()),
        *(nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True)),
        *(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(inplace=True)),
        nn.Linear(4096, 1000),
    )


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut (He et al., 2015)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


def resnet18() -> nn.Module:
    """ResNet-18 (He et al., 2015) for 224 x 224 pictures and 1,000 classes."""
    stem = (nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
    blocks: list[nn.Module] = []
    channels = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        blocks += [Residual(channels, width, stride), Residual(width, width, 1)]
        channels = width
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def of_zoo(name: str) -> Callable[[], nn.Module]:
    return lambda: switchgrad.models.create(name, num_classes=10, in_channels=1, input_size=(28, 28))


# What makes it, the shape of a picture, classes.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int]] = {
    "convnet": (of_zoo("convnet"), (1, 28, 28), 10),
    "lenet5": (of_zoo("lenet5"), (1, 28, 28), 10),
    "vgg_cifar": (vgg_cifar, (3, 32, 32), 10),
    "alexnet": (alexnet, (3, 224, 224), 1000),
    "resnet18": (resnet18, (3, 224, 224), 1000),
    "vgg16": (vgg16, (3, 224, 224), 1000),
}
