"""scikit-build-core, told where torch is.

The native library needs torch's headers and the name of its library, never torch itself. A torch that is installed
where the package is going serves as it is; only where there is none does the build ask pip to fetch one. Without
this, pip's build isolation would fetch a second torch, of several gigabytes, to compile four small files.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from scikit_build_core import build as _build
from scikit_build_core.build import (
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

_HEADER = Path("include/torch/csrc/stable/library.h")
Settings = dict[str, "list[str] | str"] | None


def torch_folder() -> Path | None:
    """The folder of a torch with the stable headers: named, installed in the environment, or in pip's build folder."""
    named = os.environ.get("SWITCHGRAD_TORCH")
    # Under build isolation sys.path holds the build folder, while sysconfig still names the environment.
    places = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *sys.path]
    folders = [Path(named)] if named else [Path(place) / "torch" for place in places if place]
    return next((folder for folder in folders if (folder / _HEADER).is_file()), None)


def _requires(otherwise: list[str]) -> list[str]:
    return otherwise if torch_folder() else [*otherwise, "torch>=2.10"]


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    return _requires(_build.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    return _requires(_build.get_requires_for_build_editable(config_settings))


def _name_torch() -> None:
    folder = torch_folder()
    if folder is None:
        sys.exit("Switchgrad needs an installed torch >= 2.10 to build; install torch first, or set SWITCHGRAD_TORCH")
    os.environ["SWITCHGRAD_TORCH"] = str(folder)


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    _name_torch()
    return _build.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    _name_torch()
    return _build.build_editable(wheel_directory, config_settings, metadata_directory)
