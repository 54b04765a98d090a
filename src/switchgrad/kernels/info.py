"""What `switchgrad info` tells: versions, the library, the instruction set, which kernel serves which operator."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import version

import torch

from switchgrad.kernels import cuda, native, schema
from switchgrad.version import VERSION


@dataclass(frozen=True, slots=True)
class OperatorInfo:
    """Which kernel serves an operator on a device, and why that one."""

    name: str
    device: str
    kernel: str
    reason: str


@dataclass(frozen=True, slots=True)
class Info:
    """The answer of `info`."""

    versions: dict[str, str]
    library: str
    isa: str
    isas: list[str]
    threads: int
    operators: list[OperatorInfo] = field(repr=False)


def _cpu() -> tuple[str, str]:
    if native.LIBRARY is None:
        return "reference (PyTorch)", native.WHERE
    if not native.isa():
        return "none", f'SWITCHGRAD_ISA is "{os.environ.get("SWITCHGRAD_ISA")}", which this processor does not have'
    forced = "forced by SWITCHGRAD_ISA" if os.environ.get("SWITCHGRAD_ISA") else "the best this processor has"
    return f"C++ ({native.isa()})", forced


_IN_STEPS = (
    "groups, dilation, 16-bit floats on the CPU, autocast, torch.func and pooling windows beyond 254 cells take "
    "PyTorch's conv2d and relu_max_pool or max_pool instead (switchgrad.ops.conv_pool.why_not_fused tells of a call)"
)
_LIMITS = {"conv_max_pool": (_IN_STEPS,), "conv_max_pool_backward": (_IN_STEPS,)}


def info() -> Info:
    """Versions, the native library, the instruction set, and which kernel serves which operator on which device.

    >>> sorted(info().versions)[:2]
    ['numpy', 'python']
    >>> info().operators[0].name
    'max_pool'
    """
    cpu_kernel, cpu_reason = _cpu()
    rows: list[OperatorInfo] = []
    for name in native.SIGNATURES:
        rows.append(OperatorInfo(name, "cpu", cpu_kernel, "; ".join([cpu_reason, *_LIMITS.get(name, ())])))
        if torch.cuda.is_available():
            rows.append(OperatorInfo(name, "cuda", *cuda.served_by(name)))
    for name in schema.FOR_CUDA:
        rows.append(OperatorInfo(name, "cpu", "PyTorch and the operators above", "it has no kernel of its own"))
        if torch.cuda.is_available():
            rows.append(OperatorInfo(name, "cuda", *cuda.served_by(name)))
    return Info(
        versions={
            "switchgrad": VERSION,
            "torch": torch.__version__,
            "numpy": version("numpy"),
            "python": platform.python_version(),
        },
        library=native.WHERE,
        isa=native.isa() or "none",
        isas=native.isas(),
        threads=torch.get_num_threads(),
        operators=rows,
    )
