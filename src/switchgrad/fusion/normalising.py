"""What a batch normalisation hands to an operator: a layer, or the arguments of a call, as one table."""

from __future__ import annotations

from typing import Any, TypeAlias

from torch import Tensor, nn

Norm: TypeAlias = "nn.Module | dict[str, Any]"  # a layer, or the arguments of F.batch_norm


def statistics(norm: Norm) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, float]:
    """Mean, variance, scale, shift and eps of a normalisation."""
    if isinstance(norm, dict):
        return tuple(norm[name] for name in ("running_mean", "running_var", "weight", "bias", "eps"))  # pyright: ignore[reportReturnType]
    layer: Any = norm
    return layer.running_mean, layer.running_var, layer.weight, layer.bias, layer.eps


def normalise(norm: Norm, input: Tensor) -> dict[str, Any]:
    """The arguments of ``F.batch_norm`` after ``input``, in its order; a layer in training counts its batch here.

    The rules are those of PyTorch's layer: without ``momentum`` the running statistics are the mean of all batches so
    far, and without running statistics those of the batch serve in evaluation too.
    """
    if isinstance(norm, dict):
        return norm
    layer: Any = norm
    layer._check_input_dim(input)
    kept = layer.running_mean is not None
    momentum = layer.momentum
    if layer.training and layer.track_running_stats and layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        momentum = 1.0 / float(layer.num_batches_tracked) if momentum is None else momentum
    moves = not layer.training or layer.track_running_stats
    return {
        "running_mean": layer.running_mean if moves else None,
        "running_var": layer.running_var if moves else None,
        "weight": layer.weight,
        "bias": layer.bias,
        "training": layer.training or not kept,
        "momentum": 0.0 if momentum is None else momentum,
        "eps": layer.eps,
    }
