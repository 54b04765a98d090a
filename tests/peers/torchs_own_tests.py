"""PyTorch's own tests of pooling (its file test/nn/test_pooling.py), run on the CPU with our operators in place.

python tests/peers/torchs_own_tests.py path/to/test_pooling.py       # or TORCH_TEST_POOLING=path/to/test_pooling.py

PyTorch's wheels do not hold the file; it is given by path, also as the folder of a checkout, and should be of the
release that is installed. Every test is run twice, with PyTorch's pooling and with ours. What passes there and fails
here must be in `KNOWN`, with the reason; what is in `KNOWN` must fail. Ends with 1 where either is not so, and with 2
where the file cannot be used. PYTORCH_TEST_WITH_SLOW=1 runs what PyTorch marks slow as well.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
import unittest
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("PYTORCH_TESTING_DEVICE_ONLY_FOR", "cpu")

from torch.testing._internal.common_utils import TestCase

from peers.replaced import replaced
from switchgrad.errors import SwitchgradError

HELP = "give the path of PyTorch's test/nn/test_pooling.py, or name it in TORCH_TEST_POOLING"
INSIDE = Path("test", "nn", "test_pooling.py")  # of a checkout of PyTorch
CLASSES = ("TestAvgPool", "TestPoolingNN", "TestPoolingNNDeviceTypeCPU")

# Tests that ours fails, by a part of their name, and why.
EMPTY = "an output size of 0 is refused at once; PyTorch returns a map without cells"
KNOWN: dict[str, str] = {
    "FractionalMaxPool2d_zero_out_size": EMPTY,
    "FractionalMaxPool3d_zero_out_size": EMPTY,
    "adaptive_pooling_zero_batch": "a map without channels and without a batch, which the test takes for an empty "
    "batch, is refused",
    "Pool1d_indices": "it changes the indices and expects backward to refuse; ours keeps switches of its own, so that "
    "changed indices do no harm",
    "Pool2d_indices": "as above",
    "Pool3d_indices": "as above",
    "adaptive_pooling_no_suppot_input": "integers are refused there; ours takes their maxima as max pooling does",
    "max_pool3d_ndhwc": "a volume without a batch comes back row-major whatever its layout; its numbers are the same",
    "pooling_zero_stride": "a layer refuses it when it is made; PyTorch's when it is called",
    "MaxUnpool_index_errors": "refused, in our words, by the compiled kernel",
}


class NotUsable(Exception):
    """Why a file is not one whose tests can be run."""


def found(given: str) -> Path:
    """The file that ``given`` names: itself, or the one of a checkout of PyTorch."""
    if not given:
        raise NotUsable(HELP)
    path = Path(given).expanduser().resolve()
    if path.is_dir():
        path = path / INSIDE
    if not path.is_file():
        raise NotUsable(f"there is no file {path}; {HELP}")
    return path


def load(path: Path) -> ModuleType:
    """The file as a module, its device tests made for the CPU."""
    spec = importlib.util.spec_from_file_location("torchs_test_pooling", path)
    if spec is None or spec.loader is None:
        raise NotUsable(f"{path} is no Python file; {HELP}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise NotUsable(
            f"{path} cannot be imported ({type(error).__name__}: {error}); give the file of the installed release"
        ) from error
    missing = [name for name in CLASSES if not hasattr(module, name)]
    if missing:
        raise NotUsable(f"{path} has no {' and no '.join(missing)}; {HELP}")
    return module


def cases(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """Every single test of a suite."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from cases(test)
        else:
            yield test


def outcomes(module: ModuleType) -> dict[str, str]:
    """passed, skipped, or the last line of what went wrong, for each test."""
    found: dict[str, str] = {}
    for test in cases(unittest.defaultTestLoader.loadTestsFromModule(module)):
        result = unittest.TestResult()
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            test.run(result)
        name = ".".join(test.id().split(".")[-2:])
        wrong = [*result.failures, *result.errors]
        if wrong:
            found[name] = last_error(wrong[0][1])
        else:
            found[name] = "skipped" if result.skipped else "passed"
    return found


def last_error(trace: str) -> str:
    """The line that says what went wrong; PyTorch writes how to repeat the test below it."""
    lines = [line for line in trace.splitlines() if line and not line[0].isspace()]
    said = [line for line in lines if "Error" in line.split(":")[0]]
    return (said or lines or [trace])[-1]


def in_any_words(self: Any, expected: Any, pattern: Any, call: Callable[..., Any] | None = None, *args: Any) -> Any:
    """``assertRaisesRegex`` for which a refusal of ours is one, whatever its words: the type still counts."""

    @contextlib.contextmanager
    def refused() -> Iterator[Any]:
        with self.assertRaises(expected) as caught:  # noqa: PT027 - theirs, which pytest does not run
            yield caught
        if not isinstance(caught.exception, SwitchgradError):
            self.assertRegex(str(caught.exception), pattern)  # noqa: PT009 - so is this

    if call is None:
        return refused()
    with refused():
        call(*args)
    return None


def reason(name: str) -> str | None:
    """Why a test is known to fail."""
    return next((why for part, why in KNOWN.items() if part in name), None)


def report(theirs: dict[str, str], ours: dict[str, str]) -> tuple[list[str], bool]:
    """The lines to print, and whether everything is as the table of known differences says."""
    ran = [name for name, outcome in theirs.items() if outcome == "passed"]
    silent = {name: outcome for name, outcome in theirs.items() if outcome not in ("passed", "skipped")}
    failed = {name: ours[name] for name in ran if ours[name] != "passed"}
    lines = [
        f"{len(theirs)} tests; {sum(o == 'skipped' for o in theirs.values())} are skipped on this machine; "
        f"{len(ran)} pass with PyTorch's pooling, {len(ran) - len(failed)} of them with ours"
    ]
    lines += [f"  {name}: {outcome}\n    {reason(name) or 'NOT KNOWN'}" for name, outcome in failed.items()]
    lines += [f"  {name} fails with PyTorch's own and says nothing: {outcome}" for name, outcome in silent.items()]
    idle = [part for part in KNOWN if any(part in name for name in ran) and not any(part in name for name in failed)]
    lines += [f"  {part} is known to fail and does not: take it out of KNOWN" for part in idle]
    return lines, bool(ran) and not idle and all(reason(name) for name in failed)


def main() -> None:
    try:
        module = load(found(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("TORCH_TEST_POOLING", "")))
    except NotUsable as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    warnings.simplefilter("ignore")
    theirs = outcomes(module)
    with replaced(), mock.patch.object(TestCase, "assertRaisesRegex", in_any_words):
        ours = outcomes(module)
    lines, fine = report(theirs, ours)
    print("\n".join(lines))
    raise SystemExit(not fine)


if __name__ == "__main__":
    main()
