"""CIFAR from binary files, Python files and archives: all give the same pictures."""

import io
import pickle
import tarfile

import numpy as np
import pytest

from switchgrad import data
from switchgrad.data import cifar
from switchgrad.errors import DataError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 3072), dtype=np.uint8)
FINE = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 3, 3]
COARSE = [1] * 12
NAMES = cifar.LAYOUTS["cifar10"][0].train


def binary_10(folder):
    folder.mkdir(parents=True)
    for number in range(6):
        rows = slice(2 * number, 2 * number + 2)
        name = "test_batch.bin" if number == 5 else f"data_batch_{number + 1}.bin"
        labels = np.array(FINE[rows], np.uint8)[:, None]
        (folder / name).write_bytes(np.concatenate([labels, PIXELS[rows]], axis=1).tobytes())


def python_10(folder, protocol=4):
    folder.mkdir(parents=True)
    for number in range(6):
        rows = slice(2 * number, 2 * number + 2)
        name = "test_batch" if number == 5 else f"data_batch_{number + 1}"
        entry = {"data": PIXELS[rows], "labels": FINE[rows], "batch_label": "x", "filenames": ["a.png", "b.png"]}
        (folder / name).write_bytes(pickle.dumps(entry, protocol))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}, protocol))


def binary_100(folder):
    folder.mkdir(parents=True)
    records = np.concatenate([np.array([COARSE, FINE], np.uint8).T, PIXELS], axis=1)
    (folder / "train.bin").write_bytes(records[:10].tobytes())
    (folder / "test.bin").write_bytes(records[10:].tobytes())


def python_100(folder):
    folder.mkdir(parents=True)
    for name, rows in (("train", slice(0, 10)), ("test", slice(10, 12))):
        entry = {"data": PIXELS[rows], "fine_labels": FINE[rows], "coarse_labels": COARSE[rows]}
        (folder / name).write_bytes(pickle.dumps(entry, 4))


def assert_is_the_data(dataset, name, classes):
    assert dataset.name == name
    np.testing.assert_array_equal(dataset.train.images.numpy(), PIXELS[:10].reshape(10, 3, 32, 32))
    np.testing.assert_array_equal(dataset.val.images.numpy(), PIXELS[10:].reshape(2, 3, 32, 32))
    assert dataset.train.labels.tolist() == FINE[:10]
    assert dataset.val.labels.tolist() == FINE[10:]
    assert dataset.num_classes == classes


@pytest.mark.parametrize(
    ("write", "folder", "name", "classes"),
    [
        (binary_10, "cifar-10-batches-bin", "cifar10", 10),
        (python_10, "cifar-10-batches-py", "cifar10", 10),
        (binary_100, "cifar-100-binary", "cifar100", 100),
        (python_100, "cifar-100-python", "cifar100", 100),
    ],
)
def test_every_layout_gives_the_same_pictures(tmp_path, write, folder, name, classes):
    write(tmp_path / folder)
    assert_is_the_data(data.load(name, tmp_path), name, classes)
    assert_is_the_data(data.load(tmp_path), name, classes)
    assert_is_the_data(data.load(tmp_path / folder), name, classes)


def archive(path, folder, layout_folder):
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, layout_folder)


@pytest.mark.parametrize(
    ("write", "layout"),
    [(binary_10, 0), (python_10, 1)],
)
def test_the_official_archives_are_read_without_unpacking(tmp_path, write, layout):
    where = cifar.LAYOUTS["cifar10"][layout]
    write(tmp_path / "source")
    root = tmp_path / "root"
    root.mkdir()
    archive(root / where.archive, tmp_path / "source", where.folder)
    assert_is_the_data(data.load("cifar10", root), "cifar10", 10)
    assert_is_the_data(data.load(root / where.archive), "cifar10", 10)
    assert [path.name for path in root.iterdir()] == [where.archive]


def test_names_in_the_files_win(tmp_path):
    python_10(tmp_path / "cifar-10-batches-py")
    assert data.load(tmp_path).classes == tuple("abcdefghij")
    binary_10(tmp_path / "b" / "cifar-10-batches-bin")
    assert data.load(tmp_path / "b").classes[:2] == ("airplane", "automobile")
    (tmp_path / "b" / "cifar-10-batches-bin" / "batches.meta.txt").write_text("\n".join("klmnopqrst") + "\n\n")
    assert data.load(tmp_path / "b").classes == tuple("klmnopqrst")


