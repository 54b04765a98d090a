"""A module as a function of one number: its outputs weighed at random and summed, in double, the same every time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from switchgrad.errors import ModelError
from switchgrad.models.summarise.sight import tensors_in
from switchgrad.models.summarise.table import by
from switchgrad.probe.tensors import mapped


class Weighed:
    """``sum of w * output`` over every floating-point output of ``module``, ``w`` drawn once.

    ``tensors`` are what it depends on: parameters under their names, inputs as ``input`` or ``input 0``. Each
    evaluation starts from the same seed and the same buffers.
    """

    def __init__(self, module: nn.Module, inputs: Any, seed: int) -> None:
        self.module, self.inputs, self.seed = module, inputs, seed
        self.evaluations = 0
        self.buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        self.weights: list[Tensor] = []
        self.tensors = {**_inputs_by_name(inputs), **dict(module.named_parameters())}
        with torch.no_grad():
            first, again = self(), self()
        if not bool(torch.isfinite(first)):
            raise ModelError(f"{type(module).__name__} gives numbers that are not finite; differences cannot be taken")
        if first.item() != again.item():
            raise ModelError(
                f"{type(module).__name__} gives other numbers for the same input and seed; draw from PyTorch's "
                "generators only, so that every evaluation can be the same"
            )

        self.centre = first.item()

    def __call__(self) -> Tensor:
        """Evaluate, with autograd where it is on."""
        self.evaluations += 1
        with torch.no_grad():
            for name, buffer in self.module.named_buffers():
                buffer.copy_(self.buffers[name])
        torch.default_generator.manual_seed(self.seed)  # torch.manual_seed notes the whole stack: half a millisecond
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(self.seed)
        try:
            output = _call(self.module, mapped(self.inputs, torch.clone))  # it may change them in place
        except Exception as error:
            text = str(error).strip().split("\n")[0] or type(error).__name__
            shapes = ", ".join(by(tuple(t.shape)) or "()" for t in tensors_in(self.inputs))
            raise ModelError(f"{type(self.module).__name__} cannot take {shapes} in float64: {text}") from error
        outputs = [tensor for tensor in tensors_in(output) if tensor.is_floating_point()]
        if not outputs:
            raise ModelError(f"{type(self.module).__name__} gives no floating-point tensor, so nothing has a gradient")
        if not self.weights:
            generator = torch.Generator().manual_seed(self.seed + 1)
            self.weights = [
                torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.device, t.dtype) for t in outputs
            ]
        return torch.stack([(t * w).sum().double() for t, w in zip(outputs, self.weights, strict=True)]).sum()

    def gradients(self) -> dict[str, Tensor | None]:
        """Autograd's gradients of all tensors that require one."""
        with torch.enable_grad():
            total = self()
            asked = {name: tensor for name, tensor in self.tensors.items() if tensor.requires_grad}
            if not total.requires_grad or not asked:
                return dict.fromkeys(self.tensors)
            try:
                found = torch.autograd.grad(total, list(asked.values()), allow_unused=True)
            except Exception as error:
                text = str(error).strip().split("\n")[0] or type(error).__name__
                raise ModelError(f"the backward of {type(self.module).__name__} fails: {text}") from error
        return {**dict.fromkeys(self.tensors), **dict(zip(asked, map(_dense, found), strict=True))}

    def along(self, tensor: Tensor, direction: Tensor, distance: float) -> float:
        """The function with ``tensor`` moved by ``distance`` along ``direction``."""
        before = tensor.detach().clone()
        with torch.no_grad():
            tensor.add_(direction, alpha=distance)
            value = self().item()
            tensor.copy_(before)
        return value

    def at(self, tensor: Tensor, place: int, distance: float) -> float:
        """The function with entry ``place`` (flat) of ``tensor`` moved by ``distance``."""
        flat = tensor.detach().view(-1)
        with torch.no_grad():
            before = flat[place].clone()
            flat[place] += distance
            value = self().item()
            flat[place] = before
        return value


def _call(module: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return module(**inputs)
    return module(inputs) if isinstance(inputs, Tensor) else module(*inputs)


def _inputs_by_name(inputs: Any) -> dict[str, Tensor]:
    if isinstance(inputs, Mapping):
        return {f"input {key}": value for key, value in inputs.items() if isinstance(value, Tensor)}
    found = tensors_in(inputs)
    return {"input" if len(found) == 1 else f"input {place}": tensor for place, tensor in enumerate(found)}


def _dense(gradient: Tensor | None) -> Tensor | None:
    return gradient.to_dense() if gradient is not None and gradient.layout != torch.strided else gradient
