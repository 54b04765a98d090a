"""Milliseconds on a file, by machine and by work, so that a shape is timed once: JSON, checked when it is read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from switchgrad.errors import ModelError
from switchgrad.fusion.stages import Stage
from switchgrad.fusion.timings import Layout
from switchgrad.kernels import native
from switchgrad.version import VERSION

_FORMAT = "switchgrad timings 1"


class TimingFile:
    """What was measured on this machine; kept in memory, and on a file where there is a path."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._path = None if path is None else Path(path)
        self._machine = machine()
        self._machines = {} if self._path is None else _read(self._path)
        self._known = self._machines.setdefault(self._machine, {})
        self._fresh = False

    def get(self, work: str) -> float | None:
        """Milliseconds of ``work``; None where it was never measured on this machine."""
        return self._known.get(work)

    def __getitem__(self, work: str) -> float:
        return self._known[work]

    def put(self, work: str, ms: float) -> None:
        """Remember what was measured."""
        self._known[work] = ms
        self._fresh = True

    def save(self) -> None:
        """Write the file, if anything is new: the whole new one takes the place of the old at once."""
        if self._path is None or not self._fresh:
            return
        text = json.dumps({"format": _FORMAT, "milliseconds": self._machines}, indent=1)
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(text + "\n", encoding="utf-8")
            os.replace(temporary, self._path)
        except OSError as problem:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise ModelError(
                f"the timings cannot be written to {self._path}: {problem}; name another file"
            ) from problem


def machine() -> str:
    """What milliseconds depend on besides the work: processor, instruction set, threads and versions."""
    threads = torch.get_num_threads()
    return f"{_processor()}, {native.isa() or 'no kernels'}, {threads} threads, torch {torch.__version__}, {VERSION}"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(path: Path) -> dict[str, dict[str, float]]:
    if not path.exists():
        return {}
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ModelError(f"{path} cannot be read as timings ({problem}); name another file or delete it") from problem
    machines: Any = cast("dict[str, Any]", found).get("milliseconds") if isinstance(found, dict) else None
    if not isinstance(machines, dict) or cast("dict[str, Any]", found).get("format") != _FORMAT:
        raise ModelError(f"{path} holds no timings of this version ({_FORMAT}); name another file or delete it")
    for name, known in cast("dict[str, Any]", machines).items():
        for work, ms in cast("dict[str, Any]", known if isinstance(known, dict) else {"": None}).items():
            if isinstance(ms, bool) or not isinstance(ms, (int, float)) or not (math.isfinite(ms) and ms >= 0):
                raise ModelError(
                    f"{path} says {ms!r} milliseconds of {work or name!r}, which is no time; delete the file, and it "
                    "is measured anew"
                )
    return cast("dict[str, dict[str, float]]", machines)


def describe(stages: Sequence[Stage], operator: str, values: Mapping[fx.Node, Any], training: bool) -> str:
    """A piece of a chain as work: mode, what runs it, what comes in, and each operation with its numbers."""
    steps = [_step(stage) for stage in stages]
    return f"{_mode(training)}: {operator or 'as written'}: {_tensor(values[stages[0].input])} -> {' -> '.join(steps)}"


def describe_whole(
    owner: nn.Module,
    graph: fx.Graph,
    arguments: Sequence[Any],
    blocks: Sequence[Any],
    layout: Layout,
    training: bool,
) -> str:
    """A whole forward as work; its graph and what runs which piece as a digest."""
    parts = [str(graph), *(f"{block.name} {block.runs}" for block in blocks), *map(_sizes, owner.parameters())]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    given = ", ".join(_tensor(value) for value in tree_leaves(tuple(arguments)))
    return f"{_mode(training)}: {type(owner).__name__} {digest}, maps {layout or 'as given'}: {given}"


def _mode(training: bool) -> str:
    return "training" if training else "evaluation"


def _step(stage: Stage) -> str:
    facts = {name: value for name, value in stage.facts.items() if value is not None}
    trained = [p.requires_grad for p in stage.module.parameters()] if stage.module is not None else []
    said = [f"{name}={_tensor(value) if isinstance(value, Tensor) else value}" for name, value in sorted(facts.items())]
    frozen = ["frozen"] if trained and not any(trained) else []
    return f"{stage.kind}({', '.join([*said, *frozen])})"


def _tensor(value: Any) -> str:
    if not isinstance(value, Tensor):
        return str(value)
    gradient = ", gradient" if value.requires_grad else ""
    return f"{_sizes(value)}{gradient}"


def _sizes(value: Tensor) -> str:
    shape = "x".join(map(str, value.shape)) or "number"
    return f"{str(value.dtype).removeprefix('torch.')} {shape} strides {tuple(value.stride())}"
