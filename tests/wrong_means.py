"""k-means in NumPy, right (`Means`) and with one thing wrong each: how it begins, and how it goes on."""

from __future__ import annotations

from typing import Any

import numpy as np


class Means:
    """Lloyd's steps from given centres; how likely each descriptor is to be the next centre."""

    def steps(self, x: np.ndarray, centres: np.ndarray, iterations: int) -> np.ndarray:
        for _ in range(self.count(iterations)):
            chosen = [self.nearest([float(((d - c) ** 2).sum()) for c in centres]) for d in x]
            moved = centres.copy()
            for k in range(len(centres)):
                mine = [d for d, choice in zip(x, chosen, strict=True) if choice == k]
                moved[k] = self.middle(mine) if mine else self.alone(centres[k], x)
            if np.array_equal(moved, centres):
                break
            centres = moved
        return centres

    def chances(self, x: np.ndarray, centres: np.ndarray) -> np.ndarray:
        """Of each descriptor to be drawn beside these centres."""
        weights = [self.weight(min(float(((d - c) ** 2).sum()) for c in centres)) for d in x]
        return np.array(weights) / sum(weights)

    def count(self, iterations: int) -> int:
        return iterations

    def nearest(self, far: list[float]) -> int:
        return far.index(min(far))

    def middle(self, mine: list[Any]) -> Any:
        return sum(mine) / len(mine)

    def alone(self, centre: Any, x: np.ndarray) -> Any:
        return centre

    def weight(self, squared: float) -> float:
        return squared


class _OneStepLess(Means):
    def count(self, iterations: int) -> int:
        return max(iterations - 1, 0)


class _OneStepMore(Means):
    def count(self, iterations: int) -> int:
        return iterations + 1 if iterations else 0


class _Farthest(Means):
    def nearest(self, far: list[float]) -> int:
        return far.index(max(far))


class _LastOfTies(Means):
    def nearest(self, far: list[float]) -> int:
        return len(far) - 1 - far[::-1].index(min(far))


class _Median(Means):
    def middle(self, mine: list[Any]) -> Any:
        return np.median(mine, axis=0)


class _Smoothed(Means):
    def middle(self, mine: list[Any]) -> Any:
        return sum(mine) / (len(mine) + 1)


class _BackToZero(Means):
    def alone(self, centre: Any, x: np.ndarray) -> Any:
        return 0 * centre


class _ToTheMiddle(Means):
    def alone(self, centre: Any, x: np.ndarray) -> Any:
        return x.mean(0)


class _ByDistance(Means):
    def weight(self, squared: float) -> float:
        return squared**0.5


class _ByFourthPower(Means):
    def weight(self, squared: float) -> float:
        return squared**2


class _Uniform(Means):
    def weight(self, squared: float) -> float:
        return 1.0


WRONG_STEPS = {
    "one step less": _OneStepLess(),
    "one step more": _OneStepMore(),
    "the farthest centre": _Farthest(),
    "of equally near centres the last": _LastOfTies(),
    "median": _Median(),
    "one descriptor too many is counted": _Smoothed(),
    "centres that nobody chose go to 0": _BackToZero(),
    "centres that nobody chose go to the middle": _ToTheMiddle(),
}
WRONG_CHANCES = {"by distance": _ByDistance(), "by its fourth power": _ByFourthPower(), "uniform": _Uniform()}
