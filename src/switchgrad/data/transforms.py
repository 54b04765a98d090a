"""What happens to a batch on its way into the network: augmentation and normalisation, all pictures at once.

Both work on the device of the batch and in its memory format, and neither loops over pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.errors import DataError

_SHIFT_SHARE = 8  # shift by up to 1/8 of a side
_CUTOUT_SHARE = 4  # cut out a square of 1/4 of the shorter side
_MOST_TURN = 15.0  # degrees
_LEAST_SCALE, _MOST_SCALE = 0.9, 1.1


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Bytes to the numbers that networks like: float32 ``(images / 255 - mean) / std``, channel by channel.

    ``images`` is ``[N, C, H, W]`` (or one picture ``[C, H, W]``) with values 0 to 255, as uint8 or already as float;
    ``mean`` and ``std`` hold one number a channel, as in `Dataset`. Raises `DataError` where their lengths do not fit
    or a ``std`` is not above 0.

    >>> normalise(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), mean=[0.5], std=[0.25])
    tensor([[[[-2.,  2.]]]])
    """
    if images.ndim < 3:
        raise DataError(f"the images have shape {tuple(images.shape)}; give [N, C, H, W] or [C, H, W]")
    channels = images.shape[-3]
    if len(mean) != channels or len(std) != channels:
        raise DataError(f"mean has {len(mean)} and std {len(std)} numbers for {channels} channels; give one a channel")
    if not all(value > 0 for value in std):
        raise DataError(f"std is {tuple(std)}; every number must be above 0")
    scale = torch.tensor([1 / (255 * value) for value in std], dtype=torch.float32, device=images.device)
    offset = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32, device=images.device)
    values = images.to(torch.float32)
    if values is images:
        return images * scale[:, None, None] - offset[:, None, None]
    return values.mul_(scale[:, None, None]).sub_(offset[:, None, None])


def augment(batch: Tensor, policy: str, generator: torch.Generator) -> Tensor:
    """A changed copy of a batch, each picture changed in its own way, from the random numbers of ``generator``.

    ``batch`` is ``[N, C, H, W]``, uint8 or float; dtype, device and memory format stay. ``policy`` is ``"none"`` or
    names from `POLICIES`, separated by commas and applied in that order:

    - ``shift``: moved by up to 1/8 of a side each way, up, down, left and right; what comes in is 0
    - ``flip``: mirrored left to right, every second picture on average (not for digits and letters)
    - ``cutout``: a square of 1/4 of the shorter side set to 0, at any place, also halfway out of the picture
    - ``affine``: turned by up to 15 degrees and scaled by 0.9 to 1.1, bilinear; what comes in is 0

    The same state of ``generator`` gives the same result. Before `normalise` 0 is black; after it, the mean colour.
    Raises `DataError` for an unknown policy and for a batch of another shape or dtype.

    >>> batch = torch.tensor([1, 2, 3], dtype=torch.uint8).expand(100, 1, 1, 3)
    >>> flipped = augment(batch, "flip", torch.Generator().manual_seed(0))
    >>> flipped.flatten(1).unique(dim=0)
    tensor([[1, 2, 3],
            [3, 2, 1]], dtype=torch.uint8)
    """
    if batch.ndim != 4 or not (batch.dtype == torch.uint8 or batch.is_floating_point()):
        raise DataError(f"the batch is {batch.dtype} of shape {tuple(batch.shape)}; give uint8 or float [N, C, H, W]")
    changed = batch
    for step in check_policy(policy):
        changed = _STEPS[step](changed, generator) if len(batch) else batch
    return changed.contiguous(memory_format=_memory_format(batch))


def _memory_format(batch: Tensor) -> torch.memory_format:
    last = torch.channels_last
    channels_last = batch.is_contiguous(memory_format=last) and not batch.is_contiguous()
    return last if channels_last else torch.contiguous_format


def check_policy(policy: str) -> tuple[str, ...]:
    """The steps of an augmentation policy, in order. Raises `DataError` for one that is not in `POLICIES`.

    >>> check_policy("shift, flip"), check_policy("none")
    (('shift', 'flip'), ())
    """
    steps = tuple(step.strip() for step in policy.split(","))
    if steps in (("none",), ("",)):
        return ()
    unknown = [step for step in steps if step not in _STEPS]
    if unknown:
        raise DataError(
            f'the augmentation policy {policy!r} has {unknown[0]!r}; give "none", or some of '
            f"{', '.join(POLICIES)} separated by commas"
        )
    return steps


def _uniform(count: int, low: float, high: float, batch: Tensor, generator: torch.Generator) -> Tensor:
    values = torch.rand(count, generator=generator, device=generator.device)
    return (low + (high - low) * values).to(batch.device)


def _integers(count: int, low: int, high: int, batch: Tensor, generator: torch.Generator) -> Tensor:
    """Whole numbers from ``low`` to ``high``, both included."""
    return torch.randint(low, high + 1, (count,), generator=generator, device=generator.device).to(batch.device)


def _flip(batch: Tensor, generator: torch.Generator) -> Tensor:
    mirrored = _integers(len(batch), 0, 1, batch, generator).bool()
    return torch.where(mirrored[:, None, None, None], batch.flip(3), batch)


def _shift(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Pad with zeros and, for each picture, pick one of the windows of the old size."""
    height, width = batch.shape[2:]
    up, left = (max(side // _SHIFT_SHARE, 1) for side in (height, width))
    top = _integers(len(batch), 0, 2 * up, batch, generator)
    start = _integers(len(batch), 0, 2 * left, batch, generator)
    windows = functional.pad(batch, (left, left, up, up)).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(batch), device=batch.device), :, top, start]


def _cutout(batch: Tensor, generator: torch.Generator) -> Tensor:
    height, width = batch.shape[2:]
    side = max(min(height, width) // _CUTOUT_SHARE, 1)
    outside: list[Tensor] = []
    for length in (height, width):
        start = _integers(len(batch), -(side // 2), length - 1 - side // 2, batch, generator)[:, None]
        place = torch.arange(length, device=batch.device)
        outside.append((place < start) | (place >= start + side))
    keep = outside[0][:, None, :, None] | outside[1][:, None, None, :]
    return batch.masked_fill(~keep, 0)


def _affine(batch: Tensor, generator: torch.Generator) -> Tensor:
    count, _, height, width = batch.shape
    turn = _uniform(count, -_MOST_TURN, _MOST_TURN, batch, generator).deg2rad()
    scale = _uniform(count, _LEAST_SCALE, _MOST_SCALE, batch, generator)
    sin, cos = turn.sin() / scale, turn.cos() / scale
    zero = torch.zeros_like(sin)
    # grid_sample measures both axes from -1 to 1, so turning a picture that is not square needs its proportions.
    rows = (torch.stack([cos, -sin * height / width, zero], 1), torch.stack([sin * width / height, cos, zero], 1))
    values = batch if batch.dtype == torch.float64 else batch.to(torch.float32)
    grid = functional.affine_grid(torch.stack(rows, 1).to(values.dtype), list(batch.shape), align_corners=False)
    turned = functional.grid_sample(values, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return turned.to(batch.dtype) if batch.is_floating_point() else turned.round_().clamp_(0, 255).to(torch.uint8)


_STEPS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "shift": _shift,
    "flip": _flip,
    "cutout": _cutout,
    "affine": _affine,
}

POLICIES = tuple(_STEPS)
"""The names of which an augmentation policy is made."""
