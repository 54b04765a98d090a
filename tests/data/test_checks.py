"""`check` finds every fault that was planted, and no other."""

import zlib

import numpy as np
import pytest
from PIL import Image

from switchgrad import data
from switchgrad.data.checks import Notice


def seed_of(*parts):
    return zlib.crc32(repr(parts).encode())


def noise(path, seed, size=(20, 20), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path):
    """A data set without any fault: two classes of 12 pictures, 3 of each to validate on."""
    for part, count in (("train", 12), ("val", 3)):
        for index, name in enumerate(("ants", "bees")):
            for number in range(count):
                noise(tmp_path / part / name / f"{number}.png", seed_of(part, index, number))
    return tmp_path


def texts(notices):
    return [notice.text.partition(":")[0].partition(";")[0] for notice in notices]


def test_a_good_folder_is_good(root):
    report = data.check(root)
    assert report.ok
    assert (report.classes, report.train_counts, report.val_counts) == (("ants", "bees"), (12, 12), (3, 3))
    assert (report.problems, report.warnings, report.notes) == ((), (), ())
    assert str(report) == f"{root}: 24 training and 6 validation pictures, 2 classes\nnothing to complain of"


def test_every_bad_file_is_listed_with_class_reason_and_remedy(root):
    (root / "train/ants/0.png").write_bytes(b"")
    whole = (root / "train/bees/1.png").read_bytes()
    (root / "train/bees/1.png").write_bytes(whole[:200])
    (root / "val/bees/2.png").write_text("<html>404</html>")
    noise(root / "train/ants/huge.png", 5)
    (root / "train/ants/photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    report = data.check(root)
    found = {problem.path: (problem.class_name, problem.reason, problem.remedy) for problem in report.problems}
    assert found == {
        "train/ants/0.png": ("ants", "it is empty (0 bytes)", "get it again or remove it"),
        "train/ants/photo.heic": ("ants", "it is a HEIC photograph", "convert it to PNG or JPEG, or remove it"),
        "train/bees/1.png": ("bees", found["train/bees/1.png"][1], "get it again or remove it"),
        "val/bees/2.png": (
            "bees",
            "it is a web page, perhaps an error page saved under the picture's name",
            "convert it to PNG or JPEG, or remove it",
        ),
    }
    assert "damaged or truncated" in found["train/bees/1.png"][1]
    assert not report.ok
    assert report.train_counts == (12, 11)
    assert "problem: train/ants/0.png (class ants): it is empty (0 bytes)" in str(report)


def test_a_class_that_only_val_has_is_a_problem(root):
    noise(root / "val/wasps/0.png", 1)
    (problem,) = data.check(root).problems
    assert (problem.class_name, problem.reason) == (
        "wasps",
        "the class has 1 validation pictures but no training pictures",
    )


def test_a_class_without_validation_pictures(root):
    for path in (root / "val/bees").iterdir():
        path.unlink()
    report = data.check(root)
    assert texts(report.warnings) == [
        "classes without validation pictures",
        "class folders without pictures are left out",
    ]
    assert [notice.paths for notice in report.warnings] == [("bees",), ("val/bees",)]


def test_one_class_tiny_classes_and_imbalance(tmp_path):
    for number in range(5):
        noise(tmp_path / "train/a" / f"{number}.png", number)
        noise(tmp_path / "val/a" / f"{number}.png", 100 + number)
    assert texts(data.check(tmp_path).warnings) == [
        "there is only one class, so there is nothing to tell apart",
        "classes with fewer than 10 training pictures are hardly learnt",
    ]
    for number in range(50):
        noise(tmp_path / "train/b" / f"{number}.png", 200 + number)
    noise(tmp_path / "val/b/x.png", 999)
    assert texts(data.check(tmp_path).warnings)[1:] == ["b has 50 training pictures but a 5"]


def test_copies_across_splits_and_classes(root):
    (root / "val/ants/0.png").write_bytes((root / "train/ants/3.png").read_bytes())
    (root / "train/bees/5.png").write_bytes((root / "train/ants/4.png").read_bytes())
    leak, crossed = data.check(root).warnings
    assert leak.text.startswith("pictures that are in both splits")
    assert leak.paths == ("val/ants/0.png = train/ants/3.png",)
    assert crossed.text == "the same picture in two classes: one of them is wrong"
    assert crossed.paths == ("train/ants/4.png = train/bees/5.png",)


def test_copies_in_one_class(root):
    (root / "train/bees/5.png").write_bytes((root / "train/bees/4.png").read_bytes())
    (notice,) = data.check(root).warnings
    assert str(notice) == "pictures that are there more than once (1: train/bees/4.png = train/bees/5.png)"


def test_suffixes_that_do_not_fit(root):
    Image.open(root / "train/ants/0.png").save(root / "train/ants/0.jpg", "PNG")
    (root / "train/ants/0.png").unlink()
    (notice,) = data.check(root).warnings
    assert notice.paths == ("train/ants/0.jpg is PNG",)


def test_the_only_file_of_its_format(root):
    Image.open(root / "train/ants/0.png").save(root / "train/ants/placeholder.gif")
    (notice,) = data.check(root).warnings
    assert notice.paths == ("train/ants/placeholder.gif, GIF",)


def test_stray_files_and_folders_that_take_no_part(root):
    (root / "readme.txt").write_text("x")
    (root / "train/list.csv").write_text("x")
    (root / "train/ants/notes.txt").write_text("x")
    noise(root / "test/ants/0.png", 1)
    stray, unused = data.check(root).warnings
    assert stray.paths == ("readme.txt", "train/ants/notes.txt", "train/list.csv")
    assert unused.paths == ("test",)


def test_what_is_converted_is_noted(root):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(root / "train/ants/moving.png", save_all=True, append_images=frames[1:])
    Image.new("CMYK", (20, 20), (1, 2, 3, 4)).save(root / "train/ants/print.tif")
    Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save(root / "train/bees/deep.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    noise(root / "train/bees/turned.png", 77, exif=exif)
    report = data.check(root)
    assert {notice.text: notice.paths for notice in report.notes} == {
        "grey among colour pictures: repeated to three channels": ("train/bees/deep.png",),
        "animated or of several pages: only the first is used": ("train/ants/moving.png",),
        "CMYK: turned into RGB": ("train/ants/print.tif",),
        "16-bit grey: scaled to 8 bits": ("train/bees/deep.png",),
        "turned upright as its EXIF data say": ("train/bees/turned.png",),
    }
    assert report.ok


def test_one_folder_is_noted_as_split_by_the_seed(tmp_path):
    for name in ("a", "b"):
        for number in range(20):
            noise(tmp_path / name / f"{number}.png", seed_of(name, number))
    report = data.check(tmp_path)
    assert (report.train_counts, report.val_counts) == ((16, 16), (4, 4))
    assert texts(report.notes) == ["no validation folder"]


@pytest.mark.parametrize("given", ["nothing-like-this", "emnist-balanced"])
def test_what_cannot_be_found_is_a_problem_and_no_exception(tmp_path, monkeypatch, given):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SWITCHGRAD_DATA", raising=False)
    report = data.check(given)
    assert not report.ok
    assert report.problems[0].path == given
    assert given in report.problems[0].reason
    assert report.problems[0].remedy


def test_a_folder_without_pictures_is_a_problem(tmp_path):
    (problem,) = data.check(tmp_path).problems
    assert problem.reason.endswith("holds neither pictures nor a data set that is known")
    assert problem.remedy.startswith("put the pictures of each class into a folder of its own")


def test_arrays_are_checked_too(tmp_path):
    shape = (40, 3072)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    labels = np.array([0] * 38 + [1] * 2, np.uint8)[:, None]
    records = np.concatenate([labels, pixels], axis=1)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for number in range(1, 6):
        (folder / f"data_batch_{number}.bin").write_bytes(records[(number - 1) * 8 : number * 8].tobytes())
    (folder / "test_batch.bin").write_bytes(records[30:40].tobytes())
    report = data.check(tmp_path)
    assert report.train_counts[:2] == (38, 2)
    assert texts(report.warnings) == [
        "classes with fewer than 10 training pictures are hardly learnt",
        "classes without validation pictures",
        "airplane has 38 training pictures but bird 0",
        "10 pictures are in both the training and the validation split",
    ]


def test_notices_show_three_paths():
    assert str(Notice("text")) == "text"
    assert str(Notice("text", ("a", "b"))) == "text (2: a, b)"


def test_the_placeholder_among_the_ants_is_found(shared_data):
    report = data.check(shared_data / "hymenoptera")
    assert report.ok
    (notice,) = report.warnings
    assert notice.paths == ("train/ants/imageNotFound.gif, GIF",)
