"""Pooling with chance in it: stochastic, max-pooling dropout, fractional and S3 pooling."""

from switchgrad.ops.stochastic.dropout import max_pool_dropout1d, max_pool_dropout2d, max_pool_dropout3d
from switchgrad.ops.stochastic.fractional import fractional_max_pool1d, fractional_max_pool2d, fractional_max_pool3d
from switchgrad.ops.stochastic.s3 import s3_pool1d, s3_pool2d, s3_pool3d
from switchgrad.ops.stochastic.stochastic_pool import stochastic_pool1d, stochastic_pool2d, stochastic_pool3d

__all__ = [
    "fractional_max_pool1d",
    "fractional_max_pool2d",
    "fractional_max_pool3d",
    "max_pool_dropout1d",
    "max_pool_dropout2d",
    "max_pool_dropout3d",
    "s3_pool1d",
    "s3_pool2d",
    "s3_pool3d",
    "stochastic_pool1d",
    "stochastic_pool2d",
    "stochastic_pool3d",
]
