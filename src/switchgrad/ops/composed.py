"""Second derivatives of fused operators: those of the plain operators that they stand for.

A fused backward is one kernel and has no derivative of its own. Where one is asked for (``create_graph=True``), the
backward is computed from the operator written as a chain of PyTorch's, which differentiates at every order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from switchgrad.ops.routing import is_transformed


def is_differentiated_again() -> bool:
    """Whether the backward that runs now must itself be on the tape or is mapped. The compiler never asks for that."""
    return not torch.compiler.is_compiling() and (torch.is_grad_enabled() or is_transformed())


def gradients(
    chain: Callable[..., Tensor], tensors: Sequence[Tensor | None], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients of ``chain(*tensors)``, on the tape; None for what is None or needs none."""
    with torch.enable_grad():
        values = chain(*tensors)
    wanted = [t for t in tensors if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad(values, wanted, grad, create_graph=True, allow_unused=True))
    return tuple(next(found) if t is not None and t.requires_grad else None for t in tensors)
