"""The command line as people start it: pipes without control characters, a bar on a terminal, Ctrl-C, no traceback."""

import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from switchgrad.train.record import read_rows

COMMAND = [sys.executable, "-m", "switchgrad"]
QUICK = ["train", "digits", "--batch-size", "720", "--threads", "1"]


def start(words, cwd, **more):
    environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "NO_COLOR", "TERM")}
    return subprocess.Popen(
        [*COMMAND, *map(str, words)], cwd=cwd, env={**environment, "TERM": "xterm-256color"}, **more
    )


@pytest.mark.slow
def test_in_a_pipe_everything_is_plain(tmp_path):
    process = start([*QUICK, "--epochs", 3], tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", out + err)
    assert [line.split()[0] for line in out.decode().splitlines()] == ["accuracy", "training", "run", "report"]
    lines = err.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["lenet5", "epoch", "1/3", "2/3", "3/3"]


@pytest.mark.slow
def test_an_error_is_a_line_and_no_traceback(tmp_path):
    process = start(
        ["train", "digits", "--epochs", 0], tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert err == "error: epochs is 0; give a whole number from 1 to 100000\n"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, number, code):
    process = start([*QUICK, "--epochs", 60], tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = [process.stderr.readline() for _ in range(4)]
    assert "2/60" in lines[-1]
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    last = err.splitlines()[-1]
    assert last == "stopped and saved; go on with:  switchgrad train --resume runs/digits-lenet5-1"
    done = len(read_rows(tmp_path / "runs" / "digits-lenet5-1" / "metrics.csv"))
    assert 2 <= done < 60

    words = last.partition("switchgrad ")[2].split()
    process = start(words, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    rows = read_rows(tmp_path / "runs" / "digits-lenet5-1" / "metrics.csv")
    assert [row.epoch for row in rows] == list(range(1, 61))
    assert len(err.splitlines()) == 3 + 60 - done


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_on_a_terminal_there_are_a_bar_and_a_table(tmp_path):
    leader, follower = os.openpty()
    process = start([*QUICK, "--epochs", 12], tmp_path, stdout=subprocess.DEVNULL, stderr=follower)
    os.close(follower)
    shown, end = b"", time.monotonic() + 120
    while time.monotonic() < end:
        if select.select([leader], [], [], 0.1)[0]:
            try:
                part = os.read(leader, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not part:
                break
            shown += part
        elif process.poll() is not None:
            break
    os.close(leader)
    assert process.wait(timeout=60) == 0, shown
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert b"\x1b[" in shown
    for epoch in range(1, 13):
        assert re.search(rf"\b{epoch}/12 +[0-9.e-]+ +[0-9.]+ +[0-9.]+%", text), epoch
    assert re.search(r"loss [0-9.]+  accuracy [0-9.]+%  [0-9,]+/s", text)
    assert "left" in text
