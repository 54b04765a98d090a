"""The members of the family that PyTorch does not have, each against the composition that one would write without us.

    python benchmarks/other_pools.py                          # all rows, both allocators, writes the JSON
    python benchmarks/other_pools.py --only "soft" --update   # one member's rows, put into that file

The compositions (`compositions.py`) are the few lines of a paper's formula in PyTorch: `unfold`, `exp`, `avg_pool2d`,
`topk`, with the same care for padding as the case needs and none for overflow, ties or -inf. A row is timed only after
its values and gradient agree; pooling at random is compared on given numbers and timed with its own draws. Kept: the
bytes that autograd keeps between forward and backward, ours and the composition's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import compositions as by_hand
from measure import interleaved, is_asked_for, run
from pool_family import backward_of
from switchgrad import ops

Function = Callable[[Tensor], Tensor]
DRAWS = "each window's number is drawn from its place and a seed, the same in every layout; PyTorch's generator runs on"
STABLE = "cells are divided by the largest of their map before the power is taken; the composition overflows"
STEPS = "windows are summed cell by cell in steps of PyTorch's; the composition's convolution takes one pass each way"
POWERS = "powers of any exponent cell by cell; PyTorch takes third powers as products"
ABOUT = "deviations are taken about the mean of each window, whose cells are laid out; the composition cancels"
BANDS = "learned filters axis by axis, each band a tensor of its own; the composition has one convolution"
ZEROS = "zeros are looked for before logarithms; the composition makes NaN of a zero"
TIMES = "values are multiplied by m, which is 1 here, in a pass of its own"
WINNERS = "the winner is noted forward; the composition looks for it backward, which takes several times as long"
EDGES = "a look whether equal values stand at the edge, as the earlier are kept; the composition keeps any of them"
PADDING = "what padding holds, NaN too, is taken out; the composition multiplies it by 0"


@dataclass(frozen=True)
class Case:
    """``ours`` against ``peer``; ``same``: both on the same drawn numbers, where what is timed draws its own."""

    kind: str
    shape: tuple[int, ...]
    ours: Function
    peer: Function
    same: tuple[Function, Function] | None = None
    positive: bool = False
    quarters: bool = False  # numbers whose sums do not round, so that both draw the same cells
    why: str | None = None

    @property
    def name(self) -> str:
        return f"{self.kind} {'x'.join(map(str, self.shape))}"

    def input(self) -> Tensor:
        if self.quarters:
            return torch.randint(1, 32, self.shape) / 4
        x = torch.randn(self.shape)
        return x.abs() + 0.05 if self.positive else x


EARLY, LATE, SIGNAL = (32, 64, 56, 56), (16, 512, 14, 14), (64, 128, 500)
WIDE = (8, 32, 56, 56)


def draws(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def in_windows() -> list[Case]:
    gate, leaves = draws(1, 2, 2) - 0.5, draws(2, 2, 2, 2)
    found: list[Case] = []
    for shape in (EARLY, LATE):
        logits = 2 * draws(3, *shape)
        found += [
            Case("soft 2/2", shape, lambda x: ops.soft_pool2d(x, 2), by_hand.soft),
            Case("lip 2/2", shape, lambda x, z=logits: ops.lip_pool2d(x, z, 2), lambda x, z=logits: by_hand.lip(x, z)),
            Case("mixed 2/2", shape, lambda x: ops.mixed_pool2d(x, 0.3, 2), lambda x: by_hand.mixed(x, 0.3)),
            Case(
                "gated 2/2", shape, lambda x: ops.gated_pool2d(x, gate, 2), lambda x: by_hand.gated(x, gate), why=STEPS
            ),
            Case(
                "tree 2/2",
                shape,
                lambda x: ops.tree_pool2d(x, leaves, gate[None], 2),
                lambda x: by_hand.tree(x, leaves, gate),
                why=STEPS,
            ),
            Case("max-min 2/2", shape, lambda x: ops.max_min_pool2d(x, 2), by_hand.max_min),
            Case("lp 3 2/2", shape, lambda x: ops.lp_pool2d(x, 3, 2), lambda x: by_hand.lp(x, 3), why=POWERS),
            Case("gamma 2/2", shape, lambda x: ops.gamma_pool2d(x, 2), by_hand.gamma, positive=True, why=ABOUT),
            Case(
                "weibull 2/2, shape 2",
                shape,
                lambda x: ops.weibull_pool2d(x, 2, shape=2.0),
                lambda x: by_hand.weibull(x, 2.0),
                positive=True,
            ),
            Case(
                "distance-weighted 3/2",
                shape,
                lambda x: ops.weighted_avg_pool2d(x, 3, 2, 1, sigma=1.0),
                lambda x: by_hand.distance_weighted(x, 1.0),
            ),
            Case("haar wavelet", shape, ops.wavelet_pool2d, by_hand.haar),
            Case(
                "ldw",
                shape,
                lambda x: ops.ldw_pool2d(x, torch.tensor([0.5, 0.5]), torch.tensor([0.5, -0.5])),
                by_hand.ldw,
                why=BANDS,
            ),
        ]
    return found


def at_random() -> list[Case]:
    found: list[Case] = []
    for shape in (EARLY, LATE):
        n, c, h, w = shape
        each, cells, lines = draws(4, n, c, h // 2, w // 2), draws(5, *shape), draws(6, h + w)
        found += [
            Case(
                "stochastic 2/2",
                shape,
                lambda x: ops.stochastic_pool2d(x, 2),
                lambda x: by_hand.stochastic(x, torch.rand_like(x[..., ::2, ::2])),
                (lambda x, u=each: ops.stochastic_pool2d(x, 2, samples=u), lambda x, u=each: by_hand.stochastic(x, u)),
                quarters=True,
                why=DRAWS,
            ),
            Case(
                "max dropout 2/2",
                shape,
                lambda x: ops.max_pool_dropout2d(x, 2),
                lambda x: by_hand.max_dropout(x, torch.rand_like(x)),
                (
                    lambda x, u=cells: ops.max_pool_dropout2d(x, 2, samples=u),
                    lambda x, u=cells: by_hand.max_dropout(x, u),
                ),
                positive=True,
                why=DRAWS,
            ),
            Case(
                "s3 2/2",
                shape,
                lambda x: ops.s3_pool2d(x, 2),
                lambda x: by_hand.s3(x, torch.rand(x.shape[-2] + x.shape[-1])),
                (lambda x, u=lines: ops.s3_pool2d(x, 2, samples=u), lambda x, u=lines: by_hand.s3(x, u)),
            ),
        ]
    return found


def whole_maps() -> list[Case]:
    book = draws(7, 64, 64)
    found: list[Case] = []
    for shape in (EARLY, LATE):
        size = shape[-1] // 2
        odd = size - 1 + size % 2
        found += [
            Case(
                "spectral to half",
                shape,
                lambda x, n=odd: ops.spectral_pool2d(x, n),
                lambda x, n=odd: by_hand.spectral(x, n),
            ),
            Case(
                "dft magnitude to half",
                shape,
                lambda x, n=size: ops.dft_magnitude_pool2d(x, n),
                lambda x, n=size: by_hand.dft_magnitude(x, n),
            ),
            Case("entropy", shape, ops.global_entropy_pool, by_hand.entropy, positive=True, why=ZEROS),
            Case("gem 3", shape, ops.gem_pool, by_hand.gem, positive=True, why=STABLE),
            Case("expectation", shape, ops.expectation_pool, by_hand.expectation, why=TIMES),
            Case("spatial pyramid 4 2 1", shape, ops.spatial_pyramid_pool, by_hand.spatial_pyramid),
            Case("maxout 2", shape, ops.maxout, by_hand.maxout, why=WINNERS),
            Case("loss max", (shape[0], *shape[2:]), ops.loss_max_pool, by_hand.loss_max, positive=True),
        ]
    return [
        *found,
        Case("group p4", (16, 32, 4, 28, 28), lambda x: ops.group_pool(x, "p4"), lambda x: x.amax(2), why=WINNERS),
        Case(
            "vlad of 64",
            (16, 196, 64),
            lambda x: ops.vlad(x, book),
            lambda x: by_hand.vlad(x, book),
        ),
    ]


def over_time() -> list[Case]:
    lengths = (draws(8, SIGNAL[0]) * SIGNAL[2]).long() + 1
    mask = torch.arange(SIGNAL[2]) < lengths[:, None]
    alpha, logits = draws(9, SIGNAL[1]), draws(10, 32, 128)
    return [
        Case("soft 2/2", SIGNAL, lambda x: ops.soft_pool1d(x, 2), by_hand.soft1d),
        Case("k-max 8", SIGNAL, lambda x: ops.k_max_pool(x, 8), lambda x: by_hand.k_max(x, 8), why=EDGES),
        Case("chunk max 7", SIGNAL, lambda x: ops.chunk_max_pool(x, 7), lambda x: by_hand.chunk_max(x, 7)),
        Case(
            "max over time, masked",
            SIGNAL,
            lambda x: ops.max_over_time(x, mask=mask),
            lambda x: x.masked_fill(~mask[:, None], -torch.inf).amax(-1),
        ),
        Case(
            "average over time, masked",
            SIGNAL,
            lambda x: ops.avg_over_time(x, mask=mask),
            lambda x: (x * mask[:, None]).sum(-1) / mask.sum(-1)[:, None],
            why=PADDING,
        ),
        Case(
            "autopool",
            SIGNAL,
            lambda x: ops.auto_pool(x, alpha),
            lambda x: ((alpha[:, None] * x).softmax(-1) * x).sum(-1),
        ),
        Case(
            "auto-pooling clusters",
            (64, 100, 128),
            lambda x: ops.cluster_pool(x, logits),
            lambda x: x @ logits.softmax(0).t(),
        ),
    ]


def unpooled() -> list[Case]:
    return [
        case
        for shape in (WIDE, LATE)
        for case in (
            Case("average unpool 2", shape, lambda x: ops.avg_unpool2d(x, 2), by_hand.repeated),
            Case("nearest unpool 2", shape, lambda x: ops.nearest_unpool2d(x, 2), by_hand.nearest),
            Case("bilinear unpool 2", shape, lambda x: ops.bilinear_unpool2d(x, 2), by_hand.bilinear),
        )
    ]


def kept_bytes(function: Function, x: Tensor) -> int:
    """What autograd keeps beside the input, each memory once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = function(x)
    kept.pop(x.untyped_storage().data_ptr(), None)
    del result
    return sum(kept.values())


