"""The harness notices every wrong convolution in tiles, and passes the right one that they derive from."""

from __future__ import annotations

from dataclasses import replace

import torch

import conform
from declarations.convolution import WINOGRAD2
from wrong_convolution import MUTANTS, Winograd

SEEN = (
    "values_equal_the_loops",
    "values_equal_the_peer",
    "gradients_equal_the_loops",
    "gradients_equal_the_peer",
)
FEW = replace(
    WINOGRAD2,
    cases=tuple(case for case in WINOGRAD2.cases if case.name in ("rows padded alone", "several tiles", "cut tiles")),
    dtypes=(torch.float32,),
    gradient_dtypes=(torch.float32,),
    keeps_layout=False,
    large=(),
)

test_mutant = conform.mutant_tests(replace(FEW, mutants=tuple(MUTANTS)))


def test_what_the_mutants_derive_from_is_right() -> None:
    conform.check(conform.stand_in(FEW, "right", Winograd()), SEEN)
