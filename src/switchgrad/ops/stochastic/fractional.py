"""Fractional max pooling: windows at random distances, so that sizes shrink by any factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple
from switchgrad.ops.exporting import stable_sort
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.placed import Winners, max_at
from switchgrad.ops.routing import is_transformed, is_watched
from switchgrad.ops.stochastic.draws import uniform
from switchgrad.ops.windows import check_floats, per_axis

Pooled: TypeAlias = Any  # Tensor; with return_indices (Tensor, Tensor); with return_switches (Tensor, PlacedSwitches)
Ratio: TypeAlias = "float | Sequence[float]"
Mode: TypeAlias = Literal["pseudorandom", "random"]


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: IntOrTuple,
    output_size: IntOrTuple | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
    mode: Mode = "pseudorandom",
    return_switches: bool = False,
) -> Pooled:
    r"""The largest value of windows whose distances vary at random: pooling by a factor that need not be whole.

    Shapes: ``input`` is :math:`(N, C, H, W)` or :math:`(C, H, W)`, the result has ``output_size`` or
    :math:`\lfloor H \cdot \text{ratio} \rfloor` as spatial axes; float64, float32, float16, bfloat16. Every map has
    windows of its own, which may overlap or leave cells out.

    Along an axis of H cells with P windows of R cells, the first of which starts at 0 and the last at
    :math:`H - R`, the others start at

    .. math:: \text{pseudorandom: } \lfloor \alpha (i + u) \rfloor - \lfloor \alpha u \rfloor, \;
        \alpha = (H - R) / (P - 1), \quad \text{random: sums of } i \text{ steps of } \lfloor \alpha \rfloor
        \text{ or } \lceil \alpha \rceil \text{ in random order}

    Pseudorandom is PyTorch's rule, bit for bit: the same samples, or the same seed, give the same result.
    ``_random_samples`` are numbers u in [0, 1) of shape (N, C, 2), for the columns first as in PyTorch (in random
    mode (N, C, 2, L) with :math:`L = \max P - 1`: the steps with the smallest numbers are the long ones); drawn from
    ``generator`` (default: PyTorch's) where not given. Under ``torch.compile`` give samples: then the compiled result
    is the eager one, while the inductor draws its own numbers. A ``generator`` breaks the compiled graph there
    (``fullgraph=True`` refuses); without one a call is one graph.

    ``return_indices`` adds PyTorch's flat int64 indices, ``return_switches`` our `PlacedSwitches`, of one byte. Ties:
    the first wins. NaN wins, of several the last.

    Backward: each gradient goes to its winner, summed over windows; one byte a pooled cell and the starts are kept.
    Raises `GeometryError` for samples that hold a NaN and for sizes that do not fit: PyTorch crashes for some of them.

    Graham: Fractional max-pooling (2014).

    >>> x = torch.arange(25.0).reshape(1, 5, 5)
    >>> fractional_max_pool2d(x, 2, output_size=3, _random_samples=torch.tensor([[[0.1, 0.4]]])).tolist()
    [[[6.0, 7.0, 9.0], [16.0, 17.0, 19.0], [21.0, 22.0, 24.0]]]
    >>> fractional_max_pool2d(torch.rand(8, 3, 36, 36), 2, output_ratio=2 ** -0.5).shape
    torch.Size([8, 3, 25, 25])
    """
    return _fractional(
        2,
        input,
        kernel_size,
        output_size,
        output_ratio,
        return_indices,
        return_switches,
        _random_samples,
        generator,
        mode,
    )


def fractional_max_pool1d(
    input: Tensor,
    kernel_size: IntOrTuple,
    output_size: IntOrTuple | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
    mode: Mode = "pseudorandom",
    return_switches: bool = False,
) -> Pooled:
    """The largest value of randomly placed stretches of a signal: `fractional_max_pool2d` along one axis.

    Shapes: (N, C, L) or (C, L). PyTorch has none: the same samples give what its pictures of one row give along their
    columns. ``_random_samples`` has shape (N, C, 1), in random mode (N, C, 1, P - 1).

    >>> x = torch.tensor([[0.0, 5.0, 1.0, 4.0, 2.0, 3.0]])
    >>> fractional_max_pool1d(x, 2, output_size=3, _random_samples=torch.tensor([[[0.6]]])).tolist()
    [[5.0, 4.0, 3.0]]
    """
    return _fractional(
        1,
        input,
        kernel_size,
        output_size,
        output_ratio,
        return_indices,
        return_switches,
        _random_samples,
        generator,
        mode,
    )


def fractional_max_pool3d(
    input: Tensor,
    kernel_size: IntOrTuple,
    output_size: IntOrTuple | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
    mode: Mode = "pseudorandom",
    return_switches: bool = False,
) -> Pooled:
    """The largest value of randomly placed boxes of a volume: `fractional_max_pool2d` along three axes.

    ``_random_samples`` has shape (N, C, 3), for depth, rows and columns in this order, as in PyTorch.

    >>> fractional_max_pool3d(torch.rand(1, 6, 6, 6), 2, output_size=(3, 4, 4)).shape
    torch.Size([1, 3, 4, 4])
    """
    return _fractional(
        3,
        input,
        kernel_size,
        output_size,
        output_ratio,
        return_indices,
        return_switches,
        _random_samples,
        generator,
        mode,
    )


def _fractional(
    dims: int,
    input: Tensor,
    kernel_size: IntOrTuple,
    output_size: IntOrTuple | None,
    output_ratio: Ratio | None,
    return_indices: bool,
    return_switches: bool,
    samples: Tensor | None,
    generator: torch.Generator | None,
    mode: Mode,
) -> Pooled:
    name = f"fractional_max_pool{dims}d"
    check_floats(name, input, dims)
    if mode not in ("pseudorandom", "random"):
        raise GeometryError(f'mode is "{mode}"; give "pseudorandom" or "random"')
    if return_indices and return_switches:
        raise GeometryError(
            "return_indices and return_switches are both set; ask for one (switches.to_indices() has the other)"
        )
    size = input.shape[-dims:]
    kernel = per_axis("kernel_size", kernel_size, dims)
    places = _output_size(size, output_size, output_ratio)
    _check_fit(size, kernel, places)
    batch = input.shape[0] if input.dim() == dims + 2 else 1
    shape = (batch, input.shape[-dims - 1], dims, *([max(places) - 1] if mode == "random" else []))
    numbers = uniform(input, shape, samples, generator).reshape(*input.shape[:-dims], *shape[2:])
    winners = (
        _torchs(kernel, places, numbers) if mode == "pseudorandom" and _torch_takes(size, kernel, places) else None
    )
    if winners is not None and not return_switches and not is_watched(input):
        values, indices = winners(input)
        if not input.is_contiguous():
            values, indices = in_layout_of(input, values), in_layout_of(input, indices)
        return (values, indices) if return_indices else values
    rule = _random_starts if mode == "random" else _pseudorandom_starts
    # PyTorch's samples count the axes of a picture from the right, those of a volume from the left.
    order = range(dims) if dims == 3 else reversed(range(dims))
    with torch.no_grad():
        starts = [
            rule(numbers.select(len(input.shape[:-dims]), at), *axis)
            for at, axis in zip(order, zip(size, kernel, places, strict=True), strict=True)
        ]
    values, switches = max_at(input, starts, kernel, winners)
    if return_switches:
        return values, switches
    return (values, switches.to_indices()) if return_indices else values


def _torch_takes(size: Sequence[int], kernel: Sequence[int], places: Sequence[int]) -> bool:
    """Whether PyTorch's kernel may find the winners: in eager mode, and volumes whose windows do more than just fit."""
    if len(size) == 1 or torch.compiler.is_compiling() or is_transformed():
        return False
    return len(size) == 2 or all(p + r - 1 < h for h, r, p in zip(size, kernel, places, strict=True))


_TORCH: dict[int, Any] = {2: functional.fractional_max_pool2d, 3: functional.fractional_max_pool3d}


def _torchs(kernel: tuple[int, ...], places: tuple[int, ...], numbers: Tensor) -> Winners:
    """PyTorch's own kernel, which gives the same bits faster: values and indices for the same samples."""
    pool = _TORCH[len(kernel)]

    def winners(input: Tensor) -> tuple[Tensor, Tensor]:
        batch = numbers if input.dim() == len(kernel) + 2 else numbers.unsqueeze(0)
        return pool(input, kernel, places, return_indices=True, _random_samples=batch)

    return winners


def _output_size(size: Sequence[int], output_size: IntOrTuple | None, ratio: Ratio | None) -> tuple[int, ...]:
    dims = len(size)
    if (output_size is None) == (ratio is None):
        raise GeometryError("give either output_size or output_ratio")
    if output_size is not None:
        return per_axis("output_size", output_size, dims)
    ratios = tuple(ratio) if isinstance(ratio, Sequence) else (ratio,) * dims
    if len(ratios) != dims or any(r is None or not 0 < r < 1 for r in ratios):
        raise GeometryError(f"output_ratio is {ratio!r}; give a number between 0 and 1, or {dims} of them")
    return tuple(int(h * r) for h, r in zip(size, ratios, strict=True) if r is not None)


def _check_fit(size: Sequence[int], kernel: Sequence[int], places: Sequence[int]) -> None:
    for axis, (h, r, p) in enumerate(zip(size, kernel, places, strict=True)):
        if p < 1 or p + r - 1 > h:
            raise GeometryError(
                f"{p} windows of {r} cells do not fit in the {h} cells along spatial axis {axis}; the output size must "
                f"be between 1 and {h - r + 1}"
            )


def _pseudorandom_starts(u: Tensor, size: int, kernel: int, places: int) -> Tensor:
    """``floor((i + u) alpha) - floor(u alpha)``, rounded as PyTorch rounds: in the dtype of the input."""
    last = torch.full((*u.shape, 1), size - kernel, dtype=torch.int64, device=u.device)
    if places == 1:
        return last
    alpha = u.new_full((), size - kernel) / u.new_full((), places - 1)
    steps = torch.arange(places - 1, dtype=u.dtype, device=u.device)
    u = u.unsqueeze(-1)
    starts = ((steps + u) * alpha).to(torch.int64) - (u * alpha).to(torch.int64)
    return torch.cat([starts, last], -1)


def _random_starts(u: Tensor, size: int, kernel: int, places: int) -> Tensor:
    """Steps of ``floor(alpha)``, and one more for as many of the smallest numbers as are needed to reach the end."""
    if places == 1:
        return torch.full((*u.shape[:-1], 1), size - kernel, dtype=torch.int64, device=u.device)
    short, more = divmod(size - kernel, places - 1)
    ranks = stable_sort(u[..., : places - 1]).indices.argsort(-1)
    steps = short + (ranks < more).to(torch.int64)
    return torch.cat([torch.zeros_like(steps[..., :1]), steps.cumsum(-1)], -1)
