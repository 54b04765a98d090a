"""What the page and the terminal both tell in tables: plain text, no layout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from switchgrad.errors import ModelError
from switchgrad.probe.tracing.numbers import short, times
from switchgrad.probe.tracing.record import Flow, Step, Trace

_MOST_CLASSES = 20


def norm(tensor: Tensor) -> float:
    """The square root of the sum of squares, in double."""
    return tensor.double().norm().item()


def chosen_steps(trace: Trace, layers: Sequence[str]) -> list[Step]:
    """The steps of these names or numbers, all where none is given. Raises `ModelError` for one that is not there."""
    if not layers:
        return list(trace.steps)
    found: list[Step] = []
    for name in layers:
        steps = [step for step in trace.steps if name in (step.name, step.title, str(step.number))]
        if not steps:
            known = ", ".join(dict.fromkeys(step.title for step in trace.steps))
            raise ModelError(f'there is no step "{name}"; known are {known}, or their numbers 1 to {len(trace.steps)}')
        found += [step for step in steps if step not in found]
    return sorted(found, key=lambda step: step.number)


def facts_of(trace: Trace) -> dict[str, str]:
    """What the reader should know first."""
    facts = {"loss": f"{short(trace.loss.value)} → {short(trace.loss.after)}"}
    if trace.target is not None and not trace.target.is_floating_point() and trace.target.numel() == 1:
        facts["target"] = _class(trace, int(trace.target))
        guess = trace.loss.output.value.flatten()
        facts["first guess"] = _class(trace, int(guess.argmax()))
    facts |= {
        "input": ", ".join(times(flow.shape) for flow in trace.inputs),
        "update": f"{trace.rule}, lr = {short(trace.lr)}",
        "mode": f"{'training' if trace.training else 'evaluation'}, seed {trace.seed}",
        "parameters": f"{sum(update.before.numel() for update in trace.updates):,} that learn",
    }
    if trace.uncalled:
        facts["not called"] = ", ".join(trace.uncalled)
    return facts


def overview(trace: Trace) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a step a row, then the loss."""
    head = ["", "step", "type", "output", "|y|", "|dy|", "|dx|", "|dw|", "weights"]
    rows = [_row(step) for step in trace.steps]
    output = trace.loss.output
    rows.append(["", "loss", trace.loss.name, "one number", short(trace.loss.value), "1", _back((output,)), "–", "–"])
    return head, rows


def _row(step: Step) -> list[str]:
    weights = sum(parameter.value.numel() for parameter in step.parameters)
    gradients = [parameter.gradient for parameter in step.parameters if parameter.gradient is not None]
    total = sum(norm(gradient) ** 2 for gradient in gradients) ** 0.5
    return [
        str(step.number),
        step.title,
        step.type if step.kind == "layer" else step.kind,
        times(step.outputs[0].shape) if step.outputs else "–",
        short(norm(step.outputs[0].value)) if step.outputs else "–",
        _back(step.outputs[:1]),
        _back(step.inputs),
        short(total) if gradients else "–",
        f"{weights:,}" if weights else "–",
    ]


def _back(flows: Sequence[Flow]) -> str:
    """The norm of what came back to a few tensors together."""
    gradients = [flow.gradient for flow in flows if flow.gradient is not None]
    return short(sum(norm(gradient) ** 2 for gradient in gradients) ** 0.5) if gradients else "–"


def scores(trace: Trace) -> tuple[list[str], list[tuple[str, ...]]] | None:
    """Scores, shares, target and gradient of the first sample; the last column is empty but for the target.

    None where the loss is no cross-entropy of plain classes. Of many classes the likeliest are shown, and the target.
    """
    output, target = trace.loss.output, trace.target
    if trace.loss.name != "cross-entropy" or target is None or output.value.dim() != 2 or output.gradient is None:
        return None
    values, goal = output.value[0].double(), int(target.flatten()[0])
    shares, gradient = torch.softmax(values, 0), output.gradient[0].double()
    likeliest: list[int] = shares.argsort(descending=True, stable=True)[:_MOST_CLASSES].tolist()
    rows = [
        (
            _class(trace, k),
            f"{values[k]:.4f}".replace("-", "−"),
            f"{shares[k]:.4f}",
            str(int(k == goal)),
            f"{gradient[k]:+.4f}".replace("-", "−"),
            "target" if k == goal else "",
        )
        for k in sorted({*likeliest, goal})
    ]
    return ["class", "score", "share p", "target", "gradient", ""], rows


def _class(trace: Trace, number: int) -> str:
    return trace.classes[number] if number < len(trace.classes) else str(number)
