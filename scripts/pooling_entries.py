"""The table behind docs/pooling.md: one entry an operator. `pooling_docs.py` writes the page and the pictures.

To add an operator, add one `Entry`. What it is comes from the first line of its docstring.

The file is long because it is data: one entry of a few lines after another, in the order of the page, and no code to
follow. Cut in parts it would say the same, and one would have to know where to look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad import geometry, ops

GRID = (1, 1, 4, 4)
SEQUENCE = (1, 1, 1, 8)


@dataclass(frozen=True)
class Entry:
    """A row: the operators it stands for (the documented one first), when to use them, where they are tested.

    ``picture`` pools a small tensor of ``shape``; its result and gradient are drawn.
    ``made`` makes the grid into what the operator takes: numbers above 0, where it takes no others.
    """

    title: str
    names: tuple[str, ...]
    when: str
    test: str
    picture: Callable[[Tensor], Tensor]
    shape: tuple[int, ...] = GRID
    made: Callable[[Tensor], Tensor] = torch.clone


def every(stem: str, *more: str, dims: str = "213") -> tuple[str, ...]:
    """The names of an operator in each number of dimensions, the documented one first."""
    return (*(f"{stem}{d}d" for d in dims), *more)


def above_zero(x: Tensor) -> Tensor:
    """The grid without signs, and without its zeros."""
    return x.abs() + 1


def on_sequence(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """An operator of (N, C, L) for a grid of one row."""
    return lambda x: function(x.squeeze(2)).unsqueeze(2)


def four_boxes(_: Tensor) -> Tensor:
    """Rows of x1, y1, x2, y2: the second and the third overlap the first, the fourth lies apart."""
    return torch.tensor([[[[0.0, 0.0, 4.0, 4.0], [1.0, 0.0, 5.0, 4.0], [0.0, 2.0, 4.0, 6.0], [6.0, 6.0, 8.0, 8.0]]]])


def seeded() -> torch.Generator:
    """The generator of the pictures of random pooling."""
    return torch.Generator().manual_seed(1)


BOX = torch.tensor([[0.0, 0.0, 0.0, 3.0, 2.0]])
CORNERS = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])  # leaves: the first cell, the last cell
PAIRS = torch.tensor([[9.0, 9.0, 0.0, 0.0], [0.0, 0.0, 9.0, 9.0]])  # clusters: the first two features, the last two
EDGES = torch.tensor([[[[0.0, 0.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]]])
CENTRES = torch.tensor([[4.0, 8.0, 2.0, 4.0], [2.0, 4.0, 2.0, 0.0]])  # of rows of the grid as descriptors
BINS_READ = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1)  # one channel a bin: the grid times 1, 2, 3, 4
TESTS = "tests/ops"

ENTRIES = (
    Entry(
        "Max",
        every("max_pool"),
        "The default between convolutions: keeps the strongest response, forgives small shifts.",
        f"{TESTS}/test_max_pool.py",
        lambda x: ops.max_pool2d(x, 2),
    ),
    Entry(
        "ReLU and max in one",
        ("relu_max_pool2d",),
        "After a convolution whose ReLU nobody else reads: one pass instead of two.",
        f"{TESTS}/test_relu_max_pool.py",
        lambda x: ops.relu_max_pool2d(x, 2),
    ),
    Entry(
        "Convolution, ReLU and max in one",
        ("conv_relu_max_pool2d", "conv_max_pool2d"),
        "The usual block of a small network, trained on a CPU.",
        f"{TESTS}/test_conv_pool.py",
        lambda x: ops.conv_relu_max_pool2d(x, EDGES, padding=1),
    ),
    Entry(
        "Average",
        every("avg_pool"),
        "Smooth maps, the end of a block, wherever every cell should take part.",
        f"{TESTS}/test_avg_pool.py",
        lambda x: ops.avg_pool2d(x, 2),
    ),
    Entry(
        "Sum",
        every("sum_pool"),
        "Counts and densities; a building block of weighted and Lp pooling.",
        f"{TESTS}/test_avg_pool.py",
        lambda x: ops.sum_pool2d(x, 2),
    ),
    Entry(
        "Adaptive average",
        every("adaptive_avg_pool"),
        "Inputs of any size before a dense layer of fixed size.",
        f"{TESTS}/test_avg_pool.py",
        lambda x: ops.adaptive_avg_pool2d(x, 3),
    ),
    Entry(
        "Adaptive max",
        every("adaptive_max_pool"),
        "As the adaptive average, where the strongest response counts.",
        f"{TESTS}/test_adaptive_max_pool.py",
        lambda x: ops.adaptive_max_pool2d(x, 3),
    ),
    Entry(
        "Lp (L1, L2, fractional)",
        every("lp_pool"),
        "Between average and max; L2 for energies, magnitudes and textures.",
        f"{TESTS}/test_lp_pool.py",
        lambda x: ops.lp_pool2d(x, 2, 2),
    ),
    Entry(
        "Global average",
        ("global_avg_pool",),
        "The usual end of a classifier: one number a map, no dense layers.",
        f"{TESTS}/test_global_pool.py",
        lambda x: ops.global_avg_pool(x, keepdim=True),
    ),
    Entry(
        "Global max",
        ("global_max_pool",),
        "Is the feature anywhere in the picture?",
        f"{TESTS}/test_global_pool.py",
        lambda x: ops.global_max_pool(x, keepdim=True),
    ),
    Entry(
        "Global sum",
        ("global_sum_pool",),
        "Counting: density maps, crowds, cells.",
        f"{TESTS}/test_global_pool.py",
        lambda x: ops.global_sum_pool(x, keepdim=True),
    ),
    Entry(
        "Global Lp",
        ("global_lp_pool",),
        "The energy of a map.",
        f"{TESTS}/test_global_pool.py",
        lambda x: ops.global_lp_pool(x, 2, keepdim=True),
    ),
    Entry(
        "Generalised mean (GeM)",
        ("gem_pool",),
        "Image retrieval: a trained power between the mean and the maximum.",
        f"{TESTS}/test_global_pool.py",
        lambda x: ops.gem_pool(x, 3.0, keepdim=True),
    ),
    Entry(
        "Weighted average",
        every("weighted_avg_pool"),
        "Averages that trust the centre of the window most.",
        f"{TESTS}/test_weighted_pool.py",
        lambda x: ops.weighted_avg_pool2d(x, 3, 2, 1, sigma=0.8),
    ),
    Entry(
        "Blur (anti-aliased)",
        every("blur_pool"),
        "Where small shifts of the picture should not change the answer.",
        f"{TESTS}/test_weighted_pool.py",
        lambda x: ops.blur_pool2d(x, 3),
    ),
    Entry(
        "Trainable subsampling",
        every("trainable_subsampling"),
        "LeNet-5 as it was published, and wherever two numbers a map should be learned.",
        "tests/nn/test_subsampling.py",
        lambda x: ops.trainable_subsampling2d(x, torch.tensor([0.5]), torch.tensor([1.0])),
    ),
    Entry(
        "Over time: max, average, sum, Lp",
        ("max_over_time", "avg_over_time", "sum_over_time", "lp_over_time"),
        "Texts and signals of different lengths: padding does not count.",
        f"{TESTS}/test_sequence_pool.py",
        on_sequence(lambda x: ops.max_over_time(x, lengths=torch.tensor([5])).unsqueeze(-1)),
        SEQUENCE,
    ),
    Entry(
        "k-max",
        ("k_max_pool", "dynamic_k"),
        "Sentences: the strongest k responses, in their order.",
        f"{TESTS}/test_sequence_pool.py",
        lambda x: ops.k_max_pool(x, 3, return_indices=True)[0],
        SEQUENCE,
    ),
    Entry(
        "Chunks and ranges",
        ("chunk_max_pool", "k_range_max_pool"),
        "Whether, and roughly when, a feature was there.",
        f"{TESTS}/test_sequence_pool.py",
        on_sequence(lambda x: ops.chunk_max_pool(x, 3)),
        SEQUENCE,
    ),
    Entry(
        "Spatial pyramid",
        ("spatial_pyramid_pool",),
        "Pictures of any size before dense layers, with a rough idea of where.",
        f"{TESTS}/test_pyramid_pool.py",
        lambda x: ops.spatial_pyramid_pool(x, (2, 1)),
    ),
    Entry(
        "Orderless (VLAD, MOP-CNN)",
        ("vlad", "k_means"),
        "Scenes and retrieval: what is there, not where; `nn.OrderlessPool` has the three levels.",
        f"{TESTS}/test_pyramid_pool.py",
        lambda x: ops.vlad(x[0], CENTRES, normalise=False).reshape(1, 1, 2, 4),
    ),
    Entry(
        "Stochastic",
        every("stochastic_pool"),
        "Regularisation of large networks on few data.",
        f"{TESTS}/test_stochastic.py",
        lambda x: ops.stochastic_pool2d(x, 2, generator=seeded()),
        made=torch.abs,
    ),
    Entry(
        "Max-pooling dropout",
        every("max_pool_dropout"),
        "Dropout that reaches the winners of max pooling.",
        f"{TESTS}/test_stochastic.py",
        lambda x: ops.max_pool_dropout2d(x, 2, generator=seeded()),
        made=torch.abs,
    ),
    Entry(
        "Fractional max",
        every("fractional_max_pool"),
        "Many gentle reductions, by a factor below 2.",
        f"{TESTS}/test_placed.py",
        lambda x: ops.fractional_max_pool2d(x, 2, 3, generator=seeded()),
    ),
    Entry(
        "S3",
        every("s3_pool"),
        "Distorts the grid at random: augmentation inside the network.",
        f"{TESTS}/test_placed.py",
        lambda x: ops.s3_pool2d(x, 2, generator=seeded()),
    ),
    Entry(
        "Mixed max and average",
        every("mixed_pool"),
        "Unsure between max and average: let training decide.",
        f"{TESTS}/test_mixed.py",
        lambda x: ops.mixed_pool2d(x, 0.5, 2),
    ),
    Entry(
        "Gated max and average",
        every("gated_pool"),
        "As mixed, decided anew in every window.",
        f"{TESTS}/test_mixed.py",
        lambda x: ops.gated_pool2d(x, torch.full((2, 2), 0.1), 2),
    ),
    Entry(
        "Tree",
        every("tree_pool"),
        "Learned linear filters in place of max or average.",
        f"{TESTS}/test_mixed.py",
        lambda x: ops.tree_pool2d(x, CORNERS, torch.zeros(1, 2, 2), 2),
    ),
    Entry(
        "SoftPool",
        every("soft_pool"),
        "Keeps detail that max loses; every cell gets a gradient.",
        f"{TESTS}/test_attention.py",
        lambda x: ops.soft_pool2d(x, 2),
    ),
    Entry(
        "Local importance",
        every("lip_pool"),
        "Detection, where what matters in a window must be learned.",
        f"{TESTS}/test_attention.py",
        lambda x: ops.lip_pool2d(x, x.detach().flip(-1), 2),
    ),
    Entry(
        "Any function",
        every("general_pool"),
        "Research: a pooling of your own in one line.",
        f"{TESTS}/test_attention.py",
        lambda x: ops.general_pool2d(x, lambda cells: cells.amax(-1) - cells.amin(-1), 2),
    ),
    Entry(
        "AutoPool",
        ("auto_pool",),
        "Events in weakly labelled recordings.",
        f"{TESTS}/test_sequences.py",
        on_sequence(lambda x: ops.auto_pool(x, 0.5).unsqueeze(-1)),
        SEQUENCE,
    ),
    Entry(
        "Expectation",
        ("expectation_pool",),
        "Motifs in long sequences, where the maximum overfits.",
        f"{TESTS}/test_sequences.py",
        on_sequence(lambda x: ops.expectation_pool(x).unsqueeze(-1)),
        SEQUENCE,
    ),
    Entry(
        "Soft clusters of features",
        ("cluster_pool", "auto_pooling_loss"),
        "Learns from image sequences, without labels, which features belong together.",
        f"{TESTS}/test_sequences.py",
        lambda x: ops.cluster_pool(x, PAIRS),
    ),
    Entry(
        "Spectral",
        every("spectral_pool"),
        "Any output size with the least loss of the picture: the low frequencies stay.",
        f"{TESTS}/test_spectral.py",
        lambda x: ops.spectral_pool2d(x, 2),
    ),
    Entry(
        "DFT magnitudes",
        every("dft_magnitude_pool"),
        "Features that no translation changes, before a classifier.",
        f"{TESTS}/test_spectral.py",
        lambda x: ops.dft_magnitude_pool2d(x, 2),
    ),
    Entry(
        "Wavelet",
        every("wavelet_pool", *every("wavelet_bands")),
        "Half the size without the aliasing of skipped cells.",
        f"{TESTS}/test_spectral.py",
        lambda x: ops.wavelet_pool2d(x),
    ),
    Entry(
        "Learned wavelet (LDW)",
        every("ldw_pool"),
        "Wavelet pooling whose filters and bands are trained.",
        f"{TESTS}/test_spectral.py",
        lambda x: ops.ldw_pool2d(x, torch.tensor([0.5, 0.5]), torch.tensor([0.5, -0.5])),
    ),
    Entry(
        "Global entropy",
        ("global_entropy_pool",),
        "In place of global average pooling, where how much a map tells counts more than how strong it is.",
        f"{TESTS}/test_statistical.py",
        lambda x: ops.global_entropy_pool(x)[..., None, None],
    ),
    Entry(
        "Gamma",
        every("gamma_pool"),
        "Positive activations described by the parameters of a distribution.",
        f"{TESTS}/test_statistical.py",
        lambda x: ops.gamma_pool2d(x, 2),
        made=above_zero,
    ),
    Entry(
        "Weibull",
        every("weibull_pool"),
        "As Gamma, for activations with heavier or lighter tails.",
        f"{TESTS}/test_statistical.py",
        lambda x: ops.weibull_pool2d(x, 2),
        made=above_zero,
    ),
    Entry(
        "Max and min",
        every("max_min_pool"),
        "Where strong negative responses tell as much as positive ones.",
        f"{TESTS}/test_statistical.py",
        lambda x: ops.max_min_pool2d(x, 2),
    ),
    Entry(
        "Batch norm, ReLU and max in one",
        ("batch_norm_relu_max_pool2d",),
        "Networks with batch normalisation, trained on a CPU.",
        f"{TESTS}/test_batch_norm.py",
        lambda x: ops.batch_norm_relu_max_pool2d(x, None, None, training=True),
    ),
    Entry(
        "RoI max",
        ("roi_pool",),
        "Fast R-CNN: a fixed grid for every proposed box.",
        f"{TESTS}/test_regions.py",
        lambda x: ops.roi_pool(x, BOX, 2),
    ),
    Entry(
        "RoI average",
        ("roi_avg_pool",),
        "As RoI max, smoother.",
        f"{TESTS}/test_regions.py",
        lambda x: ops.roi_avg_pool(x, BOX, 2),
    ),
    Entry(
        "RoIAlign",
        ("roi_align",),
        "Masks and small boxes, where rounding to cells costs accuracy.",
        f"{TESTS}/test_regions.py",
        lambda x: ops.roi_align(x, BOX, 2),
    ),
    Entry(
        "Position-sensitive RoI",
        ("ps_roi_pool", "ps_roi_align"),
        "R-FCN: the head is a convolution, and each bin has channels of its own.",
        f"{TESTS}/test_regions.py",
        lambda x: ops.ps_roi_pool(x * BINS_READ, BOX, 2),
    ),
    Entry(
        "Overlap of boxes: IoU, GIoU, DIoU",
        ("box_iou", "generalized_box_iou", "distance_box_iou", "box_area"),
        "Matching proposed boxes to true ones, and, as 1 less an overlap, the loss of a box. The picture's rows are "
        "boxes.",
        f"{TESTS}/test_boxes.py",
        lambda x: ops.box_iou(x[0, 0], x[0, 0].detach()),
        made=four_boxes,
    ),
    Entry(
        "Non-maximum suppression",
        ("nms", "batched_nms"),
        "The end of a detector: of boxes that overlap, the one with the highest score stays. The picture's rows are "
        "boxes, their scores falling.",
        f"{TESTS}/test_boxes.py",
        lambda x: x[0, 0][ops.nms(x[0, 0], torch.tensor([0.9, 0.8, 0.7, 0.6]), 0.4)],
        made=four_boxes,
    ),
    Entry(
        "Max unpooling",
        every("max_unpool"),
        "Decoders and DeconvNet: back to where the winners lay.",
        f"{TESTS}/test_max_unpool.py",
        lambda x: ops.max_unpool2d(*ops.max_pool2d(x, 2, return_switches=True)),
    ),
    Entry(
        "Average unpooling",
        every("avg_unpool"),
        "Decoders after average pooling: back to a map with these averages.",
        f"{TESTS}/test_unpooling.py",
        lambda x: ops.avg_unpool2d(x[..., :2, :2], 2),
    ),
    Entry(
        "Nearest unpooling",
        every("nearest_unpool"),
        "Enlarging without new values: each cell repeats its pooled value.",
        f"{TESTS}/test_unpooling.py",
        lambda x: ops.nearest_unpool2d(x[..., :2, :2], 2),
    ),
    Entry(
        "Linear, bilinear and trilinear unpooling",
        ("bilinear_unpool2d", "linear_unpool1d", "trilinear_unpool3d"),
        "Smooth enlarging in decoders and segmentation.",
        f"{TESTS}/test_unpooling.py",
        lambda x: ops.bilinear_unpool2d(x[..., :2, :2], 2),
    ),
    Entry(
        "Group",
        ("group_pool",),
        "The end of a group-equivariant network: what is left does not turn with the picture.",
        f"{TESTS}/test_grouped.py",
        lambda x: ops.group_pool(x.reshape(1, 1, 4, 1, 4), "p4").reshape(1, 4),  # rows stand for turns
    ),
    Entry(
        "Loss max",
        ("loss_max_pool", "loss_max_weights"),
        "Segmentation with rare classes: hard pixels count more.",
        f"{TESTS}/test_grouped.py",
        lambda x: ops.loss_max_pool(x, 0.25, 2.0).reshape(1, 1),
        made=torch.abs,
    ),
    Entry(
        "Maxout",
        ("maxout",),
        "Pooling over channels: a learned piecewise linear activation.",
        f"{TESTS}/test_grouped.py",
        lambda x: ops.maxout(x.reshape(1, 4, 1, 4)).reshape(2, 4),  # rows stand for channels
    ),
    Entry(
        "The windows themselves",
        ("windows",),
        "Every window's cells along an axis, for whatever comes next.",
        f"{TESTS}/test_attention.py",
        lambda x: ops.windows(x, geometry.window(2, 2)).flatten(2, 3),
    ),
)

# What `switchgrad.ops` exports besides pooling.
NOT_POOLING = frozenset(
    (
        "PlacedSwitches",
        "Switches",
        "batch_norm_relu",
        "bias_relu_dropout",
        "conv2d",
        "conv_bias_relu",
        "cross_entropy",
        "cross_entropy_with_gradient",
        "dropout",
        "global_avg_pool_linear",
        "linear",
        "linear_relu",
        "mlp",
    )
)
