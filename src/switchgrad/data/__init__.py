"""Data sets in memory: real ones by name, your own pictures by folder, checked before anything trains.

>>> dataset = load("digits")                                 # embedded: no network, no files
>>> dataset.train.images.shape, dataset.classes[:3]
(torch.Size([1438, 1, 8, 8]), ('0', '1', '2'))
"""

from switchgrad.data.checks import Notice, Report, check
from switchgrad.data.dataset import Dataset, Progress, Split
from switchgrad.data.images import read_image
from switchgrad.data.loading import load
from switchgrad.data.reading import BadFilesError, Problem
from switchgrad.data.sources import describe, names
from switchgrad.data.transforms import POLICIES, augment, check_policy, normalise

__all__ = [
    "POLICIES",
    "BadFilesError",
    "Dataset",
    "Notice",
    "Problem",
    "Progress",
    "Report",
    "Split",
    "augment",
    "check",
    "check_policy",
    "describe",
    "load",
    "names",
    "normalise",
    "read_image",
]
