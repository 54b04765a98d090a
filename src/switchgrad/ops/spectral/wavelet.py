"""Wavelet pooling: one step of a discrete wavelet transform, with Haar's or with learned filters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.errors import GeometryError
from switchgrad.ops import linear_maps
from switchgrad.ops.checks import check_tensor
from switchgrad.ops.filter_pool import REPLICATE, Filter, products
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.windows import check_floats, wide


def wavelet_bands2d(
    input: Tensor,
    low: Tensor | None = None,
    high: Tensor | None = None,
) -> Tensor:
    r"""All bands of one step of a wavelet transform: half the size, four times the maps, nothing lost.

    Shapes: ``input`` is (N, C, H, W) or (C, H, W), the result (N, C, 4, P, Q) or (C, 4, P, Q) with
    :math:`P = \lceil H / 2 \rceil`; the bands are LL, LH, HL, HH, the first letter for the rows' axis, L for the
    low-pass filter. float64, float32, float16, bfloat16. ``low`` and ``high`` are filters of one even length K, Haar's
    :math:`(1, 1) / \sqrt 2` and :math:`(1, -1) / \sqrt 2` where not given.

    .. math:: L_p = \sum_k l_k x_{2p + k - (K - 2) / 2}, \quad H_p = \sum_k h_k x_{2p + k - (K - 2) / 2}

    along each axis in turn; the border's values continue beyond it. NaN spreads to the cells that see it.

    Backward: linear in the input and in each filter. Raises `GeometryError` for shapes that do not fit.

    Mallat: A theory for multiresolution signal decomposition (1989).

    >>> wavelet_bands2d(torch.tensor([[[3.0, 9.0], [0.0, 6.0]]])).flatten().round()
    tensor([ 9., -6.,  3.,  0.])
    """
    return _bands(2, input, low, high)


def wavelet_bands1d(
    input: Tensor,
    low: Tensor | None = None,
    high: Tensor | None = None,
) -> Tensor:
    """Low and high band of each signal: `wavelet_bands2d` along one axis, (N, C, 2, P).

    >>> wavelet_bands1d(torch.tensor([[1.0, 3.0]]), torch.tensor([0.5, 0.5]), torch.tensor([0.5, -0.5])).flatten()
    tensor([ 2., -1.])
    """
    return _bands(1, input, low, high)


def wavelet_bands3d(
    input: Tensor,
    low: Tensor | None = None,
    high: Tensor | None = None,
) -> Tensor:
    """All eight bands of each volume: `wavelet_bands2d` along three axes, (N, C, 8, O, P, Q).

    >>> wavelet_bands3d(torch.ones(1, 2, 4, 4)).shape
    torch.Size([1, 8, 1, 2, 2])
    """
    return _bands(3, input, low, high)


def wavelet_pool2d(
    input: Tensor,
    low: Tensor | None = None,
) -> Tensor:
    r"""The low band of one step of a wavelet transform, as a picture of half the size.

    Shapes: ``input`` is (N, C, H, W) or (C, H, W), the result has :math:`\lceil H / 2 \rceil` rows. ``low`` as for
    `wavelet_bands2d`, with Haar's filter where not given: then it is twice the average of 2 x 2 cells.

    The paper transforms twice and goes back once from the second step's bands; as that inverse is exact, what it keeps
    is the low band of the first step, which is taken here at once. Backward: the adjoint of the filter.

    Williams, Li: Wavelet pooling for convolutional neural networks (2018).

    >>> wavelet_pool2d(torch.tensor([[[3.0, 9.0], [0.0, 6.0]]])).item()
    9.0
    """
    return _low(2, input, low)


def wavelet_pool1d(
    input: Tensor,
    low: Tensor | None = None,
) -> Tensor:
    """The low band of each signal: `wavelet_pool2d` along one axis.

    >>> wavelet_pool1d(torch.tensor([[1.0, 3.0, 5.0]]), torch.tensor([0.5, 0.5]))
    tensor([[2., 5.]])
    """
    return _low(1, input, low)


def wavelet_pool3d(
    input: Tensor,
    low: Tensor | None = None,
) -> Tensor:
    """The low band of each volume: `wavelet_pool2d` along three axes.

    >>> wavelet_pool3d(torch.ones(1, 2, 2, 2)).item() > 2.8
    True
    """
    return _low(3, input, low)


def ldw_pool2d(
    input: Tensor,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    r"""All bands of a learned wavelet step, summed by their energy: learning discrete wavelet pooling.

    Shapes: ``input`` is (N, C, H, W) or (C, H, W), the result has :math:`\lceil H / 2 \rceil` rows. Filters and bands
    as for `wavelet_bands2d`.

    .. math:: y = \sum_b w_b B_b, \quad w_b = E_b / \sum_a E_a, \quad E_b = \text{mean}(B_b^2)

    for each map by itself, so that the band that holds most of it counts most. The four learned bands and the attention
    by energy are the paper's; that the shares are the energies' own, without further weights, is the rule here. A map
    of zeros gives zeros, with equal shares. NaN makes its map NaN.

    Backward: through bands and shares, to the input and both filters.

    Wang, Hsieh, Chang, Chen, Ke, Lyu: Learnable discrete wavelet pooling (LDW-Pooling) for convolutional networks
    (2021).

    >>> haar = torch.tensor([0.5, 0.5]), torch.tensor([0.5, -0.5])
    >>> ldw_pool2d(torch.full((1, 4, 4), 3.0), *haar)                 # a flat map is all in its low band
    tensor([[[3., 3.],
             [3., 3.]]])
    """
    return _ldw(2, input, low, high)


def ldw_pool1d(
    input: Tensor,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """Both bands of each signal by their energy: `ldw_pool2d` along one axis.

    >>> ldw_pool1d(torch.tensor([[2.0, 2.0, 4.0, 4.0]]), torch.tensor([0.5, 0.5]), torch.tensor([0.5, -0.5]))
    tensor([[2., 4.]])
    """
    return _ldw(1, input, low, high)


def ldw_pool3d(
    input: Tensor,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """All bands of each volume by their energy: `ldw_pool2d` along three axes.

    >>> ldw_pool3d(torch.ones(1, 2, 2, 2), torch.tensor([0.5, 0.5]), torch.tensor([0.5, -0.5])).item()
    1.0
    """
    return _ldw(3, input, low, high)


def _filter(given: Tensor | None, signs: tuple[float, float], like: Tensor) -> Tensor:
    if given is None:
        return torch.tensor(signs, dtype=like.dtype, device=like.device) * 0.5**0.5
    check_tensor(given, "a filter")
    if given.dim() != 1 or given.shape[0] < 2 or given.shape[0] % 2:
        raise GeometryError(f"a wavelet filter has shape {tuple(given.shape)}; give (K,) with an even K")
    return given.to(like)


def _filtered(x: Tensor, taps: Tensor, axis: int) -> Tensor:
    """Every second place of a correlation along an axis, the border's values continued."""
    side = (taps.shape[0] - 2) // 2
    x = x.movedim(axis, -1)
    lead = x.shape[:-1]
    laid = functional.pad(x.reshape(math.prod(lead), 1, x.shape[-1]), (side, side + x.shape[-1] % 2), mode="replicate")
    laid = laid.reshape(*lead, laid.shape[-1])
    reach = laid.shape[-1] - taps.shape[0] + 1
    # Tap by tap: sums over an axis as short as a filter take several times as long.
    found = taps[0] * laid[..., 0:reach:2]
    for i in range(1, taps.shape[0]):
        found = found + taps[i] * laid[..., i : i + reach : 2]
    return found.movedim(-1, axis)


