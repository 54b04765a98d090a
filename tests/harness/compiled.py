"""The kernels for CUDA compiled, but not run: Triton and its assembler need no GPU to find what cannot be compiled."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature


def compile_only(target: GPUTarget, seen: list[str]) -> Callable[..., None]:
    """What takes the place of a kernel's launch: the same steps up to the machine code, for a GPU that is not here."""
    backend = make_backend(target)

    def run(self: JITFunction, *args: Any, grid: Any, warmup: bool, **constants: Any) -> None:
        bind = create_function_from_signature(self.signature, self.params, backend)
        bound, specialization, options = bind(*args, **constants, debug=False)
        options, signature, fixed, attributes = self._pack_args(backend, constants, bound, specialization, options)
        source = ASTSource(self, signature, fixed, attributes)
        compiled = triton.compile(source, target=target, options=options.__dict__)
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
