"""Autograd held to differences, for any module: for those who write layers of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from switchgrad.errors import ModelError
from switchgrad.probe.copying import copied
from switchgrad.probe.gradients.differences import judge
from switchgrad.probe.gradients.function import Weighed
from switchgrad.probe.gradients.report import Entry, GradientReport, LayerFault, TensorCheck
from switchgrad.probe.leaves import leaves
from switchgrad.probe.tensors import mapped

__all__ = ["Entry", "GradientReport", "LayerFault", "TensorCheck", "check_gradients"]

_BELOW_LARGEST = 1e-6  # gradients so much smaller than the tensor's largest drown in it


def check_gradients(
    module: nn.Module,
    inputs: Tensor | Sequence[Any] | Mapping[str, Any],
    *,
    samples: int = 48,
    directions: int = 2,
    tolerance: float = 1e-5,
    training: bool | None = None,
    seed: int = 0,
) -> GradientReport:
    """Compare autograd's gradients of every parameter and floating-point input with finite differences.

    A copy of the module is taken to double precision; yours is not touched, nor is PyTorch's random state. ``inputs``
    is a tensor, a sequence (positional arguments) or a dictionary (named ones), batch included. All outputs are weighed
    with random numbers and summed, so any output shape will do. Tensors of up to ``samples`` entries are checked whole;
    of larger ones so many entries are drawn, and ``directions`` random ones through the whole tensor are taken besides:
    where such a direction disagrees it is halved until the entry is found. ``training`` is the mode, the module's own
    by default; dropout and its kin draw the same numbers in each evaluation.

    An entry is right where ``|autograd - numeric|`` is at most ``tolerance`` times the larger one. Where the one-sided
    differences stay apart however small the step, the function has a kink there (a ReLU at 0, a tie of a maximum), and
    autograd is right with any number between them; such entries are counted, not called wrong. If gradients are wrong,
    each layer is checked alone on the inputs that it had, so that the report names the one whose backward is at fault.

    Raises `ModelError` for a module that cannot be copied or run in double, that draws random numbers elsewhere than
    from PyTorch, or that has nothing to check.

    >>> import torch
    >>> class Square(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x
    ...     @staticmethod
    ...     def backward(ctx, dy):
    ...         return dy * ctx.saved_tensors[0]              # the 2 is missing
    >>> class Layer(nn.Module):
    ...     def forward(self, x):
    ...         return Square.apply(x)
    >>> report = check_gradients(nn.Sequential(nn.Linear(3, 2), Layer()), torch.ones(1, 3))
    >>> report.ok, report.faults[0].layer, report.faults[0].tensor
    (False, '1', 'input')
    >>> check_gradients(nn.Linear(3, 2), torch.ones(1, 3)).sentence
    'right: every gradient agrees with differences to 1e-05'
    """
    if samples < 1 or directions < 0 or not 0 < tolerance < 1:
        raise ModelError(
            f"samples is {samples}, directions is {directions}, tolerance is {tolerance}; give at least 1, at least 0, "
            "and a share between 0 and 1"
        )
    twin = copied(module).double()
    if training is not None:
        twin.train(training)
    with _random_state(twin):
        function = Weighed(twin, mapped(inputs, _doubled), seed)
        report = _check(function, samples, directions, tolerance, seed)
        if report.ok:
            return report
        faults = tuple(_faults(twin, function, samples, tolerance, seed))
    return GradientReport(report.model, report.tensors, faults, report.skipped, tolerance, function.evaluations)


def _random_state(module: nn.Module) -> Any:
    devices = {tensor.device for tensor in (*module.parameters(), *module.buffers()) if tensor.device.type == "cuda"}
    return torch.random.fork_rng(devices=[device.index for device in devices])


def _doubled(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.detach().clone()
    return tensor.detach().to(torch.float64, copy=True).contiguous().requires_grad_()


def _check(function: Weighed, samples: int, directions: int, tolerance: float, seed: int) -> GradientReport:
    """Every tensor of the function."""
    gradients = function.gradients()
    checked: list[TensorCheck] = []
    skipped: list[str] = []
    for name, tensor in function.tensors.items():
        gradient = gradients[name]
        if not tensor.is_floating_point() or not tensor.requires_grad or not tensor.numel():
            skipped.append(name)
            continue
        if not tensor.is_contiguous():
            tensor.data = tensor.data.contiguous()
        known = torch.zeros_like(tensor) if gradient is None else gradient.detach().contiguous()
        checked.append(_tensor(function, name, tensor, known, samples, directions, tolerance, seed))
    if not checked:
        raise ModelError(f"{type(function.module).__name__} has no parameter or input that requires a gradient")
    name = type(function.module).__name__
    return GradientReport(name, tuple(checked), (), tuple(skipped), tolerance, function.evaluations)


def _tensor(
    function: Weighed,
    name: str,
    tensor: Tensor,
    gradient: Tensor,
    samples: int,
    directions: int,
    tolerance: float,
    seed: int,
) -> TensorCheck:
    floor = max(_BELOW_LARGEST * float(gradient.nan_to_num().abs().max()), 1e-300)
    count = tensor.numel()

    def entry(place: int) -> Entry:
        return judge(
            _index(place, tuple(tensor.shape)),
            float(gradient.view(-1)[place]),
            lambda distance: function.at(tensor, place, distance),
            function.centre,
            abs(float(tensor.detach().view(-1)[place])),
            floor,
            tolerance,
        )

    generator = torch.Generator().manual_seed(seed + 2)
    if count <= samples:
        return _sorted(name, tensor, [entry(place) for place in range(count)], [], True)
    drawn: list[int] = torch.randperm(count, generator=generator)[: samples - 1].tolist()
    steepest = int(gradient.nan_to_num().abs().argmax())
    entries = {place: entry(place) for place in (*drawn, steepest)}
    lines = [_direction(function, tensor, gradient, _unit(tensor, generator), tolerance) for _ in range(directions)]
    if any(line.judgement == "wrong" for line in lines) and not any(e.judgement == "wrong" for e in entries.values()):
        place = _halved(function, tensor, gradient, tolerance, generator)
        entries[place] = entry(place)
    return _sorted(name, tensor, list(entries.values()), lines, False)


def _sorted(name: str, tensor: Tensor, entries: list[Entry], lines: list[Entry], complete: bool) -> TensorCheck:
    worst_first = sorted(entries, key=lambda entry: (entry.judgement != "wrong", -entry.error))
    return TensorCheck(name, tuple(tensor.shape), tuple(worst_first), tuple(lines), complete)


def _unit(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """A random direction of length 1."""
    direction = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)
    return direction / direction.norm()


def _direction(function: Weighed, tensor: Tensor, gradient: Tensor, direction: Tensor, tolerance: float) -> Entry:
    """The slope along a direction; errors are relative to the gradient's own length."""
    floor = max(float(gradient.nan_to_num().norm()) / math.sqrt(tensor.numel()), 1e-300)
    slope = float((gradient * direction).sum())
    return judge(
        (), slope, lambda distance: function.along(tensor, direction, distance), function.centre, 1.0, floor, tolerance
    )


def _halved(function: Weighed, tensor: Tensor, gradient: Tensor, tolerance: float, generator: torch.Generator) -> int:
    """An entry whose gradient is wrong, found by halving: the half along which the slope disagrees has it."""
    low, high = 0, tensor.numel()
    whole = _unit(tensor, generator).view(-1)
    while high - low > 1:
        middle = (low + high) // 2
        half = torch.zeros_like(whole)
        half[low:middle] = whole[low:middle]
        half /= half.norm()
        line = _direction(function, tensor, gradient, half.view_as(tensor), tolerance)
        low, high = (low, middle) if line.judgement == "wrong" else (middle, high)
    return low


def _index(place: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    index: list[int] = []
    for size in reversed(shape):
        place, rest = divmod(place, size)
        index.append(rest)
    return tuple(reversed(index))


def _faults(twin: nn.Module, function: Weighed, samples: int, tolerance: float, seed: int) -> list[LayerFault]:
    """The layers whose own gradients are wrong, each checked alone on the inputs of its first call."""
    seen: dict[nn.Module, Any] = {}
    handles = [layer.register_forward_pre_hook(_remember(seen), with_kwargs=True) for layer in leaves(twin)]
    with torch.no_grad():
        function()
    for handle in handles:
        handle.remove()
    found: list[LayerFault] = []
    for layer, name in leaves(twin).items():
        if layer not in seen or layer is twin:
            continue
        report = _alone(layer, seen[layer], samples, tolerance, seed)
        if report is not None and not report.ok:
            bad = max(report.tensors, key=lambda check: (check.verdict == "wrong", check.worst.error))
            entry = next((e for e in bad.entries if e.judgement == "wrong"), bad.worst)
            found.append(LayerFault(name, type(layer).__name__, bad.name, entry))
    return found


def _remember(seen: dict[nn.Module, Any]) -> Any:
    def remember(layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not named:
            seen.setdefault(layer, mapped(inputs, _doubled))

    return remember


def _alone(layer: nn.Module, inputs: Any, samples: int, tolerance: float, seed: int) -> GradientReport | None:
    try:
        return _check(Weighed(layer, inputs, seed), samples, 1, tolerance, seed)
    except ModelError:
        return None  # nothing to differentiate here
