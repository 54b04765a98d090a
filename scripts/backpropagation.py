"""The numbers and pictures of docs/backpropagation.md, from a trace of its small network.

``python scripts/backpropagation.py`` writes them; the test suite compares them with what is committed.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

import switchgrad
from switchgrad.probe.tracing import Trace
from switchgrad.probe.tracing.crops import crops_of
from switchgrad.probe.tracing.picture import picture

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "backpropagation.md"
PICTURES = ROOT / "docs" / "pictures"
LR, TARGET = 0.01, 1

PICTURE = (
    (0, 0, 1, 2, 0, 0),
    (0, 1, 3, 2, 0, 1),
    (0, 0, 3, 1, 0, 2),
    (1, 0, 2, 0, 1, 0),
    (0, 1, 3, 0, 0, 1),
    (0, 0, 2, 1, 0, 0),
)
KERNEL = ((0, 1, -1), (-1, 2, -1), (0, 1, 0))
SCORES = ((0.2, -0.1, 0.1, -0.2), (-0.1, 0.1, -0.2, 0.1))


def network() -> nn.Sequential:
    """One 3x3 filter, ReLU, max pooling 2x2, two scores; weights chosen so that a pencil can follow."""
    layers = OrderedDict(
        conv=nn.Conv2d(1, 1, 3),
        relu=nn.ReLU(),
        pool=switchgrad.nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        linear=nn.Linear(4, 2),
    )
    net = nn.Sequential(layers).double()
    with torch.no_grad():
        layers["conv"].weight.copy_(torch.tensor(KERNEL))
        layers["conv"].bias.fill_(-1)
        layers["linear"].weight.copy_(torch.tensor(SCORES))
        layers["linear"].bias.zero_()
    return net


def story() -> Trace:
    """The iteration that the page walks through."""
    return switchgrad.trace(network(), torch.tensor(PICTURE, dtype=torch.float64)[None, None], TARGET, lr=LR)


def numbers(trace: Trace) -> dict[str, str]:
    """The text of each block of numbers in the page, by its name."""
    conv, relu, pool, flatten, linear = trace.steps
    updates = {update.name: update for update in trace.updates}
    scores, target = trace.loss.output.value[0], int(trace.target[0])
    shares = scores.softmax(0)
    wanted = nn.functional.one_hot(trace.target, 2)[0]
    kernel, weights = updates["conv.weight"], updates["linear.weight"]
    return {
        "input": block(x=trace.inputs[0].value, w=kernel.before, b=updates["conv.bias"].before),
        "conv": block(y=conv.outputs[0].value),
        "relu": block(a=relu.outputs[0].value),
        "pool": block(m=pool.outputs[0].value, switches=pool.winners.codes),
        "linear": block(W=weights.before, v=flatten.outputs[0].value, s=scores),
        "loss": block(p=shares, t=wanted) + f"\n\nloss = -log {shares[target]:.4f} = {trace.loss.value:.4f}",
        "d-scores": block(ds=linear.outputs[0].gradient),
        "d-linear": block(dW=weights.gradient, dc=updates["linear.bias"].gradient, dv=linear.inputs[0].gradient),
        "d-pool": block(dm=pool.outputs[0].gradient, da=pool.inputs[0].gradient),
        "d-relu": block(dy=relu.inputs[0].gradient),
        "d-conv": block(dw=kernel.gradient, db=updates["conv.bias"].gradient),
        "d-input": block(dx=trace.inputs[0].gradient),
        "update": block(**{"w'": kernel.after, "b'": updates["conv.bias"].after})
        + "\n\n"
        + block(**{"W'": weights.after, "c'": updates["linear.bias"].after})
        + f"\n\nloss before {trace.loss.value:.4f}, after {trace.loss.after:.4f}",
    }


def block(**tensors: Tensor) -> str:
    """Named matrices under each other, their columns aligned.

    >>> print(block(v=torch.tensor([1.0, -0.5])))
    v =  1.0000 -0.5000
    """
    return "\n\n".join("\n".join(_matrix(name, tensor)) for name, tensor in tensors.items())


def _matrix(name: str, tensor: Tensor) -> Iterable[str]:
    plane = tensor.reshape(-1, tensor.shape[-1] if tensor.dim() else 1).tolist()
    whole = all(float(value).is_integer() for row in plane for value in row)
    texts = [[f"{value:.0f}" if whole or not value else f"{value:.4f}" for value in row] for row in plane]
    texts = [["0" if text == "-0" else text for text in row] for row in texts]
    width = max(len(text) for row in texts for text in row)
    for place, row in enumerate(texts):
        yield f"{name} = " * (not place) + " " * (len(name) + 3) * bool(place) + " ".join(t.rjust(width) for t in row)


def rewritten(page: str, trace: Trace) -> str:
    """The page with every block of numbers written anew."""
    texts = numbers(trace)
    marked = re.compile(r"(<!-- numbers: (\S+) -->\n```text\n).*?(```)", re.DOTALL)
    if sorted(found[2] for found in marked.finditer(page)) != sorted(texts):
        raise SystemExit(f"{PAGE} must have each of these blocks once: {', '.join(texts)}")
    return marked.sub(lambda found: f"{found[1]}{texts[found[2]]}\n{found[3]}", page)


def pictures(trace: Trace) -> dict[str, str]:
    """The pictures of the page, by file name."""
    crops = crops_of(trace, 8)
    return {
        f"{step.name}.svg": picture(step, crop, weights=step.name in ("conv", "linear"))
        for step, crop in zip(trace.steps, crops, strict=True)
        if step.name != "flatten"
    }


if __name__ == "__main__":
    made = story()
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    PICTURES.mkdir(exist_ok=True)
    for name, text in pictures(made).items():
        (PICTURES / name).write_text(text, encoding="utf-8")
