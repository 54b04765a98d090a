"""Learned and mixed pooling: mixed, gated, tree, by attention, by soft clusters, and by any function."""

from switchgrad.ops.mixed.clusters import auto_pooling_loss, cluster_pool
from switchgrad.ops.mixed.general import general_pool1d, general_pool2d, general_pool3d
from switchgrad.ops.mixed.mixed_pool import (
    gated_pool1d,
    gated_pool2d,
    gated_pool3d,
    mixed_pool1d,
    mixed_pool2d,
    mixed_pool3d,
)
from switchgrad.ops.mixed.sequence import auto_pool, expectation_pool
from switchgrad.ops.mixed.soft import lip_pool1d, lip_pool2d, lip_pool3d, soft_pool1d, soft_pool2d, soft_pool3d
from switchgrad.ops.mixed.tree import tree_pool1d, tree_pool2d, tree_pool3d

__all__ = [
    "auto_pool",
    "auto_pooling_loss",
    "cluster_pool",
    "expectation_pool",
    "gated_pool1d",
    "gated_pool2d",
    "gated_pool3d",
    "general_pool1d",
    "general_pool2d",
    "general_pool3d",
    "lip_pool1d",
    "lip_pool2d",
    "lip_pool3d",
    "mixed_pool1d",
    "mixed_pool2d",
    "mixed_pool3d",
    "soft_pool1d",
    "soft_pool2d",
    "soft_pool3d",
    "tree_pool1d",
    "tree_pool2d",
    "tree_pool3d",
]
