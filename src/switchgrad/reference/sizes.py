"""Sizes that must fit, and the sentence that says so where they do not."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from switchgrad.errors import GeometryError


def expect(what: str, given: Sequence[int], wanted: Sequence[int | None]) -> None:
    """Refuse a shape other than ``wanted``, in which None stands for any size."""
    if len(given) != len(wanted) or any(w not in (g, None) for g, w in zip(given, wanted, strict=True)):
        raise GeometryError(f"{what} has shape {tuple(given)}; wanted {_written(wanted)}")


def expect_filters(x: Tensor, w: Tensor, b: Tensor, groups: int) -> None:
    """Refuse filters ``w [K, C/G, *R]`` whose depth is not that of the input ``x [N, C, *H]``, or that G parts not."""
    if groups < 1 or w.dim() < 3 or x.dim() != w.dim() or w.shape[0] % groups or x.shape[1] != w.shape[1] * groups:
        raise GeometryError(
            f"filters of shape {tuple(w.shape)} in {groups} groups do not fit an input of shape {tuple(x.shape)}; "
            "filters are [K, C/G, *R] over inputs [N, C, *H], and G must divide K and C"
        )
    expect("the bias", b.shape, w.shape[:1])


def _written(wanted: Sequence[int | None]) -> str:
    sizes = ", ".join("any" if size is None else str(size) for size in wanted)
    return f"({sizes},)" if len(wanted) == 1 else f"({sizes})"
