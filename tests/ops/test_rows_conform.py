"""Global pooling and pooling over time keep what they declare; the harness notices each of the wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import conform
from declarations import rows as declared
from wrong_rows import AVERAGES, GENERALISED, LENGTHS, MAXIMA, MEANS_OVER_TIME, NORMS, SPILT, SUMS_OVER_TIME, TOTALS

# Layouts round in orders of their own, and so do both modes of differentiation.
ROUNDED = {"gradients_follow_the_layout", "jacobians_agree"}
CHECKS = [run.__name__ for run in conform.QUICK if run.__name__ not in ROUNDED]
ROOTS = ("values_equal_the_loops", "gradients_equal_the_loops", "layouts_do_not_matter", "the_batch_may_be_empty")
SUMS = (declared.GLOBAL_AVG, declared.GLOBAL_SUM, declared.SUM_OVER_TIME, declared.AVG_OVER_TIME)
FEW = {"dtypes": (torch.float64, torch.bfloat16), "gradient_dtypes": (torch.float64,)}


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("operator", [*SUMS, declared.GEM], ids=lambda operator: operator.name)
def test_rounded(operator: conform.Operator, name: str) -> None:
    conform.check(operator, [name])


@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.parametrize("p", declared.NORMS)
@pytest.mark.parametrize("pool", [declared.global_lp, declared.lp_over_time])
def test_norms(pool: Callable[[float], conform.Operator], p: float, name: str) -> None:
    conform.check(pool(p), [name])


@pytest.mark.parametrize("operator", SUMS, ids=lambda operator: operator.name)
def test_nan_and_infinity_reach_their_row_alone(operator: conform.Operator) -> None:
    conform.check(spoilt(operator), ["values_equal_the_loops"])


@pytest.mark.parametrize("operator", [*SUMS[2:], declared.MAX_OVER_TIME, declared.lp_over_time(3.0)])
def test_padding_may_hold_anything(operator: conform.Operator) -> None:
    conform.check(declared.with_garbage(operator), ["values_equal_the_loops", "gradients_equal_the_loops"])


test_global_max_pool = conform.tests(declared.GLOBAL_MAX, traced=False)
test_max_over_time = conform.tests(declared.MAX_OVER_TIME, traced=False)


def wrong(operator: conform.Operator, mutants: tuple[conform.Mutant, ...]) -> conform.Operator:
    return replace(operator, mutants=mutants, **FEW)


def spoilt(operator: conform.Operator) -> conform.Operator:
    """With NaN and infinities here and there, where sums may have any order."""
    return replace(operator, samples=("special",), dtypes=(torch.float64, torch.float32))


test_wrong_averages = conform.mutant_tests(wrong(declared.GLOBAL_AVG, AVERAGES))
test_wrong_sums = conform.mutant_tests(wrong(declared.GLOBAL_SUM, TOTALS))
test_wrong_maxima = conform.mutant_tests(wrong(declared.GLOBAL_MAX, MAXIMA))
test_wrong_norms = conform.mutant_tests(wrong(declared.global_lp(3.0), NORMS))
test_wrong_generalised_means = conform.mutant_tests(wrong(declared.GEM, GENERALISED))
test_wrong_maxima_over_time = conform.mutant_tests(wrong(declared.MAX_OVER_TIME, LENGTHS))
test_wrong_means_over_time = conform.mutant_tests(wrong(declared.AVG_OVER_TIME, MEANS_OVER_TIME))
test_wrong_sums_over_time = conform.mutant_tests(wrong(declared.SUM_OVER_TIME, SUMS_OVER_TIME))
test_padding_is_never_read = conform.mutant_tests(replace(declared.with_garbage(declared.SUM_OVER_TIME), mutants=SPILT))
