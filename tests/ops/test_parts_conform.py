"""Pooling of parts keeps what it declares; the harness notices each of the wrong ones."""

from __future__ import annotations

import pytest

import conform
from declarations import parts as declared

ALL = [run.__name__ for run in conform.QUICK]
# Layouts and vmap round in orders of their own, and so do both modes of differentiation.
ROUNDED = {"gradients_follow_the_layout", "jacobians_agree", "vmap_is_a_loop"}
CHECKS = [
    *((operator, name) for operator in (declared.K_MAX, declared.CHUNK_MAX, declared.K_RANGE) for name in ALL),
    *((operator, name) for operator in (declared.pyramid("max"), declared.FRACTIONAL) for name in ALL),
    *((declared.FRACTIONAL_RANDOM, name) for name in ("values_equal_the_loops", "gradients_equal_the_loops")),
    *((declared.SUBSAMPLING, name) for name in ALL if name != "gradients_follow_the_layout"),
    *((declared.pyramid("average"), name) for name in ALL if name not in ROUNDED),
    *((declared.VLAD, name) for name in ALL if name not in {*ROUNDED, "autocast_keeps_integers"}),
    # The weights are held constant, which no finite difference knows.
    *((declared.LOSS_MAX, name) for name in ALL if name not in {*ROUNDED, "derivatives_are_right"}),
]


@pytest.mark.parametrize(("operator", "name"), CHECKS, ids=lambda part: getattr(part, "name", part))
def test_parts(operator: conform.Operator, name: str) -> None:
    conform.check(operator, [name])
