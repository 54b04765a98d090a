"""A short real run that several tests look at."""

import pytest

from switchgrad.train import Run, fit


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory) -> Run:
    """LeNet-5 on digits for three epochs, one thread."""
    return fit("digits", "lenet5", out=tmp_path_factory.mktemp("runs") / "digits", epochs=3, threads=1, seed=4)
