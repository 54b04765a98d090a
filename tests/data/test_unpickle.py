"""The reader of plain pickles agrees with Python's on plain data and runs nothing in any other.

Python's pickle is used here to write files as other programs write them, and to read only what was just written.
"""

import io
import os
import pickle
import pickletools
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchgrad.data import unpickle
from switchgrad.errors import DataError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(data=st.dictionaries(st.text(), PLAIN), protocol=st.sampled_from([4, 5]))
def test_plain_data_come_back_as_they_were(data, protocol):
    assert unpickle.loads(pickle.dumps(data, protocol), "x") == data


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_bytes_come_back_as_they_were(protocol, order):
    array = np.array(np.random.default_rng(0).integers(0, 256, (7, 11), dtype=np.uint8), order=order)
    data = {"data": array, "labels": [1, 2, 3], "name": "batch"}
    read = unpickle.loads(pickle.dumps(data, protocol), "x")
    np.testing.assert_array_equal(read["data"], array)
    assert read["labels"] == [1, 2, 3]


def python2_pickle(entries):
    """A dictionary as Python 2's cPickle and the NumPy of 2009 wrote it: protocol 2, texts as bytes."""
    out = bytearray(b"\x80\x02}q\x01(")
    for key, value in entries.items():
        out += python2_text(key) + python2_value(value)
    return bytes(out + b"u.")


def python2_text(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<I", len(raw)) + raw


def python2_value(value):
    if isinstance(value, list):
        items = b"".join(b"K" + bytes([v]) if isinstance(v, int) else python2_text(v) for v in value)
        return b"](" + items + b"e"
    if isinstance(value, np.ndarray):
        shape = b"".join(b"J" + struct.pack("<i", side) for side in value.shape)
        return (
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01(" + shape + b"tcnumpy\n"
            b"dtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
            + python2_text(value.tobytes())
            + b"tb"
        )
    return python2_text(value)


def test_files_of_python_2_are_read_like_python_reads_them():
    array = np.random.default_rng(1).integers(0, 256, (3, 300), dtype=np.uint8)
    content = python2_pickle({"data": array, "labels": [6, 0, 9], "batch_label": "training batch 1 of 5"})
    expected = pickle.loads(content, encoding="bytes")  # just written above
    np.testing.assert_array_equal(expected[b"data"], array)
    read = unpickle.loads(content, "x")
    np.testing.assert_array_equal(read["data"], array)
    assert read["labels"] == [6, 0, 9]
    assert read["batch_label"] == b"training batch 1 of 5"


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_nothing_in_a_harmful_file_is_run(tmp_path, protocol):
    content = pickle.dumps({"data": Harmful(tmp_path / "made")}, protocol)
    with pytest.raises(DataError):
        unpickle.loads(content, "evil")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Harmful("x"), "'posix.mkdir'" if os.name == "posix" else "mkdir"),
        (np.float64(1.5), "multiarray.scalar'"),
        ({1, 2}, "opcode b'\\x8f'"),
        (complex(1, 2), "'builtins.complex'"),
        (np.arange(3), "an array of 'i8'"),
        (np.array(["a"], dtype=object), "an array of 'O8'"),
    ],
)
def test_what_is_not_plain_is_refused_by_name(value, named):
    with pytest.raises(DataError) as caught:
        unpickle.loads(pickle.dumps({"data": value}, 4), "file.py")
    assert named in str(caught.value)
    assert str(caught.value).startswith("file.py is not read: it ")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is truncated"),
        (b"\x80\x02}", "is truncated"),
        (b"\x80\x02T\xff\xff\xff\xff.", "is truncated"),
        (b"\x80\x04\x8e" + b"\xff" * 8 + b".", "is truncated"),
        (b"\x80\x02].", "it holds list where a dictionary is wanted"),
        (b"\x80\x02}K\x01K\x02s.", "keys are not text"),
        (b"\x80\x02}(U\x01au.", "adds entries to what is not a dictionary"),
        (b"\x80\x02]K\x01K\x01s.", "adds entries to what is not a dictionary"),
        (b"\x80\x02K\x01s.", "uses a value that is not there"),
        (b"\x80\x02e.", "ends a list that never began"),
        (b"\x80\x02(.", "uses a value that is not there"),
        (b"\x80\x02h\x07.", "refers to a value that is not there"),
        (b"\x80\x02K\x01K\x02R.", "calls what is not a function"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "calls what is not a function"),
        (b"\x80\x02}Nb.", "fills what is neither array nor dtype"),
        (b"\x80\x02K\x01K\x01a.", "appends to what is not a list"),
        (b"\x80\x04\x8c\x01\xff.", "text that is not UTF-8"),
        (b"\x80\x02c" + b"a" * 400 + b"\nb\n.", "is truncated"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)RNb.", "an array lacks a part"),
    ],
    ids=range(19),
)
def test_damage_is_refused_in_words(content, sentence):
    with pytest.raises(DataError) as caught:
        unpickle.loads(content, "x")
    assert sentence in str(caught.value)


