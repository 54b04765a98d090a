"""A wide linear layer's weight gradient, made when all the rest of the backward is done.

That gradient, ``dy.T @ x``, is as large as the weight, while ``x`` and ``dy`` are a few rows. Autograd makes it first,
beside everything that the layers before keep for their own backward. Here the linear layer only hands ``x`` and ``dy``
over, and a second node of the graph multiplies them. That node is made at the very beginning of the forward, and of the
nodes that are ready, the engine runs the one that was made last; so this one comes when the others are done, and what
they kept is free. To the weight it is a gradient like any other: hooks, ``torch.autograd.grad`` and accumulation see
the same numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from switchgrad import ops
from switchgrad.ops.fully_connected import why_not_streamed
from switchgrad.ops.fully_connected.autograd import by_products, gradients
from switchgrad.ops.fully_connected.choice import Algorithm, is_streamed
from switchgrad.ops.routing import is_transformed

FEWEST = 2**20  # numbers in a weight from which its gradient is made late: 4 MiB of float32
_SHARE = 4  # what is handed over may take one part in so many of the gradient's memory

Product: TypeAlias = "Callable[[], tuple[Tensor | None, Tensor | None, Tensor | None]]"
"""What makes the gradients of input, weight and bias, of which only the weight's is wanted."""


@dataclass
class LateWeight:
    """A weight, the tensor that ties linear layers to the node that makes its gradient, and what they hand over.

    ``products`` are those of each backward pass over the graph, by the engine's number of the pass.
    """

    weight: Tensor
    products: dict[int, list[Product]] = field(default_factory=lambda: defaultdict(list))
    tie: Tensor | None = None


def begin(weight: Tensor) -> Tensor | LateWeight:
    """``weight`` made ready for `linear`; as it is, where no gradient of it can be asked for or somebody looks on."""
    if not _is_differentiated(weight) or _is_looked_at(weight):
        return weight
    late = LateWeight(weight)
    late.tie = _Begin.apply(weight, late.products)
    return late


def linear(
    input: Tensor,
    *,
    linear_weight: Tensor | LateWeight,
    linear_bias: Tensor | None,
    relu: bool = False,
    algorithm: Algorithm = "auto",
) -> Tensor:
    """`ops.linear` or `ops.linear_relu`, whose weight may have gone through `begin`."""
    weight = linear_weight if isinstance(linear_weight, Tensor) else linear_weight.weight
    if isinstance(linear_weight, Tensor) or not _is_worth_it(input, weight):
        return _layer(relu)(input, weight, linear_bias, algorithm=algorithm)
    return _Linear.apply(input, weight, linear_bias, linear_weight.tie, linear_weight.products, relu, algorithm)


def _layer(relu: bool) -> Any:
    return ops.linear_relu if relu else ops.linear


def _is_differentiated(weight: Tensor) -> bool:
    plain = type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point()
    return plain and weight.requires_grad and torch.is_grad_enabled()


def _is_looked_at(weight: Tensor) -> bool:
    """Whether the compiler, a transform or a mode should see a linear layer as it was written."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or is_transformed()
        or torch.is_autocast_enabled(weight.device.type)
        or torch._C._is_torch_function_mode_enabled()  # pyright: ignore[reportPrivateUsage]
    )


def _is_worth_it(input: Tensor, weight: Tensor) -> bool:
    rows = type(input) in (Tensor, nn.Parameter) and input.dim() == 2 and input.dtype == weight.dtype
    return rows and _SHARE * len(input) * sum(weight.shape) <= weight.numel()


class _Begin(torch.autograd.Function):
    """``apply(weight, products)`` gives an empty tie; its backward is the whole gradient of the weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, products: dict[int, list[Product]]) -> Tensor:  # pyright: ignore
        ctx.products = products
        return weight.new_empty(0)

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, None]:  # pyright: ignore
        total = None
        for product in ctx.products.pop(_this_pass(), ()):
            found = product()[1]
            total = found if total is None else total + found
        return total, None


class _Linear(torch.autograd.Function):
    """``apply(input, weight, bias, tie, products, relu, algorithm)``: in backward, all gradients but the weight's."""

    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        _: Tensor,
        products: dict[int, list[Product]],
        relu: bool,
        algorithm: Algorithm,
    ) -> Tensor:
        values = _layer(relu)(input, weight, bias, algorithm=algorithm)
        streamed = why_not_streamed(input, weight) is None and is_streamed(len(input), weight, algorithm)
        ctx.products, ctx.gradients = products, gradients if streamed else by_products
        ctx.like = weight.detach()  # for its shape: who changes numbers that no gradient needs is not refused
        ctx.save_for_backward(input, weight if ctx.needs_input_grad[0] else None, values if relu else None)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        input, weight, output = ctx.saved_tensors
        of_input, _, of_bias = ctx.needs_input_grad[:3]
        if output is not None:
            grad = torch.ops.aten.threshold_backward(grad, output, 0)
        if _is_asked_for(ctx.next_functions[-1][0]):
            wanted = (False, True, False)
            ctx.products[_this_pass()].append(partial(ctx.gradients, grad, None, input, ctx.like, wanted))
        dx, _, db = ctx.gradients(grad, None, input, weight, (of_input, False, of_bias))
        return dx, None, db, grad.new_empty(0), None, None, None


def _this_pass() -> int:
    return torch._C._current_graph_task_id()  # pyright: ignore


def _is_asked_for(node: Any) -> bool:
    """Whether this pass goes on to ``node``: ``torch.autograd.grad`` may ask for other gradients than the weight's."""
    return torch._C._will_engine_execute_node(node)  # pyright: ignore
