"""The embedded digits are scikit-learn's, value for value."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from switchgrad import data
from switchgrad.data import digits


def test_the_embedded_digits_are_those_of_scikit_learn():
    images, labels = digits.read_raw()
    original = load_digits()
    np.testing.assert_array_equal(images, original.images)
    np.testing.assert_array_equal(labels, original.target)


def test_values_are_spread_over_0_to_255_and_none_is_lost():
    images, _ = digits.read_raw()
    spread = digits.read().images[:, 0].numpy()
    np.testing.assert_array_equal(np.rint(spread.astype(np.float64) * 16 / 255), images)
    assert (spread.min(), spread.max()) == (0, 255)


def test_the_two_parts_are_all_digits_once_and_stratified():
    dataset = data.load("digits")
    assert len(dataset.train) == 1438
    assert len(dataset.val) == 359
    whole = torch.cat([dataset.train.images, dataset.val.images]).flatten(1)
    everything = digits.read()
    assert sorted(map(bytes, whole.numpy())) == sorted(map(bytes, everything.images.flatten(1).numpy()))
    totals = everything.class_counts(10)
    assert [round(total * 0.2) for total in totals] == dataset.val.class_counts(10)


def test_another_seed_or_share_gives_another_part():
    default, other, half = data.load(), data.load(seed=1), data.load(val_fraction=0.5)
    assert not torch.equal(default.val.images, other.val.images)
    assert len(half.val) == pytest.approx(1797 / 2, abs=6)


def test_digits_can_be_scaled():
    """Cover 16 x 24 from 8 x 8: three times as large, then the middle 16 of 24 rows."""
    dataset, small = data.load("digits", image_size=(16, 24)), data.load("digits")
    assert dataset.input_size == (16, 24)
    whole = Image.fromarray(small.train.images[5, 0].numpy()).resize((24, 24), Image.Resampling.BILINEAR)
    middle = np.asarray(whole).astype(int)[4:20]
    np.testing.assert_allclose(dataset.train.images[5, 0].numpy()[1:-1], middle[1:-1], atol=1)
    assert dataset.train.labels.tolist() == small.train.labels.tolist()
    assert dataset.mean != small.mean
