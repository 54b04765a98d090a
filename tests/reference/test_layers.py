"""Every written-out layer against PyTorch's autograd, finite differences, and its own promises."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from declarations.reference_layers import LAYERS
from harness.written_out import CHECKS
from switchgrad import reference as ref

ROOM = Path(ref.__file__).parent


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, check):
    CHECKS[check](LAYERS[name])


def test_every_layer_is_declared():
    rooms = ("activation", "convolution", "dropout", "linear", "loss", "normalisation", "pooling", "shape")
    files = {path for room in rooms for path in ROOM.glob(f"{room}*/*.py")} | {ROOM / "linear.py"}
    classes = {
        node.name
        for file in files
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }
    assert len(classes) > 30
    assert classes == {type(case.layer).__name__ for case in LAYERS.values()}
    assert classes <= set(ref.__all__)


# What would hide the mathematics: PyTorch's own layers, its tape, and its fused forms of what is written out here.
FUSED = {name for name in dir(torch) if callable(getattr(torch.nn.functional, name, None))} - {
    "Tensor",
    "tanh",
    "sigmoid",
}
HIDDEN = FUSED | {"nn", "functional", "autograd", "func", "requires_grad", "requires_grad_", "grad", "vjp"}


def hidden_names(source: str) -> set[str]:
    """Names in a source that do what the source should spell out."""
    tree = ast.parse(source)
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    foreign = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and "switchgrad" not in (n.module or "")]
    modules = {part for node in foreign for part in (node.module or "").split(".")}
    return (attributes | modules | {name.name for node in foreign for name in node.names}) & HIDDEN


@pytest.mark.parametrize("file", sorted(ROOM.rglob("*.py")), ids=lambda file: str(file.relative_to(ROOM)))
def test_nothing_is_left_to_pytorch_s_layers_or_tape(file):
    assert hidden_names(file.read_text()) == set()


@pytest.mark.parametrize(
    "source",
    [
        "from torch.nn import functional as F",
        "from torch import nn",
        "torch.relu(x)",
        "torch.conv2d(x, w)",
        "x.softmax(1)",
        "torch.autograd.grad(y, x)",
        "x.requires_grad_()",
        "torch.batch_norm(x, w)",
    ],
)
def test_what_is_hidden_would_be_seen(source):
    assert hidden_names(source)


def test_it_is_opened_on_first_use_only():
    code = (
        "import sys, switchgrad; assert not [m for m in sys.modules if m.startswith('switchgrad.reference')];"
        "switchgrad.reference.ReLU(); assert 'switchgrad.reference' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
