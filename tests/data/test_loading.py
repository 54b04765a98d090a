"""Named data sets and folders of files: where they are looked for, and what is said where they are not."""

import gzip
import struct
import zipfile

import numpy as np
import pytest

from switchgrad import data
from switchgrad.data import download, locate
from switchgrad.data.sources import SOURCES, RemoteFile
from switchgrad.errors import DataError

RNG = np.random.default_rng(0)
TRAIN, TEST = (RNG.integers(0, 256, (count, 6, 4), dtype=np.uint8) for count in (20, 10))
TRAIN_LABELS, TEST_LABELS = (np.arange(count, dtype=np.uint8) % 10 for count in (20, 10))


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """No test may find or write the user's own data."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SWITCHGRAD_DATA", raising=False)


def as_idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_four(folder, suffix=".gz", dot="-", train="train-{}", test="t10k-{}", first_label=0, split="both"):
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        f"{train.format('images')}{dot}idx3-ubyte": TRAIN,
        f"{train.format('labels')}{dot}idx1-ubyte": TRAIN_LABELS + np.uint8(first_label),
        f"{test.format('images')}{dot}idx3-ubyte": TEST,
        f"{test.format('labels')}{dot}idx1-ubyte": TEST_LABELS + np.uint8(first_label),
    }
    for number, (name, array) in enumerate(parts.items()):
        if split == "both" or number < 2:
            raw = as_idx(array)
            (folder / f"{name}{suffix}").write_bytes(gzip.compress(raw) if suffix else raw)


def assert_is_the_data(dataset):
    np.testing.assert_array_equal(dataset.train.images[:, 0].numpy(), TRAIN)
    np.testing.assert_array_equal(dataset.val.images[:, 0].numpy(), TEST)
    assert dataset.train.labels.tolist() == TRAIN_LABELS.tolist()
    assert dataset.val.labels.tolist() == TEST_LABELS.tolist()


@pytest.mark.parametrize("where", ["mnist", "", "MNIST/raw"])
@pytest.mark.parametrize(("suffix", "dot"), [(".gz", "-"), ("", "-"), ("", "."), (".gz", ".")])
def test_named_sets_are_found_under_the_root(tmp_path, where, suffix, dot):
    write_four(tmp_path / "root" / where, suffix, dot)
    dataset = data.load("mnist", tmp_path / "root", download=False)
    assert_is_the_data(dataset)
    assert (dataset.name, dataset.source, dataset.classes) == ("mnist", "mnist", tuple("0123456789"))


def test_the_variable_and_the_cache_are_looked_at_in_this_order(tmp_path, monkeypatch):
    write_four(tmp_path / "cache" / "switchgrad" / "kmnist")
    assert_is_the_data(data.load("kmnist", download=False))
    monkeypatch.setenv("SWITCHGRAD_DATA", str(tmp_path / "mine"))
    assert_is_the_data(data.load("kmnist", download=False))
    write_four(tmp_path / "mine" / "kmnist", split="train")
    assert_is_the_data(data.load("kmnist", download=False))  # half a data set is none
    (tmp_path / "mine" / "kmnist" / "t10k-images-idx3-ubyte.gz").write_bytes(b"broken")
    (tmp_path / "mine" / "kmnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"broken")
    with pytest.raises(DataError, match="mine"):
        data.load("kmnist", download=False)


def test_what_is_not_there_is_named_with_the_way_out(tmp_path):
    with pytest.raises(DataError) as caught:
        data.load("fashion-mnist", tmp_path, download=False)
    sentence = str(caught.value)
    for part in (
        "fashion-mnist is not on this machine and cannot be had: downloading is switched off",
        str(tmp_path),
        "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz",
        "--data-root (root=)",
        "SWITCHGRAD_DATA",
    ):
        assert part in sentence


@pytest.mark.parametrize("chosen", [None, "mine"])
def test_downloads_go_to_the_store_and_are_found_again(tmp_path, monkeypatch, chosen):
    if chosen:
        monkeypatch.setenv("SWITCHGRAD_DATA", str(tmp_path / chosen))
    write_four(tmp_path / "server")
    asked = []

    def fetch(file: RemoteFile, folder, progress):
        asked.append(file.name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes((tmp_path / "server" / file.name).read_bytes())

    monkeypatch.setattr(download, "fetch", fetch)
    assert_is_the_data(data.load("kmnist", progress=lambda *_: None))
    assert asked == [file.name for file in SOURCES["kmnist"].files]
    assert_is_the_data(data.load("kmnist"))
    assert len(asked) == 4
    store = tmp_path / (chosen or "cache/switchgrad") / "kmnist"
    assert sorted(path.name for path in store.iterdir()) == sorted(asked)


def test_a_failed_download_says_which_file_and_why(tmp_path, monkeypatch):
    def fetch(file, folder, progress):
        raise DataError(f"cannot download {file.name} (https://there: no network)")

    monkeypatch.setattr(download, "fetch", fetch)
    with pytest.raises(DataError, match=r"cannot download cifar-10-binary\.tar\.gz \(https://there: no network\)"):
        data.load("cifar10")


def test_namesakes_are_not_taken_for_each_other(tmp_path, shared_data):
    with pytest.raises(DataError, match="holds mnist, not fashion-mnist: the files have the same names"):
        data.load("fashion-mnist", shared_data / "mnist", download=False)
    with pytest.raises(DataError, match="holds fashion-mnist, not mnist"):
        data.load("mnist", shared_data / "fashion-mnist", download=False)


def test_a_folder_of_idx_files_has_numbers_as_classes(tmp_path):
    write_four(tmp_path / "mine")
    dataset = data.load(tmp_path / "mine")
    assert_is_the_data(dataset)
    assert (dataset.name, dataset.classes) == ("mine", tuple("0123456789"))
    assert dataset.source == str(tmp_path / "mine")


def test_idx_files_without_a_test_set_are_split(tmp_path):
    write_four(tmp_path / "mine", split="train")
    dataset = data.load(str(tmp_path / "mine"), val_fraction=0.5)
    assert dataset.val.class_counts(10) == dataset.train.class_counts(10) == [1] * 10


def test_idx_files_called_test_are_the_validation_split(tmp_path):
    write_four(tmp_path / "mine", test="test-{}")
    assert_is_the_data(data.load(tmp_path / "mine"))


def emnist(folder, variant, first_label=0):
    train, test = (f"emnist-{variant}-{part}-{{}}" for part in ("train", "test"))
    write_four(folder, train=train, test=test, first_label=first_label)


def assert_is_turned(dataset):
    np.testing.assert_array_equal(dataset.train.images[:, 0].numpy(), TRAIN.transpose(0, 2, 1))
    assert dataset.val.labels.tolist() == TEST_LABELS.tolist()


@pytest.mark.parametrize("where", ["emnist", "emnist/gzip", "", "emnist-letters", "EMNIST/raw"])
def test_emnist_is_turned_upright_and_letters_count_from_zero(tmp_path, where):
    emnist(tmp_path / where, "letters", first_label=1)
    dataset = data.load("emnist-letters", tmp_path, download=False)
    assert_is_turned(dataset)
    assert dataset.classes[0] == "a"
    assert dataset.num_classes == 26


@pytest.mark.parametrize("name", ["gzip.zip", "emnist.zip"])
def test_emnist_is_read_from_its_archive(tmp_path, name):
    emnist(tmp_path / "files", "digits")
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for path in (tmp_path / "files").iterdir():
            archive.write(path, f"gzip/{path.name}")
    assert_is_turned(data.load("emnist-digits", tmp_path, download=False))
    with pytest.raises(DataError, match=r"holds no emnist-balanced-train-images-idx3-ubyte\.gz"):
        data.load("emnist-balanced", tmp_path, download=False)
    whole = (tmp_path / name).read_bytes()
    for bad in (whole[:100], whole[:-30], b"", whole.replace(b"\x1f\x8b", b"\x1f\x8c")):
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(DataError):
            data.load("emnist-digits", tmp_path, download=False)


def test_an_archive_packed_in_an_unusual_way_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "gzip.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("gzip/emnist-mnist-train-images-idx3-ubyte.gz", b"x")
    with pytest.raises(DataError, match="in an unusual way"):
        data.load("emnist-mnist", tmp_path, download=False)


def test_a_folder_with_one_set_of_emnist_is_known_by_its_files(tmp_path):
    emnist(tmp_path / "mine", "balanced")
    dataset = data.load(tmp_path / "mine")
    assert_is_turned(dataset)
    assert (dataset.name, dataset.num_classes) == ("emnist-balanced", 47)
    emnist(tmp_path / "mine", "mnist")
    with pytest.raises(DataError, match="holds several sets of EMNIST \\(emnist-balanced, emnist-mnist\\)"):
        data.load(tmp_path / "mine")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("fashion_mnist", "did you mean 'fashion-mnist'?"),
        ("cifar-10", "did you mean 'cifar10'"),
        ("emnist", "did you mean 'emnist-"),
        ("nothing like it", "known names: digits, mnist"),
    ],
)
def test_unknown_names_get_a_hint(given, sentence):
    with pytest.raises(DataError) as caught:
        data.load(given)
    assert sentence in str(caught.value)


def test_a_path_is_never_taken_for_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_four(tmp_path / "digits")
    assert_is_the_data(data.load("./digits"))
    assert len(data.load("digits").train) == 1438


def test_a_file_is_no_data_set(tmp_path):
    (tmp_path / "file.csv").write_text("a,b")
    with pytest.raises(DataError, match="is a file; give a folder"):
        data.load(tmp_path / "file.csv")


def test_a_root_must_be_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"data root .* is not a folder"):
        data.load("digits", tmp_path / "none")


@pytest.mark.parametrize("size", [0, -3, 5000, (3,), (3, 4, 5), (3, 0), 2.5, True, "64"])
def test_sizes_that_make_no_sense_are_refused(size):
    with pytest.raises(DataError, match="image_size is"):
        data.load("digits", image_size=size)


def test_too_large_for_memory_is_said_before_it_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr("switchgrad.data.reading.physical_memory", lambda: 10 << 20)
    with pytest.raises(DataError, match=r"1,797 pictures of 1x512x512 take 0\.4 GiB, more than half"):
        data.load("digits", image_size=512)


def test_names_lists_every_source():
    assert data.names() == list(SOURCES)
    assert all(data.describe(name) for name in data.names())
    with pytest.raises(DataError, match="'x' is not the name of a data set"):
        data.describe("x")
    assert locate.cache_folder().name == "switchgrad"


@pytest.mark.slow
def test_the_real_sets(shared_data):
    """Counts and published statistics: https://github.com/zalandoresearch/fashion-mnist and LeCun's page."""
    published = {"mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}
    for name, (mean, std) in published.items():
        dataset = data.load(name, shared_data, download=False)
        assert (len(dataset.train), len(dataset.val)) == (60_000, 10_000)
        assert dataset.mean[0] == pytest.approx(mean, abs=1e-4)
        assert dataset.std[0] == pytest.approx(std, abs=1e-4)
    assert dataset.train.class_counts(10) == [6000] * 10
    assert data.load(shared_data / "fashion-mnist").classes[9] == "Ankle boot"
