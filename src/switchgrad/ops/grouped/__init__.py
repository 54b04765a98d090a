"""Pooling over groups, channels and losses."""

from switchgrad.ops.grouped.group_pool import group_pool, maxout
from switchgrad.ops.grouped.loss import loss_max_pool, loss_max_weights

__all__ = ["group_pool", "loss_max_pool", "loss_max_weights", "maxout"]
