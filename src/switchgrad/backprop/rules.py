"""How gradients pass a ReLU and a max pool: by the chain rule, or by a rule that explanations prefer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad import ops
from switchgrad.backprop.gates import with_gradient_of
from switchgrad.errors import ModelError
from switchgrad.geometry import IntOrTuple, Padding, Window, window

RELU_RULES = ("gradient", "deconvnet", "guided")
POOL_RULES = ("winner", "every-winner", "uniform")


def relu(input: Tensor, rule: str = "gradient") -> Tensor:
    """ReLU whose backward is chosen here and kept with the graph.

    Forward ``y = max(0, x)`` for any shape. Backward, with ``g`` the gradient of ``y``:

    =============  =========================  ==============================================
    ``gradient``   ``dx = g 1{x > 0}``        the chain rule
    ``deconvnet``  ``dx = max(0, g)``         what is positive passes, wherever it goes
    ``guided``     ``dx = max(0, g) 1{x > 0}``  both gates
    =============  =========================  ==============================================

    At 0 the gates of ``x`` are shut. NaN passes forward; its gradient is 0. One bool a cell is kept. Only the first
    rule is the gradient of a function, so second derivatives of the others are those of the rule.

    Raises `ModelError` for an unknown rule.

    M. Zeiler, R. Fergus: Visualizing and understanding convolutional networks, 2014; J. Springenberg, A. Dosovitskiy,
    T. Brox, M. Riedmiller: Striving for simplicity: the all convolutional net, 2015.

    >>> x = torch.tensor([-1.0, 2.0, 3.0], requires_grad=True)
    >>> for rule in RELU_RULES:
    ...     print(rule, torch.autograd.grad(relu(x, rule), x, torch.tensor([5.0, -5.0, 5.0]))[0].tolist())
    gradient [0.0, -5.0, 5.0]
    deconvnet [5.0, 0.0, 5.0]
    guided [0.0, 0.0, 5.0]
    """
    return _ReLU.apply(input, checked("relu", rule, RELU_RULES))


def max_pool(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    rule: str = "winner",
    dims: int = 2,
) -> Tensor:
    """Max pooling whose backward is chosen here and kept with the graph.

    Forward `switchgrad.ops.max_pool2d` (``dims`` 1 or 3: its siblings). Backward, where each window hands down ``g``:

    ================  ================================================================================
    ``winner``        the first cell that holds the maximum gets ``g``: the chain rule, by the switches
    ``every-winner``  every cell that holds the maximum gets ``g``, tied or not (so a tie doubles it)
    ``uniform``       each of the window's ``n`` cells inside the input gets ``g / n``
    ================  ================================================================================

    Overlapping windows add up. ``deconvnet`` and ``guided`` of `relu` both go by the switches, ``winner`` here. The two
    other rules keep a copy of the windows while they run.

    Raises `ModelError` for an unknown rule, and what `switchgrad.ops.max_pool2d` raises.

    >>> x = torch.tensor([[[2.0, 2.0], [0.0, 1.0]]], requires_grad=True)
    >>> for rule in POOL_RULES:
    ...     print(rule, torch.autograd.grad(max_pool(x, 2, rule=rule), x)[0].flatten().tolist())
    winner [1.0, 0.0, 0.0, 0.0]
    every-winner [1.0, 1.0, 0.0, 0.0]
    uniform [0.25, 0.25, 0.25, 0.25]
    """
    checked("pool", rule, POOL_RULES)
    pool = (ops.max_pool1d, ops.max_pool2d, ops.max_pool3d)[dims - 1]
    if rule == "winner":
        return pool(input, kernel_size, stride, padding, dilation, ceil_mode)
    values = pool(input.detach(), kernel_size, stride, padding, dilation, ceil_mode)
    win = window(dims, kernel_size, stride, padding, dilation, ceil_mode, input.shape[-dims:])
    inside = _windows(torch.ones_like(input), win)
    axes = tuple(range(-dims, 0))
    if rule == "uniform":
        share = inside / inside.sum(axes, keepdim=True)
    else:
        best = values[(..., *(None,) * dims)]
        cells = _windows(input.detach(), win)
        share = inside * ((cells == best) | (cells.isnan() & best.isnan()))
    return with_gradient_of(values, (_windows(input, win) * share).sum(axes))


def checked(name: str, rule: str, rules: tuple[str, ...]) -> str:
    """The rule, once it is known to be one; else `ModelError`."""
    if rule not in rules:
        raise ModelError(f"the {name} rule is {rule!r}; give one of {', '.join(map(repr, rules))}")
    return rule


def _windows(input: Tensor, win: Window) -> Tensor:
    """The cells of every window, 0 in the padding: ``[..., *places, *kernel]``."""
    size = input.shape[-win.dims :]
    sides: list[int] = []
    for axis, places in reversed(list(enumerate(win.output_size(size)))):
        begin, _ = win.padding[axis]
        reach = (places - 1) * win.stride[axis] + win.effective[axis]
        sides += [begin, reach - begin - size[axis]]  # negative where windows end before the input does
    cells = functional.pad(input, sides)
    for axis in range(win.dims):
        cells = cells.unfold(input.dim() - win.dims + axis, win.effective[axis], win.stride[axis])
    return cells[(..., *(slice(None, None, step) for step in win.dilation))]


class _ReLU(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(input: Tensor, _: str) -> Tensor:  # pyright: ignore
        return input.clamp_min(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:  # pyright: ignore
        input, ctx.rule = inputs
        if ctx.rule != "deconvnet":
            ctx.save_for_backward(input > 0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        passed = grad if ctx.rule == "gradient" else grad.clamp_min(0)
        return passed if ctx.rule == "deconvnet" else torch.where(ctx.saved_tensors[0], passed, 0), None
