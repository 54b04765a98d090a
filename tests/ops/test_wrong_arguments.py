"""What is no tensor, number, function, generator or sequence is refused in one sentence, never by Python or PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from switchgrad import nn, ops
from switchgrad.errors import GeometryError, ModelError, SwitchgradError

NAN = float("nan")
X = torch.rand(1, 3, 4, 4)
GENERATOR = "generator is 3, a int; give a torch.Generator, or None for PyTorch's own"

WRONG: dict[str, tuple[Callable[[], Any], type[SwitchgradError], str]] = {
    "generator of stochastic": (lambda: ops.stochastic_pool2d(X, 2, generator=3), GeometryError, GENERATOR),  # pyright: ignore
    "generator of max-pool dropout": (lambda: ops.max_pool_dropout2d(X, 2, generator=3), GeometryError, GENERATOR),  # pyright: ignore
    "generator of dropout": (lambda: ops.dropout(X, generator=3), GeometryError, GENERATOR),  # pyright: ignore
    "generator of bias_relu_dropout": (lambda: ops.bias_relu_dropout(X, generator=3), GeometryError, GENERATOR),  # pyright: ignore
    "generator of S3": (lambda: ops.s3_pool2d(X, 2, generator=3), GeometryError, GENERATOR),  # pyright: ignore
    "generator of fractional": (lambda: ops.fractional_max_pool2d(X, 2, 2, generator=3), GeometryError, GENERATOR),  # pyright: ignore
    "generator of k_means": (lambda: ops.k_means(torch.rand(4, 2), 2, generator=3), GeometryError, GENERATOR),  # pyright: ignore
    "generator of a layer": (lambda: nn.StochasticPool2d(2, generator=3), GeometryError, GENERATOR),  # pyright: ignore
    "powers for other channels": (
        lambda: ops.gem_pool(X, torch.tensor([1.0, 2.0])),
        GeometryError,
        "p has shape (2,); give one number, or one for each channel, (3,)",
    ),
    "p of NaN": (lambda: ops.gem_pool(X, NAN), GeometryError, "p is nan; give a number that is not NaN"),
    "m of NaN": (lambda: ops.expectation_pool(X, NAN), GeometryError, "m is nan; give a number that is not NaN"),
    "two numbers for one": (
        lambda: ops.vlad(torch.rand(1, 3, 2), torch.rand(2, 2), np.zeros(2)),  # pyright: ignore
        GeometryError,
        "alpha is of type ndarray and shape (2,); give a number",
    ),
    "boxes in numbers": (
        lambda: ops.roi_pool(X, ((0, 0, 0, 2, 2),), 2),  # pyright: ignore
        GeometryError,
        "an entry in the list of boxes of roi_pool is of type tuple; give a tensor",
    ),
    "levels in one number": (
        lambda: ops.spatial_pyramid_pool(X, 4),  # pyright: ignore
        GeometryError,
        "levels is 4, a int; give the bins along an axis for each level, for example (4, 2, 1)",
    ),
    "levels of a layer": (lambda: nn.SpatialPyramidPool(5), GeometryError, "levels is 5, a int; give the bins"),  # pyright: ignore
    "no function": (lambda: ops.general_pool2d(X, 3, 2), GeometryError, "function is 3, a int; give a function"),  # pyright: ignore
    "no function of a layer": (lambda: nn.GeneralPool2d(None, 2), GeometryError, "function is None; give a function"),  # pyright: ignore
    "a function without result": (
        lambda: ops.general_pool2d(X, lambda cells: None, 2),  # pyright: ignore
        GeometryError,
        "what the function returned is None; give a tensor",
    ),
    "an array": (
        lambda: ops.max_pool2d(np.zeros((1, 1, 40, 40)), 2),  # pyright: ignore
        GeometryError,
        "the input of max_pool2d is of type ndarray and shape (1, 1, 40, 40); give a tensor",
    ),
    "a list": (
        lambda: ops.avg_pool2d([[1.0] * 99], 2),  # pyright: ignore
        GeometryError,
        "the input of avg_pool2d is of type list; give a tensor",
    ),
    "GeM": (lambda: nn.GeM(p="x"), GeometryError, "p is 'x', a str; give a number"),  # pyright: ignore
    "GeM's channels": (lambda: nn.GeM(channels=0), GeometryError, "channels is 0; give an integer of at least 1"),
    "AutoPool": (lambda: nn.AutoPool("x"), ModelError, "channels is 'x', a str; give an integer of at least 1"),  # pyright: ignore
    "MixedPool2d": (lambda: nn.MixedPool2d(2, channels="x"), ModelError, "channels is 'x', a str; give an integer"),  # pyright: ignore
    "MixedPool2d's mixing": (lambda: nn.MixedPool2d(2, mixing=None), GeometryError, "mixing is None; give a number"),  # pyright: ignore
    "GatedPool2d's places": (lambda: nn.GatedPool2d(2, places=3), ModelError, "places is 3, a int; give the 2 sizes"),  # pyright: ignore
    "TreePool2d": (lambda: nn.TreePool2d(2, levels=None), ModelError, "levels is None; give an integer of at least 1"),  # pyright: ignore
    "MaxPoolDropout2d": (lambda: nn.MaxPoolDropout2d(2, p=None), GeometryError, "p is None; give a number"),  # pyright: ignore
    "TrainableSubsampling2d": (lambda: nn.TrainableSubsampling2d("x"), ModelError, "channels is 'x', a str; give"),  # pyright: ignore
    "Maxout": (lambda: nn.Maxout(3, 4, 2.5), ModelError, "pieces is 2.5, a float; give an integer of at least 1"),  # pyright: ignore
    "ChannelMaxout": (lambda: nn.ChannelMaxout(None), ModelError, "pieces is None; give an integer of at least 1"),  # pyright: ignore
    "LDWPool2d": (lambda: nn.LDWPool2d("x"), ModelError, "taps is 'x', a str; give an integer of at least 2"),  # pyright: ignore
    "ExpectationPool": (lambda: nn.ExpectationPool("x"), GeometryError, "m is 'x', a str; give a number"),  # pyright: ignore
    "LPOverTime": (lambda: nn.LPOverTime("x"), GeometryError, "norm_type is 'x', a str; give a number"),  # pyright: ignore
    "LIPPool2d": (lambda: nn.LIPPool2d(2, logits=3), GeometryError, "logits is 3, a int; give a function"),  # pyright: ignore
    "OrderlessPool": (
        lambda: nn.OrderlessPool(torch.nn.Identity(), patches=3.5),  # pyright: ignore
        ModelError,
        "patches is 3.5, a float; give the size of each level's patches",
    ),
    "a divisor": (
        lambda: ops.avg_pool2d(X, 2, divisor_override="x"),  # pyright: ignore
        GeometryError,
        "divisor_override is 'x', a str; give a number",
    ),
    "ClusterPool": (lambda: nn.ClusterPool(3, "x"), ModelError, "clusters is 'x', a str; give an integer"),  # pyright: ignore
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_refused_in_one_sentence(name: str) -> None:
    call, error, sentence = WRONG[name]
    with pytest.raises(error) as refusal:
        call()
    message = str(refusal.value)
    assert message.startswith(sentence)
    assert "\n" not in message


WINDOWED: dict[str, Callable[[torch.Tensor], Any]] = {
    "max_pool": lambda x: ops.max_pool2d(x, 2),
    "avg_pool": lambda x: ops.avg_pool2d(x, 2),
    "lp_pool": lambda x: ops.lp_pool2d(x, 2, 2),
    "adaptive_max_pool": lambda x: ops.adaptive_max_pool2d(x, 2),
    "weighted_avg_pool": lambda x: ops.weighted_avg_pool2d(x, 3),
    "stochastic_pool": lambda x: ops.stochastic_pool2d(x, 2),
    "soft_pool": lambda x: ops.soft_pool2d(x, 2),
    "gem_pool": ops.gem_pool,
}


@pytest.mark.parametrize("name", WINDOWED)
def test_sparse_tensors_are_refused(name: str) -> None:
    with pytest.raises(GeometryError, match=r"is laid out as torch.sparse_coo; give a dense tensor, .* \.to_dense\(\)"):
        WINDOWED[name](X.to_sparse())


@pytest.mark.parametrize(
    ("pool", "shape"),
    [
        (lambda u: ops.fractional_max_pool2d(X, 2, 2, _random_samples=u), (1, 3, 2)),
        (lambda u: ops.stochastic_pool2d(X, 2, samples=u), (1, 3, 2, 2)),
        (lambda u: ops.max_pool_dropout2d(X, 2, samples=u), (1, 3, 4, 4)),
        (lambda u: ops.s3_pool2d(X, 2, samples=u), (8,)),
    ],
    ids=["fractional", "stochastic", "dropout", "s3"],
)
def test_samples_without_a_number_are_refused(pool: Callable[[torch.Tensor], Any], shape: tuple[int, ...]) -> None:
    samples = torch.full(shape, 0.5)
    for number in (1.0, 5.0, -5.0):  # as PyTorch takes them
        samples.view(-1)[-1] = number
        assert pool(samples).isfinite().all()
    samples.view(-1)[-1] = NAN
    with pytest.raises(GeometryError, match="samples hold a NaN"):
        pool(samples)


def test_samples_that_are_no_tensor_are_refused() -> None:
    with pytest.raises(GeometryError, match=r"samples is 0.5, a float; give a tensor"):
        ops.stochastic_pool2d(X, 2, samples=0.5)  # pyright: ignore
