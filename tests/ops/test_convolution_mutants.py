"""The harness notices every wrong convolution in tiles, and passes the right one that they derive from."""

from __future__ import annotations

from dataclasses import replace

import torch

import conform
from declarations.convolution import FIVE2, WINOGRAD2
from wrong_convolution import MUTANTS, MUTANTS_OF_FIVE, FiveTaps, Winograd

SEEN = (
    "values_equal_the_loops",
    "values_equal_the_peer",
    "gradients_equal_the_loops",
    "gradients_equal_the_peer",
)


def few(operator: conform.Operator) -> conform.Operator:
    names = ("rows padded alone", "several tiles", "cut tiles")
    return replace(
        operator,
        cases=tuple(case for case in operator.cases if case.name in names),
        dtypes=(torch.float32,),
        gradient_dtypes=(torch.float32,),
        keeps_layout=False,
        large=(),
    )


FEW = few(WINOGRAD2)
FEW_OF_FIVE = replace(few(FIVE2), unbatched=False)  # PyTorch's products of one matrix round as they like

test_mutant = conform.mutant_tests(replace(FEW, mutants=tuple(MUTANTS)))
test_mutant_of_five_taps = conform.mutant_tests(replace(FEW_OF_FIVE, mutants=tuple(MUTANTS_OF_FIVE)))


def test_what_the_mutants_derive_from_is_right() -> None:
    conform.check(conform.stand_in(FEW, "right", Winograd()), SEEN)
    conform.check(conform.stand_in(FEW_OF_FIVE, "right, of five taps", FiveTaps()), SEEN)
