"""Unpooling without switches."""

from switchgrad.ops.unpool.spread import (
    avg_unpool1d,
    avg_unpool2d,
    avg_unpool3d,
    bilinear_unpool2d,
    linear_unpool1d,
    nearest_unpool1d,
    nearest_unpool2d,
    nearest_unpool3d,
    trilinear_unpool3d,
)

__all__ = [
    "avg_unpool1d",
    "avg_unpool2d",
    "avg_unpool3d",
    "bilinear_unpool2d",
    "linear_unpool1d",
    "nearest_unpool1d",
    "nearest_unpool2d",
    "nearest_unpool3d",
    "trilinear_unpool3d",
]
