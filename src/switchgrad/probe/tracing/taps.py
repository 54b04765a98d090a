"""Taps: the value of a tensor as it passes, and later the gradient that comes back through the same place."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.probe.tracing.record import Flow


class Tap:
    """A value now, its gradient once backward has passed."""

    def __init__(self, tensor: Tensor, source: int | None = None) -> None:
        self.value = on_cpu(tensor)
        self.gradient: Tensor | None = None
        self.source = source
        if tensor.requires_grad:
            tensor.register_hook(self.receive)

    def receive(self, gradient: Tensor) -> None:
        """Backward came by."""
        self.gradient = on_cpu(gradient)

    def flow(self) -> Flow:
        """What was seen."""
        return Flow(self.value, self.gradient, self.source)


def on_cpu(tensor: Tensor) -> Tensor:
    """A plain copy that nothing changes any more."""
    plain = tensor.detach()
    return (plain.to_dense() if plain.layout != torch.strided else plain).to("cpu", copy=True)


def alias(tensor: Tensor) -> Tensor:
    """The same numbers under another name, so that what comes back this way is told from what comes back other ways."""
    return tensor.view_as(tensor) if tensor.requires_grad and tensor.layout == torch.strided else tensor
