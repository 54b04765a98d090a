"""One training iteration of any module, step by step: what went forward, what came back, what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from switchgrad.errors import ModelError
from switchgrad.models.summarise.sight import tensors_in
from switchgrad.models.summarise.table import by
from switchgrad.probe.copying import copied
from switchgrad.probe.tensors import mapped
from switchgrad.probe.tracing.losses import Criterion, criterion
from switchgrad.probe.tracing.record import Flow, Loss, Parameter, Step, Trace, Update, Winners
from switchgrad.probe.tracing.steps import finished
from switchgrad.probe.tracing.taps import Tap, on_cpu
from switchgrad.probe.tracing.watch import Watch

__all__ = ["Flow", "Loss", "Parameter", "Step", "Trace", "Update", "Winners", "trace"]

Inputs = Tensor | Sequence[Tensor] | Mapping[str, Any]
Maker = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Optimiser = str | Maker

_OPTIMISERS: dict[str, tuple[Any, str]] = {
    "sgd": (torch.optim.SGD, "w ← w − lr · dw"),
    "adam": (torch.optim.Adam, "w ← w − lr · m̂ / (√v̂ + ε); in the first step m̂ / √v̂ is the sign of dw"),
}


def trace(
    model: nn.Module,
    input: Inputs,
    target: Tensor | int | None = None,
    *,
    loss: Callable[..., Tensor] | None = None,
    lr: float = 0.1,
    optimizer: Optimiser = "sgd",
    training: bool = True,
    seed: int = 0,
    classes: Sequence[str] = (),
) -> Trace:
    """Run one training iteration of a copy of ``model`` and keep everything that passes.

    ``input`` is a tensor, a sequence of them (positional arguments) or a dictionary (named ones), batch included.
    ``target`` is a class number or integer classes (the loss is then cross-entropy), or floats of the output's shape
    (mean squared error); ``loss(output, target)``, or ``loss(output)`` without a target, is a loss of your own.
    ``optimizer`` is "sgd", "adam" or a function from parameters to an optimiser of PyTorch's; with "sgd" the update is
    ``w - lr dw``. ``training`` is the mode (dropout drops, batch normalisation takes the batch's statistics), ``seed``
    what randomness starts from. ``classes`` names the outputs for those who read the trace.

    Works for any module: layers are seen by hooks, functions between them by a mode, and what neither sees made is
    named as a step of its own from PyTorch's tape. Of a layer that is called twice each call has its own step, its own
    gradients. The model, its gradients, buffers, hooks and modes, and PyTorch's random state are as they were.

    Everything is copied to the CPU: count on four times the memory of a training step.

    Raises `ModelError` for a module that cannot be copied, inputs or targets that do not fit it, and where nothing
    that the loss depends on requires a gradient.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> story = trace(net, torch.ones(1, 4), target=1)
    >>> [step.title for step in story.steps], story.loss.after < story.loss.value
    (['0', '1', '2'], True)
    >>> story.steps[2].parameters[0].name, story.steps[2].parameters[0].gradient.shape
    ('2.weight', torch.Size([2, 3]))
    """
    make, rule = _optimiser(optimizer, lr)
    twin = copied(model).train(training)
    watch = Watch(twin)
    with _random_state(twin), torch.enable_grad():
        torch.manual_seed(seed)
        given = mapped(input, _leaf)
        output = _forward(twin, mapped(given, torch.clone), watch)
        measure = criterion(loss, target, output)
        end = Tap(output) if isinstance(output, Tensor) else None
        value = _backward(measure, output)
        updates = _update(twin, make)
        torch.manual_seed(seed)
        after = _loss_after(twin, input, measure)
    flows = tuple(Flow(on_cpu(leaf), _gradient(leaf), 0) for leaf in tensors_in(given))
    return Trace(
        model=type(getattr(model, "_orig_mod", model)).__name__,
        inputs=flows,
        target=None if measure.target is None else on_cpu(measure.target),
        steps=finished(watch),
        loss=Loss(measure.name, value, after, _end(end, output), measure.forward, measure.backward),
        updates=updates,
        rule=rule,
        lr=lr,
        training=training,
        seed=seed,
        uncalled=watch.uncalled,
        classes=tuple(classes),
    )


def _optimiser(optimizer: Optimiser, lr: float) -> tuple[Maker, str]:
    if not isinstance(optimizer, str):
        return optimizer, getattr(optimizer, "__name__", "your optimiser")
    if optimizer not in _OPTIMISERS:
        raise ModelError(
            f'optimizer is "{optimizer}"; give "sgd", "adam" or a function from parameters to an optimiser'
        )
    if not lr > 0:
        raise ModelError(f"lr is {lr}; give a rate above 0")
    kind, rule = _OPTIMISERS[optimizer]
    return partial(kind, lr=lr), rule


def _random_state(model: nn.Module) -> Any:
    """PyTorch's generators, on every device of the model, are the user's again afterwards."""
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.device.type == "cuda"}
    return torch.random.fork_rng(devices=[device.index for device in devices])


def _leaf(tensor: Tensor) -> Tensor:
    """An input whose gradient can be asked for, where it is of numbers that have one."""
    fresh = tensor.detach().clone()
    return fresh.requires_grad_() if fresh.is_floating_point() or fresh.is_complex() else fresh


def _call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**cast("Mapping[str, Any]", inputs))
    return model(inputs) if isinstance(inputs, Tensor) else model(*inputs)


def _forward(model: nn.Module, inputs: Any, watch: Watch) -> Any:
    for tensor in tensors_in(inputs):
        watch.know(tensor)
    try:
        with watch:
            output = _call(model, inputs)
            watch.arrive(output)
    except Exception as error:
        shapes = ", ".join(by(tuple(tensor.shape)) or "()" for tensor in tensors_in(inputs))
        text = str(error).strip().split("\n")[0] or type(error).__name__
        mode = "training" if model.training else "evaluation"
        raise ModelError(
            f"{type(model).__name__} cannot take an input of {shapes} in {mode} mode: {watch.where()}{text}"
        ) from error
    return output


def _backward(measure: Criterion, output: Any) -> float:
    value = measure(output)
    if value.numel() != 1:
        raise ModelError(f"the loss has shape {list(value.shape)}; one number is wanted: take its mean or its sum")
    if not value.requires_grad:
        raise ModelError("nothing that the loss depends on requires a gradient; check requires_grad and detach()")
    value.backward()
    return value.item()


def _gradient(tensor: Tensor) -> Tensor | None:
    return None if tensor.grad is None else on_cpu(tensor.grad)


def _update(model: nn.Module, make: Maker) -> tuple[Update, ...]:
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    before = {name: (on_cpu(weight), _gradient(weight)) for name, weight in weights.items()}
    if weights:
        make(list(weights.values())).step()
    return tuple(Update(name, *before[name], on_cpu(weight)) for name, weight in weights.items())


def _loss_after(model: nn.Module, inputs: Any, measure: Criterion) -> float:
    with torch.no_grad():
        return measure(_call(model, mapped(inputs, lambda tensor: tensor.detach().clone()))).item()


def _end(end: Tap | None, output: Any) -> Flow:
    if end is not None:
        return end.flow()
    return Flow(on_cpu(tensors_in(output)[0]), None)