def _bands(dims: int, input: Tensor, low: Tensor | None, high: Tensor | None, name: str = "wavelet_bands") -> Tensor:
    check_floats(f"{name}{dims}d", input, dims)
    x = wide(input)
    filters = _filter(low, (1, 1), x), _filter(high, (1, -1), x)
    if filters[0].shape != filters[1].shape:
        raise GeometryError(f"the filters have {len(filters[0])} and {len(filters[1])} taps; give as many")
    bands = [x]
    for axis in range(-dims, 0):
        bands = [_filtered(band, taps, axis) for band in bands for taps in filters]
    return torch.stack(bands, -dims - 1).to(input.dtype)


def _low(dims: int, input: Tensor, low: Tensor | None) -> Tensor:
    check_floats(f"wavelet_pool{dims}d", input, dims)
    if low is None:
        return linear_maps.apply(input, _haar(dims, input.shape[-dims:]))
    x = wide(input)
    taps = _filter(low, (1, 1), x)
    for axis in range(-dims, 0):
        x = _filtered(x, taps, axis)
    return in_layout_of(input, x.to(input.dtype))


def _haar(dims: int, size: Sequence[int]) -> Filter:
    """The low band of Haar's filters as sums of windows; odd sizes go on with their last value."""
    return Filter(
        weights=products([[0.5**0.5] * 2] * dims),
        kernel_size=(2,) * dims,
        stride=(2,) * dims,
        before=(0,) * dims,
        dilation=(1,) * dims,
        places=tuple((h + 1) // 2 for h in size),
        border=REPLICATE,
    )


def _ldw(dims: int, input: Tensor, low: Tensor, high: Tensor) -> Tensor:
    check_floats(f"ldw_pool{dims}d", input, dims)
    bands = _bands(dims, wide(input), low, high, "ldw_pool")
    energy = bands.square().mean(tuple(range(-dims, 0)), keepdim=True)
    total = energy.sum(-dims - 1, keepdim=True)
    shares = torch.where(total == 0, 0.5**dims, energy / torch.where(total == 0, 1, total))
    return in_layout_of(input, (shares * bands).sum(-dims - 1).to(input.dtype))
