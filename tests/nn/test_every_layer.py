"""Every layer is copied, pickled, saved, printed, moved to meta, cast and switched to evaluation, and stays itself."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from switchgrad import nn

SHAPES = {1: (2, 4, 8), 2: (2, 4, 8, 8), 3: (1, 4, 8, 8, 8)}
Made = tuple[Callable[[], torch.nn.Module], tuple[Tensor, ...]]


def numbers(*shape: int) -> Tensor:
    """Above 0, because some layers take logarithms; each is the same in every precision, and few are equal."""
    order = torch.randperm(math.prod(shape), generator=torch.Generator().manual_seed(3))
    return ((order % 1024 + 1) / 1024).reshape(shape)


def means(patches: Tensor) -> Tensor:
    """What `OrderlessPool` is given to describe patches with."""
    return patches.mean((2, 3))


def one(name: str, *inputs: Tensor, **arguments: Any) -> dict[str, Made]:
    """A layer and what it is called with: a picture, if nothing is given."""
    return {name: (lambda: getattr(nn, name)(**arguments), inputs or (numbers(*SHAPES[2]),))}


def along(stem: str, dims: str = "123", **arguments: Any) -> dict[str, Made]:
    """A layer over each number of axes; arguments that are functions are given that number."""

    def make(dim: int) -> torch.nn.Module:
        given = {key: value(dim) if callable(value) else value for key, value in arguments.items()}
        return getattr(nn, f"{stem}{dim}d")(**given)

    return {f"{stem}{d}d": (lambda d=int(d): make(d), (numbers(*SHAPES[int(d)]),)) for d in dims}


def weighing(dims: int) -> torch.nn.Module:
    """One number for each window of two cells along each axis."""
    return torch.nn.Sequential(torch.nn.Linear(2**dims, 1), torch.nn.Flatten(-2))


def logits(dims: int) -> torch.nn.Module:
    """One map of logits."""
    conv = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[dims - 1]
    return conv(4, 1, 3, padding=1)


FEATURES, FRAMES, STEPS = numbers(2, 6), numbers(2, 5, 8), numbers(5, 2, 3)
BOXES = torch.tensor([[0.0, 1.0, 1.0, 6.0, 5.0], [1.0, 0.0, 2.0, 4.0, 7.0]])
UNPOOLED = {
    d: (numbers(*SHAPES[d][:2], *(4,) * d), torch.arange(4**d).reshape((4,) * d).expand(*SHAPES[d][:2], *(4,) * d))
    for d in SHAPES
}
RANDOM = ("Drop", "Fractional", "MaxPoolDropout", "MixedPool", "ReLUDropout", "S3Pool", "Stochastic")
LAYERS: dict[str, Made] = {
    **along("AdaptiveAvgPool", output_size=3),
    **along("AdaptiveMaxPool", output_size=3),
    **one("AutoPool", FRAMES, channels=5),
    **one("AvgOverTime", FRAMES),
    **along("AvgPool", kernel_size=3, stride=2, padding=1),
    **along("AvgUnpool", kernel_size=2),
    **one("BatchNormReLU2d", num_features=4),
    **one("BatchNormReLUMaxPool2d", num_features=4, kernel_size=2),
    **along("BlurPool", kernel_size=3),
    **one("ChannelMaxout"),
    **one("ChunkMaxPool", FRAMES, chunks=3),
    **one("ClusterPool", FRAMES, features=8, clusters=3),
    **one("Conv2d", in_channels=4, out_channels=3, kernel_size=3),
    **one("ConvMaxPool2d", in_channels=4, out_channels=3, kernel_size=3, pool_stride=1, return_switches=True),
    **one("ConvPoolAdd", in_channels=4, kernels=8),
    **one("ConvReLU2d", in_channels=4, out_channels=3, kernel_size=3),
    **one("ConvReLUMaxPool2d", in_channels=4, out_channels=3, kernel_size=3, negative_slope=0.1),
    **one("CrossEntropyLoss", FEATURES, torch.tensor([1, 5])),
    **along("DFTMagnitudePool", output_size=3),
    **one("DropConnect", FEATURES, in_features=6, out_features=4),
    **one("Dropout"),
    **one("ExpectationPool", FRAMES, learned=True),
    **along("FractionalMaxPool", kernel_size=2, output_ratio=0.7),
    **along("GammaPool", kernel_size=2),
    **along("GatedPool", kernel_size=2),
    **one("GeM", channels=4),
    **along("GeneralPool", function=weighing, kernel_size=2),
    **one("GlobalAvgPool"),
    **one("GlobalEntropyPool"),
    **one("GlobalLPPool", norm_type=2.0),
    **one("GlobalMaxPool"),
    **one("GlobalSumPool", keepdim=True),
    **one("GroupPool", numbers(1, 3, 8, 5, 5), group="p4m", over="rotations"),
    **one("IndRNN", STEPS, input_size=3, hidden_size=4),
    **one("IndRNNCell", STEPS[0], input_size=3, hidden_size=4),
    **one("Jordan", STEPS, input_size=3, hidden_size=4, output_size=2),
    **one("JordanCell", STEPS[0], input_size=3, hidden_size=4, output_size=2),
    **one("KMaxPool", FRAMES, k=3, return_indices=True),
    **one("KRangeMaxPool", FRAMES, k=3),
    **along("LDWPool"),
    **along("LIPPool", kernel_size=2, logits=logits),
    **one("LPOverTime", FRAMES, norm_type=3.0),
    **along("LPPool", norm_type=3.0, kernel_size=2),
    **one("Linear", FEATURES, in_features=6, out_features=4),
    **one("LinearReLU", FEATURES, in_features=6, out_features=4),
    **along("LinearUnpool", "1", scale=2),
    **along("BilinearUnpool", "2", output_size=(9, 11)),
    **along("TrilinearUnpool", "3", scale=2),
    **one("LocalContrastNorm", kernel_size=3),
    **one("LocallyConnected1d", numbers(*SHAPES[1]), in_channels=4, out_channels=3, input_size=8, kernel_size=3),
    **one("LocallyConnected2d", in_channels=4, out_channels=3, input_size=(8, 8), kernel_size=3),
    **one("LossMaxPool", numbers(2, 6, 6)),
    **one("MappedConv2d", in_channels=4, out_channels=2, connections=[[0, 1], [2, 3]], kernel_size=3),
    **along("MaxMinPool", kernel_size=2),
    **one("MaxOverTime", FRAMES),
    **along("MaxPool", kernel_size=3, stride=2, padding=1, return_indices=True),
    **along("MaxPoolDropout", kernel_size=2),
    **{f"MaxUnpool{d}d": (lambda d=d: getattr(nn, f"MaxUnpool{d}d")(2), UNPOOLED[d]) for d in UNPOOLED},
    **one("Maxout", FEATURES, in_features=6, out_features=4),
    **along("MixedPool", kernel_size=2, channels=4),
    **along("NearestUnpool", scale=2),
    **one("OrderlessPool", numbers(2, 3, 16, 16), extract=means, size=16, patches=(8, 4), stride=4, clusters=2),
    **one("PSRoIAlign", numbers(2, 8, 8, 8), BOXES, output_size=2),
    **one("PSRoIPool", numbers(2, 8, 8, 8), BOXES, output_size=2),
    **one("ReLUDropout"),
    **one("ReLUMaxPool2d", kernel_size=2),
    "Residual": (lambda: nn.Residual(torch.nn.Conv2d(4, 4, 3, padding=1)), (numbers(*SHAPES[2]),)),
    **one("RoIAlign", numbers(*SHAPES[2]), BOXES, output_size=3, aligned=True),
    **one("RoIAvgPool", numbers(*SHAPES[2]), BOXES, output_size=(2, 3)),
    **one("RoIPool", numbers(*SHAPES[2]), BOXES, output_size=3),
    **along("S3Pool", kernel_size=2, grid_size=4),
    **along("SoftPool", kernel_size=2),
    **one("SpatialPyramidPool", levels=(2, 1)),
    **along("SpectralPool", output_size=5),
    **along("StochasticPool", kernel_size=2),
    **one("SumOverTime", FRAMES),
    **along("SumPool", kernel_size=2),
    **along("TrainableSubsampling", channels=4),
    **along("TreePool", kernel_size=2, levels=3),
    **along("WaveletPool"),
    **along("WeibullPool", kernel_size=2, shape=3.0),
    **along("WeightedAvgPool", kernel_size=3, stride=2, padding=1),
}


def fitted(name: str) -> torch.nn.Module:
    """The layer, in evaluation, with random numbers for its parameters: none at the value that they begin with."""
    torch.manual_seed(5)
    layer = LAYERS[name][0]()
    if isinstance(layer, nn.OrderlessPool):
        layer.fit(torch.rand_like(LAYERS[name][1][0]))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.rand_like(parameter), alpha=0.1)
    return layer.eval()


def results(layer: torch.nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """All tensors that the layer returns; what is drawn, is drawn from the same seed."""
    torch.manual_seed(11)
    return [t.detach() for t in pytree.tree_leaves(layer(*inputs)) if isinstance(t, Tensor)]


def cast(inputs: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Integers stay what they are."""
    return tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)


