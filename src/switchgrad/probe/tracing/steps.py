"""From what a watch saw to the steps of a trace: rules in words, switch maps, and what is worth a look."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from switchgrad.models.summarise.facts import window_of
from switchgrad.probe.leaves import is_ready_made
from switchgrad.probe.tracing import winners
from switchgrad.probe.tracing.record import Flow, Parameter, Step, Winners
from switchgrad.probe.tracing.rules import Rule, function_rule, layer_rule, unseen_rule
from switchgrad.probe.tracing.watch import Seen, Watch


def finished(watch: Watch) -> tuple[Step, ...]:
    """The steps of a watch whose backward pass is over."""
    return tuple(_step(number, seen) for number, seen in enumerate(watch.steps, 1))


def _step(number: int, seen: Seen) -> Step:
    inputs = tuple(tap.flow() for tap in seen.inputs)
    outputs = tuple(tap.flow() for tap in seen.outputs)
    functions = () if seen.module is not None and is_ready_made(seen.module) else tuple(seen.functions)
    rule = _rule(seen, functions)
    return Step(
        number=number,
        kind=seen.kind,
        name=seen.name,
        type=seen.type,
        call=seen.call,
        inputs=inputs,
        outputs=outputs,
        parameters=tuple(Parameter(name, tap.value, tap.gradient) for name, tap in seen.parameters),
        forward=rule.forward,
        backward=rule.backward,
        arguments="" if seen.module is None else seen.module.extra_repr(),
        window=None if seen.module is None or not inputs else window_of(seen.module, inputs[0].shape[2:]),
        winners=_winners(seen, inputs, outputs),
        functions=functions,
        notes=tuple(_notes(seen, inputs, outputs)),
    )


def _rule(seen: Seen, functions: tuple[str, ...]) -> Rule:
    if seen.module is not None:
        return layer_rule(seen.module, functions)
    return unseen_rule(seen.type) if seen.kind == "unseen" else function_rule(seen.type, seen.function)


def _winners(seen: Seen, inputs: tuple[Flow, ...], outputs: tuple[Flow, ...]) -> Winners | None:
    if not inputs or not outputs:
        return None
    value, result = inputs[0].value, outputs[0].value
    if seen.module is not None:
        return winners.of_layer(seen.module, value, result, seen.random)
    return winners.of_function(seen.type, seen.arguments, value, result)


def _notes(seen: Seen, inputs: tuple[Flow, ...], outputs: tuple[Flow, ...]) -> Iterator[str]:
    """What a reader who looks for a fault should look at."""
    for flow in outputs[:1]:
        yield from _about(flow.value, "values put out", "every value put out is 0")
        if flow.gradient is None:
            yield "no gradient came back: nothing after it leads to the loss"
        else:
            yield from _about(flow.gradient, "gradients that came back", "the gradient that came back is 0 everywhere")
    if seen.type in ("ReLU", "relu") and inputs and inputs[0].value.numel():
        shut = int((inputs[0].value <= 0).sum())
        yield f"{shut} of {inputs[0].value.numel()} cells were not above 0 and stop the gradient"
    changed = any(flow.gradient is None and flow.value.is_floating_point() for flow in inputs)
    if changed and any(flow.gradient is not None for flow in outputs):
        yield "no gradient was seen at an input: it is a constant, was detached, or was changed in place"


def _about(tensor: Tensor, what: str, nothing: str) -> Iterator[str]:
    if not tensor.is_floating_point() or not tensor.numel():
        return
    wild = int((~tensor.isfinite()).sum())
    if wild:
        yield f"{wild} of {tensor.numel()} {what} are not finite"
    elif not bool(tensor.any()):
        yield nothing
