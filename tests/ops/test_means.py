"""k-means begins as k-means++ does and goes on by Lloyd's steps; wrong ones are told from the right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch

from switchgrad import ops
from wrong_means import WRONG_CHANCES, WRONG_STEPS, Means


def ours(x: np.ndarray, k: int, iterations: int, seed: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    return ops.k_means(torch.from_numpy(x), k, iterations, generator=generator).numpy()


def begun(means: Means) -> Callable[[np.ndarray, int, int], np.ndarray]:
    """The steps of ``means`` from the centres that ours begins with."""
    return lambda x, seed, iterations: means.steps(x, ours(x, 4, 0, seed), iterations)


def steps_are_lloyds(steps: Callable[[np.ndarray, int, int], np.ndarray]) -> None:
    """``steps(x, seed, iterations)`` has four centres where Lloyd's steps bring them."""
    draw = np.random.default_rng(1)
    for seed in range(6):
        descriptors = (
            draw.normal(size=(40, 2)),
            draw.integers(-3, 4, (14, 2)).astype(np.float64),  # of few whole numbers some are equally near
            draw.integers(1, 3, (9, 1)).astype(np.float64),  # two kinds leave some of four centres unchosen
        )
        for x in descriptors:
            for iterations in (0, 1, 2, 25):
                got, wanted = steps(x, seed, iterations), begun(Means())(x, seed, iterations)
                assert np.abs(got - wanted).max() < 1e-12, f"not Lloyd's {iterations} steps"


def test_steps() -> None:
    steps_are_lloyds(lambda x, seed, iterations: ours(x, 4, iterations, seed))


def test_the_first_centres_are_descriptors() -> None:
    x = np.random.default_rng(2).normal(size=(12, 3))
    for seed in range(5):
        first = {tuple(c) for c in ours(x, 6, 0, seed)}
        assert len(first) == 6
        assert first <= {tuple(d) for d in x}


@pytest.mark.parametrize("name", WRONG_STEPS)
def test_wrong_steps_are_seen(name: str) -> None:
    with pytest.raises(AssertionError, match="not Lloyd's"):
        steps_are_lloyds(begun(WRONG_STEPS[name]))


def counted(descriptors: np.ndarray, draws: int) -> dict[float, Counter[float]]:
    """How often each second centre follows each first one."""
    found: dict[float, Counter[float]] = {float(d[0]): Counter() for d in descriptors}
    for seed in range(draws):
        first, second = ours(descriptors, 2, 0, seed)[:, 0].tolist()
        found[first][second] += 1
    return found


DESCRIPTORS = np.array([[0.0], [1.0], [3.0]])


@pytest.fixture(scope="module")
def seen() -> dict[float, Counter[float]]:
    return counted(DESCRIPTORS, 900)


def chances_fit(means: Means, seen: dict[float, Counter[float]]) -> None:
    """What was seen is within four deviations of what ``means`` expects; every first centre is as likely."""
    total = sum(sum(after.values()) for after in seen.values())
    for first, after in seen.items():
        count = sum(after.values())
        assert abs(count - total / 3) < 4 * (total * 2 / 9) ** 0.5, "the first centre is not drawn evenly"
        for d, chance in zip(DESCRIPTORS, means.chances(DESCRIPTORS, np.array([[first]])), strict=True):
            deviation = (count * chance * (1 - chance)) ** 0.5
            assert abs(after[float(d[0])] - count * chance) <= 4 * deviation, "drawn with other chances"


def test_chances(seen: dict[float, Counter[float]]) -> None:
    chances_fit(Means(), seen)


@pytest.mark.parametrize("name", WRONG_CHANCES)
def test_wrong_chances_are_seen(name: str, seen: dict[float, Counter[float]]) -> None:
    with pytest.raises(AssertionError, match="other chances"):
        chances_fit(WRONG_CHANCES[name], seen)
