"""Unpooling by switches by the Triton kernel, also where windows overlap and share winners."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.interpreted import OnTriton
from switchgrad import ops
from switchgrad.ops import switches as switches_module

WINDOWS = {"2x2/2": (2, 2, 0), "3x3/1, padded": (3, 1, 1), "3x2/(2, 1)": ((3, 2), (2, 1), 0)}


def pooled(window: str, layout: torch.memory_format) -> tuple[Tensor, ops.Switches]:
    generator = torch.Generator().manual_seed(len(window))
    x = torch.randint(0, 9, (2, 3, 6, 7), generator=generator).double().contiguous(memory_format=layout)
    values, switches = ops.max_pool2d(x, *WINDOWS[window], return_switches=True)
    return values + torch.arange(values.numel()).reshape(values.shape) / 64, switches


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("window", WINDOWS)
def test_values_go_back_to_the_winners(
    window: str, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, switches = pooled(window, layout)
    wanted = switches.unpool(values)
    monkeypatch.setattr(switches_module, "has_place", lambda values: True)
    with OnTriton() as mode:
        got = switches.unpool(values)
    assert mode.served & {"max_pool_place", "max_pool_route"}
    assert torch.equal(got, wanted)
    assert got.is_contiguous(memory_format=layout)


def test_only_what_stayed_gets_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    values, switches = pooled("3x3/1, padded", torch.contiguous_format)
    values.requires_grad_()
    sent = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    wanted = torch.autograd.grad(switches.unpool(values), values, sent)[0]
    monkeypatch.setattr(switches_module, "has_place", lambda values: True)
    with OnTriton() as mode:
        got = torch.autograd.grad(switches.unpool(values), values, sent)[0]
    assert "max_pool_place" in mode.served
    assert torch.equal(got, wanted)
    assert not got.all()  # some windows shared their winner
