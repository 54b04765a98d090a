"""Atomic files: at every point where a crash can come, the old file or the new one is there, whole."""

import os
import stat

import pytest

from switchgrad.train.atomic import replacing, sweep, write_text


class CrashError(Exception):
    pass


def crash(*args, **more):
    raise CrashError


@pytest.mark.parametrize("point", ["replace", "fsync", "open"])
def test_a_crash_leaves_the_old_file(tmp_path, monkeypatch, point):
    path = tmp_path / "state"
    write_text(path, "old")
    with monkeypatch.context() as patched:
        patched.setattr(os, point, crash)
        with pytest.raises(CrashError):
            write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_crash_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "state"
    write_text(path, "old")

    def write_half():
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise CrashError

    with pytest.raises(CrashError):
        write_half()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_bytes_are_on_disk_before_the_rename_and_the_name_after_it(tmp_path, monkeypatch):
    events = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor):
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        events.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_text(tmp_path / "x", "text")
    assert events == ["file", "rename", "folder"]


def test_leftovers_of_a_killed_process_are_swept(tmp_path):
    (tmp_path / ".state.123.tmp").write_text("torn")
    (tmp_path / "state").write_text("kept")
    sweep(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_the_mode_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "x") as temporary:
            temporary.unlink()
            temporary.touch(mode=0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
