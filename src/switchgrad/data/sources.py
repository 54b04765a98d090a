"""The data sets that have a name: what they are, which files they need, where those come from, and their checksums."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Literal

from switchgrad.data import cifar
from switchgrad.errors import DataError


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded: its official size and SHA-256, and the addresses to try in this order."""

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class IdxFiles:
    """How a data set of the MNIST family lies in its files; ``{kind}`` is ``images`` or ``labels``."""

    train: str
    val: str
    first_label: int = 0
    transposed: bool = False


@dataclass(frozen=True)
class Source:
    """A named data set. ``folders`` are the places under a data root where its files may lie, besides its name."""

    name: str
    title: str
    layout: Literal["digits", "idx", "cifar"]
    classes: tuple[str, ...]
    files: tuple[RemoteFile, ...] = ()
    folders: tuple[str, ...] = ()
    idx: IdxFiles | None = None


def names() -> list[str]:
    """The names that `load` knows, the embedded one first.

    >>> names()[:4]
    ['digits', 'mnist', 'fashion-mnist', 'kmnist']
    """
    return list(SOURCES)


def describe(name: str) -> str:
    """One line on a named data set. Raises `DataError` for a name that is not in `names`.

    >>> describe("kmnist")
    'cursive Japanese, 28x28 grey'
    """
    if name not in SOURCES:
        raise DataError(f"{name!r} is not the name of a data set; known names: {', '.join(names())}")
    return SOURCES[name].title


_DIGITS = tuple(string.digits)
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
# Letters whose small form looks like the capital share its class in EMNIST's merged sets.
_DISTINCT_SMALL = tuple("abdefghnqrt")
_EMNIST_CLASSES = {
    "balanced": (*_DIGITS, *string.ascii_uppercase, *_DISTINCT_SMALL),
    "byclass": (*_DIGITS, *string.ascii_uppercase, *string.ascii_lowercase),
    "bymerge": (*_DIGITS, *string.ascii_uppercase, *_DISTINCT_SMALL),
    "digits": _DIGITS,
    "letters": tuple(string.ascii_lowercase),
    "mnist": _DIGITS,
}
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""

_FOUR_FILES = IdxFiles(train="train-{kind}", val="t10k-{kind}")


def _four(mirrors: tuple[str, ...], *facts: tuple[str, int, str]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(name, size, sha256, tuple(mirror + name for mirror in mirrors)) for name, size, sha256 in facts
    )


_MNIST_FILES = _four(
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    (
        "train-images-idx3-ubyte.gz",
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    (
        "train-labels-idx1-ubyte.gz",
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    (
        "t10k-images-idx3-ubyte.gz",
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    (
        "t10k-labels-idx1-ubyte.gz",
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)
_FASHION_FILES = _four(
    (
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    (
        "train-images-idx3-ubyte.gz",
        26_421_880,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    (
        "train-labels-idx1-ubyte.gz",
        29_515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    (
        "t10k-images-idx3-ubyte.gz",
        4_422_102,
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    ),
    (
        "t10k-labels-idx1-ubyte.gz",
        5_148,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)
_KMNIST_FILES = _four(
    ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    (
        "train-images-idx3-ubyte.gz",
        18_165_135,
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
    ),
    (
        "train-labels-idx1-ubyte.gz",
        29_497,
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
    ),
    (
        "t10k-images-idx3-ubyte.gz",
        3_041_136,
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
    ),
    (
        "t10k-labels-idx1-ubyte.gz",
        5_120,
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
)
EMNIST_ARCHIVE = RemoteFile(
    "gzip.zip",
    561_753_746,
    "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
    (
        "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
        "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",
    ),
)


def _toronto(name: str, size: int, sha256: str) -> RemoteFile:
    mirrors = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
    return RemoteFile(name, size, sha256, tuple(mirror + name for mirror in mirrors))


_CIFAR10_FILE = _toronto(
    "cifar-10-binary.tar.gz",
    170_052_171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
_CIFAR100_FILE = _toronto(
    "cifar-100-binary.tar.gz",
    168_513_733,
    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
)


def _emnist(variant: str) -> Source:
    return Source(
        name=f"emnist-{variant}",
        title=f"EMNIST, {variant}: handwritten characters, 28x28 grey",
        layout="idx",
        classes=_EMNIST_CLASSES[variant],
        files=(EMNIST_ARCHIVE,),
        folders=("emnist", "emnist/gzip", "gzip", "EMNIST/raw"),
        idx=IdxFiles(
            train=f"emnist-{variant}-train-{{kind}}",
            val=f"emnist-{variant}-test-{{kind}}",
            first_label=1 if variant == "letters" else 0,
            transposed=True,
        ),
    )


def _cifar(name: str, title: str, classes: tuple[str, ...], file: RemoteFile) -> Source:
    folders = tuple(layout.folder for layout in cifar.LAYOUTS[name])
    return Source(name, title, "cifar", classes, (file,), folders)


_ALL = (
    Source("digits", "1,797 handwritten digits, 8x8 grey, embedded", "digits", _DIGITS),
    Source("mnist", "handwritten digits, 28x28 grey", "idx", _DIGITS, _MNIST_FILES, ("MNIST/raw",), _FOUR_FILES),
    Source(
        "fashion-mnist",
        "pieces of clothing, 28x28 grey",
        "idx",
        _FASHION,
        _FASHION_FILES,
        ("FashionMNIST/raw",),
        _FOUR_FILES,
    ),
    Source("kmnist", "cursive Japanese, 28x28 grey", "idx", _KANA, _KMNIST_FILES, ("KMNIST/raw",), _FOUR_FILES),
    *(_emnist(variant) for variant in _EMNIST_CLASSES),
    _cifar("cifar10", "photographs of 10 classes, 32x32 colour", _CIFAR10, _CIFAR10_FILE),
    _cifar("cifar100", "photographs of 100 classes, 32x32 colour", tuple(_CIFAR100.split()), _CIFAR100_FILE),
)

SOURCES = {source.name: source for source in _ALL}
"""Every named data set, by name."""
