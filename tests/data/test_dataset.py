"""Splits, data sets, statistics and the stratified split."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from switchgrad.data import Dataset, Split
from switchgrad.data.dataset import channel_statistics, stratified_split
from switchgrad.errors import DataError


def a_split(count=4, channels=1, side=2, labels=None):
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)
    numbers = labels if labels is not None else [0, 1] * (count // 2)
    return Split(images, torch.tensor(numbers, dtype=torch.int64))


@pytest.mark.parametrize(
    ("images", "labels", "paths", "sentence"),
    [
        (torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64), None, "give a contiguous uint8 tensor"),
        (torch.zeros(2, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), None, "[N, C, H, W]"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2), None, "give an int64 tensor of shape [2]"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), None, "shape (3,)"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), ("a",), "1 paths"),
        (torch.zeros(2, 1, 4, 2, dtype=torch.uint8)[:, :, ::2], torch.zeros(2).long(), None, "a contiguous uint8"),
    ],
)
def test_split_refuses_what_does_not_fit(images, labels, paths, sentence):
    with pytest.raises(DataError) as caught:
        Split(images, labels, paths)
    assert sentence in str(caught.value)


def test_select_keeps_images_labels_and_paths_together():
    split = Split(torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1, 1), torch.tensor([5, 6, 7]), ("a", "b", "c"))
    part = split.select(torch.tensor([2, 0]))
    assert part.images.flatten().tolist() == [2, 0]
    assert part.labels.tolist() == [7, 5]
    assert part.paths == ("c", "a")


def test_statistics_agree_with_numpy_to_the_last_digits(monkeypatch):
    monkeypatch.setattr("switchgrad.data.dataset._AT_ONCE", 1000)  # several chunks, the last one short
    images = torch.randint(0, 256, (1100, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mean, std = channel_statistics(images)
    scaled = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, scaled.mean((0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(std, scaled.std((0, 2, 3)), rtol=1e-11)


def test_a_constant_channel_has_a_std_to_divide_by():
    assert channel_statistics(torch.full((2, 1, 3, 3), 9, dtype=torch.uint8)) == ((9 / 255,), (1 / 255,))


@pytest.mark.parametrize(
    ("train", "val", "classes", "sentence"),
    [
        (a_split(side=2), a_split(side=3), ("a", "b"), "the training pictures are (1, 2, 2)"),
        (a_split(), a_split(labels=[0, 1, 2, 0]), ("a", "b"), "validation labels run from 0 to 2"),
        (a_split(labels=[-1, 0, 0, 0]), a_split(), ("a", "b"), "training labels run from -1 to 0"),
        (a_split(), a_split(count=0, labels=[]), ("a", "b"), "there are no validation pictures"),
        (a_split(count=0, labels=[]), a_split(), ("a", "b"), "has no training pictures"),
        (a_split(), a_split(), ("a", "a"), "each name once"),
    ],
)
def test_dataset_refuses_splits_that_do_not_fit(train, val, classes, sentence):

    with pytest.raises(DataError) as caught:
        Dataset.from_splits("x", "x", classes, train, val)
    assert sentence in str(caught.value)


def test_dataset_refuses_statistics_of_other_channels():
    with pytest.raises(DataError, match="one value for each of 1 channels"):
        Dataset("x", "x", ("a", "b"), a_split(), a_split(), (0.5, 0.5), (1.0,))


def test_dataset_knows_its_sizes():
    dataset = Dataset.from_splits("x", "from", ["a", "b"], a_split(channels=3, side=5), a_split(channels=3, side=5))
    assert (dataset.num_classes, dataset.in_channels, dataset.input_size) == (2, 3, (5, 5))
    assert repr(dataset) == "Dataset(x: 4 training and 4 validation pictures, 3x5x5, 2 classes)"


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    fraction=st.floats(0.05, 0.9),
    seed=st.integers(0, 2**32),
)
def test_every_class_is_split_in_its_share(counts, fraction, seed):
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    train, val = stratified_split(labels, fraction, seed)
    assert sorted(train.tolist() + val.tolist()) == list(range(len(labels)))
    assert train.tolist() == sorted(train.tolist())
    for label, count in enumerate(counts):
        held_out = int((labels[val] == label).sum())
        expected = 0 if count == 1 else min(max(round(count * fraction + 1e-9), 1), count - 1)
        assert abs(held_out - expected) <= (1 if abs(count * fraction % 1 - 0.5) < 1e-6 else 0)


def test_the_split_depends_on_the_seed_and_on_nothing_else():
    labels = torch.arange(100) % 5
    first, again, other = (stratified_split(labels, 0.2, seed)[1].tolist() for seed in (0, 0, 1))
    torch.manual_seed(99)
    assert first == again == stratified_split(labels, 0.2, 0)[1].tolist()
    assert first != other
    # Kept here so that a change of the rule, which would change every published figure, does not go unseen.
    assert first[:6] == FIRST_OF_SEED_0


FIRST_OF_SEED_0 = [11, 20, 22, 24, 33, 41]


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_outside_of_0_to_1_is_refused(fraction):
    with pytest.raises(DataError, match="val_fraction is"):
        stratified_split(torch.tensor([0, 1]), fraction, 0)
