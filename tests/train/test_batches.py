"""Shuffled batches: every picture once an epoch, nearly equal sizes, the same from (seed, epoch, step) at any time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from switchgrad.errors import RunError
from switchgrad.train.batches import Batches, seed_for


def make(count, batch_size, seed=0, **more):
    return Batches(torch.arange(count)[:, None], torch.arange(count) * 2, batch_size, seed, **more)


@given(st.integers(1, 300), st.integers(1, 320), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_holds_every_picture_once(count, batch_size, seed, epoch):
    batches = make(count, batch_size, seed)
    parts = [batches.at(epoch, step) for step in range(len(batches))]
    seen = torch.cat([images.flatten() for images, _ in parts])
    assert sorted(seen.tolist()) == list(range(count))
    assert torch.equal(torch.cat([labels for _, labels in parts]), seen * 2)
    sizes = [len(labels) for _, labels in parts]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size
    assert len(sizes) == -(-count // batch_size)


def test_order_depends_on_seed_and_epoch_alone():
    batches = make(50, 7)
    first = batches.at(3, 2)[1]
    batches.at(0, 0)
    torch.manual_seed(99)
    assert torch.equal(make(50, 7).at(3, 2)[1], first)
    assert not torch.equal(batches.at(4, 2)[1], first)
    assert not torch.equal(make(50, 7, seed=1).at(3, 2)[1], first)


def test_order_is_not_the_order_given():
    images = torch.cat([make(100, 10).at(0, step)[0] for step in range(10)]).flatten()
    assert images.tolist() != list(range(100))


def test_augmentation_draws_from_its_own_generator():
    def noisy(images, generator):
        return images + torch.rand(images.shape, generator=generator)

    one, two = make(20, 5, prepare=noisy), make(20, 5, prepare=noisy)
    torch.rand(3)
    assert torch.equal(one.at(1, 3)[0], two.at(1, 3)[0])
    noise = [(one.at(epoch, step)[0] % 1).flatten() for epoch in (0, 1) for step in (0, 1)]
    for i in range(4):
        for j in range(i):
            assert not torch.equal(noise[i], noise[j])


def test_seeds_differ_by_every_word():
    seeds = {
        seed_for(seed, use, epoch, step) for seed in range(3) for use in "ab" for epoch in range(9) for step in range(9)
    }
    assert len(seeds) == 3 * 2 * 9 * 9
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(("images", "labels"), [(0, 0), (3, 4)])
def test_nothing_to_train_on_is_refused(images, labels):
    with pytest.raises(RunError, match=f"there are {images} pictures and {labels} labels"):
        Batches(torch.zeros(images, 1), torch.zeros(labels, dtype=torch.int64), 4, 0)


def test_what_is_prepared_ahead_is_what_comes_and_comes_once():
    asked = []

    def prepare(images, generator):
        asked.append(len(images))
        return images + torch.rand((), generator=generator)

    batches, plain = make(10, 4, prepare=prepare), make(10, 4, prepare=prepare)
    for step in range(3):
        for one, two in zip(batches.at(1, step), plain.at(1, step), strict=True):
            assert torch.equal(one, two)
        batches.ahead(1, step + 1)
    assert len(asked) == 6
    batches.ahead(2, 0)
    assert torch.equal(batches.at(2, 1)[1], plain.at(2, 1)[1])  # another is asked for
    assert torch.equal(batches.at(2, 0)[1], plain.at(2, 0)[1])
    assert len(asked) == 10
    batches.at(2, 0)
    assert len(asked) == 11
