"""Floor 1: operators, each with its meaning, its checks, its dispatch and its backward."""

from switchgrad.ops.max_pool import max_pool1d, max_pool2d, max_pool3d
from switchgrad.ops.max_unpool import max_unpool1d, max_unpool2d, max_unpool3d
from switchgrad.ops.relu_max_pool import relu_max_pool2d
from switchgrad.ops.stochastic import (
    PlacedSwitches,
    fractional_max_pool2d,
    fractional_max_pool3d,
    max_pool_dropout1d,
    max_pool_dropout2d,
    max_pool_dropout3d,
    s3_pool1d,
    s3_pool2d,
    s3_pool3d,
    stochastic_pool1d,
    stochastic_pool2d,
    stochastic_pool3d,
)
from switchgrad.ops.switches import Switches
from switchgrad.ops.windows import windows

__all__ = [
    "PlacedSwitches",
    "Switches",
    "fractional_max_pool2d",
    "fractional_max_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_pool_dropout1d",
    "max_pool_dropout2d",
    "max_pool_dropout3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "relu_max_pool2d",
    "s3_pool1d",
    "s3_pool2d",
    "s3_pool3d",
    "stochastic_pool1d",
    "stochastic_pool2d",
    "stochastic_pool3d",
    "windows",
]
