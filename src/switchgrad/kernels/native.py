"""The native library: found, loaded once, and asked which instruction sets it has.

``SWITCHGRAD_LIBRARY`` names another file to load; ``SWITCHGRAD_ISA`` (``base``, ``avx2``, ``avx512``) forces an
instruction set instead of the best that the processor has.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch

from switchgrad.errors import NativeLibraryWarning, SwitchgradError
from switchgrad.kernels import schema  # the signatures must exist before the library implements them

_NAMES = ("libswitchgrad_native.so", "libswitchgrad_native.dylib")
_ISAS = ("base", "avx2", "avx512")


def _candidates() -> list[Path]:
    named = os.environ.get("SWITCHGRAD_LIBRARY")
    if named:
        return [Path(named)]
    # An editable install keeps the library beside the installed package and the Python files in the checkout.
    folders = [Path(folder) for folder in sys.modules["switchgrad.kernels"].__path__]
    return [folder / name for folder in folders for name in _NAMES]


def _load() -> tuple[ctypes.CDLL | None, str]:
    """The loaded library and where it is, or None and the reason why there is none."""
    found = next((path for path in _candidates() if path.is_file()), None)
    if found is None:
        return None, f"no library at {_candidates()[0]}"
    try:
        torch.ops.load_library(str(found))
        library = ctypes.CDLL(str(found))
        library.switchgrad_isa.restype = ctypes.c_char_p
    except (OSError, RuntimeError, AttributeError) as error:
        return None, f"{found} cannot be loaded: {str(error).splitlines()[0]}"
    return library, str(found)


LIBRARY, WHERE = _load()
SIGNATURES = tuple(schema.SCHEMAS)

if LIBRARY is None:
    warnings.warn(
        f"Switchgrad's compiled kernels are missing ({WHERE}), so every operator runs on its slower reference; "
        "reinstall with a C++ compiler at hand, and see `switchgrad info`",
        NativeLibraryWarning,
        stacklevel=2,
    )


def isas() -> list[str]:
    """The instruction sets whose kernels this library has and this processor runs, the plainest first."""
    if LIBRARY is None:
        return []
    return [name for name in _ISAS if LIBRARY.switchgrad_supports(name.encode())]


def isa() -> str:
    """The instruction set in use; empty where no library is loaded or ``SWITCHGRAD_ISA`` names one that is not here."""
    chosen = None if LIBRARY is None else LIBRARY.switchgrad_isa()
    return "" if chosen is None else chosen.decode()


@contextmanager
def use_isa(name: str) -> Generator[None]:
    """Run the kernels of one instruction set, for every thread, until the block ends; for tests and measurements.

    Raises `SwitchgradError` where the library or the processor does not have it.
    """
    before = isa()
    if LIBRARY is None or not LIBRARY.switchgrad_use(name.encode()):
        raise SwitchgradError(f'instruction set "{name}" is not here; choose one of {", ".join(isas()) or "none"}')
    try:
        yield
    finally:
        if before:
            LIBRARY.switchgrad_use(before.encode())
