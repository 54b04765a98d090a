"""Spiking units: a step forward, a smooth stand-in for its derivative backward."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from switchgrad.backprop.rules import checked
from switchgrad.errors import GeometryError, ModelError
from switchgrad.nn import MaxPool2d

__all__ = ["SURROGATES", "LeakyIntegrateAndFire", "SpikingConvNet", "spike"]

SURROGATES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "fast-sigmoid": lambda v, slope: 1 / (1 + slope * v.abs()).square(),
    "arctan": lambda v, slope: 1 / (1 + (math.pi / 2 * slope * v).square()),
    "triangle": lambda v, slope: (1 - slope * v.abs()).clamp_min(0),
}


def spike(potential: Tensor, surrogate: str = "fast-sigmoid", slope: float = 5.0) -> Tensor:
    """1 where the potential is at or above 0, else 0, with a gradient that is not 0 almost everywhere.

    Any shape; NaN gives 0. Backward: ``dv = dy h(v)``, where ``h`` is 1 at 0 and falls to both sides, the faster the
    larger ``slope``:

    ================  ======================================
    ``fast-sigmoid``  ``1 / (1 + slope |v|)^2``
    ``arctan``        ``1 / (1 + (pi / 2 slope v)^2)``
    ``triangle``      ``max(0, 1 - slope |v|)``
    ================  ======================================

    Raises `ModelError` for another name or a slope that is not positive.

    F. Zenke, S. Ganguli: SuperSpike, 2018; W. Fang et al.: Incorporating learnable membrane time constant, 2021;
    S. Esser et al.: Convolutional networks for fast, energy-efficient neuromorphic computing, 2016.

    >>> v = torch.tensor([-0.2, 0.0, 0.2, 9.0], requires_grad=True)
    >>> y = spike(v, "triangle", slope=2.5)
    >>> y.sum().backward()
    >>> y.tolist(), v.grad.tolist()
    ([0.0, 1.0, 1.0, 1.0], [0.5, 1.0, 0.5, 0.0])
    """
    checked("surrogate", surrogate, tuple(SURROGATES))
    if not slope > 0:
        raise ModelError(f"slope is {slope}; give a positive number")
    return _Spike.apply(potential, surrogate, slope)


class LeakyIntegrateAndFire(nn.Module):
    """Units that leak, add up their input, and spike: over a sequence.

    ::

        u[t] = decay u[t-1] + x[t]         # with u after the reset of the step before
        s[t] = 1{u[t] >= threshold}
        u[t] = u[t] - threshold s[t]       # reset="subtract"; reset="zero": u[t] (1 - s[t])

    Shapes: ``[T, ...]`` to spikes ``[T, ...]``, the first axis time; the potential starts at 0. ``learn_decay`` makes
    the decay a parameter (through a sigmoid, so that it stays between 0 and 1). Backward: through time, the step's
    derivative being that of `spike` at ``u - threshold``; the reset counts as a constant.

    Raises `ModelError` for a decay outside ``[0, 1]`` (learnt: ``(0, 1)``), a threshold that is not positive or an
    unknown word, `GeometryError` for an input without steps.

    E. Neftci, H. Mostafa, F. Zenke: Surrogate gradient learning in spiking neural networks, 2019.

    >>> unit = LeakyIntegrateAndFire(decay=0.5, threshold=1.0)
    >>> unit(torch.tensor([0.6, 0.6, 0.6, 0.6])).tolist()               # 0.6, 0.9, 1.05: a spike, then 0.05 is left
    [0.0, 0.0, 1.0, 0.0]
    """

    def __init__(
        self,
        decay: float = 0.9,
        threshold: float = 1.0,
        reset: str = "subtract",
        surrogate: str = "fast-sigmoid",
        slope: float = 5.0,
        learn_decay: bool = False,
    ) -> None:
        super().__init__()
        checked("reset", reset, ("subtract", "zero"))
        checked("surrogate", surrogate, tuple(SURROGATES))
        if not 0 <= decay <= 1 or (learn_decay and decay in (0, 1)):
            raise ModelError(f"decay is {decay}; give the share of the potential that stays, from 0 to 1")
        if not threshold > 0 or not slope > 0:
            raise ModelError(f"threshold is {threshold} and slope {slope}; give positive numbers")
        self.threshold, self.reset, self.surrogate, self.slope = threshold, reset, surrogate, slope
        self.fixed_decay = decay
        raw = torch.tensor(math.log(decay / (1 - decay))) if learn_decay else None
        self.raw_decay = nn.Parameter(raw) if raw is not None else None

    @property
    def decay(self) -> float | Tensor:
        """The share of the potential that stays from step to step."""
        return self.fixed_decay if self.raw_decay is None else self.raw_decay.sigmoid()

    def forward(self, input: Tensor) -> Tensor:
        """The spikes of ``[T, ...]``."""
        if input.dim() < 1 or not len(input):
            raise GeometryError(f"the input is {tuple(input.shape)}; give [T, ...] with at least 1 step")
        potential, decay = torch.zeros_like(input[0]), self.decay
        spikes: list[Tensor] = []
        for current in input:
            potential = decay * potential + current
            fired = spike(potential - self.threshold, self.surrogate, self.slope)
            spikes.append(fired)
            fired = fired.detach()
            potential = potential - self.threshold * fired if self.reset == "subtract" else potential * (1 - fired)
        return torch.stack(spikes)

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return (
            f"decay={self.fixed_decay}, threshold={self.threshold}, reset={self.reset!r}, "
            f"surrogate={self.surrogate!r}, slope={self.slope}, learn_decay={self.raw_decay is not None}"
        )


class SpikingConvNet(nn.Module):
    """A small spiking network for pictures: two convolutions that spike, pooled, and scores averaged over time.

    The picture is shown ``steps`` times as a constant current: 3x3 convolution of ``maps``, spikes, max pool 2x2, 3x3
    of ``2 maps``, spikes, max pool 2x2, linear. Between the layers go zeros and ones alone. ``[N, C, H, W]`` with ``H``
    and ``W`` of at least 4 to ``[N, classes]``.

    >>> SpikingConvNet(1, 10, (8, 8))(torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, in_channels: int, classes: int, size: tuple[int, int], maps: int = 16, steps: int = 6, **unit: Any
    ) -> None:
        super().__init__()
        if min(in_channels, classes, maps, steps) < 1 or min(size) < 4:
            raise ModelError(
                f"in_channels is {in_channels}, classes {classes}, maps {maps}, steps {steps}, size {size}; give at "
                "least 1 of each and 4x4 pixels"
            )
        self.steps = steps
        self.conv1, self.conv2 = nn.Conv2d(in_channels, maps, 3, padding=1), nn.Conv2d(maps, 2 * maps, 3, padding=1)
        self.spikes1, self.spikes2 = LeakyIntegrateAndFire(**unit), LeakyIntegrateAndFire(**unit)
        self.pool = MaxPool2d(2)
        self.output = nn.Linear(2 * maps * (size[0] // 4) * (size[1] // 4), classes)

    def forward(self, input: Tensor) -> Tensor:
        """The mean over time of the scores."""
        current = self.conv1(input)  # the same at each step
        spikes = self.spikes1(current.expand(self.steps, *current.shape))
        pooled = self.pool(spikes.flatten(0, 1))
        spikes = self.spikes2(self.conv2(pooled).unflatten(0, (self.steps, -1)))
        pooled = self.pool(spikes.flatten(0, 1))
        return self.output(pooled.flatten(1)).unflatten(0, (self.steps, -1)).mean(0)


class _Spike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(potential: Tensor, *_: Any) -> Tensor:  # pyright: ignore
        return (potential >= 0).to(potential.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:  # pyright: ignore
        potential, ctx.surrogate, ctx.slope = inputs
        ctx.save_for_backward(potential)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        return grad * SURROGATES[ctx.surrogate](ctx.saved_tensors[0], ctx.slope), None, None
