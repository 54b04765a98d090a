"""Switches: to flat indices and back, mask, unpooling, their size; codes of every width; codes that lie."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

import loops
from declarations.max_pool import CASES, POOL
from harness.compare import from_array, require_same, to_array
from harness.declaration import Case
from harness.samples import sample, seeded
from switchgrad import Switches, geometry, ops
from switchgrad.errors import GeometryError

ALL = [pytest.param(dims, case, id=f"{dims}d {case.name}") for dims, cases in CASES.items() for case in cases]


def pooled(dims: int, case: Case, kind: str = "plain") -> tuple[torch.Tensor, torch.Tensor, Switches]:
    x = sample(kind, case.shapes[0], torch.float64, seeded(case.name))
    values, switches = POOL[dims](x, **case.arguments, return_switches=True)
    return x, values, switches


@pytest.mark.parametrize(("dims", "case"), ALL)
def test_flat_indices_and_back(dims: int, case: Case) -> None:
    _, _, switches = pooled(dims, case, "ties")
    again = Switches.from_indices(switches.to_indices(), switches.window, switches.input_size)
    require_same(again.codes, switches.codes, "codes")
    assert (again.window, again.input_size) == (switches.window, switches.input_size)
    assert switches.nbytes == switches.codes.numel() * (1 if switches.window.cells <= 254 else 2)


@pytest.mark.parametrize(("dims", "case"), ALL)
def test_the_mask_is_true_at_the_winners(dims: int, case: Case) -> None:
    x, values, switches = pooled(dims, case, "ties")
    _, indices, _ = loops.max_pool(to_array(x), dims, **case.arguments)
    ones = torch.ones_like(values)
    won = from_array(loops.put_back(to_array(ones), indices, x.shape[2:], add=False), torch.bool)
    require_same(switches.mask(), won, "mask")


@pytest.mark.parametrize(("dims", "case"), ALL)
def test_unpooling_puts_values_where_the_winners_lay(dims: int, case: Case) -> None:
    x, values, switches = pooled(dims, case)
    _, indices, _ = loops.max_pool(to_array(x), dims, **case.arguments)
    sent = sample("plain", tuple(values.shape), torch.float64, seeded("sent", case.name))
    back = from_array(loops.put_back(to_array(sent), indices, x.shape[2:], add=False), torch.float64)
    require_same(switches.unpool(sent), back, "unpool")
    # With its own values even the winner of several windows gets back what it was.
    won = switches.mask()
    require_same(switches.unpool(values)[won], x[won], "the winners themselves")


@pytest.mark.parametrize(("dims", "case"), [p for p in ALL if p.values[1].small])
def test_unpooling_by_switches_is_differentiable_twice(dims: int, case: Case) -> None:
    _, values, switches = pooled(dims, case)
    leaf = values.detach().requires_grad_()
    assert gradcheck(switches.unpool, leaf, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(switches.unpool, leaf)


def test_shared_winners_send_their_gradient_to_the_last_window() -> None:
    x = torch.tensor([[[0.0, 9.0, 0.0, 1.0]]])
    values, switches = ops.max_pool1d(x, 3, 1, return_switches=True)
    sent = torch.tensor([[[5.0, 7.0]]], requires_grad=True)
    back = switches.unpool(sent)
    assert back.tolist() == [[[0.0, 7.0, 0.0, 0.0]]]
    (slope,) = torch.autograd.grad(back, sent, torch.full_like(back, 3.0))
    assert slope.tolist() == [[[0.0, 3.0]]]
    assert values.tolist() == [[[9.0, 9.0]]]


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [(2, torch.uint8), (254, torch.uint8), (255, torch.int16), (32767, torch.int16), (32768, torch.int32)],
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_codes_are_as_narrow_as_the_window_allows(cells: int, dtype: torch.dtype, channels_last: bool) -> None:
    x = torch.randn(1, 2, 1, cells + 9, generator=torch.Generator().manual_seed(cells))
    x[0, 0, 0, cells - 1] = x[0, 1, 0, cells] = 99.0  # the last cell of the first window and of the second
    layout = torch.channels_last if channels_last else torch.contiguous_format
    leaf = x.contiguous(memory_format=layout).requires_grad_()
    values, switches = ops.max_pool2d(leaf, (1, cells), stride=1, return_switches=True)
    theirs, indices = F.max_pool2d(x.requires_grad_(), (1, cells), stride=1, return_indices=True)
    assert switches.codes.dtype == dtype
    assert switches.codes[0, 0, 0, 0] == switches.codes[0, 1, 0, 1] == cells - 1
    require_same(switches.to_indices(), indices, "indices")
    sent = torch.randn_like(theirs)
    ours, wanted = (torch.autograd.grad(y, leaf_, sent)[0] for y, leaf_ in ((values, leaf), (theirs, x)))
    require_same(ours, wanted, "gradient")


def test_windows_without_a_cell_have_no_winner() -> None:
    x = torch.tensor([[[[7.0, 8.0]]]], requires_grad=True)
    values, switches = ops.max_pool2d(x, (1, 2), 1, ((0, 0), (4, 1)), (1, 5), return_switches=True)
    assert values.tolist() == [[[[8.0, -torch.inf]]]]
    assert switches.codes.tolist() == [[[[1, 255]]]]
    assert switches.to_indices().tolist() == [[[[1, -1]]]]
    assert switches.mask().tolist() == [[[[False, True]]]]
    assert torch.autograd.grad(values, x, torch.ones_like(values))[0].tolist() == [[[[0.0, 1.0]]]]
    small = ops.max_pool2d(torch.tensor([[[7, 8]]], dtype=torch.int8), (1, 2), 1, ((0, 0), (4, 1)), (1, 5))
    assert small.tolist() == [[[8, -128]]]


SEEN = torch.tensor([[[[0, 3], [1, 255]]]], dtype=torch.uint8)
WINDOW = geometry.window(2, 2)
LIES: dict[str, tuple[Any, str]] = {
    "beyond the window": (
        lambda: Switches(SEEN + 4, WINDOW, (4, 4)).to_indices(),
        "some switches point outside their window or the input; use them with the pooling that made them",
    ),
    "beyond the window, mask": (
        lambda: Switches(SEEN + 4, WINDOW, (4, 4)).mask(),
        "some switches point outside their window or the input; use them with the pooling that made them",
    ),
    "beyond the window, unpool": (
        lambda: Switches(SEEN + 4, WINDOW, (4, 4)).unpool(torch.zeros(1, 1, 2, 2)),
        "some switches point outside their window or the input; use them with the pooling that made them",
    ),
    "another input": (
        lambda: Switches(SEEN, WINDOW, (5, 6)),
        "codes of shape (1, 1, 2, 2) do not go with a window that takes (2, 3) places over an input of (5, 6); use the "
        "switches with the pooling that made them",
    ),
    "another width": (
        lambda: Switches(SEEN.short(), WINDOW, (4, 4)),
        "codes have dtype torch.int16; a window of 4 cells has torch.uint8 codes",
    ),
    "no channels": (
        lambda: Switches(SEEN[0, 0], WINDOW, (4, 4)),
        "codes of shape (2, 2) do not go with a window that takes (2, 2) places over an input of (4, 4); use the "
        "switches with the pooling that made them",
    ),
    "too few values": (
        lambda: Switches(SEEN, WINDOW, (4, 4)).unpool(torch.zeros(1, 1, 2, 1)),
        "values have shape (1, 1, 2, 1) and the switches (1, 1, 2, 2); give one value for each switch",
    ),
    "indices of another pooling": (
        lambda: Switches.from_indices(torch.full((1, 1, 2, 2), 5), WINDOW, (4, 4)),
        "some indices do not lie in the window of their place; give the window and input_size of the pooling that made "
        "them",
    ),
    "indices beyond the input": (
        lambda: Switches.from_indices(torch.full((1, 1, 2, 2), 16), WINDOW, (4, 4)),
        "some indices do not lie in the window of their place; give the window and input_size of the pooling that made "
        "them",
    ),
    "negative indices": (
        lambda: Switches.from_indices(torch.full((1, 1, 2, 2), -2), WINDOW, (4, 4)),
        "some indices do not lie in the window of their place; give the window and input_size of the pooling that made "
        "them",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_switches_that_lie_are_refused(lie: str) -> None:
    act, sentence = LIES[lie]
    with pytest.raises(GeometryError) as refused:
        act()
    assert str(refused.value) == sentence


def test_codes_in_the_padding_are_refused_and_harmless() -> None:
    window = geometry.window(2, 3, 2, 1)
    switches = Switches(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), window, (4, 4))  # cell 0 of window 0 is padding
    with pytest.raises(GeometryError, match=r"some switches point outside their window or the input"):
        switches.to_indices()
    with pytest.raises(RuntimeError, match=r"some switches point outside their window or the input"):
        torch.ops.switchgrad.max_pool_gather(torch.zeros(1, 1, 4, 4), switches.codes, window.numbers)
    sent = torch.ones(1, 1, 2, 2)
    routed = torch.ops.switchgrad.max_pool_route(sent, switches.codes, [4, 4], window.numbers)
    assert routed.sum() == 1  # of four codes only that of the last window names a cell of the input
