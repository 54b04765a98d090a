"""From an operator on a CUDA tensor to its kernel: what is imported when, and what serves where Triton is missing."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from harness.interpreted import carried, moved
from switchgrad.errors import NativeLibraryWarning
from switchgrad.kernels import cuda, schema
from switchgrad.ops.rooms import ROOM_OF

for _room in ("regions", "stochastic"):  # rooms open on first use; here every operator has to be there
    importlib.import_module(f"switchgrad.ops.{_room}")


def test_importing_switchgrad_does_not_import_triton() -> None:
    code = "import sys, switchgrad; sys.exit('triton' in sys.modules or 'switchgrad.gpu' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_kernel_is_registered_for_cuda_and_exists() -> None:
    for name in cuda.MODULES:
        assert name in {**schema.SCHEMAS, **schema.FOR_CUDA}
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"switchgrad::{name}", "CUDA")
        assert cuda.kernel(name).__module__ == f"switchgrad.gpu.{cuda.MODULES[name]}"


def test_every_operator_has_a_reference_at_hand() -> None:
    for room in set(ROOM_OF.values()):
        importlib.import_module(f"switchgrad.ops.{room}")
    assert set(schema.REFERENCES) == {*schema.SCHEMAS, *schema.FOR_CUDA}


@pytest.fixture
def no_triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if Triton could not be imported."""
    cached = (cuda._why_missing, cuda.kernel)
    monkeypatch.setitem(sys.modules, "triton", None)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.mark.usefixtures("no_triton")
def test_without_triton_the_reference_serves_after_one_warning() -> None:
    with pytest.warns(NativeLibraryWarning, match=r'pip install "switchgrad\[gpu\]"') as warned:
        found = {name: cuda.kernel(name) for name in cuda.MODULES}
    assert len(warned) == 1
    assert found == {name: schema.REFERENCES[name] for name in cuda.MODULES}
    assert "not installed" in cuda.served_by("max_pool")[1]


def test_info_says_which_kernel_serves_cuda() -> None:
    assert cuda.served_by("max_pool") == ("Triton", "triton is installed")
    assert cuda.served_by("nms") == ("reference (PyTorch)", "it has no Triton kernel")


def test_where_there_is_a_gpu_tensors_go_there_as_they_lie() -> None:
    """What the harness does on a machine with a GPU, with the CPU in its place."""
    whole = torch.arange(24.0).reshape(4, 6)
    for tensor in (whole[1:, ::2], whole.T, whole[0].expand(3, 6), whole[:0]):
        copy = moved(tensor, "cpu")
        assert torch.equal(copy, tensor)
        assert (copy.stride(), copy.storage_offset()) == (tensor.stride(), tensor.storage_offset())
        assert copy.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr()

    def kernel(written: torch.Tensor, number: int, read: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        written += number
        return written * 2, read.T

    given = whole.clone()
    found = carried(kernel, (given[:, 1], 3, whole), "cpu")
    assert torch.equal(given[:, 1], whole[:, 1] + 3)
    assert torch.equal(given[:, 0], whole[:, 0])
    assert torch.equal(found[0], (whole[:, 1] + 3) * 2)
    assert found[1].stride() == whole.T.stride()
