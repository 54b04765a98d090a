"""Pooling over time, of padded sequences too: max, average, sum and Lp over time; k-max and chunk-max pooling."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple
from switchgrad.ops.adaptive_pool import adaptive_max_pool1d
from switchgrad.ops.avg_pool.reference import wide
from switchgrad.ops.checks import check_floats, check_tensor, count
from switchgrad.ops.exporting import stable_sort
from switchgrad.ops.global_pool import global_lp_pool, global_max_pool
from switchgrad.ops.lp_pool import checked_norm
from switchgrad.ops.max_pool import DTYPES, max_pool1d
from switchgrad.ops.window_sums import may_be_read

__all__ = [
    "avg_over_time",
    "chunk_max_pool",
    "dynamic_k",
    "k_max_pool",
    "k_range_max_pool",
    "lp_over_time",
    "max_over_time",
    "sum_over_time",
]


def max_over_time(input: Tensor, *, lengths: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    r"""The largest value of each feature over a sequence: was the feature there, at any time?

    Shapes: ``input`` is :math:`(N, C, L)`, the result :math:`(N, C)`. Of padded sequences only the valid steps count:
    give ``lengths``, integers (N) from 0 to L, the number of valid steps from the start; or ``mask``, booleans (N, L),
    True where valid. What lies in the padding, NaN too, has no influence and gets no gradient.

    .. math:: \hat c_{n,c} = \max_{t\ \mathrm{valid}} x_{n,c,t}

    The first of several maxima wins, NaN wins. A sequence without a valid step gives -inf and no gradient.

    Raises `GeometryError` for other axes, both ``lengths`` and ``mask``, or ones of another shape or type.

    Collobert et al.: Natural language processing (almost) from scratch (2011); Kim: Convolutional neural networks for
    sentence classification (2014).

    >>> import torch
    >>> x = torch.tensor([[[1.0, 5.0, 9.0]], [[1.0, 5.0, 9.0]]])
    >>> max_over_time(x, lengths=torch.tensor([2, 3]))
    tensor([[5.],
            [9.]])
    """
    valid = _valid(input, lengths, mask, "max_over_time")
    if valid is None:
        return global_max_pool(input)
    # A gradient of where() stops at the padding; a row without a valid step has -inf throughout.
    steps = torch.where(valid, input, -math.inf)
    if mask is None:
        return global_max_pool(steps)
    winner = global_max_pool(steps.detach(), keepdim=True, return_indices=True)[1]
    first_valid = valid.to(torch.int64).argmax(-1, keepdim=True)  # where padding before it was as large
    winner = torch.where(valid.expand_as(input).gather(-1, winner), winner, first_valid)
    return steps.gather(-1, winner).squeeze(-1)


def avg_over_time(input: Tensor, *, lengths: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """The mean of each feature over the valid steps of a sequence; without one, 0.

    Shapes, ``lengths``, ``mask`` and errors as for `max_over_time`. Backward: each valid step gets its equal share.

    >>> import torch
    >>> avg_over_time(torch.tensor([[[1.0, 5.0, 9.0]]]), lengths=torch.tensor([2]))
    tensor([[3.]])
    """
    valid = _valid(input, lengths, mask, "avg_over_time")
    if valid is None:
        return input.mean(-1)
    count = valid.sum(-1).clamp_min(1)
    return (torch.where(valid, input, 0).sum(-1, dtype=wide(input.dtype)) / count).to(input.dtype)


def sum_over_time(input: Tensor, *, lengths: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """The sum of each feature over the valid steps of a sequence.

    Shapes, ``lengths``, ``mask`` and errors as for `max_over_time`.

    >>> import torch
    >>> sum_over_time(torch.tensor([[[1.0, 5.0, 9.0]]]), mask=torch.tensor([[True, False, True]]))
    tensor([[10.]])
    """
    valid = _valid(input, lengths, mask, "sum_over_time")
    return (input if valid is None else torch.where(valid, input, 0)).sum(-1)


def lp_over_time(
    input: Tensor, norm_type: float, *, lengths: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """The p-norm of each feature over the valid steps of a sequence; p, signs and derivatives as for `lp_pool1d`.

    Shapes, ``lengths``, ``mask`` and errors as for `max_over_time`; without a valid step the norm is 0.

    >>> import torch
    >>> lp_over_time(torch.tensor([[[3.0, -4.0, 12.0]]]), 2, lengths=torch.tensor([2]))
    tensor([[5.]])
    """
    valid, p = _valid(input, lengths, mask, "lp_over_time"), checked_norm(norm_type)
    return global_lp_pool(input if valid is None else torch.where(valid, input, 0), p)


def k_max_pool(input: Tensor, k: int, *, return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    r"""The k largest values along the last axis, in the order in which they came.

    Shapes: :math:`(\ldots, L)` to :math:`(\ldots, k)`; ``return_indices`` adds where they stood (int64). Of equal
    values the earlier ones are kept; NaN counts as the largest. Backward: each kept value's place gets its gradient.

    Raises `GeometryError` for k below 1 or above L.

    Kalchbrenner, Grefenstette, Blunsom: A convolutional neural network for modelling sentences (2014). `dynamic_k`
    has their rule for k.

    >>> import torch
    >>> k_max_pool(torch.tensor([[4.0, 1.0, 7.0, 5.0, 5.0]]), 3)
    tensor([[7., 5., 5.]])
    >>> k_max_pool(torch.tensor([[4.0, 1.0, 7.0, 5.0, 5.0]]), 2, return_indices=True)[1]
    tensor([[2, 3]])
    """
    check_tensor(input, "the input of k_max_pool")
    if not (input.is_floating_point() or input.dtype in DTYPES):
        raise GeometryError(f"the input has dtype {input.dtype}; k_max_pool takes the dtypes of max_pool1d")
    if input.dim() < 1 or not 1 <= count(k, "k") <= input.shape[-1]:
        raise GeometryError(
            f"k is {k} for an input of shape {tuple(input.shape)}; give 1 to {input.shape[-1] if input.dim() else 0}, "
            "the length of its last axis"
        )
    indices = _greatest(input.detach(), k).sort(dim=-1).values
    values = input.gather(-1, indices)
    return (values, indices) if return_indices else values


def _greatest(input: Tensor, k: int) -> Tensor:
    """Where the k largest stand, the earlier of equal ones."""
    if may_be_read(input):
        values, places = input.topk(k)
        # It may keep any of several equal values; where no more than k are as large as the least, it had no choice.
        if input.numel() - int((input < values[..., -1:]).sum()) == places.numel():
            return places
    return stable_sort(input, descending=True).indices[..., :k]


def dynamic_k(layer: int, layers: int, length: int, k_top: int) -> int:
    """How many values `k_max_pool` keeps at convolution ``layer`` of ``layers``: max(k_top, ceil((L - l) / L * s)).

    ``length`` (s) is that of the sentence, ``k_top`` the k of the last layer.

    >>> [dynamic_k(layer, 3, 18, 3) for layer in (1, 2, 3)]
    [12, 6, 3]
    """
    if not 1 <= layer <= layers or length < 1 or k_top < 1:
        raise GeometryError(
            f"layer {layer} of {layers}, length {length}, k_top {k_top}: give 1 <= layer <= layers, and the others at "
            "least 1"
        )
    return max(k_top, -(-(layers - layer) * length // layers))


def chunk_max_pool(input: Tensor, chunks: int) -> Tensor:
    """The largest value of each of ``chunks`` equal parts of a sequence: what, and roughly when.

    Shapes: (N, C, L) or (C, L) to (N, C, ``chunks``); parts as for `adaptive_max_pool1d`, of which this is a name.
    Backward: each gradient goes to its part's winner.

    Chen et al.: Event extraction via dynamic multi-pooling convolutional neural networks (2015).

    >>> import torch
    >>> chunk_max_pool(torch.tensor([[1.0, 5.0, 2.0, 9.0]]), 2)
    tensor([[5., 9.]])
    """
    return adaptive_max_pool1d(input, chunks)


def k_range_max_pool(input: Tensor, k: int, stride: IntOrTuple | None = None) -> Tensor:
    """Was the feature anywhere within k steps? The largest value of each range of ``k``, the last one perhaps shorter.

    Shapes: (N, C, L) or (C, L) to ceil(L / k) ranges (or ranges ``stride`` apart). `max_pool1d` in ceil mode.

    >>> import torch
    >>> k_range_max_pool(torch.tensor([[1.0, 5.0, 2.0, 9.0, 4.0]]), 2)
    tensor([[5., 9., 4.]])
    """
    return max_pool1d(input, k, stride, ceil_mode=True)


def _check_lengths(lengths: Tensor, steps: int) -> None:
    """Refuse lengths that the sequences do not have, where looking at them makes nobody wait."""
    if not may_be_read(lengths):
        return
    least, most = (int(n) for n in lengths.aminmax())
    if least < 0 or most > steps:
        raise GeometryError(
            f"lengths go from {least} to {most}, and the sequences have {steps} steps; give 0 to {steps}"
        )


def _valid(input: Tensor, lengths: Tensor | None, mask: Tensor | None, name: str) -> Tensor | None:
    """Booleans (N, 1, L), True where a step counts; None where all do."""
    check_floats(input, 1, name)
    check_tensor(input, f"the input of {name}")
    if input.dim() != 3:
        raise GeometryError(f"{name} takes an input (N, C, L); this one has shape {tuple(input.shape)}")
    if lengths is not None and mask is not None:
        raise GeometryError("lengths and mask are both given; give one of them")
    batch, steps = input.shape[0], input.shape[-1]
    if mask is not None:
        check_tensor(mask, "mask")
        if mask.dtype != torch.bool or tuple(mask.shape) != (batch, steps):
            raise GeometryError(
                f"mask has shape {tuple(mask.shape)} and dtype {mask.dtype}; give booleans of shape {(batch, steps)}"
            )
        return mask.unsqueeze(1)
    if lengths is None:
        return None
    check_tensor(lengths, "lengths")
    if lengths.dtype not in (torch.int64, torch.int32) or tuple(lengths.shape) != (batch,):
        raise GeometryError(
            f"lengths have shape {tuple(lengths.shape)} and dtype {lengths.dtype}; give {batch} integers, one each"
        )
    _check_lengths(lengths, steps)
    return (torch.arange(steps, device=input.device) < lengths.to(input.device).unsqueeze(1)).unsqueeze(1)
