"""The harness notices every wrong average pooling in `right_average`, and passes the right one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import conform
from declarations.avg_pool import avg_pool
from right_average import MUTANTS, Averaging

FULL = avg_pool(2)
OPERATOR = replace(
    FULL,
    cases=tuple(case for case in FULL.cases if math.prod(case.shapes[0]) < 150 or "255 cells" in case.name),
    dtypes=(torch.float32, torch.bfloat16),
    gradient_dtypes=(torch.float32,),
    large=(),
    laws=(),
    mutants=MUTANTS,
)

test_mutant = conform.mutant_tests(OPERATOR)


@pytest.mark.slow
def test_what_the_mutants_derive_from_is_right() -> None:
    conform.check(conform.stand_in(OPERATOR, "right", Averaging()))
