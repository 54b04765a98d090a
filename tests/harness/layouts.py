"""The same numbers in many memory layouts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format


def _spaced(x: Tensor, axis: int, step: int, offset: int = 0) -> Tensor:
    """``x`` as every ``step``-th slice of something larger along an axis."""
    shape = list(x.shape)
    shape[axis] = shape[axis] * step + offset
    wide = _garbage(shape, x.dtype)
    view = wide.narrow(axis, offset, shape[axis] - offset)[
        (slice(None),) * (axis % x.dim()) + (slice(None, None, step),)
    ]
    return view.copy_(x)


def _garbage(shape: list[int], dtype: torch.dtype) -> Tensor:
    """Memory that shows up in a result that reads it: NaN, or the largest integer."""
    return torch.full(shape, torch.nan if dtype.is_floating_point else torch.iinfo(dtype).max, dtype=dtype)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)


def _permuted(x: Tensor, *order: int) -> Tensor:
    """``x`` whose memory runs in another order of the axes."""
    back = [order.index(i) for i in range(len(order))]
    return x.permute(*order).contiguous().permute(*back)


COMPACT = ("contiguous", "channels last")


def layouts(x: Tensor, *only: str) -> dict[str, Tensor]:
    """``x`` with equal numbers and other strides or offsets; all that fit its number of axes, or those named."""
    makers = ANY_LAYOUT | (CHANNELS_LAST if x.dim() in (4, 5) else {})
    return {name: make(x) for name, make in makers.items() if not only or name in only}


ANY_LAYOUT: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "odd offset": lambda x: _spaced(x.flatten(), 0, 1, offset=1).reshape(x.shape),
    "every second column": lambda x: _spaced(x, -1, 2),
    "every third row": lambda x: _spaced(x, -2, 3),
    "inside a larger map": lambda x: _spaced(_spaced(x, -1, 1, offset=3), 0, 2),
    "last two axes swapped": lambda x: _permuted(x, *range(x.dim() - 2), x.dim() - 1, x.dim() - 2),
    "batch innermost": lambda x: _permuted(x, *range(1, x.dim()), 0),
}
CHANNELS_LAST: dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": _channels_last,
    "some channels, last": lambda x: _channels_last(torch.cat([x, x.flip(0)], 1)).narrow(1, 0, x.shape[1]),
    "some columns, channels last": lambda x: _channels_last(torch.cat([x.flip(0), x], -1))[..., x.shape[-1] :],
    "channels last, every second row": lambda x: _channels_last(x.repeat_interleave(2, dim=2))[:, :, ::2],
}


def placed(given: tuple[Tensor, ...], weights: tuple[int, ...], *only: str) -> dict[str, tuple[Tensor, ...]]:
    """The tensors given, in turn with the first and each of ``weights`` (of three axes or more) in other layouts."""
    found = {name: (first, *given[1:]) for name, first in layouts(given[0], *only).items()}
    for i in weights:
        if 0 < i < len(given) and given[i].dim() >= 3:
            for name, t in layouts(given[i], *only).items():
                found[f"tensor {i} {name}"] = (*given[:i], t, *given[i + 1 :])
    return found


def expanded(x: Tensor) -> dict[str, Tensor]:
    """Views of ``x`` that repeat a slice without copying it: strides of 0. Their numbers differ from ``x``."""
    return {
        f"axis {axis} expanded": x.narrow(axis, 0, 1).expand(x.shape) for axis in range(x.dim()) if x.shape[axis] > 1
    }


def follows(result: Tensor, given: Tensor) -> bool:
    """Whether ``result`` is compact in the memory format of ``given``; axes of one cell have no order."""
    either = (suggest_memory_format(given), *([torch.channels_last] if lies_in_both(given) else []))
    wanted = (torch.empty(result.shape, memory_format=one).stride() for one in either)
    return any(same_strides(result.shape, result.stride(), one) for one in wanted)


def lies_in_both(x: Tensor) -> bool:
    """Whether ``x`` has one channel, so that it is planar and channels last at once."""
    return x.dim() == 4 and x.shape[1] == 1


def same_strides(shape: torch.Size, left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    """Whether two strides lay out a shape alike; axes of one cell have no order, and nothing has no layout."""
    return 0 in shape or all(a == b for size, a, b in zip(shape, left, right, strict=True) if size > 1)
