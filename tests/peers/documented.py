"""The examples in PyTorch's own documentation of pooling, run on ours and on PyTorch's, and compared."""

from __future__ import annotations

import doctest
import textwrap
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from peers.replaced import FUNCTIONS, LAYERS, differ, replaced

OBJECTS = {
    **{f"torch.nn.functional.{name}": getattr(functional, name) for name in FUNCTIONS},
    **{f"torch.nn.{name}": getattr(nn, name) for name in LAYERS},
}


# Where ours gives other numbers on purpose.
KNOWN = {
    "torch.nn.LPPool2d": "PyTorch takes powers of negative numbers and gives NaN; ours is |x|^p",
    "torch.nn.LPPool3d": "PyTorch takes powers of negative numbers and gives NaN; ours is |x|^p",
}


def examples(name: str) -> list[str]:
    """The statements of an object's documentation."""
    parsed = doctest.DocTestParser().get_examples(OBJECTS[name].__doc__ or "")
    return [whole(example) for example in parsed if not example.source.lstrip().startswith("#")]


def whole(example: doctest.Example) -> str:
    """A statement; where the page leaves out the dots before its further lines, with these."""
    try:
        compile(example.source, "<example>", "exec")
    except SyntaxError:
        return textwrap.dedent(example.source) + textwrap.dedent(example.want)
    return example.source


def outcome(statements: list[str]) -> dict[str, Any]:
    """Everything that the statements name or show."""
    torch.manual_seed(0)
    names: dict[str, Any] = {"torch": torch, "nn": nn, "F": functional}
    shown: dict[str, Any] = {}
    for i, statement in enumerate(statements):
        try:
            code = compile(statement, "<example>", "eval")
        except SyntaxError:
            exec(compile(statement, "<example>", "exec"), names)
        else:
            shown[f"line {i}"] = eval(code, names)
    tensors = {key: value for key, value in names.items() if isinstance(value, (torch.Tensor, tuple))}
    return {**tensors, **shown}


def differing(name: str) -> list[str]:
    """The variables and lines of an object's examples that come out otherwise with ours."""
    statements = examples(name)
    theirs = outcome(statements)
    with replaced():
        ours = outcome(statements)
    return [key for key, value in theirs.items() if key not in ours or differ(ours[key], value)]


def documented() -> list[str]:
    """The objects that have examples."""
    return [name for name in OBJECTS if examples(name)]
