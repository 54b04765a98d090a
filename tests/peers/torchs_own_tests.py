"""PyTorch's own tests of pooling (its file test/nn/test_pooling.py), run on the CPU with our operators in place.

python tests/peers/torchs_own_tests.py path/to/test_pooling.py       # or TORCH_TEST_POOLING=path/to/test_pooling.py

PyTorch's wheels do not hold the file; it is given by path, and should be of the release that is installed. Every test
is run twice, with PyTorch's pooling and with ours. What passes there and fails here must be in `KNOWN`, with the
reason; what is in `KNOWN` must fail. Ends with 1 where either is not so.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
import unittest
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("PYTORCH_TESTING_DEVICE_ONLY_FOR", "cpu")

from peers.replaced import replaced

# Tests that ours fails, by a part of their name, and why.
KNOWN: dict[str, str] = {}


def load(path: Path) -> ModuleType:
    """The file as a module, its device tests made for the CPU."""
    spec = importlib.util.spec_from_file_location("torchs_test_pooling", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file; give PyTorch's test/nn/test_pooling.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
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
            found[name] = wrong[0][1].strip().splitlines()[-1]
        else:
            found[name] = "skipped" if result.skipped else "passed"
    return found


def reason(name: str) -> str | None:
    """Why a test is known to fail."""
    return next((why for part, why in KNOWN.items() if part in name), None)


def report(theirs: dict[str, str], ours: dict[str, str]) -> tuple[list[str], bool]:
    """The lines to print, and whether everything is as the table of known differences says."""
    ran = [name for name, outcome in theirs.items() if outcome == "passed"]
    failed = {name: ours[name] for name in ran if ours[name] != "passed"}
    lines = [
        f"{len(theirs)} tests; {sum(o == 'skipped' for o in theirs.values())} are skipped on this machine; "
        f"{len(ran)} pass with PyTorch's pooling, {len(ran) - len(failed)} of them with ours"
    ]
    lines += [f"  {name}: {outcome}\n    {reason(name) or 'NOT KNOWN'}" for name, outcome in failed.items()]
    idle = [part for part in KNOWN if not any(part in name for name in failed)]
    lines += [f"  {part} is known to fail and does not: take it out of KNOWN" for part in idle]
    return lines, not idle and all(reason(name) for name in failed)


def main() -> None:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("TORCH_TEST_POOLING", ""))
    if not path.is_file():
        raise SystemExit("give the path of PyTorch's test/nn/test_pooling.py, or name it in TORCH_TEST_POOLING")
    warnings.simplefilter("ignore")
    module = load(path)
    theirs = outcomes(module)
    with replaced():
        ours = outcomes(module)
    lines, fine = report(theirs, ours)
    print("\n".join(lines))
    raise SystemExit(not fine)


if __name__ == "__main__":
    main()
