"""Random numbers for pooling: drawn from a generator, or given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.ops.checks import number
from switchgrad.ops.exporting import AT_RANDOM, refuse_while_exporting


def uniform(like: Tensor, shape: Sequence[int], samples: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """Numbers in [0, 1) of ``shape``, in the dtype and on the device of ``like``: ``samples`` if given, else drawn.

    Raises `GeometryError` where samples have another shape, or where both they and a generator are given.
    """
    if samples is None:
        refuse_while_exporting(*AT_RANDOM)
        if generator is None:  # said or not, PyTorch's other form takes no sizes that stay open
            return torch.rand(tuple(shape), dtype=like.dtype, device=like.device)
        return torch.rand(tuple(shape), dtype=like.dtype, device=like.device, generator=generator)
    if generator is not None:
        raise GeometryError("samples and a generator are both given; the samples are the random numbers, give one")
    if tuple(samples.shape) != tuple(shape):
        raise GeometryError(f"samples have shape {tuple(samples.shape)}; this input takes numbers of {tuple(shape)}")
    return samples.to(like)


def probability(name: str, value: float) -> float:
    """``value``, if it is one."""
    if not 0 <= number(value, name) <= 1:
        raise GeometryError(f"{name} is {value}; give a probability between 0 and 1")
    return value
