"""Random numbers for pooling: drawn from a generator, or given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.ops.checks import check_tensor, generator_or_none, number
from switchgrad.ops.exporting import AT_RANDOM, refuse_while_exporting
from switchgrad.ops.routing import is_transformed


def uniform(like: Tensor, shape: Sequence[int], samples: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """Numbers in [0, 1) of ``shape``, in the dtype and on the device of ``like``: ``samples`` if given, else drawn.

    Raises `GeometryError` where samples have another shape or are not in [0, 1), or where both they and a generator
    are given. The compiler, transforms and CUDA graphs take samples as they come.
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
    if _may_look_at(samples):
        _check_range(samples)
    return samples.to(like)


def _may_look_at(samples: Tensor) -> bool:
    if torch.compiler.is_compiling() or is_transformed() or samples.is_meta or not samples.numel():
        return False
    return not (samples.is_cuda and torch.cuda.is_current_stream_capturing())


def _check_range(samples: Tensor) -> None:
    least, most = samples.detach().aminmax()
    if not bool((least >= 0) & (most < 1)):  # NaN is neither
        raise GeometryError(
            f"samples hold numbers from {least.item():g} to {most.item():g}; give numbers from 0 to below 1, as "
            "torch.rand makes them"
        )


def probability(name: str, value: float) -> float:
    """``value``, if it is one."""
    if not 0 <= number(value, name) <= 1:
        raise GeometryError(f"{name} is {value}; give a probability between 0 and 1")
    return value
