"""Every pooling operator used at least once, on small inputs: what is asked of all of them walks through this table.

`tests/export` exports each to ONNX; `tests/ops/test_every_use.py` maps, differentiates, compiles and misuses it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from switchgrad import geometry, ops


@dataclass(frozen=True)
class Use:
    """One call: ``call(*inputs)``, of the operator ``name``; ``note`` tells uses of one operator apart.

    ``refused`` is a part of the sentence with which the export to ONNX is refused; None where it exports.
    ``mapped`` says whether vmap over a new first axis of the first input gives what a loop gives. ``again`` marks the
    same composition of PyTorch's operators over another number of axes: whoever pays by the use may leave it out.
    """

    name: str
    call: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    note: str = ""
    refused: str | None = None
    mapped: bool = True
    again: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of the operator, by name; empty where it is composed

    def __str__(self) -> str:
        return f"{self.name}-{self.note}" if self.note else self.name


SHAPES = {1: (2, 4, 11), 2: (2, 4, 9, 8), 3: (1, 4, 5, 6, 7)}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers, all different."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def use(name: str, *rest: Any, on: Tensor | None = None, note: str = "", **arguments: Any) -> Use:
    """A call of ``ops.name`` whose further tensors, also in lists, are inputs as well; numbers and flags are fixed."""
    chosen = {key: arguments.pop(key) for key in ("refused", "mapped") if key in arguments}
    x = on if on is not None else numbers(*SHAPES[int(name[-2]) if name[-1] == "d" and name[-2].isdigit() else 2])
    places: list[tuple[int, ...]] = [(i,) for i, value in enumerate(rest) if isinstance(value, Tensor)]
    lists = [(i, value) for i, value in enumerate(rest) if isinstance(value, list)]
    places += [(i, j) for i, values in lists for j, value in enumerate(values) if isinstance(value, Tensor)]
    named = [key for key, value in arguments.items() if isinstance(value, Tensor)]

    def call(x: Tensor, *tensors: Tensor) -> Any:
        given, keywords = [list(value) if isinstance(value, list) else value for value in rest], dict(arguments)
        for (i, *inside), tensor in zip(places, tensors, strict=False):
            if inside:
                given[i][inside[0]] = tensor
            else:
                given[i] = tensor
        for key, tensor in zip(named, tensors[len(places) :], strict=True):
            keywords[key] = tensor
        return getattr(ops, name)(x, *given, **keywords)

    held = (rest[i][inside[0]] if inside else rest[i] for i, *inside in places)
    tensors = (*held, *(arguments[key] for key in named))
    bound = inspect.signature(getattr(ops, name)).bind(x, *rest, **arguments).arguments
    return Use(name, call, (x, *tensors), note, arguments=bound, **chosen)


def each(stem: str, *rest: Any, dims: tuple[int, ...] = (1, 2, 3), **arguments: Any) -> list[Use]:
    """The same call in every number of dimensions; windows of volumes are smaller, because their cells add up."""
    small = {"kernel_size": 2} if "kernel_size" in arguments else {}
    return [use(f"{stem}{d}d", *rest, **{**arguments, **(small if d == 3 else {})}) for d in dims]


def flat_first(uses: list[Use]) -> list[Use]:
    """Compositions that are one text in 1, 2 and 3 dimensions: all but the second are there `again`."""
    return [replace(use, again=use.name[-2:] in ("1d", "3d")) for use in uses]


RANDOM = "pooling at random cannot be exported to ONNX"
MAP = numbers(*SHAPES[2])
SIGNAL = numbers(*SHAPES[1])
BOXES = torch.tensor([[0.0, 0.4, 1.0, 6.2, 5.6], [1.0, 1.0, 0.0, 3.0, 7.5], [0.0, 2.5, 2.5, 2.5, 2.5]])
CORNERS = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0], [5.0, 5.0, 6.0, 6.0], [0.5, 0.0, 4.0, 4.0]])
SCORES = torch.tensor([0.8, 0.9, 0.1, 0.85])
TARGET = torch.tensor([1, 0, 3])
HAAR = torch.tensor([0.5, 0.5]), torch.tensor([0.5, -0.5])
STATISTICS = numbers(4, seed=1), numbers(4, seed=2).abs() + 0.5, numbers(4, seed=3), numbers(4, seed=4)
WIDE = {"kernel_size": 3, "stride": 2}


def _in_windows() -> list[Use]:
    """Operators over the same windows, with every form of a window."""
    return [
        *each("max_pool", **WIDE, padding=1),
        *each("max_pool", **WIDE, ceil_mode=True, note="ceil"),
        use("max_pool2d", 3, 2, 1, ceil_mode=True, note="ceil and padding"),
        use("max_pool2d", 3, 2, ((2, 0), (0, 1)), note="asymmetric"),
        use("max_pool2d", 2, 1, ((2, 1), (0, 2)), 2, note="dilated, padding beyond the kernel"),
        use("max_pool2d", 3, 2, "same", note="same"),
        use("max_pool2d", 3, 2, on=numbers(4, 9, 8), note="no batch"),
        use("max_pool2d", 3, 2, 1, on=(10 * MAP).to(torch.int64), note="int64"),
        use("max_pool2d", 3, 2, 1, on=MAP.double(), note="float64"),
        use("max_pool1d", 3, 2, 1, return_indices=True, note="indices"),
        use("max_pool2d", (3, 2), (2, 1), 1, (1, 2), True, True, note="indices"),
        use("max_pool3d", 2, padding=1, return_indices=True, note="indices"),
        use("relu_max_pool2d", 3, 2, 1),
        use("relu_max_pool2d", 3, 2, 1, negative_slope=0.1, note="leaky"),
        *each("avg_pool", **WIDE, padding=1),
        *each("avg_pool", **WIDE, padding=1, ceil_mode=True, note="ceil"),
        *each("avg_pool", **WIDE, padding=1, ceil_mode=True, count_include_pad=False, note="inside"),
        use("avg_pool2d", 3, 2, 1, False, False, note="inside, floor"),
        use("avg_pool2d", 3, 2, 1, True, True, 7, note="divisor"),
        use("avg_pool2d", 3, 2, ((2, 0), (0, 1)), note="asymmetric"),
        use("avg_pool2d", 2, 1, ((2, 1), (0, 2)), dilation=2, count_include_pad=False, note="dilated"),
        use("avg_pool2d", 3, 2, 1, on=MAP.double(), note="float64"),
        *each("sum_pool", **WIDE, padding=1),
        *each("trainable_subsampling", numbers(4, seed=4), numbers(4, seed=5), 3, 2),
        *flat_first(each("lp_pool", 2, **WIDE, padding=1, ceil_mode=True)),
        use("lp_pool2d", 1, 2, note="p 1"),
        use("lp_pool2d", 2.5, 3, 2, note="p 2.5"),
        use("lp_pool2d", float("inf"), 3, 2, note="p inf"),
        use("weighted_avg_pool2d", 3, 2, 1, sigma=0.8),
        use("weighted_avg_pool2d", 3, 2, 1, weights=numbers(3, 3).abs(), ceil_mode=True, note="weights"),
        *flat_first(each("weighted_avg_pool", **WIDE, padding=1, sigma=0.8, dims=(1, 3))),
        *flat_first(each("blur_pool", 3, dims=(1, 3))),
        use("blur_pool2d", 3),
        use("blur_pool2d", 4, padding_mode="zeros", note="zeros"),
        use("blur_pool2d", 5, padding_mode="replicate", note="replicate"),
        *flat_first(each("mixed_pool", 0.3, **WIDE, padding=1)),
        *flat_first([use(f"gated_pool{d}d", numbers(*[2] * d, seed=5), 2, 2, 1) for d in (1, 2, 3)]),
        *flat_first(
            [
                use(f"tree_pool{d}d", numbers(2, *[2] * d, seed=5), numbers(1, *[2] * d, seed=6), 2, 1, 1)
                for d in (1, 2, 3)
            ]
        ),
        *flat_first(each("soft_pool", **WIDE, padding=1, ceil_mode=True)),
        *flat_first([use(f"lip_pool{d}d", numbers(*SHAPES[d], seed=7), 2, 2, 1) for d in (1, 2, 3)]),
        *flat_first(
            [use(f"general_pool{d}d", lambda cells: cells.amax(-1) - cells.amin(-1), 2, 2, 1) for d in (1, 2, 3)]
        ),
        *flat_first(each("max_min_pool", **WIDE, padding=1)),
        *flat_first([use(f"gamma_pool{d}d", 2, on=numbers(*SHAPES[d]).abs() + 0.1) for d in (1, 2, 3)]),
        *flat_first([use(f"weibull_pool{d}d", 2, on=numbers(*SHAPES[d]).abs() + 0.1) for d in (1, 2, 3)]),
        *flat_first(each("stochastic_pool", **WIDE, training=False, note="evaluation")),
        *flat_first(each("max_pool_dropout", **WIDE, training=False, note="evaluation")),
        *flat_first(each("s3_pool", 2, training=False, note="evaluation")),
        use("stochastic_pool2d", 2, note="training", refused=RANDOM, mapped=False),
        use("max_pool_dropout2d", 2, note="training", refused=RANDOM, mapped=False),
        use("s3_pool2d", 2, note="training", refused=RANDOM, mapped=False),
        *(use(f"fractional_max_pool{d}d", 2, 3, refused=RANDOM, mapped=False) for d in (1, 2, 3)),
        use("fractional_max_pool1d", 2, 3, _random_samples=torch.rand(2, 4, 1), note="samples", mapped=False),
        use("fractional_max_pool2d", 2, 3, _random_samples=torch.rand(2, 4, 2), note="samples", mapped=False),
        use("fractional_max_pool3d", 2, 3, _random_samples=torch.rand(1, 4, 3), note="samples", mapped=False),
        use(
            "stochastic_pool2d",
            2,
            samples=torch.rand(2, 4, 4, 4),
            note="samples",
            refused="stochastic pooling by given numbers cannot be exported to ONNX",
            mapped=False,
        ),
        Use("windows", lambda x: ops.windows(x, geometry.window(2, 3, 2, 1)), (MAP,)),
    ]


def _whole_maps() -> list[Use]:
    """Global, adaptive and over time: what makes one size of any."""
    lengths = torch.tensor([7, 11])
    return [
        *each("adaptive_avg_pool", 3),
        *each("adaptive_max_pool", 3),
        use("adaptive_avg_pool2d", (3, 4), on=numbers(2, 4, 9, 8), note="divisible"),
        use("adaptive_avg_pool2d", (None, 12), note="repeated"),
        use("adaptive_max_pool2d", (3, 4), note="divisible"),
        use("adaptive_max_pool2d", (4, 3), return_indices=True, note="indices"),
        use("global_avg_pool"),
        use("global_max_pool"),
        use("global_max_pool", return_indices=True, note="indices"),
        use("global_sum_pool", keepdim=True),
        use("global_avg_pool_linear", numbers(3, 4, seed=2), numbers(3, seed=3)),
        use("global_lp_pool", 3),
        use("gem_pool", 3.0),
        use("gem_pool", torch.tensor([1.0, 2.0, 3.0, 4.0]), note="trained p"),
        *(use(f"{kind}_over_time", lengths=lengths, on=SIGNAL, mapped=False) for kind in ("max", "avg", "sum")),
        use("lp_over_time", 2, mask=SIGNAL[:, 0] > -0.5, on=SIGNAL, mapped=False),
        use("max_over_time", on=SIGNAL, note="no padding"),
        use("k_max_pool", 3, on=SIGNAL),
        use("k_max_pool", 3, return_indices=True, on=SIGNAL.round(), note="ties"),
        use("chunk_max_pool", 3, on=SIGNAL),
        use("k_range_max_pool", 4, on=SIGNAL),
        use("spatial_pyramid_pool"),
        use("spatial_pyramid_pool", (3, 1), "average", note="average"),
        use("vlad", numbers(5, 6, seed=8), on=numbers(2, 7, 6)),
        use("vlad", numbers(5, 6, seed=8), 0.5, on=numbers(2, 7, 6), note="soft"),
        Use(
            "k_means",
            lambda x: ops.k_means(x, 3),
            (numbers(9, 4),),
            refused="k_means cannot be exported to ONNX",
            mapped=False,
        ),
        use("auto_pool", 0.5, on=SIGNAL),
        use("expectation_pool", on=SIGNAL),
        use("expectation_pool", 2.0, True, on=SIGNAL, note="above the mean"),
        use("cluster_pool", numbers(3, 11, seed=9), on=SIGNAL),
        use("auto_pooling_loss", numbers(3, 11, seed=9), on=SIGNAL),
        use("global_entropy_pool"),
        use("group_pool", "p4", on=numbers(2, 3, 4, 5, 5)),
        use("group_pool", "p4m", "mirrors", "mean", on=numbers(2, 3, 8, 5, 5), note="mean"),
        use("maxout"),
        use("loss_max_pool", on=MAP.abs(), mapped=False),
        use("loss_max_weights", 0.3, 1.0, on=MAP.abs(), note="p 1", mapped=False),
        use("loss_max_weights", on=MAP.abs(), mapped=False),
        *flat_first(each("spectral_pool", 4)),
        *flat_first(each("dft_magnitude_pool", 4)),
        *flat_first(each("wavelet_pool")),
        *flat_first(each("wavelet_bands")),
        *flat_first([use(f"ldw_pool{d}d", *HAAR) for d in (1, 2, 3)]),
    ]


def _unpooled() -> list[Use]:
    """Back to larger maps."""
    found = [
        *flat_first(each("avg_unpool", 3, 2, 1)),
        *flat_first(each("nearest_unpool", 2)),
        use("nearest_unpool2d", output_size=(14, 17), note="any size"),
        use("linear_unpool1d", 2),
        use("bilinear_unpool2d", 2),
        use("bilinear_unpool2d", 2, align_corners=True, note="corners"),
        use("trilinear_unpool3d", 2),
    ]
    for d in (1, 2, 3):
        x = numbers(*SHAPES[d])
        pooled, indices = getattr(ops, f"max_pool{d}d")(x, 2, return_indices=True)
        found.append(use(f"max_unpool{d}d", indices, 2, output_size=x.shape, on=pooled))
    overlapping, indices = ops.max_pool2d(MAP, 3, 2, return_indices=True)
    found.append(use("max_unpool2d", indices, 3, 2, output_size=MAP.shape, on=overlapping, note="overlapping"))
    return [
        *found,
        Use(
            "max_unpool2d", lambda x: ops.max_unpool2d(*ops.max_pool2d(x, 2, return_switches=True)), (MAP,), "switches"
        ),
    ]


def _regions() -> list[Use]:
    """Boxes; the number of boxes that stay is not known before."""
    bins = numbers(2, 8, 9, 8)
    many = numbers(40, 4, seed=3).abs().cumsum(1) * 2
    return [
        use("roi_pool", BOXES, 2),
        use("roi_pool", BOXES, (3, 2), 0.5, note="scaled"),
        use("roi_avg_pool", BOXES, 2),
        use("roi_align", BOXES, 2, 0.5),
        use("roi_align", BOXES, (2, 3), 1.0, 2, True, note="aligned"),
        use("ps_roi_pool", BOXES, 2, on=bins),
        use("ps_roi_align", BOXES, 2, 1.0, 2, on=bins),
        use("ps_roi_align", BOXES, 2, on=bins, note="adaptive", refused="give a sampling_ratio above 0"),
        use("nms", SCORES, 0.5, on=CORNERS, mapped=False),
        use("nms", numbers(40, seed=4), 0.3, on=many, note="many", mapped=False),
        use("batched_nms", SCORES, torch.tensor([0, 0, 1, 1]), 0.5, on=CORNERS, mapped=False),
        use("box_area", on=CORNERS),
        use("box_iou", CORNERS.flip(0), on=CORNERS),
        use("generalized_box_iou", CORNERS.flip(0), on=CORNERS),
        use("distance_box_iou", CORNERS.flip(0), on=CORNERS),
    ]


def _fused() -> list[Use]:
    """Pooling with what stands before it."""
    weight, bias = numbers(5, 4, 3, 3, seed=2), numbers(5, seed=3)
    rows = numbers(3, 8, seed=5)
    return [
        use("conv_relu_max_pool2d", weight, bias),
        use("conv_relu_max_pool2d", weight, bias, padding=1, pool_size=3, pool_stride=2, ceil_mode=True, note="ceil"),
        use("conv_relu_max_pool2d", weight, bias, negative_slope=0.1, note="leaky"),
        use("conv_relu_max_pool2d", weight, padding="same", stride=1, note="same"),
        use("conv_max_pool2d", weight, stride=2),
        use("conv2d", weight, bias, padding=1),
        use("conv2d", weight, bias, padding=1, algorithm="winograd2", note="winograd"),
        use("conv_bias_relu", weight, bias, padding=1),
        use("linear", rows, numbers(3), mapped=False),
        use("linear", rows, algorithm="streamed", on=numbers(5, 8), note="streamed", mapped=False),
        use("linear_relu", rows, numbers(3), algorithm="streamed", on=numbers(5, 8), mapped=False),
        use("mlp", [rows, numbers(4, 3, seed=7)], [numbers(3), None], mapped=False),
        use(
            "mlp",
            [numbers(3, 12, seed=5), numbers(4, 3)],
            on=numbers(2, 3, 2, 2),
            flatten=True,
            note="flat",
            mapped=False,
        ),
        use("batch_norm_relu", *STATISTICS),
        use("batch_norm_relu_max_pool2d", *STATISTICS, kernel_size=3, stride=2, padding=1),
        use(
            "batch_norm_relu",
            *STATISTICS,
            training=True,
            note="training",
            refused="batch normalisation in training cannot be exported",
            mapped=False,
        ),
        use("dropout", 0.5, False, note="evaluation"),
        use("dropout", 0.5, note="training", refused="dropout in training cannot be exported", mapped=False),
        use("bias_relu_dropout", numbers(4), 0.5, False, note="evaluation"),
        use("bias_relu_dropout", None, 0.5, note="training", refused="dropout in training cannot", mapped=False),
        use("cross_entropy", TARGET, on=numbers(3, 4), mapped=False),
        use(
            "cross_entropy", torch.tensor([1, 0, 3]), label_smoothing=0.1, on=numbers(3, 4), note="smooth", mapped=False
        ),
        use("cross_entropy_with_gradient", TARGET, label_smoothing=0.1, on=numbers(3, 4), mapped=False),
    ]


USES = (*_in_windows(), *_whole_maps(), *_unpooled(), *_regions(), *_fused())
NOT_POOLING = {"PlacedSwitches", "Switches", "dynamic_k"}  # names of `ops` that pool no tensor
