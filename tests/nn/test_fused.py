"""Fused layers stand for the layers whose work they do: the same numbers, parameters and state, copied and pickled."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from switchgrad.errors import GeometryError
from switchgrad.nn import (
    BatchNormReLU2d,
    BatchNormReLUMaxPool2d,
    CrossEntropyLoss,
    Dropout,
    ReLUDropout,
    ReLUMaxPool2d,
)


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track", [True, False])
def test_batch_norm_layers_follow_pytorchs_through_training_and_evaluation(
    momentum: float | None, affine: bool, track: bool
) -> None:
    options = {"momentum": momentum, "affine": affine, "track_running_stats": track, "dtype": torch.float64}
    theirs = nn.BatchNorm2d(3, **options)
    pooled = BatchNormReLUMaxPool2d(3, 2, **options)
    alone = BatchNormReLU2d(3, **options)
    if affine:
        nn.init.normal_(theirs.weight)
    for ours in (pooled, alone):
        ours.load_state_dict(theirs.state_dict())
    for step in range(4):
        if step == 3:
            for layer in (theirs, pooled, alone):
                layer.eval()
        x = torch.randn(2, 3, 6, 6, dtype=torch.float64) + step
        wanted = theirs(x).relu()
        torch.testing.assert_close(alone(x), wanted)
        torch.testing.assert_close(pooled(x), nn.functional.max_pool2d(wanted, 2))
        for ours in (pooled, alone):
            torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    theirs.load_state_dict(pooled.state_dict())  # and back


@pytest.mark.parametrize(
    "layer", [ReLUMaxPool2d(3, 2, 1), BatchNormReLU2d(3), BatchNormReLUMaxPool2d(3, 3, stride=2, padding=1)], ids=repr
)
def test_layers_can_be_copied_and_pickled(layer: nn.Module) -> None:
    x = torch.randn(2, 3, 7, 7)
    wanted = copy.deepcopy(layer)(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(other) == repr(layer)
        assert torch.equal(other(x), wanted)


def test_layers_refuse_what_never_fits() -> None:
    for layer in (ReLUMaxPool2d, lambda kernel_size: BatchNormReLUMaxPool2d(3, kernel_size)):
        with pytest.raises(GeometryError, match="every entry must be at least 1"):
            layer(0)


def test_batch_norm_layers_take_pictures_only() -> None:
    with pytest.raises(ValueError, match="expected 4D input"):
        BatchNormReLUMaxPool2d(3, 2)(torch.zeros(3, 4, 4))


def test_dropout_layers_draw_in_training_alone() -> None:
    x = torch.randn(2000)
    for layer, plain in ((Dropout(0.25), x), (ReLUDropout(0.25), x.relu())):
        torch.manual_seed(5)
        y = layer(x)
        torch.manual_seed(5)
        assert torch.equal(layer(x), y)
        kept = y != 0
        torch.testing.assert_close(y[kept], plain[kept] / 0.75)
        assert 0.1 < 1 - kept.double().mean() / (plain != 0).double().mean() < 0.4
        assert torch.equal(layer.eval()(x), plain)


def test_the_loss_layer_passes_its_options_on() -> None:
    x, target = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 1, 2])
    options = {"weight": torch.rand(4), "ignore_index": 1, "reduction": "sum", "label_smoothing": 0.2}
    torch.testing.assert_close(CrossEntropyLoss(**options)(x, target), nn.CrossEntropyLoss(**options)(x, target))
