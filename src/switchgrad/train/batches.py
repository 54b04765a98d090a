"""Shuffled batches as a function of (seed, epoch, step), so that a run resumes anywhere without a saved generator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

import torch
from torch import Tensor

from switchgrad.errors import RunError

Prepare: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]


def seed_for(seed: int, *where: object) -> int:
    """A seed below 2^63 for one use of randomness, such as ``seed_for(seed, "order", epoch)``.

    It is a hash, so that neighbouring epochs and steps share nothing.

    >>> seed_for(0, "order", 1) == seed_for(0, "order", 1), seed_for(0, "order", 1) == seed_for(0, "order", 2)
    (True, False)
    """
    words = "/".join(str(word) for word in (seed, *where))
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "big") >> 1


def seed_globals(seed: int) -> None:
    """Set PyTorch's own generators, from which dropout and fresh weights draw, on the CPU and on CUDA where it is used.

    ``torch.manual_seed`` does the same and also notes the call, with the whole stack, for devices that may come later:
    half a millisecond, which is a fifth of a small network's step.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def generator_for(seed: int, *where: object) -> torch.Generator:
    """A fresh CPU generator that starts at `seed_for` of the same arguments."""
    return torch.Generator().manual_seed(seed_for(seed, *where))


@lru_cache(maxsize=2)
def shuffled(count: int, seed: int, epoch: int) -> Tensor:
    """The order of the pictures in one epoch: a permutation of ``0 .. count - 1``.

    >>> sorted(shuffled(5, 0, 3).tolist())
    [0, 1, 2, 3, 4]
    """
    return torch.randperm(count, generator=generator_for(seed, "order", epoch))


@dataclass(frozen=True)
class Batches:
    """The training pictures, cut for each epoch into shuffled batches of nearly equal size.

    ``ceil(N / batch_size)`` batches hold every picture exactly once, and their sizes differ by one at most: no epoch
    ends on a batch of three pictures that weigh as much as sixty-four, or of one, on which batch normalisation fails.
    ``prepare`` turns a batch of ``images`` into the network's input; its generator belongs to (seed, epoch, step).
    What `ahead` has prepared, `at` gives once.

    >>> batches = Batches(torch.arange(10.).view(10, 1), torch.arange(10), 4, seed=0)
    >>> [len(batches.at(0, step)[1]) for step in range(len(batches))]
    [3, 3, 4]
    """

    images: Tensor
    labels: Tensor
    batch_size: int
    seed: int
    prepare: Prepare = lambda images, generator: images  # noqa: ARG005
    _waiting: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels) or len(self.labels) == 0:
            raise RunError(
                f"there are {len(self.images)} pictures and {len(self.labels)} labels; "
                "give at least one picture, and a label for each"
            )

    def __len__(self) -> int:
        """Steps in an epoch."""
        return -(-len(self.labels) // self.batch_size)

    def at(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Input and labels of one step, the same whenever they are asked for."""
        waiting = self._waiting.pop((epoch, step), None)
        return self._prepared(epoch, step) if waiting is None else waiting

    def ahead(self, epoch: int, step: int) -> None:
        """Prepare a step before its turn, while the device is busy; nothing where the epoch has no such step."""
        self._waiting.clear()
        if step < len(self):
            self._waiting[epoch, step] = self._prepared(epoch, step)

    def _prepared(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        count, steps = len(self.labels), len(self)
        order = shuffled(count, self.seed, epoch)[count * step // steps : count * (step + 1) // steps]
        order = order.to(self.labels.device)
        images = self.prepare(self.images[order], generator_for(self.seed, "augment", epoch, step))
        return images, self.labels[order]
