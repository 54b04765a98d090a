"""Keeping memory: page faults vanish inside the block, and memory goes back to the system after it."""

import sys
from pathlib import Path

import pytest
import torch

from switchgrad import keep_memory

resource = pytest.importorskip("resource", reason="needs POSIX's count of page faults")
MIB = 2**20


def faults_of_a_tensor_made_again_and_again():
    """Page faults of ten tensors of 16 MiB, in the best of some rounds: small blocks may split a free one at first."""

    def faults_of_a_round():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.empty(16 * MIB, dtype=torch.uint8).fill_(1)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    return min(faults_of_a_round() for _ in range(8))


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_freed_memory_is_used_again_without_faults():
    with keep_memory() as kept:
        if not kept:
            pytest.skip("needs Linux with glibc")
        assert faults_of_a_tensor_made_again_and_again() < 100  # else about 41,000 pages of 4 KiB


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_goes_back_at_the_end():
    with keep_memory() as kept:
        if not kept:
            pytest.skip("needs Linux with glibc")
        torch.empty(256 * MIB, dtype=torch.uint8).fill_(1)
        inside = resident_bytes()
    assert resident_bytes() < inside - 200 * MIB


def test_blocks_nest_and_the_last_restores():
    with keep_memory() as kept:
        if not kept:
            pytest.skip("needs Linux with glibc")
        with keep_memory():
            pass
        assert faults_of_a_tensor_made_again_and_again() < 100


def test_elsewhere_the_block_just_runs(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with keep_memory() as kept:
        assert not kept


def test_an_error_in_the_block_restores_too():
    from switchgrad import memory

    with pytest.raises(KeyError), keep_memory():
        raise KeyError
    assert memory._users == 0


def test_one_call_keeps_until_released():
    from switchgrad import memory

    kept = keep_memory()
    if not kept:
        pytest.skip("needs Linux with glibc")
    assert faults_of_a_tensor_made_again_and_again() < 100
    kept.release()
    kept.release()
    assert not kept
    assert memory._users == 0
