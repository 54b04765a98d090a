"""The rules of `rules.py` for a whole forward pass, whatever way its ReLUs and max pools are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from switchgrad import ops
from switchgrad.backprop.rules import POOL_RULES, RELU_RULES, checked, max_pool, relu
from switchgrad.ops.override import UNFUSED


class routing(TorchFunctionMode):
    """While it is entered, every ReLU and max pool that runs keeps these rules for its backward.

    ``relu``: ``"gradient"``, ``"deconvnet"`` or ``"guided"`` (`switchgrad.backprop.relu`); ``pool``: ``"winner"``,
    ``"every-winner"`` or ``"uniform"`` (`switchgrad.backprop.max_pool`). The rule is stored with the graph at the
    forward: backward may run later and outside. It acts on layers, on functional calls, in-place or not, and inside
    Switchgrad's fused operators, without hooks and without touching the model. A ReLU that is written as a clamp or a
    maximum is arithmetic and stays so, as do its leaky relatives; adaptive pools go by their winners. The innermost of
    nested contexts decides alone. It holds for the thread that entered it; ``torch.compile`` compiles once for each
    pair of rules, around it or in it.

    Raises `ModelError` for an unknown rule.

    >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.MaxPool1d(2))
    >>> x = torch.tensor([[-1.0, -2.0, 3.0, 1.0]], requires_grad=True)
    >>> with routing(relu="deconvnet"):
    ...     y = net(x)
    >>> y.sum().backward()
    >>> x.grad.tolist()                                                 # the chain rule would give 0 at the first
    [[1.0, 0.0, 1.0, 0.0]]
    """

    def __init__(self, relu: str = "gradient", pool: str = "winner") -> None:
        super().__init__()
        self.relu = checked("relu", relu, RELU_RULES)
        self.pool = checked("pool", pool, POOL_RULES)

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        unfused = getattr(func, UNFUSED, None)
        if unfused is not None:
            with self:
                return unfused(*args, **kwargs)
        if func in _RELUS:
            return _relu(self.relu, *args, **kwargs)
        if func in _RELUS_IN_PLACE:
            return _relu(self.relu, *args, **kwargs, inplace=True)
        if self.pool != "winner" and func in _POOLS:
            return _pool(self.pool, _POOLS[func], func, *args, **kwargs)
        return func(*args, **kwargs)


_RELUS = (torch.relu, torch.Tensor.relu, functional.relu)
_RELUS_IN_PLACE = (torch.relu_, torch.Tensor.relu_)
_POOLS: dict[Callable[..., Any], int] = {
    function: dims
    for dims, functions in (
        (1, (torch.max_pool1d, functional.max_pool1d, functional.max_pool1d_with_indices, ops.max_pool1d)),
        (2, (torch.max_pool2d, functional.max_pool2d, functional.max_pool2d_with_indices, ops.max_pool2d)),
        (3, (torch.max_pool3d, functional.max_pool3d, functional.max_pool3d_with_indices, ops.max_pool3d)),
    )
    for function in functions
}

_WITH_INDICES = (
    functional.max_pool1d_with_indices,
    functional.max_pool2d_with_indices,
    functional.max_pool3d_with_indices,
)


def _relu(rule: str, input: Tensor, inplace: bool = False) -> Tensor:
    output = relu(input, rule)
    return input.copy_(output) if inplace else output


def _pool(
    rule: str,
    dims: int,
    func: Callable[..., Any],
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    return_switches: bool = False,
) -> Any:
    values = max_pool(input, kernel_size, stride, padding, dilation, ceil_mode, rule, dims)
    if return_switches:
        extra = {"return_switches": True}
    elif return_indices or func in _WITH_INDICES:
        extra = {"return_indices": True}
    else:
        return values
    plain = (ops.max_pool1d, ops.max_pool2d, ops.max_pool3d)[dims - 1]
    return values, plain(input.detach(), kernel_size, stride, padding, dilation, ceil_mode, **extra)[1]
