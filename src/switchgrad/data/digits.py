"""The embedded data set: 1,797 real handwritten digits, so that everything works without a network.

E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository (1998),
licensed under CC BY 4.0; the pictures, in the order, of scikit-learn's ``load_digits``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from switchgrad.data import idx
from switchgrad.data.dataset import Split

_FOLDER = Path(__file__).parent / "embedded"
_INK = 16  # the darkest value in the files


def read_raw() -> tuple[idx.Bytes, idx.Bytes]:
    """Pictures ``[1797, 8, 8]`` with values 0 to 16 and labels ``[1797]``, exactly as published.

    >>> images, labels = read_raw()
    >>> images.shape, int(images.max()), labels[:5]
    ((1797, 8, 8), 16, array([0, 1, 2, 3, 4], dtype=uint8))
    """
    images = idx.read(_FOLDER / "digits-images-idx3-ubyte.gz", dims=3)
    return images, idx.read(_FOLDER / "digits-labels-idx1-ubyte.gz", dims=1)


def read() -> Split:
    """All digits as a `Split` with values 0 to 255, like every other picture: ``round(255 / 16 value)``.

    >>> read().images.amax().item()
    255
    """
    images, labels = read_raw()
    table = np.array([(value * 255 + _INK // 2) // _INK for value in range(_INK + 1)], np.uint8)
    return idx.to_split(table[images], labels, "the embedded digits")
