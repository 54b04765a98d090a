"""How learned parameters are shared: one for all windows, one a channel, one a region, or any mixture."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import Window
from switchgrad.ops.checks import check_tensor, known_number
from switchgrad.ops.windows import cells, wide


def proportions(mixing: Tensor | float, input: Tensor, win: Window) -> Tensor:
    """One number a window, ready to broadcast against the pooled map."""
    given = mixing if isinstance(mixing, Tensor) else torch.tensor(known_number(mixing, "mixing"), device=input.device)
    return _shared("mixing", given.to(wide(input)), input, win)


def masks(name: str, weights: Tensor, input: Tensor, win: Window) -> Tensor:
    """One number a cell of a window, ready to broadcast against `windows`."""
    check_tensor(weights, name)
    if weights.shape[-win.dims :] != win.kernel_size:
        raise GeometryError(
            f"{name} has shape {tuple(weights.shape)}; its last axes must be those of the window, {win.kernel_size}"
        )
    flat = weights.to(wide(input)).flatten(-win.dims)
    lead = _shared(name, flat[..., 0], input, win)
    return flat.reshape(*lead.shape, flat.shape[-1])


def filtered(x: Tensor, mask: Tensor, win: Window) -> Tensor:
    """The sum of each window under a mask. Cell by cell: sums over axes as short as a window take longer."""
    total = x.new_zeros(())
    for offset, cell in cells(x, win):
        total = total + cell * mask[..., offset]
    return total


def _shared(name: str, given: Tensor, input: Tensor, win: Window) -> Tensor:
    """With as many axes as a pooled map without its batch, unless it has none."""
    shaped = given.reshape(-1, *[1] * win.dims) if given.dim() == 1 else given
    places = (input.shape[-win.dims - 1], *win.output_size(input.shape[-win.dims :]))
    fits = shaped.dim() in (0, win.dims + 1) and all(
        n in (1, wanted) for n, wanted in zip(shaped.shape, places, strict=False)
    )
    if not fits:
        raise GeometryError(
            f"{name} is shared as {tuple(given.shape)}, which does not broadcast over channels and places {places}; "
            f"give () for all windows, ({places[0]},) for one a channel, or one of each of the {win.dims + 1} axes"
        )
    return shaped