def test_an_array_must_have_the_bytes_of_its_shape():
    good = python2_pickle({"data": np.zeros((2, 3), np.uint8)})
    with pytest.raises(DataError, match="does not have the 6 bytes of its shape"):
        unpickle.loads(good.replace(struct.pack("<i", 3), struct.pack("<i", 4)), "x")
    with pytest.raises(DataError, match="does not have the 6 bytes"):
        unpickle.loads(good.replace(struct.pack("<i", 3), struct.pack("<i", -3)), "x")


def test_the_number_of_steps_is_bounded(monkeypatch):
    """A file of empty lists would otherwise take 64 times its size in memory."""
    monkeypatch.setattr(unpickle, "_MOST_STEPS", 1000)
    with pytest.raises(DataError, match="it takes more than 1,000 steps to build"):
        unpickle.loads(b"\x80\x02(" + b"]" * 2000, "x")


def test_deep_nesting_neither_crashes_nor_hangs():
    deep = b"\x80\x02}U\x01a" + b"]" * 100_000 + b"a" * 99_999 + b"s."
    assert list(unpickle.loads(deep, "x")) == ["a"]
    with pytest.raises(DataError, match="keys are not text"):
        unpickle.loads(b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.", "x")


def test_random_damage_gives_data_errors_only():
    rng = random.Random(0)
    array = np.arange(60, dtype=np.uint8).reshape(3, 20)
    seeds = [python2_pickle({"data": array, "labels": [1, 2, 3]})]
    seeds += [pickle.dumps({"data": array, "labels": [1, 2, 3], "f": 1.5}, p) for p in (2, 4, 5)]
    codes = [ord(opcode.code) for opcode in pickletools.opcodes]
    refused = 0
    for _ in range(6000):
        bad = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(bad))
            bad[at] = rng.choice(codes) if rng.random() < 0.5 else rng.randrange(256)
        if rng.random() < 0.2:
            del bad[rng.randrange(len(bad)) :]
        try:
            unpickle.loads(bytes(bad), "x")
        except DataError:
            refused += 1
    assert refused > 2000


def test_random_programs_of_admitted_opcodes_give_data_errors_only():
    rng = random.Random(1)
    codes = b"(NKMJUTCBX]})aesutqrhjcRb.\x80\x85\x86\x87\x88\x89\x8a\x8c\x8e\x93\x94\x95\x96"
    pieces = [bytes([code]) for code in codes]
    pieces += [b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.numeric\n_frombuffer\n"]
    pieces += [b"U\x02u1", b"K\x01", b"}", b"U\x01a", b")", b"(", b"t"]
    for _ in range(20_000):
        program = io.BytesIO()
        for _ in range(rng.randint(1, 25)):
            program.write(rng.choice(pieces))
        try:
            unpickle.loads(program.getvalue(), "x")
        except DataError:
            continue
