"""Every instruction set gives the same bits; ``SWITCHGRAD_ISA`` and ``SWITCHGRAD_LIBRARY`` are honoured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import switchgrad
from harness.compare import require_same
from harness.samples import sample, seeded
from switchgrad import kernels
from switchgrad.errors import SwitchgradError

needs_library = pytest.mark.skipif(not kernels.isas(), reason="the native library is not here")
TESTS = Path(__file__).parents[1]


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a few lines in a fresh interpreter."""
    path = os.pathsep.join([str(Path(switchgrad.__file__).parents[1]), str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@needs_library
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["plain", "nan"])
def test_every_instruction_set_gives_the_same_bits(dtype: torch.dtype, kind: str) -> None:
    x = sample(kind, (3, 37, 29, 31), dtype, seeded("isas"))
    results = []
    for isa in kernels.isas():
        with kernels.use_isa(isa):
            for layout in (torch.contiguous_format, torch.channels_last):
                leaf = x.contiguous(memory_format=layout).requires_grad_()
                values, switches = switchgrad.ops.max_pool2d(leaf, 3, 2, 1, return_switches=True)
                sent = sample("plain", tuple(values.shape), dtype, seeded("sent"))
                (grad,) = torch.autograd.grad(values, leaf, sent)
                results.append((values.detach(), switches.codes, grad))
    for other in results[1:]:
        for left, right in zip(other, results[0], strict=True):
            require_same(left, right, "another instruction set or layout")


@needs_library
def test_use_isa_puts_the_old_one_back() -> None:
    before = kernels.isa()
    with kernels.use_isa("base"):
        assert kernels.isa() == "base"
    assert kernels.isa() == before
    with (
        pytest.raises(SwitchgradError, match=r'^instruction set "mmx" is not here; choose one of base'),
        kernels.use_isa("mmx"),
    ):
        pass


@needs_library
@pytest.mark.parametrize("isa", kernels.isas())
def test_the_environment_forces_an_instruction_set(isa: str) -> None:
    done = python(
        "import torch, switchgrad; switchgrad.ops.max_pool1d(torch.zeros(1, 4), 2);"
        "i = switchgrad.info(); print(i.isa, '|', i.operators[0].kernel, '|', i.operators[0].reason)",
        SWITCHGRAD_ISA=isa,
    )
    assert done.stdout.strip() == f"{isa} | C++ ({isa}) | forced by SWITCHGRAD_ISA", done.stderr


@needs_library
def test_an_instruction_set_that_is_not_here_is_refused_in_words() -> None:
    done = python(
        "import torch, switchgrad\n"
        "print(switchgrad.info().isa, '|', switchgrad.info().operators[0].reason)\n"
        "try: switchgrad.ops.max_pool1d(torch.zeros(1, 4), 2)\n"
        "except RuntimeError as refused: print(refused)\n",
        SWITCHGRAD_ISA="mmx",
    )
    assert done.stdout.splitlines() == [
        'none | SWITCHGRAD_ISA is "mmx", which this processor does not have',
        'SWITCHGRAD_ISA is "mmx"; this build on this processor has only those that `switchgrad info` lists, so unset '
        "it or name one",
    ], done.stderr


WITHOUT_LIBRARY = """
import json, warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    import switchgrad
    from switchgrad import kernels, nn, ops
    import torch
    nn.MaxPool2d(2)(torch.zeros(1, 1, 4, 4))
    nn.MaxPool2d(2)(torch.zeros(1, 1, 4, 4))
ours = [w for w in seen if "witchgrad" in str(w.message)]
import conform, math
from declarations.max_pool import max_pool, max_unpool
from dataclasses import replace
warnings.filterwarnings("ignore", "`torch.jit.script")
for operator in (max_pool(1), max_pool(2), max_pool(3), max_unpool(2)):
    few = tuple(case for case in operator.cases if math.prod(case.shapes[0]) < 130)
    dtypes = tuple(dtype for dtype in (torch.float32, torch.bfloat16, torch.uint8) if dtype in operator.dtypes)
    conform.check(replace(operator, cases=few, large=(), dtypes=dtypes, gradient_dtypes=(torch.float32,)))
print(json.dumps({
    "warnings": [[type(w.message).__name__, str(w.message)] for w in ours],
    "isas": kernels.isas(), "isa": kernels.isa(), "library": switchgrad.info().library,
    "kernels": sorted({o.kernel for o in switchgrad.info().operators if o.device == "cpu"}),
}))
"""


@pytest.mark.slow
def test_without_the_library_the_reference_serves_after_one_warning() -> None:
    """Every check of the harness passes on the reference, in a process that never loads the library."""
    done = python(WITHOUT_LIBRARY, SWITCHGRAD_LIBRARY="/nonexistent/lib.so")
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["warnings"] == [
        [
            "NativeLibraryWarning",
            "Switchgrad's compiled kernels are missing (no library at /nonexistent/lib.so), so every operator runs on "
            "its slower reference; reinstall with a C++ compiler at hand, and see `switchgrad info`",
        ]
    ]
    assert (told["isas"], told["isa"], told["kernels"]) == (
        [],
        "",
        ["PyTorch and the operators above", "reference (PyTorch)"],
    )
    assert told["library"] == "no library at /nonexistent/lib.so"


def test_a_file_that_is_no_library_is_told_of_in_words(tmp_path: Path) -> None:
    wrong = tmp_path / "libwrong.so"
    wrong.write_bytes(b"\x7fELF but not really")
    done = python(
        "import switchgrad, torch; print(switchgrad.ops.max_pool1d(torch.tensor([[1., 3.]]), 2).tolist())",
        SWITCHGRAD_LIBRARY=str(wrong),
    )
    assert done.stdout.strip() == "[[3.0]]", done.stderr
    assert done.stderr.count("NativeLibraryWarning") == 1
    assert f"{wrong} cannot be loaded: " in done.stderr