def test_no_layer_is_forgotten() -> None:
    named = {name: getattr(nn, name) for name in nn.__all__}
    layers = {name for name, it in named.items() if inspect.isclass(it) and issubclass(it, torch.nn.Module)}
    assert set(LAYERS) == layers


@pytest.mark.parametrize("name", LAYERS)
def test_copies_say_the_same(name: str) -> None:
    layer, inputs = fitted(name), LAYERS[name][1]
    fresh = LAYERS[name][0]().eval()
    fresh.load_state_dict(copy.deepcopy(layer.state_dict()))
    copies = {"deepcopy": copy.deepcopy(layer), "pickle": pickle.loads(pickle.dumps(layer)), "state_dict": fresh}
    for training in (False, True, False):
        wanted = results(layer.train(training), inputs)
        for how, other in copies.items():
            assert all(m.training == training for m in other.train(training).modules()), how
            assert all(map(torch.equal, results(other, inputs), wanted)), how
            assert repr(other) == repr(layer), how
    assert repr(layer).startswith(f"{name}(")


@pytest.mark.parametrize("name", LAYERS)
def test_shapes_are_known_without_numbers(name: str) -> None:
    layer, inputs = fitted(name), LAYERS[name][1]
    wanted = [(t.shape, t.dtype) for t in results(layer, inputs)]
    meta = results(layer.to("meta"), tuple(x.to("meta") for x in inputs))
    assert [(t.shape, t.dtype) for t in meta] == wanted
    assert all(t.is_meta for t in meta)


@pytest.mark.parametrize("name", LAYERS)
def test_other_precisions(name: str) -> None:
    layer, inputs = fitted(name), LAYERS[name][1]
    wanted = results(layer, inputs)
    for dtype, loose in ((torch.float64, 1e-4), (torch.float16, 2e-2)):
        got = results(layer.to(dtype), cast(inputs, dtype))
        for value, other in zip(wanted, got, strict=True):
            assert other.dtype == (dtype if value.is_floating_point() else value.dtype)
            if not name.startswith(RANDOM):  # numbers are drawn in the dtype of the input
                torch.testing.assert_close(other, value.to(other.dtype), rtol=loose, atol=loose)
