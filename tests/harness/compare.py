"""Comparing results: bit by bit where the rule is exact, by a yardstick where numbers are rounded."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.samples import BITS


def bits(x: Tensor) -> Tensor:
    """The memory of each number as an integer, so that NaN equals NaN and -0 differs from +0."""
    return x.contiguous().view(BITS[x.element_size()])


def require_same(got: Tensor, wanted: Tensor, what: str) -> None:
    """Refuse any difference of shape, dtype or bits."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        raise AssertionError(f"{what}: got {tuple(got.shape)} {got.dtype}, wanted {tuple(wanted.shape)} {wanted.dtype}")
    ours, theirs = bits(got), bits(wanted)
    if not torch.equal(ours, theirs):
        at = tuple(int(i) for i in (ours != theirs).nonzero()[0])
        count = int((ours != theirs).sum())
        raise AssertionError(
            f"{what}: {count} of {got.numel()} differ, first at {at}: got {got[at].item()!r}, "
            f"wanted {wanted[at].item()!r}"
        )


def require_agree(got: Tensor, wanted: Tensor, exact: bool, what: str) -> None:
    """Two ways to compute the same: bit for bit, or where not ``exact`` up to the rounding of the largest number."""
    if exact or not got.is_floating_point() or not got.numel():
        require_same(got, wanted, what)
        return
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        raise AssertionError(f"{what}: got {tuple(got.shape)} {got.dtype}, wanted {tuple(wanted.shape)} {wanted.dtype}")
    error, largest = (got.double() - wanted.double()).abs().max(), wanted.double().abs().max()
    if not bool(error <= 8 * torch.finfo(got.dtype).eps * largest):
        raise AssertionError(f"{what}: differs by {error:.3g} where the largest number is {largest:.3g}")


def to_array(x: Tensor) -> np.ndarray:
    """As NumPy for the loops; bfloat16 travels as float32, which holds it exactly."""
    return (x.float() if x.dtype == torch.bfloat16 else x).detach().contiguous().numpy()


def from_array(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Back from the loops, in the dtype that went in."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)


def require_same_but_payload(got: Tensor, wanted: Tensor, what: str) -> None:
    """Bit for bit, except that any NaN equals any other: conversions may lose its sign and payload."""
    if got.is_floating_point() and got.dtype == wanted.dtype:
        got, wanted = (torch.where(x.isnan(), torch.full_like(x, torch.nan), x) for x in (got, wanted))
    require_same(got, wanted, what)


def require_equal(got: Tensor, wanted: Tensor, what: str) -> None:
    """The same numbers: -0 equals 0, and any NaN equals any other."""
    require_same_but_payload(got + 0, wanted + 0, what)


def require_near(
    got: Tensor, peer: Tensor, truth: Tensor, factor: float, what: str, *, of_largest: bool = False, units: float = 4
) -> None:
    """The error against float64 is at most ``factor`` times the peer's worst error plus some units in the last place.

    The units are each number's own, or with ``of_largest`` (for sums, in which large numbers may cancel) those of the
    largest. Written as ``not (error <= allowed)``, so that NaN fails.
    """
    if got.shape != truth.shape:
        raise AssertionError(f"{what}: got shape {tuple(got.shape)}, wanted {tuple(truth.shape)}")
    if not got.numel():
        return
    error, allowance = (torch.where(x == truth, 0, (x.double() - truth).abs()) for x in (got, peer))
    size = truth.abs().nan_to_num(posinf=0)
    ulp = torch.finfo(got.dtype).eps * (size.max() if of_largest else size).clamp_min(torch.finfo(got.dtype).tiny)
    allowed = (factor * allowance.max() + units * ulp).expand_as(error)
    if not bool((error <= allowed).all()):
        worst = int((error - allowed).nan_to_num(nan=float("inf")).argmax())
        raise AssertionError(
            f"{what}: error {error.flatten()[worst]:.3g} where {allowed.flatten()[worst]:.3g} is allowed (got "
            f"{got.flatten()[worst].item()!r}, float64 says {truth.flatten()[worst].item()!r})"
        )
