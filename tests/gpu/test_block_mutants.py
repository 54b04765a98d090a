"""Kernels for blocks with one thing wrong: the same checks that hold the right ones must tell them apart."""

from __future__ import annotations

from typing import Any

import torch

from declarations.batch_norm import BATCH_NORM_RELU, BATCH_NORM_RELU_MAX_POOL
from declarations.conv_pool import CONV_RELU_MAX_POOL
from declarations.relu_max_pool import RELU_MAX_POOL
from harness.interpreted import GRADIENTS, VALUES, caught, subset
from switchgrad.gpu import max_pool

CHECKS = (VALUES[0], GRADIENTS[0])
SINGLE: dict[str, Any] = {"dtypes": (torch.float32,), "gradient_dtypes": (torch.float32,), "samples": ("plain",)}


def winner_of_dead(right: Any, *args: Any) -> Any:
    return right(*args)[0], max_pool.max_pool(*args)[1]


def not_rectified(right: Any, *args: Any) -> Any:
    return max_pool.max_pool(*args)[0], right(*args)[1]


def empty_window_is_zero(right: Any, *args: Any) -> Any:
    values, codes = right(*args)
    return values.clamp_min(0), codes


def negative_passes(right: Any, input: Any, *window: Any) -> Any:
    return right(input.abs(), *window)


test_relu_max_pool = caught(
    subset(RELU_MAX_POOL, "windows without a cell", "one row", **{**SINGLE, "samples": ("negative", "plain")}),
    CHECKS,
    {
        ("relu_max_pool", "dead windows have a winner"): winner_of_dead,
        ("relu_max_pool", "no ReLU"): not_rectified,
        ("relu_max_pool", "a window without any cell gives 0"): empty_window_is_zero,
        ("relu_max_pool", "the absolute value"): negative_passes,
    },
)


def scaled_gradient(place: int) -> Any:
    def wrong(right: Any, *args: Any) -> Any:
        found = list(right(*args))
        found[place] = found[place] * 1.01
        return tuple(found)

    return wrong


def always_training(
    right: Any, input: Any, weight: Any, bias: Any, mean: Any, var: Any, training: Any, *rest: Any
) -> Any:
    return right(input, weight, bias, mean, var, True, *rest)


def twice_eps(right: Any, *args: Any) -> Any:
    return right(*args[:6], 2 * args[6], *args[7:])


def weight_forgotten(right: Any, input: Any, weight: Any, *rest: Any) -> Any:
    return right(input, None, *rest)


def no_part_in_the_statistics(right: Any, *args: Any) -> Any:
    """Backward as in evaluation: the flag stands behind the statistics."""
    at = next(i for i, value in enumerate(args) if isinstance(value, bool))
    return right(*args[:at], False, *args[at + 1 :])


def mask_forgotten(right: Any, grad: Any, input: Any, weight: Any, bias: Any, *rest: Any) -> Any:
    return right(grad, input, weight, bias + 100, *rest)


test_batch_norm = caught(
    subset(BATCH_NORM_RELU, "plain", "evaluation", **SINGLE),
    CHECKS,
    {
        ("batch_norm_relu", "evaluation takes the batch's statistics"): always_training,
        ("batch_norm_relu", "eps counted twice"): twice_eps,
        ("batch_norm_relu", "weight forgotten"): weight_forgotten,
        ("batch_norm_relu_backward", "no part in mean and variance"): no_part_in_the_statistics,
        ("batch_norm_relu_backward", "the ReLU forgotten"): mask_forgotten,
        ("batch_norm_relu_backward", "gradient of the weight"): scaled_gradient(1),
        ("batch_norm_relu_backward", "gradient of the bias"): scaled_gradient(2),
    },
)


def winner_forgotten(right: Any, grad: Any, input: Any, codes: Any, *rest: Any) -> Any:
    codes = codes.clone()
    codes[..., -1, -1] = 255
    return right(grad, input, codes, *rest)


test_pooled_batch_norm = caught(
    subset(BATCH_NORM_RELU_MAX_POOL, "3x3/1", **SINGLE),
    CHECKS,
    {
        ("batch_norm_relu_max_pool_values", "weight forgotten"): weight_forgotten,
        ("batch_norm_relu_max_pool_backward", "no part in mean and variance"): no_part_in_the_statistics,
        ("batch_norm_relu_max_pool_backward", "a winner forgotten"): winner_forgotten,
        ("batch_norm_relu_max_pool_backward", "gradient of the input"): scaled_gradient(0),
    },
)


def bias_forgotten(right: Any, input: Any, weight: Any, bias: Any, *rest: Any) -> Any:
    return right(input, weight, None, *rest)


def bias_behind_the_relu(right: Any, input: Any, weight: Any, bias: Any, *rest: Any) -> Any:
    values, codes = right(input, weight, None, *rest)
    return values + bias.reshape(-1, 1, 1), codes


def dead_windows_count_for_the_bias(right: Any, grad: Any, *rest: Any) -> Any:
    dx, dw, _ = right(grad, *rest)
    return dx, dw, grad.sum((0, 2, 3))


def shifted_by_a_column(right: Any, *args: Any) -> Any:
    dx, dw, db = right(*args)
    return dx.roll(1, -1), dw, db


test_conv = caught(
    subset(CONV_RELU_MAX_POOL, "asymmetric", **{**SINGLE, "samples": ("ties",)}),
    CHECKS,
    {
        ("conv_max_pool", "bias forgotten"): bias_forgotten,
        ("conv_max_pool", "bias behind the ReLU"): bias_behind_the_relu,
        ("conv_max_pool_backward", "dead windows count for the bias"): dead_windows_count_for_the_bias,
        ("conv_max_pool_backward", "input's gradient a column off"): shifted_by_a_column,
        ("conv_max_pool_backward", "gradient of the weight"): scaled_gradient(1),
    },
)
