"""Floor 1: operators, each with its meaning, its checks, its dispatch and its backward."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from switchgrad.ops.adaptive_pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
)
from switchgrad.ops.avg_pool import avg_pool1d, avg_pool2d, avg_pool3d, sum_pool1d, sum_pool2d, sum_pool3d
from switchgrad.ops.batch_norm import batch_norm_relu, batch_norm_relu_max_pool2d
from switchgrad.ops.blur_pool import blur_pool1d, blur_pool2d, blur_pool3d
from switchgrad.ops.conv_pool import conv_max_pool2d, conv_relu_max_pool2d
from switchgrad.ops.convolution import conv2d, conv_bias_relu
from switchgrad.ops.cross_entropy import cross_entropy, cross_entropy_with_gradient
from switchgrad.ops.dropout import bias_relu_dropout, dropout
from switchgrad.ops.exporting import is_exporting as is_exporting  # with it every operator learns to export
from switchgrad.ops.fully_connected import linear, linear_relu
from switchgrad.ops.global_pool import (
    gem_pool,
    global_avg_pool,
    global_avg_pool_linear,
    global_lp_pool,
    global_max_pool,
    global_sum_pool,
)
from switchgrad.ops.lp_pool import lp_pool1d, lp_pool2d, lp_pool3d
from switchgrad.ops.max_pool import max_pool1d, max_pool2d, max_pool3d
from switchgrad.ops.max_unpool import max_unpool1d, max_unpool2d, max_unpool3d
from switchgrad.ops.mlp import mlp
from switchgrad.ops.placed import PlacedSwitches
from switchgrad.ops.pyramid_pool import k_means, spatial_pyramid_pool, vlad
from switchgrad.ops.relu_max_pool import relu_max_pool2d
from switchgrad.ops.rooms import ROOM_OF
from switchgrad.ops.sequence_pool import (
    avg_over_time,
    chunk_max_pool,
    dynamic_k,
    k_max_pool,
    k_range_max_pool,
    lp_over_time,
    max_over_time,
    sum_over_time,
)
from switchgrad.ops.subsampling import (
    trainable_subsampling1d,
    trainable_subsampling2d,
    trainable_subsampling3d,
)
from switchgrad.ops.switches import Switches
from switchgrad.ops.weighted_pool import weighted_avg_pool1d, weighted_avg_pool2d, weighted_avg_pool3d
from switchgrad.ops.windows import windows

if TYPE_CHECKING:
    from switchgrad.ops.grouped import *
    from switchgrad.ops.mixed import *
    from switchgrad.ops.regions import *
    from switchgrad.ops.spectral import *
    from switchgrad.ops.statistical import *
    from switchgrad.ops.stochastic import *
    from switchgrad.ops.unpool import *

__all__ = [
    "PlacedSwitches",
    "Switches",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "auto_pool",
    "auto_pooling_loss",
    "avg_over_time",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "avg_unpool1d",
    "avg_unpool2d",
    "avg_unpool3d",
    "batch_norm_relu",
    "batch_norm_relu_max_pool2d",
    "batched_nms",
    "bias_relu_dropout",
    "bilinear_unpool2d",
    "blur_pool1d",
    "blur_pool2d",
    "blur_pool3d",
    "box_area",
    "box_iou",
    "chunk_max_pool",
    "cluster_pool",
    "conv2d",
    "conv_bias_relu",
    "conv_max_pool2d",
    "conv_relu_max_pool2d",
    "cross_entropy",
    "cross_entropy_with_gradient",
    "dft_magnitude_pool1d",
    "dft_magnitude_pool2d",
    "dft_magnitude_pool3d",
    "distance_box_iou",
    "dropout",
    "dynamic_k",
    "expectation_pool",
    "fractional_max_pool1d",
    "fractional_max_pool2d",
    "fractional_max_pool3d",
    "gamma_pool1d",
    "gamma_pool2d",
    "gamma_pool3d",
    "gated_pool1d",
    "gated_pool2d",
    "gated_pool3d",
    "gem_pool",
    "general_pool1d",
    "general_pool2d",
    "general_pool3d",
    "generalized_box_iou",
    "global_avg_pool",
    "global_avg_pool_linear",
    "global_entropy_pool",
    "global_lp_pool",
    "global_max_pool",
    "global_sum_pool",
    "group_pool",
    "k_max_pool",
    "k_means",
    "k_range_max_pool",
    "ldw_pool1d",
    "ldw_pool2d",
    "ldw_pool3d",
    "linear",
    "linear_relu",
    "linear_unpool1d",
    "lip_pool1d",
    "lip_pool2d",
    "lip_pool3d",
    "loss_max_pool",
    "loss_max_weights",
    "lp_over_time",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_min_pool1d",
    "max_min_pool2d",
    "max_min_pool3d",
    "max_over_time",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_pool_dropout1d",
    "max_pool_dropout2d",
    "max_pool_dropout3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "maxout",
    "mixed_pool1d",
    "mixed_pool2d",
    "mixed_pool3d",
    "mlp",
    "nearest_unpool1d",
    "nearest_unpool2d",
    "nearest_unpool3d",
    "nms",
    "ps_roi_align",
    "ps_roi_pool",
    "relu_max_pool2d",
    "roi_align",
    "roi_avg_pool",
    "roi_pool",
    "s3_pool1d",
    "s3_pool2d",
    "s3_pool3d",
    "soft_pool1d",
    "soft_pool2d",
    "soft_pool3d",
    "spatial_pyramid_pool",
    "spectral_pool1d",
    "spectral_pool2d",
    "spectral_pool3d",
    "stochastic_pool1d",
    "stochastic_pool2d",
    "stochastic_pool3d",
    "sum_over_time",
    "sum_pool1d",
    "sum_pool2d",
    "sum_pool3d",
    "trainable_subsampling1d",
    "trainable_subsampling2d",
    "trainable_subsampling3d",
    "tree_pool1d",
    "tree_pool2d",
    "tree_pool3d",
    "trilinear_unpool3d",
    "vlad",
    "wavelet_bands1d",
    "wavelet_bands2d",
    "wavelet_bands3d",
    "wavelet_pool1d",
    "wavelet_pool2d",
    "wavelet_pool3d",
    "weibull_pool1d",
    "weibull_pool2d",
    "weibull_pool3d",
    "weighted_avg_pool1d",
    "weighted_avg_pool2d",
    "weighted_avg_pool3d",
    "windows",
]


def __getattr__(name: str) -> object:
    """Operators without kernels live in rooms that open when one of theirs is asked for."""
    if name not in ROOM_OF:
        raise AttributeError(f"module 'switchgrad.ops' has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"switchgrad.ops.{ROOM_OF[name]}"), name)
    globals()[name] = found  # the next time Python finds it by itself
    return found
