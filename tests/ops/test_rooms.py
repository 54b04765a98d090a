"""Operators without kernels are found where `rooms.py` says, and `import switchgrad` does not load them."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from switchgrad import ops
from switchgrad.ops.rooms import ROOM_OF

ROOMS = sorted(set(ROOM_OF.values()))


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_listed(room: str) -> None:
    names = {name for name, where in ROOM_OF.items() if where == room}
    module = importlib.import_module(f"switchgrad.ops.{room}")
    assert names == set(module.__all__)
    assert all(getattr(ops, name) is getattr(module, name) for name in names)
    assert names <= set(ops.__all__)


def test_rooms_open_when_they_are_used() -> None:
    script = (
        "import sys, torch, switchgrad\n"
        f"rooms = {ROOMS!r}\n"
        "print([r for r in rooms if f'switchgrad.ops.{r}' in sys.modules])\n"
        "compiled = torch.compile(switchgrad.nn.SoftPool2d(2), backend='eager', fullgraph=True)\n"
        "print(tuple(compiled(torch.rand(1, 1, 4, 4)).shape))\n"
        "print([r for r in rooms if f'switchgrad.ops.{r}' in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == ["[]", "(1, 1, 2, 2)", "['mixed']"]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'min_pool2d'"):
        _ = ops.min_pool2d
