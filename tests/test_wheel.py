"""The plain way for users: a wheel in an empty environment, with nothing of this checkout in reach."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command: object, cwd: Path) -> str:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SWITCHGRAD"))}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=outside, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT, cwd=folder)
    (built,) = folder.glob("switchgrad-*.whl")
    return built


@pytest.mark.slow
def test_one_wheel_serves_every_python_and_carries_library_and_digits(wheel: Path) -> None:
    assert "-py3-none-" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("switchgrad/kernels/libswitchgrad_native.") for name in names)
    assert any(name.startswith("switchgrad/data/embedded/") for name in names)
    assert not [name for name in names if name.split("/")[0] not in ("switchgrad",) and ".dist-info/" not in name]


@pytest.mark.slow
def test_the_wheel_trains_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(ROOT / "scripts" / "install_torch", python, cwd=tmp_path)
    run(python, "-m", "pip", "install", "-q", wheel, cwd=tmp_path)
    assert "C++ (" in run(python.parent / "switchgrad", "info", cwd=tmp_path)
    out = run(python.parent / "switchgrad", "train", "digits", "--epochs", "3", "--out", "run", cwd=tmp_path)
    assert "accuracy" in out
    assert (tmp_path / "run" / "report.html").is_file()
