"""The harness notices every wrong max pooling in `mutants`, and passes the right one that they derive from."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import conform
import mutants
from declarations.max_pool import max_pool
from right_pooling import Pooling

FULL = max_pool(2)
OPERATOR = replace(
    FULL,
    cases=tuple(
        case
        for case in FULL.cases
        if (len(case.shapes[0]) == 4 and math.prod(case.shapes[0]) < 150) or "odd, ceil" in case.name
    ),
    dtypes=(torch.float32, torch.bfloat16, torch.uint8, torch.int32),
    gradient_dtypes=(torch.float32,),
    large=tuple(case for case in FULL.cases if case.name == "3x3/1"),
    mutants=tuple(mutants.MUTANTS),
)

test_mutant = conform.mutant_tests(OPERATOR)


@pytest.mark.slow
def test_what_the_mutants_derive_from_is_right() -> None:
    conform.check(conform.stand_in(OPERATOR, "right", Pooling()))
