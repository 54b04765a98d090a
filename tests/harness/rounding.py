"""What a rounded result is measured against: the loops in a wider precision, and where rounding decides nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.compare import from_array, require_equal, require_near, require_same_but_payload, to_array
from harness.declaration import Case, Operator


def _wide(x: Tensor) -> np.ndarray:
    return to_array(x.double()).astype(np.longdouble) if x.is_floating_point() else to_array(x)


def truth(loops: Any, case: Case, *tensors: Tensor) -> list[Tensor]:
    """What the loops make of the tensors in the widest precision that NumPy has, rounded to float64 at the end."""
    return [
        torch.from_numpy(a.astype(np.float64) if a.dtype.kind == "f" else a)
        for a in loops(*map(_wide, tensors), **case.arguments)
    ]


class Judge:
    """What the loops say of one call, and how closely results must agree with it."""

    def __init__(self, operator: Operator, case: Case, kind: str, given: tuple[Tensor, ...]) -> None:
        self.exact = operator.is_exact(kind, given[0].dtype)
        self.same, self.sums = (require_equal if operator.sums else require_same_but_payload), operator.sums
        self.yardstick, self.units = operator.yardstick, operator.units
        self.cancels = operator.cancels
        self.wanted = operator.reference(*map(to_array, given), **case.arguments)
        self.sure: Tensor | None = None
        if self.exact:
            return
        self.truth = truth(operator.reference, case, *given)[0]
        if operator.settled is not None:
            eps = torch.finfo(given[0].dtype).eps
            self.sure = torch.from_numpy(operator.settled(eps, *map(_wide, given), **case.arguments))

    def judge(self, got: tuple[Tensor, ...], what: str) -> None:
        """Values as the loops have them, by yardstick where they are rounded; all else the same where it is settled."""
        wanted = [from_array(w, g.dtype) for g, w in zip(got, self.wanted, strict=True)]
        if self.exact:
            self.same(got[0], wanted[0], f"{what}: values")
        else:
            plain = wanted[0] if self.sums else self.truth.to(got[0].dtype)
            allowed = {"of_largest": self.sums or self.cancels, "units": self.units}
            require_near(got[0], plain, self.truth, self.yardstick, f"{what}: values", **allowed)
        for i, (left, right) in enumerate(zip(got[1:], wanted[1:], strict=True), 1):
            if self.sure is not None and left.shape == right.shape:
                left, right = left[self.sure], right[self.sure]
            require_same_but_payload(left, right, f"{what}: output {i}")
