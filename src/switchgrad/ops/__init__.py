"""Floor 1: operators, each with its meaning, its checks, its dispatch and its backward."""

from switchgrad.ops.max_pool import max_pool1d, max_pool2d, max_pool3d
from switchgrad.ops.max_unpool import max_unpool1d, max_unpool2d, max_unpool3d
from switchgrad.ops.relu_max_pool import relu_max_pool2d
from switchgrad.ops.switches import Switches

__all__ = [
    "Switches",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "relu_max_pool2d",
]