def measure_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)  # a descriptor halfway between two centres, say, would go with either
    x = case.input().requires_grad_()
    grad = check(case, x)
    both = {"ours": case.ours, "composition": case.peer}
    forward = interleaved({name: lambda f=f: f(x) for name, f in both.items()}, options.seconds / 2, least=5)
    backward = interleaved({name: backward_of(f(x), x, grad) for name, f in both.items()}, options.seconds / 2, least=5)
    ratios = [times["composition"] / times["ours"] for times in (forward, backward)]
    return {
        "case": case.name,
        "forward_ms": forward["ours"],
        "composition_ms": forward["composition"],
        "times_composition": ratios[0],
        "backward_ms": backward["ours"],
        "composition_backward_ms": backward["composition"],
        "times_composition_backward": ratios[1],
        "kept_mib": kept_bytes(case.ours, x) / 2**20,
        "composition_kept_mib": kept_bytes(case.peer, x) / 2**20,
        "reason": case.why if min(ratios) < 0.95 else None,
    }


def check(case: Case, x: Tensor) -> Tensor:
    """The gate before the clock; gives the gradient that comes back."""
    found = [function(x) for function in case.same or (case.ours, case.peer)]
    grad = torch.randn_like(found[1])
    slopes = [torch.autograd.grad(y, x, grad.reshape(y.shape))[0] for y in found]
    for mine, other in (found, slopes):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4, msg=lambda text: f"{case.name}: {text}")
    return grad


CASES = [*in_windows(), *at_random(), *whole_maps(), *over_time(), *unpooled()]


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [measure_case(case, options) for case in CASES if is_asked_for(case.name, options)]


if __name__ == "__main__":
    run("other_pools", measure)
