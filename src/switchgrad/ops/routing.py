"""Going by the switches: down to the winners (`route`) and up from the winners (`gather`), each the other's adjoint.

Both are linear once the switches are fixed, so each is the other's backward, at every order: the whole of
differentiation through max pooling is these two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from switchgrad.geometry import Window
from switchgrad.kernels.schema import operator

_functorch: Any = torch._C._functorch  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
_is_wrapped: Callable[[Tensor], bool] = _functorch.is_functorch_wrapped_tensor
_route, _gather = operator("max_pool_route"), operator("max_pool_gather")


def is_watched(tensor: Tensor) -> bool:
    """Whether autograd, forward mode, a functorch transform or the compiler must see what is done with ``tensor``."""
    return torch.compiler.is_compiling() or (tensor.requires_grad and torch.is_grad_enabled()) or is_transformed()


class Taped(torch.autograd.Function):
    """An autograd function for eager execution and the compiler, which functorch never meets."""

    # PyTorch's own `apply` looks in Python for functorch first, which `recorder` has done, and takes twice as long.
    apply = torch._C._FunctionBase.__dict__["apply"]  # pyright: ignore[reportPrivateUsage]


def recorder(tensor: Tensor, plain: type[Taped], transformed: Any) -> Callable[..., Any] | None:
    """How to do on the tape what is done with ``tensor``; None where nobody watches.

    The plain function serves eager execution, where it costs a third of the other, and the compiler, whose tracer
    refuses functions that have a rule for forward mode. The other has the rules that forward mode and functorch ask
    for; it also takes tensors that were carried out of a finished transform, which have to be unwrapped.
    """
    if torch.compiler.is_compiling():
        return plain.apply
    if is_transformed():
        return transformed.apply
    if tensor.requires_grad and torch.is_grad_enabled():
        return transformed.apply if _is_wrapped(tensor) else plain.apply
    return None


def is_transformed() -> bool:
    """Whether forward mode or a functorch transform is active."""
    # PyTorch asks the same two questions in autograd.Function.apply and has no public names for them.
    return (
        torch._C._are_functorch_transforms_active()  # pyright: ignore[reportPrivateUsage]
        or forward_ad._current_level >= 0  # pyright: ignore[reportPrivateUsage]
    )


def is_mapped(tensor: Tensor) -> bool:
    """Whether vmap stands for many tensors by this one, whose numbers nobody can look at."""
    while not torch.compiler.is_compiling() and _is_wrapped(tensor):
        if _functorch.is_batchedtensor(tensor):
            return True
        tensor = _functorch.get_unwrapped(tensor)
    return False


def is_plain(like: Tensor) -> bool:
    """Whether tensors made beside ``like`` can serve later calls: nobody traces, and no CUDA graph owns them."""
    traced = (
        torch.compiler.is_compiling()
        or is_transformed()
        or torch.is_inference_mode_enabled()
        or torch._C._len_torch_dispatch_stack() > 0  # pyright: ignore[reportPrivateUsage]
    )
    return like.is_cpu and type(like) in (Tensor, Parameter) and not traced


def route(pooled: Tensor, codes: Tensor, input_size: Sequence[int], window: Window) -> Tensor:
    """Every pooled cell's number, added to the input cell that won it; 0 elsewhere. The backward of max pooling.

    ``pooled`` and ``codes`` have the shape of the pooled map, the result has ``input_size`` as spatial axes and the
    layout of ``codes``. The sum over overlapping windows is taken in row-major order of the windows.
    """
    record = recorder(pooled, _Route, _TransformedRoute)
    if record is not None:
        return record(pooled, codes, tuple(input_size), window)
    return _route(pooled, codes, input_size, window.numbers)


def gather(tensor: Tensor, codes: Tensor, window: Window) -> Tensor:
    """What ``tensor`` holds at each window's winner (0 where no cell won). The adjoint of `route`."""
    record = recorder(tensor, _Gather, _TransformedGather)
    if record is not None:
        return record(tensor, codes, window)
    return _gather(tensor, codes, window.numbers)


def fold(tensor: Tensor, dim: int | None, size: int, spatial: int) -> Tensor:
    """A vmapped tensor with the mapped axis folded into the batch: what a batch is to vmap, the kernels do already."""
    stacked = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return stacked.flatten(0, 1) if stacked.dim() == spatial + 3 else stacked


def unfold(tensor: Tensor, size: int, axes: int) -> Tensor:
    """The inverse of `fold` for a result whose unmapped form has ``axes`` axes."""
    return tensor if tensor.dim() == axes + 1 else tensor.unflatten(0, (size, -1))


def _axes(tensor: Tensor, dim: int | None) -> int:
    return tensor.dim() if dim is None else tensor.dim() - 1


class _Route(Taped):
    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any, pooled: Tensor, codes: Tensor, input_size: tuple[int, ...], window: Window
    ) -> Tensor:
        ctx.window = window
        ctx.save_for_backward(codes)
        return _route(pooled, codes, input_size, window.numbers)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore
        return gather(grad, ctx.saved_tensors[0], ctx.window), None, None, None


class _TransformedRoute(torch.autograd.Function):
    @staticmethod
    def forward(pooled: Tensor, codes: Tensor, input_size: tuple[int, ...], window: Window) -> Tensor:  # pyright: ignore
        return _route(pooled, codes, input_size, window.numbers)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:  # pyright: ignore
        codes, ctx.input_size, ctx.window = inputs[1:]
        ctx.save_for_backward(codes)
        ctx.save_for_forward(codes)

    backward = _Route.backward  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:  # pyright: ignore
        return route(tangent, ctx.saved_tensors[0], ctx.input_size, ctx.window)

    @staticmethod
    def vmap(  # pyright: ignore
        info: Any, in_dims: Any, pooled: Tensor, codes: Tensor, input_size: tuple[int, ...], window: Window
    ) -> tuple[Tensor, int]:
        size, axes = info.batch_size, _axes(pooled, in_dims[0])
        pooled, codes = (fold(t, dim, size, window.dims) for t, dim in zip((pooled, codes), in_dims, strict=False))
        return unfold(route(pooled, codes, input_size, window), size, axes), 0


class _Gather(Taped):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, codes: Tensor, window: Window) -> Tensor:  # pyright: ignore
        ctx.window, ctx.input_size = window, tuple(tensor.shape[-window.dims :])
        ctx.save_for_backward(codes)
        return _gather(tensor, codes, window.numbers)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        return route(grad, ctx.saved_tensors[0], ctx.input_size, ctx.window), None, None


class _TransformedGather(torch.autograd.Function):
    @staticmethod
    def forward(tensor: Tensor, codes: Tensor, window: Window) -> Tensor:  # pyright: ignore
        return _gather(tensor, codes, window.numbers)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:  # pyright: ignore
        tensor, codes, ctx.window = inputs
        ctx.input_size = tuple(tensor.shape[-ctx.window.dims :])
        ctx.save_for_backward(codes)
        ctx.save_for_forward(codes)

    backward = _Gather.backward  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:  # pyright: ignore
        return gather(tangent, ctx.saved_tensors[0], ctx.window)

    @staticmethod
    def vmap(  # pyright: ignore
        info: Any, in_dims: Any, tensor: Tensor, codes: Tensor, window: Window
    ) -> tuple[Tensor, int]:
        size, axes = info.batch_size, _axes(tensor, in_dims[0])
        tensor, codes = (fold(t, dim, size, window.dims) for t, dim in zip((tensor, codes), in_dims, strict=False))
        return unfold(gather(tensor, codes, window), size, axes), 0