def test_a_missing_batch_is_named(tmp_path):
    binary_10(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"lacks data_batch_3\.bin of cifar10"):
        data.load("cifar10", tmp_path)


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: b"", lambda raw: raw + b"1"])
def test_partial_records_are_refused(tmp_path, change):
    binary_10(tmp_path / "cifar-10-batches-bin")
    batch = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    batch.write_bytes(change(batch.read_bytes()))
    with pytest.raises(DataError, match=r"data_batch_2\.bin is truncated: its [\d,]+ bytes are no whole number"):
        data.load(tmp_path)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"labels": [1, 2]}, "holds no array 'data'"),
        ({"data": PIXELS[:2, :3000], "labels": [1, 2]}, "holds no array 'data' of [N, 3072]"),
        ({"data": PIXELS[0], "labels": [1]}, "holds no array 'data'"),
        ({"data": PIXELS[:2]}, "holds no list 'labels' of 2 labels"),
        ({"data": PIXELS[:2], "labels": [1]}, "holds no list 'labels' of 2 labels"),
        ({"data": PIXELS[:2], "labels": [1, -2]}, "holds no list 'labels'"),
        ({"data": PIXELS[:2], "labels": [1, 1.5]}, "holds no list 'labels'"),
        ({"data": PIXELS[:2], "labels": [1, 2**80]}, "holds no list 'labels'"),
        ({"data": PIXELS[:2], "labels": (1, 2)}, "holds no list 'labels'"),
    ],
    ids=range(9),
)
def test_python_files_without_the_right_entries_are_refused(entry, sentence):
    with pytest.raises(DataError) as caught:
        cifar.read_python(pickle.dumps(entry, 4), "labels", "batch")
    assert sentence in str(caught.value)


def test_labels_beyond_the_classes_are_refused(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    binary_10(folder)
    batch = bytearray((folder / "data_batch_1.bin").read_bytes())
    batch[0] = 10
    (folder / "data_batch_1.bin").write_bytes(batch)
    with pytest.raises(DataError, match="labels run from 0 to 10, but there are 10 classes"):
        data.load(tmp_path)


def tar_with(path, *members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "/etc/passwd"
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(content))


BATCH = "cifar-10-batches-bin/data_batch_1.bin"


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ([("../evil", b"x", tarfile.REGTYPE)], "a path that leads out of it"),
        ([("/etc/evil", b"x", tarfile.REGTYPE)], "a path that leads out of it"),
        ([("a/../../evil", b"x", tarfile.REGTYPE)], "a path that leads out of it"),
        ([(BATCH, b"", tarfile.SYMTYPE)], "as a link or beyond all size"),
        ([(BATCH, b"", tarfile.LNKTYPE)], "as a link or beyond all size"),
        ([(BATCH, b"", tarfile.FIFOTYPE)], "as a link or beyond all size"),
        ([(BATCH, b"x" * 3073, tarfile.REGTYPE)], "lacks data_batch_2.bin"),
        ([], "lacks data_batch_1.bin"),
    ],
)
def test_untrustworthy_archives_are_refused(tmp_path, members, sentence):
    tar_with(tmp_path / "cifar-10-binary.tar.gz", *members)
    with pytest.raises(DataError) as caught:
        data.load("cifar10", tmp_path)
    assert sentence in str(caught.value)
    assert not (tmp_path.parent / "evil").exists()


def test_damaged_archives_are_refused(tmp_path):
    binary_10(tmp_path / "source")
    path = tmp_path / "cifar-10-binary.tar.gz"
    archive(path, tmp_path / "source", "cifar-10-batches-bin")
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    bads = [good[:-20], good[: len(good) // 2], b"", b"no archive at all"]
    for _ in range(30):
        bad = bytearray(good)
        for at in rng.integers(0, len(good), 3):
            bad[at] ^= 1 << int(rng.integers(0, 8))
        bads.append(bytes(bad))
    for bad in bads:
        path.write_bytes(bad)
        try:
            dataset = data.load(path)
        except DataError:
            continue
        assert_is_the_data(dataset, "cifar10", 10)  # damage in the file's comment fields may be harmless


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("switchgrad.data.archives._MOST_BYTES", 1 << 20)
    tar_with(tmp_path / "cifar-10-binary.tar.gz", ("zeros", bytes(2 << 20), tarfile.REGTYPE))
    with pytest.raises(DataError, match="unpacks to more than 1 MiB"):
        data.load("cifar10", tmp_path)
