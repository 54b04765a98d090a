"""Registers ReLU and max pooling in one for devices without a kernel of their own, and its shapes for tracing."""

from __future__ import annotations

import torch

from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.max_pool import registration as plain
from switchgrad.ops.relu_max_pool import reference

for _name, _fake in (("relu_max_pool", plain.max_pool_shapes), ("relu_max_pool_values", plain.max_pool_values_shapes)):
    LIBRARY.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"switchgrad::{_name}", _fake, lib=LIBRARY)
