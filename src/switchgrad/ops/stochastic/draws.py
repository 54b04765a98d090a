"""Random numbers for pooling: drawn from a generator, or given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.ops.checks import check_tensor, generator_or_none
from switchgrad.ops.exporting import AT_RANDOM, refuse_while_exporting
from switchgrad.ops.window_sums import may_be_read


def uniform(like: Tensor, shape: Sequence[int], samples: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """Numbers in [0, 1) of ``shape``, in the dtype and on the device of ``like``: ``samples`` if given, else drawn.

    Raises `GeometryError` where samples have another shape or hold a NaN, or where both they and a generator are given.
    Numbers beyond [0, 1) are taken as the nearest that there are, as in PyTorch (half precision rounds up to 1).
    """
    generator_or_none(generator)
    if samples is None:
        refuse_while_exporting(*AT_RANDOM)
        if generator is None:  # said or not, PyTorch's other form takes no sizes that stay open
            return torch.rand(tuple(shape), dtype=like.dtype, device=like.device)
        return torch.rand(tuple(shape), dtype=like.dtype, device=like.device, generator=generator)
    if generator is not None:
        raise GeometryError("samples and a generator are both given; the samples are the random numbers, give one")
    check_tensor(samples, "samples")
    if tuple(samples.shape) != tuple(shape):
        raise GeometryError(f"samples have shape {tuple(samples.shape)}; this input takes numbers of {tuple(shape)}")
    if may_be_read(samples) and bool(samples.isnan().any()):
        raise GeometryError("samples hold a NaN; give numbers from 0 to 1, as torch.rand makes them")
    return samples.to(like)
