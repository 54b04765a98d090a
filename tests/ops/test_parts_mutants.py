"""The harness tells every wrong pooling of parts from the right one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import conform
import wrong_parts as wrong
from declarations import parts as declared

FEW = {"dtypes": (torch.float64, torch.float32), "gradient_dtypes": (torch.float64,), "native": False}


def few(operator: conform.Operator, mutants: tuple[conform.Mutant, ...] = ()) -> conform.Operator:
    return replace(operator, mutants=mutants, **FEW)


test_k_max = conform.mutant_tests(few(declared.K_MAX, wrong.K_MAX_MUTANTS))
test_chunks = conform.mutant_tests(few(declared.CHUNK_MAX, wrong.CHUNK_MUTANTS))
test_ranges = conform.mutant_tests(few(declared.K_RANGE, wrong.RANGE_MUTANTS))
test_pyramids = conform.mutant_tests(few(declared.pyramid("max"), wrong.PYRAMID_MUTANTS))
test_average_pyramids = conform.mutant_tests(few(declared.pyramid("average"), wrong.AVERAGE_MUTANTS))
test_vlad = conform.mutant_tests(few(declared.VLAD, wrong.VLAD_MUTANTS))
test_subsampling = conform.mutant_tests(few(declared.SUBSAMPLING, wrong.SUBSAMPLING_MUTANTS))
test_losses = conform.mutant_tests(few(declared.LOSS_MAX, wrong.LOSS_MUTANTS))
test_fractional = conform.mutant_tests(few(declared.FRACTIONAL, wrong.FRACTIONAL_MUTANTS))

test_fractional_random = conform.mutant_tests(few(declared.FRACTIONAL_RANDOM, wrong.RANDOM_MUTANTS))


@pytest.mark.parametrize(
    ("operator", "function"),
    [
        (declared.VLAD, wrong.RIGHT_VLAD),
        (declared.FRACTIONAL, wrong.RIGHT_FRACTIONAL),
        (declared.FRACTIONAL_RANDOM, wrong.RIGHT_RANDOM),
    ],
)
def test_what_the_mutants_derive_from_is_right(operator: conform.Operator, function: object) -> None:
    conform.check(conform.stand_in(few(operator), "right", function), ["values_equal_the_loops"])
