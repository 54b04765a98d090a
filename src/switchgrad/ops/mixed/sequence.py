"""Pooling of whole sequences and maps by a softness that may be learned: auto-pooling and expectation pooling."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.ops.checks import check_tensor, known_number
from switchgrad.ops.windows import FLOATS, wide


def auto_pool(input: Tensor, alpha: Tensor | float, mask: Tensor | None = None) -> Tensor:
    r"""The mean over time under a softmax whose softness is learned: between the mean and the maximum.

    Shapes: ``input`` is (N, C, T) or (C, T), the result (N, C) or (C); float64, float32, float16, bfloat16. ``alpha``
    is one number, or one a channel (C). ``mask`` (N, T) or (T) is True at the steps that count.

    .. math:: y = \sum_t x_t \frac{e^{\alpha x_t}}{\sum_s e^{\alpha x_s}}

    :math:`\alpha = 0` is the mean, 1 softmax pooling, :math:`\alpha \to \infty` the maximum,
    :math:`\alpha \to -\infty` the minimum. Masked steps take no part, whatever they hold; a sequence without a step
    gives 0. NaN makes its sequence NaN.

    Backward: :math:`\partial y / \partial x_t = w_t (1 + \alpha (x_t - y))` and
    :math:`\partial y / \partial \alpha = \sum_t w_t x_t (x_t - y)`. Raises `GeometryError` for shapes that do not
    match.

    McFee, Salamon, Bello: Adaptive pooling operators for weakly labeled sound event detection (2018); there x are
    probabilities, and their constrained and regularised kinds bound :math:`\alpha` in training.

    >>> x = torch.tensor([[0.1, 0.2, 0.9]])
    >>> [round(auto_pool(x, alpha).item(), 4) for alpha in (0.0, 1.0, 50.0)]
    [0.4, 0.5366, 0.9]
    >>> auto_pool(x, 0.0, mask=torch.tensor([True, True, False]))
    tensor([0.1500])
    """
    _check("auto_pool", input, 1)
    x = wide(input)
    softness = _parameter(alpha, "alpha", x)
    if softness.dim() > 1 or (softness.dim() == 1 and softness.shape[0] not in (1, input.shape[-2])):
        raise GeometryError(f"alpha has shape {tuple(softness.shape)}; give a number or ({input.shape[-2]},)")
    softness = softness.reshape(*softness.shape, 1)
    if mask is None:
        return _expectation(x, softness * x).to(input.dtype)
    steps = (*input.shape[:-2], input.shape[-1])
    if tuple(mask.shape) not in (steps, steps[-1:]):
        raise GeometryError(f"mask has shape {tuple(mask.shape)}; give {steps}, or ({steps[-1]},) for all sequences")
    counts = mask.bool().unsqueeze(-2)
    x = torch.where(counts, x, 0)
    # Where no step counts all are given weight, for their sum is 0 without a NaN in the gradient.
    logits = torch.where(counts | ~counts.any(-1, keepdim=True), softness * x, -torch.inf)
    return _expectation(x, logits).to(input.dtype)


def expectation_pool(input: Tensor, m: Tensor | float = 1.0, above_mean: bool = False) -> Tensor:
    r"""The expectation of each map under probabilities that grow with its values: robust where the maximum overfits.

    Shapes: ``input`` is (N, C, L), (N, C, H, W) or (N, C, D, H, W), the result (N, C); float64, float32, float16,
    bfloat16. ``m`` is one number (learned or not), or one a channel (C).

    .. math:: y = \sum_i p_i x_i, \quad p_i = e^{m x_i} / \sum_j e^{m x_j}

    :math:`m = 0` is global average pooling, :math:`m \to \infty` global max pooling. With ``above_mean`` only values
    above the mean of their map have a probability (half of it where they equal the mean):
    :math:`p_i \propto e^{m (x_i - \bar x)} (1 + \text{sign}(m (x_i - \bar x))) / 2`. NaN makes its map NaN.

    Backward: as for `auto_pool`; with ``above_mean`` the choice of values is held fixed. Raises `GeometryError` for
    shapes that do not match and an m of NaN.

    Luo, Tu, Ding, Gao, Deng: Expectation pooling: an effective and interpretable pooling method for predicting
    DNA-protein binding (2019).

    >>> x = torch.tensor([[[0.0, 1.0, 5.0]]])
    >>> [round(expectation_pool(x, m).item(), 4) for m in (0.0, 1.0, 20.0)], expectation_pool(x, above_mean=True).item()
    ([2.0, 4.8957, 5.0], 5.0)
    """
    check_tensor(input, "the input of expectation_pool")
    dims = input.dim() - 2
    if dims not in (1, 2, 3):
        raise GeometryError(
            f"expectation_pool takes (N, C, L), (N, C, H, W) or (N, C, D, H, W), not {tuple(input.shape)}"
        )
    _check("expectation_pool", input, dims)
    x = wide(input).flatten(2)
    sharpness = _parameter(m, "m", x)
    if sharpness.dim() > 1 or (sharpness.dim() == 1 and sharpness.shape[0] not in (1, input.shape[1])):
        raise GeometryError(f"m has shape {tuple(sharpness.shape)}; give a number or ({input.shape[1]},)")
    logits = sharpness.reshape(*sharpness.shape, 1) * x
    if above_mean:
        share = (1 + (logits - logits.mean(-1, keepdim=True)).detach().sign()) / 2
        logits = logits + share.log()
    return _expectation(x, logits).to(input.dtype)


def _expectation(x: Tensor, logits: Tensor) -> Tensor:
    weights = logits.softmax(-1)
    return (weights * torch.where(weights == 0, 0, x)).sum(-1)  # nothing of an infinity is nothing


def _parameter(given: Tensor | float, name: str, x: Tensor) -> Tensor:
    """A number or a tensor of them in the dtype and on the device of ``x``."""
    tensor = given if isinstance(given, Tensor) else torch.tensor(known_number(given, name), device=x.device)
    return tensor.to(x)


def _check(name: str, input: Tensor, dims: int) -> None:
    check_tensor(input, f"the input of {name}")
    if input.dim() not in (dims + 1, dims + 2) or 0 in input.shape[-dims - 1 :] or input.dtype not in FLOATS:
        raise GeometryError(
            f"{name} was given {tuple(input.shape)} of {input.dtype}; it takes floating-point numbers with channels "
            "and at least one step"
        )
