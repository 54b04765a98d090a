"""The digits as tensors, scaled to mean 0 and deviation 1, and a short training loop."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from switchgrad import data


class Digits(NamedTuple):
    images: Tensor
    labels: Tensor
    unseen: Tensor
    answers: Tensor

    def batches(self, steps, seed=0, size=64):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            chosen = torch.randint(len(self.images), (size,), generator=generator)
            yield self.images[chosen], self.labels[chosen]

    def train(self, net, optimiser, steps, seed=0):
        """The share of unseen digits that the network then tells."""
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for x, labels in self.batches(steps, seed):
            optimiser.zero_grad()
            functional.cross_entropy(net(x), labels).backward()
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            return (net(self.unseen).argmax(1) == self.answers).double().mean().item()


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small are slower on several threads, and far slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def digits():
    loaded = data.load("digits")
    mean, deviation = loaded.train.images.float().mean(), loaded.train.images.float().std()
    scaled = [(split.images - mean) / deviation for split in (loaded.train, loaded.val)]
    return Digits(scaled[0], loaded.train.labels, scaled[1], loaded.val.labels)
