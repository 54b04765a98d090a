"""Pooling by statistics: likelihood, entropy, both extremes."""

from switchgrad.ops.statistical.extremes import global_entropy_pool, max_min_pool1d, max_min_pool2d, max_min_pool3d
from switchgrad.ops.statistical.likelihood import (
    gamma_pool1d,
    gamma_pool2d,
    gamma_pool3d,
    weibull_pool1d,
    weibull_pool2d,
    weibull_pool3d,
)

__all__ = [
    "gamma_pool1d",
    "gamma_pool2d",
    "gamma_pool3d",
    "global_entropy_pool",
    "max_min_pool1d",
    "max_min_pool2d",
    "max_min_pool3d",
    "weibull_pool1d",
    "weibull_pool2d",
    "weibull_pool3d",
]
