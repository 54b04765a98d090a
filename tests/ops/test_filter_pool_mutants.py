"""Blurred pooling and Gaussian averages keep what they declare; the harness notices each of the wrong ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import conform
from declarations.filter_pool import blur_pool, weighted_avg_pool
from wrong_filters import BLUR, GAUSSIAN, Blur, Gaussian

FEW = {"dtypes": (torch.float32, torch.bfloat16), "gradient_dtypes": (torch.float32,), "large": (), "laws": ()}
BLURRED = replace(blur_pool(2), mutants=tuple(BLUR), **FEW)
AVERAGED = replace(weighted_avg_pool(2), mutants=tuple(GAUSSIAN), **FEW)

test_blur_pool1d = conform.tests(blur_pool(1), traced=False)
test_blur_pool2d = conform.tests(blur_pool(2), traced=False)
test_blur_pool3d = conform.tests(blur_pool(3), traced=False)
test_weighted_avg_pool1d = conform.tests(weighted_avg_pool(1), traced=False)
test_weighted_avg_pool2d = conform.tests(weighted_avg_pool(2), traced=False)
test_blur_mutant = conform.mutant_tests(BLURRED)
test_average_mutant = conform.mutant_tests(AVERAGED)


@pytest.mark.slow
@pytest.mark.parametrize(("operator", "right"), [(BLURRED, Blur()), (AVERAGED, Gaussian())])
def test_what_the_mutants_derive_from_is_right(operator: conform.Operator, right: Blur | Gaussian) -> None:
    conform.check(conform.stand_in(operator, "right", right))
