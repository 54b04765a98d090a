"""Switchgrad: convolutional networks whose backward pass follows the switches of max pooling.

>>> import switchgrad
>>> run = switchgrad.train.fit("digits", "lenet5", epochs=20)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from switchgrad import geometry, nn, ops
from switchgrad.ops import Switches
from switchgrad.version import VERSION

if TYPE_CHECKING:
    from switchgrad import backprop, data, export, fusion, models, probe, reference, train
    from switchgrad.fusion import optimize
    from switchgrad.kernels import info
    from switchgrad.memory import keep_memory
    from switchgrad.probe.gradients import check_gradients
    from switchgrad.probe.tracing import trace

__version__ = VERSION
__all__ = [
    "Switches", "__version__", "backprop", "check_gradients", "data", "export", "fusion", "geometry", "info",
    "keep_memory", "models", "nn", "ops", "optimize", "probe", "reference", "trace", "train",
]  # fmt: skip

# The upper floors load on first use, so that a user of the layers alone pays for nothing else.
_LAZY = ("backprop", "data", "export", "fusion", "models", "probe", "reference", "train")
_LAZY_FUNCTIONS = {
    "check_gradients": "switchgrad.probe.gradients",
    "info": "switchgrad.kernels",
    "keep_memory": "switchgrad.memory",
    "optimize": "switchgrad.fusion",
    "trace": "switchgrad.probe.tracing",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return importlib.import_module(f"switchgrad.{name}")
    if name in _LAZY_FUNCTIONS:
        return getattr(importlib.import_module(_LAZY_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'switchgrad' has no attribute {name!r}")
