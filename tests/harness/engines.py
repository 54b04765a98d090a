"""What serves an operator: every instruction set of this machine, any number of threads, poisoned memory."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from harness.declaration import Operator
from switchgrad import kernels

_M_PERTURB = -6  # glibc: fill memory on malloc with the complement of this byte


def engines(operator: Operator) -> list[str]:
    """The instruction sets of this machine; one name that changes nothing where none of our kernels is called."""
    return (kernels.isas() if operator.native else []) or ["PyTorch"]


def running(engine: str) -> AbstractContextManager[None]:
    """Let one of the `engines` serve."""
    return nullcontext() if engine == "PyTorch" else kernels.use_isa(engine)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def poisoned(byte: int) -> Iterator[None]:
    """Fill all fresh memory: NaN and 255 from ``torch.empty`` in Python, ``byte`` from malloc in C++.

    PyTorch's own filling does not reach memory that C++ asks for through the stable ABI, so glibc's is used there;
    `test_conform.py` proves that it arrives. Run twice with different bytes: what was never written, differs.
    """
    libc = ctypes.CDLL(None)
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    if can_poison_malloc():
        libc.mallopt(_M_PERTURB, ~byte & 0xFF)
    try:
        yield
    finally:
        if can_poison_malloc():
            libc.mallopt(_M_PERTURB, 0)
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def can_poison_malloc() -> bool:
    """Whether the C library is one that can fill memory on malloc."""
    return hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
