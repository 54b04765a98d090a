"""Blurred pooling and Gaussian averages keep what they declare; the harness notices each of the wrong ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import conform
from declarations.filter_pool import blur_pool, weighted_avg_pool
from wrong_filters import BLUR, GAUSSIAN, Blur, Gaussian

FEW = {"dtypes": (torch.float32, torch.bfloat16), "gradient_dtypes": (torch.float32,), "large": (), "laws": ()}
BLURRED = replace(blur_pool(2), cases=blur_pool(2).cases[:4], mutants=tuple(BLUR), **FEW)
AVERAGED = replace(weighted_avg_pool(2), cases=weighted_avg_pool(2).cases[:4], mutants=tuple(GAUSSIAN), **FEW)

test_blur_pool1d = conform.tests(blur_pool(1), traced=False)
test_blur_pool2d = conform.tests(blur_pool(2), traced=False)
test_blur_pool3d = conform.tests(blur_pool(3), traced=False)
test_blur_mutant = conform.mutant_tests(BLURRED)
test_average_mutant = conform.mutant_tests(AVERAGED)


# Each layout rounds in an order of its own (test_filter_pool.py holds both to the reference), and so do both modes of
# differentiation, where a sum is divided by what is no power of two.
ROUNDED = {"layouts_do_not_matter", "gradients_follow_the_layout", "jacobians_agree"}


@pytest.mark.parametrize("name", [run.__name__ for run in conform.QUICK if run.__name__ not in ROUNDED])
@pytest.mark.parametrize("dims", [1, 2])
def test_weighted_avg_pool(dims: int, name: str) -> None:
    conform.check(weighted_avg_pool(dims), [name])


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_nan_and_infinity_reach_what_sees_them(dims: int) -> None:
    spoilt = replace(blur_pool(dims), samples=("special",), dtypes=(torch.float64, torch.float32))
    conform.check(spoilt, ["values_equal_the_loops"])


@pytest.mark.parametrize(("operator", "right"), [(BLURRED, Blur()), (AVERAGED, Gaussian())])
def test_what_the_mutants_derive_from_is_right(operator: conform.Operator, right: Blur | Gaussian) -> None:
    checks = ["values_equal_the_loops", "gradients_equal_the_loops", "layouts_do_not_matter"]
    conform.check(conform.stand_in(operator, "right", right), checks)
