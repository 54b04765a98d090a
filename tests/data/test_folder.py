"""Image folders: which files belong to which class and split, what is refused, what is warned of."""

import os
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from switchgrad import data
from switchgrad.data import folder, read_image, reading
from switchgrad.errors import DataError, DataWarning


def picture(path, value=0, size=(6, 8), mode="RGB"):
    """A picture with its own noise; ``value`` seeds it. ``size`` is (H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def seed_of(*parts):
    return zlib.crc32(repr(parts).encode())


def two_splits(root, val="val", classes=("ants", "bees"), count=3):
    for part in ("train", val):
        for name in classes:
            for number in range(count):
                picture(root / part / name / f"{number}.png", seed_of(part, name, number))
    return root


def test_train_and_val_folders_become_the_two_splits(tmp_path):
    dataset = data.load(two_splits(tmp_path / "insects"))
    assert (dataset.name, dataset.classes) == ("insects", ("ants", "bees"))
    assert dataset.source == str(tmp_path / "insects")
    assert dataset.train.labels.tolist() == dataset.val.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.val.paths == tuple(f"val/{name}/{n}.png" for name in ("ants", "bees") for n in range(3))
    assert dataset.input_size == (6, 8)
    for split in (dataset.train, dataset.val):
        for image, path in zip(split.images, split.paths, strict=True):
            assert torch.equal(image, read_image(tmp_path / "insects" / path, (6, 8)))


@pytest.mark.parametrize("name", ["validation", "valid", "test", "Val"])
def test_other_names_of_the_validation_folder(tmp_path, name):
    dataset = data.load(two_splits(tmp_path, val=name))
    assert len(dataset.val) == 6
    assert dataset.val.paths[0] == f"{name}/ants/0.png"


def test_val_comes_before_test(tmp_path):
    two_splits(tmp_path)
    picture(tmp_path / "test" / "ants" / "x.png")
    assert {path.split("/")[0] for path in data.load(tmp_path).val.paths} == {"val"}
    assert folder.find(tmp_path).unused == ("test",)


@pytest.mark.parametrize("below", ["", "train"])
def test_one_folder_is_split_class_by_class(tmp_path, below):
    for name, count in (("a", 10), ("b", 5)):
        for number in range(count):
            picture(tmp_path / below / name / f"{number}.png", seed_of(name, number))
    dataset, again, other = data.load(tmp_path), data.load(tmp_path), data.load(tmp_path, seed=3)
    assert dataset.val.class_counts(2) == [2, 1]
    assert dataset.val.paths == again.val.paths
    assert dataset.val.paths != other.val.paths
    assert sorted(dataset.train.paths + dataset.val.paths) == [item.name for item in folder.find(tmp_path).items]
    assert not set(dataset.train.paths) & set(dataset.val.paths)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "car", "ship"):
        for number in range(4):
            picture(tmp_path / name / f"{number}.png", seed_of(name, number))
    assert data.load(tmp_path).classes == ("car", "ship", "train")


def test_classes_may_hold_folders_and_litter_is_passed_over(tmp_path):
    two_splits(tmp_path)
    picture(tmp_path / "train" / "ants" / "more" / "deep" / "x.png", 55)
    for litter in (".DS_Store", "Thumbs.db", ".hidden/x.png", "__MACOSX/x.png", "desktop.ini"):
        for base in (tmp_path, tmp_path / "train", tmp_path / "train" / "ants"):
            (base / litter).parent.mkdir(exist_ok=True)
            (base / litter).write_bytes(b"litter")
    dataset = data.load(tmp_path)
    assert dataset.classes == ("ants", "bees")
    assert len(dataset.train) == 7
    assert "train/ants/more/deep/x.png" in dataset.train.paths
    assert folder.find(tmp_path).stray == ()


def test_files_without_a_telling_suffix_are_judged_by_content(tmp_path):
    two_splits(tmp_path)
    picture(tmp_path / "train" / "ants" / "0.png").rename(tmp_path / "train" / "ants" / "no_suffix")
    (tmp_path / "train" / "ants" / "notes.txt").write_text("not a picture")
    (tmp_path / "labels.csv").write_text("a,b")
    found = folder.find(tmp_path)
    assert "train/ants/no_suffix" in [item.name for item in found.train]
    assert found.stray == ("labels.csv", "train/ants/notes.txt")
    assert len(data.load(tmp_path).train) == 6


def test_links_are_followed_to_files_but_not_in_circles(tmp_path):
    two_splits(tmp_path / "data")
    (tmp_path / "data" / "train" / "ants" / "circle").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "train" / "wasps").symlink_to(tmp_path / "data" / "train" / "bees")
    with pytest.warns(DataWarning, match="'wasps' have no validation pictures"):
        dataset = data.load(tmp_path / "data")
    assert dataset.train.class_counts(3) == [3, 3, 3]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([], "holds neither pictures nor a data set that is known"),
        (["x.png"], "holds files but no class folders; put the pictures of each class into a folder of its own"),
        (["train/x.png", "val/y.png"], "holds files but no class folders"),
        (["train/ants/x.png", "val/"], "has a validation folder without pictures; fill it, or remove it"),
        (["ants/"], "holds class folders without pictures (ants)"),
        (["val/ants/x.png"], "holds val/ but no train/"),
        (["val/ants/x.png", "test/ants/x.png"], "holds val/ but no train/"),
    ],
)
def test_folders_of_another_shape_are_explained(tmp_path, files, sentence):
    for name in files:
        if name.endswith("/"):
            (tmp_path / name).mkdir(parents=True)
        else:
            picture(tmp_path / name)
    with pytest.raises(DataError) as caught:
        data.load(tmp_path)
    assert sentence in str(caught.value)


def test_validation_classes_are_matched_by_name_and_never_shifted(tmp_path):
    """The mistake of other tools: val has no ants, so its bees would become class 0."""
    two_splits(tmp_path, classes=("ants", "bees", "wasps"))
    for path in (tmp_path / "val" / "ants").iterdir():
        path.unlink()
    (tmp_path / "val" / "ants").rmdir()
    with pytest.warns(DataWarning, match="'ants' have no validation pictures; the other classes keep their numbers"):
        dataset = data.load(tmp_path)
    assert dataset.classes == ("ants", "bees", "wasps")
    assert dataset.val.labels.tolist() == [1, 1, 1, 2, 2, 2]
    assert dataset.val.paths[0] == "val/bees/0.png"


def test_validation_classes_that_training_lacks_are_refused(tmp_path):
    two_splits(tmp_path)
    picture(tmp_path / "val" / "bee" / "x.png")
    with pytest.raises(DataError) as caught:
        data.load(tmp_path)
    assert "validation pictures of 'bee', which have no training pictures" in str(caught.value)
    assert "is 'bee' meant to be 'bees'?" in str(caught.value)


def break_three(root):
    (root / "train" / "ants" / "0.png").write_bytes(b"")
    whole = (root / "train" / "bees" / "1.png").read_bytes()
    (root / "train" / "bees" / "1.png").write_bytes(whole[: len(whole) // 2])
    (root / "val" / "bees" / "2.png").write_text("no picture")


def test_all_bad_files_are_listed_in_one_error(tmp_path):
    break_three(two_splits(tmp_path))
    with pytest.raises(data.BadFilesError) as caught:
        data.load(tmp_path)
    sentence = str(caught.value)
    assert sentence.startswith(f"3 of 12 pictures in {tmp_path} cannot be used:\n")
    assert "train/ants/0.png (class ants): it is empty (0 bytes); get it again or remove it\n" in sentence
    assert "train/bees/1.png (class bees): it is damaged or truncated" in sentence
    assert "val/bees/2.png (class bees): it is not a picture" in sentence
    assert sentence.endswith('or leave them out with bad_files="skip" (--bad-files skip)')
    assert [problem.class_name for problem in caught.value.problems] == ["ants", "bees", "bees"]


def test_bad_files_can_be_left_out(tmp_path):
    break_three(two_splits(tmp_path))
    with pytest.warns(DataWarning, match=r"3 of 12 pictures in .* are left out:\n  train/ants/0\.png"):
        dataset = data.load(tmp_path, bad_files="skip")
    assert dataset.train.paths == ("train/ants/1.png", "train/ants/2.png", "train/bees/0.png", "train/bees/2.png")
    assert dataset.val.class_counts(2) == [3, 2]
    assert torch.equal(dataset.train.images[2], read_image(tmp_path / "train" / "bees" / "0.png", (6, 8)))


def test_a_class_that_is_all_bad_is_no_class(tmp_path):
    two_splits(tmp_path)
    for path in (tmp_path / "train" / "ants").iterdir():
        path.write_bytes(b"")
    with (
        pytest.warns(DataWarning, match="are left out"),
        pytest.raises(DataError, match="validation pictures of 'ants', which have no training pictures"),
    ):
        data.load(tmp_path, bad_files="skip")


def test_when_all_files_are_bad_skipping_does_not_help(tmp_path):
    two_splits(tmp_path, count=1)
    for item in folder.find(tmp_path).items:
        item.path.write_bytes(b"")
    with pytest.raises(data.BadFilesError, match="4 of 4"):
        data.load(tmp_path, bad_files="skip")


def test_bad_files_must_be_refuse_or_skip(tmp_path):
    with pytest.raises(DataError, match="bad_files is 'ignore'"):
        data.load(tmp_path, bad_files="ignore")


def test_photographs_of_other_kinds_are_not_passed_over(tmp_path):
    two_splits(tmp_path)
    (tmp_path / "train" / "ants" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(data.BadFilesError, match=r"IMG_1\.HEIC \(class ants\): it is a HEIC photograph; convert it"):
        data.load(tmp_path)


def test_names_that_cannot_be_printed_are_escaped(tmp_path):
    two_splits(tmp_path)
    (tmp_path / "train" / "ants" / "a\nb\udcff.png").write_bytes(b"")
    with pytest.raises(data.BadFilesError) as caught:
        data.load(tmp_path)
    assert caught.value.problems[0].path == "train/ants/a\\nb\\udcff.png"


def test_folders_that_cannot_be_listed_are_named(tmp_path, monkeypatch):
    two_splits(tmp_path)
    listing = os.scandir

    def forbidding(path):
        if str(path).endswith("bees"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    with pytest.raises(DataError, match=r"cannot list .*bees: Permission denied"):
        data.load(tmp_path)


def test_empty_class_folders_are_left_out_with_a_warning(tmp_path):
    two_splits(tmp_path)
    (tmp_path / "train" / "aaa").mkdir()
    with pytest.warns(DataWarning, match="'train/aaa' hold no pictures and are left out"):
        assert data.load(tmp_path).classes == ("ants", "bees")


def test_one_class_is_warned_of(tmp_path):
    with pytest.warns(DataWarning, match=r"only one class \(ants\)"):
        data.load(two_splits(tmp_path, classes=("ants",)))


def test_pictures_in_both_splits_are_warned_of(tmp_path):
    two_splits(tmp_path)
    copy = (tmp_path / "train" / "bees" / "2.png").read_bytes()
    (tmp_path / "val" / "ants" / "0.png").write_bytes(copy)
    with pytest.warns(
        DataWarning, match=r"1 validation pictures are also training pictures \(val/ants/0\.png = train/be"
    ):
        data.load(tmp_path)


def test_warnings_point_at_the_caller(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data.load(two_splits(tmp_path, classes=("ants",)))
        (tmp_path / "train" / "ants" / "0.png").write_bytes(b"")
        data.load(tmp_path, bad_files="skip")
    assert {warning.filename for warning in caught} == {__file__}


def test_a_folder_is_grey_only_where_every_picture_is(tmp_path):
    two_splits(tmp_path)
    for item in folder.find(tmp_path).items:
        Image.open(item.path).convert("L").save(item.path)
    grey = data.load(tmp_path)
    assert grey.in_channels == 1
    assert torch.equal(grey.train.images[3], read_image(tmp_path / "train" / "bees" / "0.png", (6, 8), channels=1))
    picture(tmp_path / "val" / "bees" / "2.png", 7)
    mixed = data.load(tmp_path)
    assert mixed.in_channels == 3
    assert torch.equal(mixed.train.images, grey.train.images.expand(-1, 3, -1, -1))


@pytest.mark.parametrize(
    ("sizes", "given", "expected"),
    [
        ([(6, 8)], None, (6, 8)),
        ([(64, 64)], None, (64, 64)),
        ([(64, 65)], None, (64, 64)),
        ([(6, 8), (8, 6)], None, (64, 64)),
        ([(300, 200)], None, (64, 64)),
        ([(300, 200)], 32, (32, 32)),
        ([(6, 8)], (10, 20), (10, 20)),
    ],
)
def test_the_working_size(tmp_path, sizes, given, expected):
    two_splits(tmp_path)
    for number, item in enumerate(folder.find(tmp_path).items):
        picture(item.path, number, sizes[number % len(sizes)])
    assert data.load(tmp_path, image_size=given).input_size == expected


def test_the_working_size_counts_turned_pictures_and_passes_over_bad_ones(tmp_path):
    two_splits(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 8)).save(tmp_path / "train" / "ants" / "0.png", exif=exif)
    (tmp_path / "train" / "ants" / "1.png").write_bytes(b"")
    with pytest.warns(DataWarning, match="left out"):
        assert data.load(tmp_path, bad_files="skip").input_size == (6, 8)


def test_too_many_pictures_for_memory_are_refused_before_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "physical_memory", lambda: 1 << 20)
    with pytest.raises(
        DataError, match=r"12 pictures of 3x256x256 take 0\.0 GiB, more than half .*image_size=120 or less"
    ):
        data.load(two_splits(tmp_path), image_size=256)


def test_progress_and_order_over_many_files(tmp_path):
    root = two_splits(tmp_path, count=200)
    seen = []
    dataset = data.load(root, progress=lambda *args: seen.append(args))
    assert seen == [(done, 800, "reading pictures") for done in (256, 512, 768, 800)]
    for index in (0, 123, 399):
        assert torch.equal(dataset.train.images[index], read_image(root / dataset.train.paths[index], (6, 8)))


def test_hymenoptera(shared_data):
    dataset = data.load(shared_data / "hymenoptera")
    assert dataset.classes == ("ants", "bees")
    assert (dataset.train.class_counts(2), dataset.val.class_counts(2)) == ([85, 76], [41, 48])
    assert dataset.train.images.shape == (161, 3, 64, 64)
    assert dataset.train.images.is_contiguous()
    index = dataset.train.labels.tolist().index(1)
    whole = Image.open(shared_data / "hymenoptera" / dataset.train.paths[index])
    side = min(whole.size)
    left, top = (whole.width - side) // 2, (whole.height - side) // 2
    middle = whole.crop((left, top, left + side, top + side)).resize((64, 64), Image.Resampling.BILINEAR)
    difference = np.abs(dataset.train.images[index].numpy().astype(int) - np.asarray(middle).transpose(2, 0, 1))
    assert difference.mean() < 3
