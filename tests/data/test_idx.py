"""idx files: what is written comes back, and nothing damaged gets through."""

import gzip
import random
import struct
import tracemalloc

import numpy as np
import pytest

from switchgrad.data import idx
from switchgrad.errors import DataError


def as_idx(array, kind=8):
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


PICTURES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5], dtype=np.uint8)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_what_is_written_comes_back(tmp_path, pack):
    (tmp_path / "images").write_bytes(pack(as_idx(PICTURES)))
    (tmp_path / "labels").write_bytes(pack(as_idx(LABELS)))
    split = idx.read_split(tmp_path / "images", tmp_path / "labels")
    np.testing.assert_array_equal(split.images[:, 0].numpy(), PICTURES)
    assert split.labels.tolist() == [3, 1, 4, 1, 5]


def test_a_gzip_file_of_several_members_is_one_file(tmp_path):
    raw = as_idx(PICTURES)
    (tmp_path / "images").write_bytes(gzip.compress(raw[:20]) + gzip.compress(raw[20:]))
    np.testing.assert_array_equal(idx.read(tmp_path / "images", 3), PICTURES)


def test_transposed_pictures_are_turned_and_labels_counted_from_zero(tmp_path):
    (tmp_path / "images").write_bytes(as_idx(PICTURES))
    (tmp_path / "labels").write_bytes(as_idx(LABELS))
    split = idx.read_split(tmp_path / "images", tmp_path / "labels", first_label=1, transposed=True)
    assert split.images.shape == (5, 1, 3, 4)
    assert split.images[2, 0, 1, 3].item() == PICTURES[2, 3, 1]
    assert split.labels.tolist() == [2, 0, 3, 0, 4]


def packed(content):
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not an idx file"),
        (b"<html>not found</html>", "is not an idx file: it begins with b'<htm'"),
        (as_idx(PICTURES)[:10], "its header ends early"),
        (as_idx(PICTURES)[:-1], "is truncated"),
        (as_idx(PICTURES) + b"x", "goes on after the 5 x 4 x 3 bytes"),
        (as_idx(PICTURES.astype(">f4"), kind=0x0D), "holds float32 values"),
        (as_idx(LABELS), "has 1 axes where 3 are wanted; are images and labels exchanged?"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 0, 28, 28), "has the size 0 x 28 x 28"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 28, 28), "which no data set has"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 5, 2**31, 28), "which no data set has"),
        (packed(as_idx(PICTURES))[:-9], "cannot read"),
        (packed(as_idx(PICTURES))[:-8] + b"\0" * 8, "cannot read"),
        (packed(as_idx(PICTURES) + b"more"), "goes on after"),
        (packed(as_idx(PICTURES))[:10] + b"\x07" * 40, "cannot read"),
    ],
    ids=range(14),
)
def test_damage_is_refused_in_words(tmp_path, content, sentence):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        idx.read(path, dims=3)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: No such file"):
        idx.read(tmp_path / "nowhere", 3)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_header_that_lies_takes_no_memory(tmp_path, pack):
    path = tmp_path / "file"
    path.write_bytes(pack(struct.pack(">4B3I", 0, 0, 8, 3, 60_000, 200, 200) + b"\0" * 100))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="is truncated"):
            idx.read(path, dims=3)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_images_and_labels_must_be_as_many(tmp_path):
    (tmp_path / "images").write_bytes(as_idx(PICTURES))
    (tmp_path / "labels").write_bytes(as_idx(LABELS[:4]))
    with pytest.raises(DataError, match="holds 4 labels, but there are 5 pictures"):
        idx.read_split(tmp_path / "images", tmp_path / "labels")


def test_labels_below_the_first_are_refused():
    with pytest.raises(DataError, match="holds label 0; the first label of this data set is 1"):
        idx.to_split(PICTURES, np.array([1, 0, 2, 3, 4], np.uint8), "labels", first_label=1)


@pytest.mark.parametrize("pack", [bytes, packed], ids=["plain", "gzip"])
def test_random_damage_gives_data_errors_only(tmp_path, pack):
    rng = random.Random(0)
    good = pack(as_idx(PICTURES))
    path = tmp_path / "file"
    refused = 0
    for _ in range(400):
        bad = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        if rng.random() < 0.3:
            del bad[rng.randrange(len(bad)) :]
        path.write_bytes(bad)
        try:
            array = idx.read(path, dims=3)
        except DataError:
            refused += 1
        else:
            assert array.size == PICTURES.size
    assert refused > 100
