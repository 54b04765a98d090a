"""The library as it was built: which symbols it needs and shows, and that each instruction set keeps to itself."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from switchgrad.kernels import native

pytestmark = [
    pytest.mark.skipif(native.LIBRARY is None, reason="the native library is not here"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files"),
]

# C++ names of what may change between versions of PyTorch or of Python.
UNSTABLE = {
    "ATen": re.compile(r"^_ZN?[KVr]*2at\d|^_ZN?[KVr]*N?K?2at[0-9]|2at6Tensor"),
    "c10": re.compile(r"3c10\d|^_ZN?K?3c10"),
    "unstable torch": re.compile(r"^_Z\w*5torch(?!6stable|10headeronly)\d"),
    "Python": re.compile(r"^_?Py[A-Z_]"),
}


@dataclass(frozen=True)
class Symbol:
    """One entry of a symbol table."""

    name: str
    defined: bool
    binding: int  # 0 local, 1 global, 2 weak


def symbols(library: bytes, section: bytes) -> list[Symbol]:
    """The entries of ``.dynsym`` or ``.symtab`` of a 64-bit little-endian ELF file; none where the table is missing."""
    assert library[:6] == b"\x7fELF\x02\x01"
    (table_at,) = struct.unpack_from("<Q", library, 0x28)
    size, count, names_index = struct.unpack_from("<HHH", library, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", library, table_at + i * size) for i in range(count)]
    names_of_sections = headers[names_index][4]
    found = []
    for name, _, _, _, offset, length, link, _, _, entry in headers:
        if library[names_of_sections + name :].startswith(section + b"\0"):
            strings = headers[link][4]
            for at in range(offset, offset + length, entry):
                where, info, _, home = struct.unpack_from("<IBBH", library, at)
                end = library.index(b"\0", strings + where)
                found.append(Symbol(library[strings + where : end].decode(), home != 0, info >> 4))
    return [symbol for symbol in found if symbol.name]


def unstable(names: list[str]) -> list[str]:
    """Those of the names that tie the library to one version of PyTorch or Python."""
    return [name for name in names if any(pattern.search(name) for pattern in UNSTABLE.values())]


@pytest.fixture(scope="module")
def library() -> bytes:
    return Path(native.WHERE).read_bytes()


def test_nothing_unstable_is_needed(library: bytes) -> None:
    needed = [symbol.name for symbol in symbols(library, b".dynsym") if not symbol.defined]
    assert any(name.startswith("aoti_torch_") for name in needed)  # the stable interface: the table was read right
    assert unstable(needed) == []


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs binutils")
def test_binutils_reads_the_same_names(library: bytes) -> None:
    lines = subprocess.run(["nm", "-uD", native.WHERE], capture_output=True, text=True, check=True).stdout.splitlines()
    theirs = {line.split()[-1].split("@")[0] for line in lines}
    assert theirs == {symbol.name for symbol in symbols(library, b".dynsym") if not symbol.defined}


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("_ZN2at6detail13empty_stridedEv", True),  # at::detail::empty_strided()
        ("_ZNK2at6Tensor4sizeEl", True),  # at::Tensor::size(long) const
        ("_ZN3c105ErrorC1ESs", True),  # c10::Error::Error(std::string)
        ("_ZNK3c1010TensorImpl4sizeEv", True),  # c10::TensorImpl::size() const
        ("_ZN5torch7LibraryC1Ev", True),  # torch::Library::Library()
        ("_ZN5torch8autograd8VariableC1Ev", True),  # torch::autograd::Variable
        ("PyObject_Call", True),
        ("_Py_Dealloc", True),
        ("_ZN5torch6stable6Tensor3getEv", False),  # torch::stable::Tensor::get()
        ("_ZN5torch10headeronly8toStringEv", False),
        ("aoti_torch_empty_strided", False),
        ("torch_call_dispatcher", False),
        ("_ZNSt13runtime_errorC1EPKc", False),
        ("_ZNSt6vectorIlSaIlEE7reserveEm", False),
        ("memcpy", False),
    ],
)
def test_the_search_can_fail(name: str, seen: bool) -> None:
    assert unstable(["malloc", name]) == ([name] if seen else [])


def test_only_its_own_doors_are_open(library: bytes) -> None:
    """What the library offers by name: three functions for Python, and what the stable headers must share."""
    shown = {symbol.name for symbol in symbols(library, b".dynsym") if symbol.defined}
    assert {name for name in shown if "switchgrad" in name} == {
        "switchgrad_supports",
        "switchgrad_isa",
        "switchgrad_use",
    }


def test_instruction_sets_share_no_code(library: bytes) -> None:
    """A weak symbol of the kernels would let the linker put AVX-512 code where the base kernels look for theirs."""
    own = re.compile(r"10switchgrad(4base|4avx2|6avx512)")
    table = symbols(library, b".symtab") or symbols(library, b".dynsym")
    kernels = [symbol for symbol in table if own.search(symbol.name)]
    assert [symbol.name for symbol in kernels if symbol.binding == 2] == []
    exported = [symbol.name for symbol in symbols(library, b".dynsym") if own.search(symbol.name)]
    assert exported == []


def test_objects_of_the_kernels_have_no_weak_symbols() -> None:
    """The same in the object files, where the linker has not yet thrown any copy away."""
    nm = shutil.which("nm")
    objects = sorted(Path(__file__).parents[2].glob("build/**/*_table.cpp.o"))
    if nm is None or not objects:
        pytest.skip("needs binutils and a build folder")
    for file in objects:
        names = subprocess.run([nm, "-C", str(file)], capture_output=True, text=True, check=True).stdout.splitlines()
        weak = [line for line in names if re.search(r" [WVuw] ", line) and "__gxx_personality" not in line]
        assert weak == [], f"{file}: {weak[:3]}"
