"""The kernels for CUDA compiled, but not run: Triton and its assembler need no GPU to find what cannot be compiled."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction, mangle_type


def compile_only(target: GPUTarget, seen: list[str]) -> Callable[..., None]:
    """What takes the place of a kernel's launch: compiles it for ``target`` with the arguments' types."""

    def run(self: JITFunction, *args: Any, grid: Any, warmup: bool, **constants: Any) -> None:
        given = {**dict(zip(self.arg_names, args, strict=False)), **constants}
        fixed = {parameter.name for parameter in self.params if parameter.is_constexpr}
        signature = {n: "constexpr" if n in fixed else mangle_type(v) for n, v in given.items()}
        signature = {name: signature[name] for name in self.arg_names}
        source = ASTSource(self, signature, {name: given[name] for name in fixed})
        options = {name: value for name, value in constants.items() if name not in self.arg_names}
        compiled = triton.compile(source, target=target, options=options)
        if "cubin" not in compiled.asm:
            raise AssertionError(f"{self.__name__} was not assembled")
        text = compiled.asm["ptx"]
        if "atom." in text or "red.global" in text:
            raise AssertionError(f"{self.__name__} has atomics")
        seen.append(self.__name__)

    return run


def compiling(capability: int = 80) -> list[str]:
    """From now on kernels are compiled in place of being run; their names gather in the list returned."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        sys.exit("TRITON_INTERPRET is set: the kernels would be interpreted")
    seen: list[str] = []
    JITFunction.run = compile_only(GPUTarget("cuda", capability, 32), seen)
    return seen
