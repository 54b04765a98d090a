"""Every operator's signature, nothing else.

The C++ library implements them for the CPU and Triton kernels (`kernels.cuda`) for CUDA; the plain PyTorch of ``ops``
implements them for every other device, and where those cannot be loaded.
"""

from collections.abc import Callable
from typing import Any

import torch

# geometry.Window.numbers: in one list, because each argument more takes as long as pooling a small map.
_WINDOW = "int[] window"
_AVERAGE = f"{_WINDOW}, bool count_include_pad, float divisor"  # divisor 0: the number of cells

_CONV = "int[] conv_stride, int[] conv_padding"
_NORM = (
    "Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, bool training, float eps"
)
_KEPT = "Tensor? weight, Tensor? bias, Tensor statistics, bool training, float eps"
_GRADIENTS = "(Tensor input_grad, Tensor weight_grad, Tensor bias_grad)"
_FILTER = "Tensor weights, Tensor? factors, int[] kernel_size, int[] stride, int[] before, int[] dilation"
_SAMPLES = "float spatial_scale, int sampling_ratio, bool aligned, bool sensitive"
_LOSS = "Tensor input, Tensor target, Tensor? weight, int ignore_index, float label_smoothing, int reduction"

SCHEMAS = {
    "max_pool": f"(Tensor input, {_WINDOW}) -> (Tensor values, Tensor codes)",
    "max_pool_values": f"(Tensor input, {_WINDOW}) -> Tensor",
    "relu_max_pool": f"(Tensor input, {_WINDOW}) -> (Tensor values, Tensor codes)",
    "relu_max_pool_values": f"(Tensor input, {_WINDOW}) -> Tensor",
    "max_pool_route": f"(Tensor pooled, Tensor codes, SymInt[] input_size, {_WINDOW}) -> Tensor",
    "max_pool_gather": f"(Tensor input, Tensor codes, {_WINDOW}) -> Tensor",
    "max_pool_indices": f"(Tensor codes, SymInt[] input_size, {_WINDOW}) -> Tensor",
    "conv_max_pool": f"(Tensor input, Tensor weight, Tensor? bias, {_CONV}, {_WINDOW}, bool relu) "
    "-> (Tensor values, Tensor codes)",
    "conv_max_pool_backward": f"(Tensor grad, Tensor codes, Tensor input, Tensor weight, {_CONV}, {_WINDOW}, "
    "bool input_wanted, bool weight_wanted, bool bias_wanted) "
    "-> (Tensor input_grad, Tensor weight_grad, Tensor bias_grad)",
    "winograd_conv": "(Tensor input, Tensor weight, Tensor? bias, int[] padding, bool relu, int tile) -> Tensor",
    "winograd_conv_backward": "(Tensor grad, Tensor input, Tensor weight, int[] padding, int tile, bool input_wanted, "
    "bool weight_wanted) -> (Tensor input_grad, Tensor weight_grad)",
    "linear": "(Tensor input, Tensor weight, Tensor? bias, bool relu) -> Tensor",
    "linear_backward": "(Tensor grad, Tensor? output, Tensor input, Tensor weight, bool input_wanted, "
    f"bool weight_wanted, bool bias_wanted) -> {_GRADIENTS}",
    "mlp": "(Tensor input, Tensor[] weights, Tensor?[] biases, bool kept) -> Tensor[]",
    "mlp_backward": "(Tensor grad, Tensor input, Tensor[] hidden, Tensor[] weights, bool[] wanted) -> Tensor[]",
    "batch_norm_relu": f"({_NORM}) -> (Tensor output, Tensor statistics)",
    "batch_norm_relu_backward": f"(Tensor grad, Tensor input, {_KEPT}) -> {_GRADIENTS}",
    "batch_norm_relu_max_pool": f"({_NORM}, {_WINDOW}) -> (Tensor values, Tensor codes, Tensor statistics)",
    "batch_norm_relu_max_pool_values": f"({_NORM}, {_WINDOW}) -> (Tensor values, Tensor statistics)",
    "batch_norm_relu_max_pool_backward": (
        f"(Tensor grad, Tensor input, Tensor codes, {_KEPT}, {_WINDOW}) -> {_GRADIENTS}"
    ),
    "batch_norm_move": (
        "(Tensor(a!) running_mean, Tensor(b!) running_var, Tensor statistics, float momentum, int count) -> ()"
    ),
    "dropout": "(Tensor input, Tensor seed, float p) -> Tensor",
    "bias_relu_dropout": "(Tensor input, Tensor? bias, Tensor seed, float p, int axis) -> Tensor",
    "cross_entropy": f"({_LOSS}) -> (Tensor loss, Tensor grad)",
    "cross_entropy_values": f"({_LOSS}) -> Tensor",
    "stochastic_pool": f"(Tensor input, Tensor seed, {_WINDOW}) -> (Tensor values, Tensor codes)",
    "max_pool_dropout": f"(Tensor input, Tensor seed, float p, {_WINDOW}) -> (Tensor values, Tensor codes)",
    "placed_max_pool": (
        "(Tensor input, Tensor starts, Tensor? ends, SymInt[] places, int[] kernel_size) "
        "-> (Tensor values, Tensor codes)"
    ),
    "placed_max_pool_route": (
        "(Tensor pooled, Tensor codes, Tensor starts, Tensor? ends, SymInt[] input_size, int[] kernel_size) -> Tensor"
    ),
    "max_unpool": "(Tensor values, Tensor indices, SymInt[] output_size) -> Tensor",
    "max_unpool_pick": "(Tensor tensor, Tensor indices, int dims) -> Tensor",
    "avg_pool": f"(Tensor input, {_AVERAGE}) -> Tensor",
    "avg_pool_spread": f"(Tensor pooled, SymInt[] input_size, {_AVERAGE}, bool channels_last) -> Tensor",
    "lp_pool": f"(Tensor input, float p, {_WINDOW}) -> Tensor",
    "lp_pool_spread": f"(Tensor pooled, Tensor input, Tensor values, float p, {_WINDOW}) -> Tensor",
    "adaptive_avg_pool": "(Tensor input, SymInt[] output_size) -> Tensor",
    "adaptive_avg_pool_spread": "(Tensor pooled, SymInt[] input_size, bool channels_last) -> Tensor",
    "filter_pool": f"(Tensor input, {_FILTER}, SymInt[] places, int border) -> Tensor",
    "filter_pool_spread": (
        f"(Tensor pooled, SymInt[] input_size, {_FILTER}, int border, bool channels_last) -> Tensor"
    ),
    "roi_align": f"(Tensor input, Tensor boxes, SymInt[] output_size, {_SAMPLES}) -> Tensor",
    "roi_align_spread": f"(Tensor pooled, Tensor boxes, SymInt[] input_size, {_SAMPLES}, bool channels_last) -> Tensor",
    "roi_average": (
        "(Tensor input, Tensor boxes, SymInt[] output_size, float spatial_scale, bool sensitive) -> Tensor"
    ),
    "roi_average_spread": (
        "(Tensor pooled, Tensor boxes, SymInt[] input_size, float spatial_scale, bool sensitive, bool channels_last)"
        " -> Tensor"
    ),
    "roi_max": (
        "(Tensor input, Tensor boxes, SymInt[] output_size, float spatial_scale) -> (Tensor values, Tensor winners)"
    ),
    "roi_max_route": (
        "(Tensor pooled, Tensor boxes, Tensor winners, SymInt[] input_size, bool channels_last) -> Tensor"
    ),
    "roi_max_gather": "(Tensor input, Tensor boxes, Tensor winners) -> Tensor",
    "nms_in_order": "(Tensor boxes, Tensor order, Tensor? classes, float iou_threshold) -> Tensor",
}

# These are compositions of the operators above where no kernel does them in one pass: only CUDA has one.
FOR_CUDA = {
    "max_pool_place": f"(Tensor pooled, Tensor codes, SymInt[] input_size, {_WINDOW}) -> Tensor",
}

# What each operator means, by name: for devices whose kernels cannot be loaded.
REFERENCES: dict[str, Callable[..., Any]] = {}


class _Definitions(torch.library.Library):
    """The operators; it keeps what they mean at hand, which the dispatcher does not hand out."""

    def impl(self, op_name: Any, fn: Any, dispatch_key: str = "", **options: Any) -> Any:
        if dispatch_key == "CompositeExplicitAutograd":
            REFERENCES[op_name] = fn
        return super().impl(op_name, fn, dispatch_key, **options)


LIBRARY = _Definitions("switchgrad", "DEF")
for _name, _signature in {**SCHEMAS, **FOR_CUDA}.items():
    LIBRARY.define(_name + _signature)


def operator(name: str) -> Callable[..., Any]:
    """The operator itself, found once: looking it up by its name takes a part of each call."""
    return getattr(torch.ops.switchgrad, name).default
