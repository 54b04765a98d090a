"""Pooling over boxes keeps what it declares, and the harness tells wrong ones from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import conform
from declarations import regions as declared
from switchgrad import ops
from wrong_regions import ALIGN, AVERAGES, GRADIENTS, MAXIMA, VALUES, Maxima

OPERATORS = {
    operator.name: operator
    for operator in (
        declared.roi_pool(),
        declared.roi_avg_pool(),
        declared.roi_align(),
        declared.ps_roi_pool(),
        declared.ps_roi_align(),
    )
}
# Boxes have no forward mode and are not mapped; test_regions.py has finite differences, of both orders.
UNKNOWN = {"vmap_is_a_loop", "jacobians_agree", "derivatives_are_right"}
CHECKS = [run.__name__ for run in conform.QUICK if run.__name__ not in UNKNOWN]
FEW = {"dtypes": (torch.float32,), "gradient_dtypes": (torch.float32,), "large": ()}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", OPERATORS)
def test_regions_keep_what_they_declare(name: str, check: str) -> None:
    conform.check(OPERATORS[name], [check])


MAXIMUM = replace(OPERATORS["roi_pool"], **FEW)
# Gradients that meet in a cell are added in another order by PyTorch's tape.
ADDED_UP = replace(MAXIMUM, exact=False, cancels=True, samples=("plain", "ties", "negative"))

test_maximum_mutant = conform.mutant_tests(replace(MAXIMUM, mutants=tuple(MAXIMA[VALUES])))
test_gradient_mutant = conform.mutant_tests(replace(ADDED_UP, mutants=tuple(MAXIMA[GRADIENTS])))
test_average_mutant = conform.mutant_tests(replace(OPERATORS["roi_avg_pool"], mutants=AVERAGES, **FEW))
test_align_mutant = conform.mutant_tests(replace(OPERATORS["roi_align"], mutants=ALIGN, **FEW))


def test_what_the_mutants_derive_from_is_right() -> None:
    conform.check(conform.stand_in(MAXIMUM, "right", Maxima()), [VALUES, "layouts_do_not_matter"])
    conform.check(conform.stand_in(ADDED_UP, "right", Maxima()), [VALUES, GRADIENTS])


@pytest.mark.parametrize("name", OPERATORS)
def test_boxes_may_lie_anywhere(name: str) -> None:
    operator = OPERATORS[name]
    case = operator.cases[0]
    x, boxes = operator.draw(case, lambda shape: torch.randn(shape, generator=torch.Generator().manual_seed(2)))
    wanted = getattr(ops, name)(x, boxes, **case.arguments)
    spaced = torch.full((2 * len(boxes), 7), torch.nan)
    spaced[::2, 1:6] = boxes
    for other in (boxes.t().contiguous().t(), spaced[::2, 1:6], boxes.double()):
        assert torch.equal(getattr(ops, name)(x, other, **case.arguments), wanted)
    # A box alone gives what it gives among others.
    for k in range(len(boxes)):
        assert torch.equal(getattr(ops, name)(x, boxes[k : k + 1], **case.arguments), wanted[k : k + 1])
