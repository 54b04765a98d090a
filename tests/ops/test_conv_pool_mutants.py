"""The harness notices every wrong fused convolution and pooling, and passes the right one that they derive from."""

from __future__ import annotations

from dataclasses import replace

import conform
from declarations.conv_pool import FEW
from wrong_conv_pool import MUTANTS, ConvPooling

SEEN = (
    "values_equal_the_loops",
    "values_equal_the_peer",
    "threads_do_not_matter",
    "gradients_equal_the_loops",
    "gradients_equal_the_peer",
    "gradients_are_deterministic",
)

test_mutant = conform.mutant_tests(replace(FEW, mutants=tuple(MUTANTS)))


def test_what_the_mutants_derive_from_is_right() -> None:
    conform.check(conform.stand_in(FEW, "right", ConvPooling()), SEEN)
