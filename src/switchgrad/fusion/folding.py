"""Batch normalisation in evaluation is one number to multiply by and one to add, so the convolution can hold both.

With the running mean m, variance v, scale g and shift b of a channel::

    (w * x + c - m) g / sqrt(v + eps) + b  =  (w s) * x + ((c - m) s + b)      where s = g / sqrt(v + eps)

The parameters stay as they are: the product is made beside them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from switchgrad.fusion.normalising import Norm, statistics


class Fold:
    """The folded weight and bias of one convolution, kept until a tensor that they come from changes.

    A change is a new tensor or a new version of one (every in-place operation counts up a tensor's version; writing
    through ``.data`` does not, and shows after the next ``eval()``). Where a gradient may be asked for, or a compiler
    or a transform looks on, nothing is kept: the product is then part of the graph.
    """

    def __init__(self) -> None:
        self._of: tuple[Tensor | None, ...] = ()
        self._versions: tuple[int, ...] = ()
        self._folded: tuple[Tensor, Tensor] | None = None

    def __call__(self, weight: Tensor, bias: Tensor | None, norm: Norm) -> tuple[Tensor, Tensor]:
        """Weight and bias with the normalisation in them, in the weight's dtype."""
        mean, variance, scale, shift, eps = statistics(norm)
        sources = (weight, bias, mean, variance, scale, shift)
        if not _may_keep(sources):
            return fold(weight, bias, mean, variance, scale, shift, eps)
        versions = tuple(-1 if t is None else t._version for t in sources)  # pyright: ignore[reportPrivateUsage]
        same = len(self._of) == len(sources) and all(a is b for a, b in zip(self._of, sources, strict=True))
        kept = self._folded
        if kept is None or not same or versions != self._versions:
            with torch.inference_mode(False), torch.no_grad():
                kept = fold(weight, bias, mean, variance, scale, shift, eps)
            self._of, self._versions, self._folded = sources, versions, kept
        return kept

    def forget(self) -> None:
        """Fold anew at the next call."""
        self._of, self._versions, self._folded = (), (), None


def fold(
    weight: Tensor,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """The formula above; statistics may be wider than the weight, and rounding comes last.

    >>> w, b = fold(torch.ones(1, 1, 1), None, torch.tensor([3.0]), torch.tensor([4.0]), None, None, 0.0)
    >>> w.item(), b.item()
    (0.5, -1.5)
    """
    factor = torch.rsqrt(variance + eps)
    factor = factor if scale is None else factor * scale
    added = -mean * factor if bias is None else (bias - mean) * factor
    added = added if shift is None else added + shift
    folded = weight * factor.view(-1, *[1] * (weight.dim() - 1))
    return folded.to(weight.dtype), added.to(weight.dtype)


def _may_keep(sources: tuple[Tensor | None, ...]) -> bool:
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():  # pyright: ignore[reportPrivateUsage]
        return False
    present = [tensor for tensor in sources if tensor is not None]
    if any(type(t) not in (Tensor, nn.Parameter) or t.is_inference() for t in present):
        return False
    return not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in present))
