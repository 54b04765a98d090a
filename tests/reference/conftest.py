"""These tests run on one thread: they are many, small, and share the machine."""

from collections.abc import Iterator

import pytest

from harness.engines import threads


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread for each test."""
    with threads(1):
        yield
