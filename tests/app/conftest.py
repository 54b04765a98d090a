"""A trained run and a folder of pictures for the command line to work on."""

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from switchgrad import data
from switchgrad.app.cli import app
from switchgrad.train import Run, fit


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Run:
    """LeNet-5 on digits for six epochs, one thread."""
    return fit("digits", "lenet5", out=tmp_path_factory.mktemp("runs") / "digits", epochs=6, threads=1)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """The first twelve held-out digits as PNG files named by their class, in a sub-folder, and a text file."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "more").mkdir()
    split = data.load("digits").val
    for number in range(12):
        name = f"{number:02}-is-{split.labels[number]}.png"
        Image.fromarray(split.images[number, 0].numpy()).save(folder / "more" / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Run a command in an empty folder; ``cli("train", "digits")`` gives exit_code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()

    def call(*words):
        result = runner.invoke(app, [str(word) for word in words])
        assert "\x1b" not in result.output
        assert "Traceback" not in result.output
        return result

    return call
