"""Augmentation and normalisation against plain loops over pictures."""

import math

import numpy as np
import pytest
import torch

from switchgrad.data import POLICIES, augment, check_policy, normalise
from switchgrad.errors import DataError


def batch_of(count=40, channels=3, height=16, width=24, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(5)
    # From 1, so that a 0 in a result can only be padding.
    return torch.randint(1, 256, (count, channels, height, width), generator=generator).to(dtype)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
def test_normalise_is_its_formula(dtype, channels_last):
    batch = batch_of(dtype=dtype)
    if channels_last:
        batch = batch.contiguous(memory_format=torch.channels_last)
    before = batch.clone()
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    got = normalise(batch, mean, std)
    expected = (batch.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert got.dtype == torch.float32
    assert got.stride() == batch.stride()
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=2e-6)
    assert torch.equal(batch, before)


def test_normalise_takes_one_picture():
    picture = batch_of()[0]
    torch.testing.assert_close(normalise(picture, [0, 0, 0], [1, 1, 1]), picture / 255)


@pytest.mark.parametrize(
    ("shape", "mean", "std", "sentence"),
    [
        ((2, 3, 4, 4), [0.5], [0.5], "mean has 1 and std 1 numbers for 3 channels"),
        ((2, 1, 4, 4), [0.5], [0.5, 0.5], "mean has 1 and std 2 numbers for 1 channels"),
        ((2, 1, 4, 4), [0.5], [0.0], "every number must be above 0"),
        ((2, 1, 4, 4), [0.5], [float("nan")], "every number must be above 0"),
        ((4, 4), [0.5], [0.5], r"the images have shape (4, 4)"),
    ],
)
def test_normalise_refuses_what_does_not_fit(shape, mean, std, sentence):
    with pytest.raises(DataError) as caught:
        normalise(torch.zeros(shape, dtype=torch.uint8), mean, std)
    assert sentence in str(caught.value)


def shifts_of(before, after, reach_y, reach_x):
    """All moves (dy, dx) within reach that turn one picture into the other, found by trying each."""
    _, height, width = before.shape
    padded = np.zeros((before.shape[0], height + 2 * reach_y, width + 2 * reach_x), before.dtype)
    padded[:, reach_y : reach_y + height, reach_x : reach_x + width] = before
    moves = [(y, x) for y in range(2 * reach_y + 1) for x in range(2 * reach_x + 1)]
    return [
        move
        for move in moves
        if np.array_equal(padded[:, move[0] : move[0] + height, move[1] : move[1] + width], after)
    ]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_shift_moves_every_picture_on_its_own(dtype):
    batch = batch_of(200, dtype=dtype)
    after = augment(batch, "shift", seeded())
    found = [shifts_of(a.float().numpy(), b.float().numpy(), 2, 3) for a, b in zip(batch, after, strict=True)]
    assert all(len(moves) == 1 for moves in found)
    # 200 pictures over 5 x 7 moves: every move along either axis must come up.
    assert {moves[0][0] for moves in found} == set(range(5))
    assert {moves[0][1] for moves in found} == set(range(7))


def test_shift_reaches_at_least_one_cell():
    batch = batch_of(100, 1, 4, 4)
    found = [
        shifts_of(a.numpy(), b.numpy(), 1, 1)[0] for a, b in zip(batch, augment(batch, "shift", seeded()), strict=True)
    ]
    assert set(found) == {(y, x) for y in range(3) for x in range(3)}


def test_flip_mirrors_about_half():
    batch = batch_of(400)
    after = augment(batch, "flip", seeded())
    mirrored = [torch.equal(b, a.flip(2)) for a, b in zip(batch, after, strict=True)]
    unchanged = [torch.equal(b, a) for a, b in zip(batch, after, strict=True)]
    assert all(m != u for m, u in zip(mirrored, unchanged, strict=True))
    assert abs(sum(mirrored) - 200) < 5 * math.sqrt(400) / 2


def test_cutout_clears_a_square_and_nothing_else():
    batch = batch_of(300)
    after = augment(batch, "cutout", seeded())
    centres = set()
    for before, cut in zip(batch, after, strict=True):
        holes = (cut == 0).all(0)
        assert torch.equal(cut == 0, holes.expand_as(cut))
        assert torch.equal(cut[:, ~holes], before[:, ~holes])
        rows, columns = holes.any(1).nonzero().flatten(), holes.any(0).nonzero().flatten()
        assert holes.sum() == len(rows) * len(columns)
        assert 2 <= len(rows) <= 4
        assert 2 <= len(columns) <= 4
        assert len(rows) == 4 or rows[0] == 0 or rows[-1] == 15
        centres.add((int(rows[0]), int(columns[0])))
    assert len(centres) > 150


def turned(picture, angle, scale):
    """Rotate and scale about the middle by looking up every pixel, bilinearly, in a plain loop."""
    height, width = picture.shape
    result = np.zeros((height, width))
    sin, cos = math.sin(angle) / scale, math.cos(angle) / scale
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5 - width / 2, row + 0.5 - height / 2
            sx, sy = cos * x - sin * y + width / 2 - 0.5, sin * x + cos * y + height / 2 - 0.5
            x0, y0 = math.floor(sx), math.floor(sy)
            for yy, wy in ((y0, 1 - sy + y0), (y0 + 1, sy - y0)):
                for xx, wx in ((x0, 1 - sx + x0), (x0 + 1, sx - x0)):
                    if 0 <= yy < height and 0 <= xx < width:
                        result[row, column] += wy * wx * picture[yy, xx]
    return result


def test_affine_turns_and_scales_also_what_is_not_square():
    batch = batch_of(6, 1, 10, 18, torch.float64)
    got = augment(batch, "affine", seeded(3)).numpy()
    draws = seeded(3)
    angles = (torch.rand(6, generator=draws) * 30 - 15).deg2rad().tolist()
    scales = (torch.rand(6, generator=draws) * 0.2 + 0.9).tolist()
    for index in range(6):
        expected = turned(batch[index, 0].numpy(), angles[index], scales[index])
        np.testing.assert_allclose(got[index, 0], expected, atol=1e-3)
    assert len({round(angle, 3) for angle in angles}) == 6


def test_affine_on_bytes_is_affine_on_floats_rounded():
    batch = batch_of()
    floats = augment(batch.float(), "affine", seeded())
    assert torch.equal(augment(batch, "affine", seeded()), floats.round().to(torch.uint8))


@pytest.mark.parametrize("policy", ["none", "", *POLICIES, ",".join(POLICIES), "flip, shift"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_every_policy_repeats_itself_and_keeps_form(policy, dtype, channels_last):
    batch = batch_of(dtype=dtype)
    if channels_last:
        batch = batch.contiguous(memory_format=torch.channels_last)
    before = batch.clone()
    first, again, other = (augment(batch, policy, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first.dtype, first.shape, first.stride()) == (batch.dtype, batch.shape, batch.stride())
    assert torch.equal(batch, before)
    assert torch.equal(first, other) == (policy in ("none", ""))


def test_policies_are_applied_in_order():
    batch = batch_of()
    generator = seeded(4)
    by_hand = augment(augment(batch, "shift", generator), "flip", generator)
    assert torch.equal(augment(batch, "shift,flip", seeded(4)), by_hand)


@pytest.mark.parametrize("policy", POLICIES)
def test_an_empty_batch_stays_empty(policy):
    assert augment(batch_of(0), policy, seeded()).shape == (0, 3, 16, 24)


@pytest.mark.parametrize("policy", ["mirror", "shift,mirror", "shift,,flip", "shift,none", "Shift"])
def test_unknown_policies_are_refused(policy):
    for call in (lambda: check_policy(policy), lambda: augment(batch_of(), policy, seeded())):
        with pytest.raises(DataError, match='give "none", or some of shift, flip, cutout, affine'):
            call()


@pytest.mark.parametrize("batch", [torch.zeros(3, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.int64)])
def test_other_batches_are_refused(batch):
    with pytest.raises(DataError, match="give uint8 or float"):
        augment(batch, "flip", seeded())
