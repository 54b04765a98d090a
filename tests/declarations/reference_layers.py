"""What each written-out layer of `switchgrad.reference` says about itself: its arguments, and PyTorch's counterpart."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.written_out import Written, seeded
from switchgrad import ops
from switchgrad import reference as ref

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def bits(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator).double()


# Convolutions: x, w and b, then the settings. Odd sizes, strides unlike the kernel, cells that no window sees.
CONVOLUTIONS: dict[str, tuple[tuple[tuple[int, ...], ...], dict[str, Any]]] = {
    "1d": (((2, 3, 9), (4, 3, 3), (4,)), {}),
    "1d stride 3, two cells unseen": (((2, 1, 11), (2, 1, 3), (2,)), {"stride": 3}),
    "1d padded by all but one, dilation 2": (((1, 2, 5), (2, 2, 3), (2,)), {"padding": 4, "dilation": 2}),
    "2d": (((2, 3, 5, 6), (4, 3, 3, 2), (4,)), {}),
    "2d one cell": (((2, 3, 1, 1), (4, 3, 1, 1), (4,)), {}),
    "2d stride, padding": (((2, 2, 6, 7), (3, 2, 3, 3), (3,)), {"stride": (2, 3), "padding": (1, 2)}),
    "2d stride longer than the kernel": (((1, 2, 9, 8), (3, 2, 2, 1), (3,)), {"stride": (4, 3)}),
    "2d dilation, groups": (((2, 4, 6, 5), (6, 2, 2, 2), (6,)), {"dilation": (2, 3), "groups": 2}),
    "2d everything": (
        ((2, 4, 8, 7), (6, 2, 3, 2), (6,)),
        {"stride": (3, 2), "padding": ((2, 0), (1, 2)), "dilation": (1, 2), "groups": 2},
    ),
    "2d same": (((1, 2, 5, 6), (3, 2, 3, 2), (3,)), {"padding": "same", "stride": 2}),
    "3d": (((1, 2, 3, 4, 3), (2, 2, 2, 3, 2), (2,)), {"stride": (1, 2, 1), "padding": (0, 1, 1)}),
    "3d groups": (((1, 2, 2, 3, 2), (4, 1, 2, 2, 1), (4,)), {"groups": 2}),
}


def conv(x: Tensor, w: Tensor, b: Tensor, padding: Any = 0, **settings: Any) -> Tensor:
    """PyTorch's convolution, with a padding for each side."""
    if padding == "same":
        totals = [max((-(-h // 2) - 1) * 2 + r - h, 0) for h, r in zip(x.shape[2:], w.shape[2:], strict=True)]
        padding = tuple((t // 2, t - t // 2) for t in totals)
    axes = padding if isinstance(padding, tuple) else (padding,) * (x.dim() - 2)
    pairs = [p if isinstance(p, tuple) else (p, p) for p in axes]
    return CONV[x.dim() - 2](F.pad(x, [side for pair in reversed(pairs) for side in pair]), w, b, **settings)


TRANSPOSED: dict[str, tuple[tuple[tuple[int, ...], ...], dict[str, Any]]] = {
    "1d": (((2, 3, 4), (3, 2, 3), (2,)), {"stride": 2, "output_padding": 1}),
    "2d": (((2, 2, 3, 2), (2, 3, 3, 2), (3,)), {"stride": (2, 1), "padding": (1, 1)}),
    "2d groups, dilation": (((1, 4, 2, 3), (4, 1, 2, 2), (2,)), {"groups": 2, "dilation": 2, "padding": 1}),
    "3d": (((1, 2, 2, 1, 2), (2, 1, 2, 3, 2), (1,)), {"stride": 2}),
}

POOLINGS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "1d": ((2, 2, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "2d": ((2, 2, 4, 6), {"kernel_size": 2}),
    "2d overlapping": ((2, 2, 7, 7), {"kernel_size": 3, "stride": 2}),
    "2d ceil": ((1, 2, 5, 6), {"kernel_size": 2, "ceil_mode": True}),
    "2d dilation": ((1, 2, 6, 6), {"kernel_size": 2, "stride": 1, "dilation": 2}),
    "3d": ((1, 2, 4, 2, 4), {"kernel_size": 2}),
}


def fractional(x: Tensor, pool: Any = ops.fractional_max_pool2d, **settings: Any) -> Any:
    corner = torch.full((len(x), x.shape[1], 2), 0.6, dtype=x.dtype)
    return pool(x, 2, output_size=(4, 3), _random_samples=corner, **settings)


def drawn(x: Tensor, pool: Any, **settings: Any) -> Any:
    """A pooling with chance in it, which draws the same each time."""
    return pool(x, 2, generator=seeded("drawn"), **settings)


# Name: our operator, which can tell its switches; and PyTorch's, where it has one, else ours on the tape.
SWITCHED: dict[str, tuple[Any, Any]] = {
    "max": (partial(ops.max_pool2d, kernel_size=3, stride=2), partial(F.max_pool2d, kernel_size=3, stride=2)),
    "relu max": (partial(ops.relu_max_pool2d, kernel_size=2), lambda x: F.max_pool2d(F.relu(x), 2)),
    "fractional": (fractional, partial(fractional, pool=F.fractional_max_pool2d)),
    "stochastic": (partial(drawn, pool=ops.stochastic_pool2d), None),
    "max-pooling dropout": (partial(drawn, pool=ops.max_pool_dropout2d), None),
}


def locally_connected(x: Tensor, w: Tensor, b: Tensor, **settings: Any) -> Tensor:
    """A filter for each place of ``F.unfold``'s columns; a signal is a picture of one row."""
    if x.dim() == 3:
        w, b = w.unsqueeze(0).unsqueeze(4), b.unsqueeze(1)
        return locally_connected(x.unsqueeze(2), w, b, **{k: (1, v) for k, v in settings.items()}).squeeze(2)
    columns = F.unfold(x, tuple(w.shape[4:]), **settings)
    return torch.einsum("pkq,nqp->nkp", w.flatten(0, 1).flatten(2), columns).unflatten(2, b.shape[1:]) + b


def local_contrast(x: Tensor, kernel_size: int, epsilon: float = 1e-4) -> Tensor:
    """Jarrett et al., with ``F.conv2d`` for the Gaussian window."""
    away = torch.arange(kernel_size, dtype=x.dtype) - kernel_size // 2
    bell = torch.exp(-(away**2) / (2 * (kernel_size / 4) ** 2))
    kernel = (bell[:, None] * bell).expand(1, x.shape[1], -1, -1)

    def mean(maps: Tensor) -> Tensor:
        return F.conv2d(maps, kernel, padding="same") / F.conv2d(torch.ones_like(maps), kernel, padding="same")

    v = x - mean(x)
    sigma = mean(v * v).clamp_min(epsilon**2).sqrt()
    return v / torch.maximum(sigma, sigma.mean((2, 3), keepdim=True))


def batch_norm_arguments(generator: torch.Generator, *shape: int) -> tuple[Tensor, ...]:
    return 3 * normal(generator, *shape) + 2, normal(generator, shape[1]), normal(generator, shape[1])


def evaluation_arguments(generator: torch.Generator) -> tuple[Tensor, ...]:
    return (*batch_norm_arguments(generator, 2, 3, 4, 2), normal(generator, 3), normal(generator, 3).exp())


def batch_norm(z: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return F.batch_norm(z, None, None, gamma, beta, training=True)


def classes(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return 2 * normal(generator, 5, 4), torch.randint(0, 4, (5,), generator=generator)


def embeddings(generator: torch.Generator) -> tuple[Tensor, ...]:
    return tuple(F.normalize(normal(generator, 6, 3)) for _ in range(3))


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b) ** 2).sum(1)


def contrastive(a: Tensor, b: Tensor, same: Tensor) -> Tensor:
    d = F.pairwise_distance(a, b, eps=0)
    return (same * d**2 + (1 - same) * F.relu(1 - d) ** 2).mean() / 2


KINKS = torch.tensor([[-2.0, -0.0, 0.0, 1.5], [0.0, 3.0, -1.0, 0.0]], dtype=torch.float64)
EXTREMES = torch.tensor([[-1000.0, 1000.0, 0.5, 0.0], [30.0, -40.0, 700.0, -700.0]], dtype=torch.float64)


def activations(name: str, layer: Any, peer: Any, *shapes: tuple[int, ...]) -> list[Written]:
    """On normal numbers, at 0, and far out; ``shapes`` are those of parameters."""

    def at(x: Tensor) -> Any:
        return lambda generator: (x, *(normal(generator, *shape) for shape in shapes))

    return [
        Written(name, layer, peer, shapes=((3, 4, 2), *shapes)),
        Written(f"{name} at 0", layer, peer, arguments=at(KINKS), kink=True),
        Written(f"{name} far out", layer, peer, arguments=at(EXTREMES), kink=True),
    ]


def every_layer() -> list[Written]:
    found = [
        Written(f"{kind.__name__} {name}", kind(**settings), partial(conv, **settings), shapes)
        for kind, (name, (shapes, settings)) in itertools.product(
            (ref.Convolution, ref.ConvolutionIm2col), CONVOLUTIONS.items()
        )
    ]
    found += [
        Written(
            f"TransposedConvolution {name}",
            ref.TransposedConvolution(**settings),
            partial(CONV_TRANSPOSE[len(shapes[0]) - 2], **settings),
            shapes,
        )
        for name, (shapes, settings) in TRANSPOSED.items()
    ]
    found += [
        Written(
            f"MaxPool {name}", ref.MaxPool(**settings), partial(MAX_POOL[len(shape) - 2], **settings), shapes=(shape,)
        )
        for name, (shape, settings) in POOLINGS.items()
    ]
    found += [
        Written(
            f"AveragePool {name}",
            ref.AveragePool(**settings),
            partial((F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(shape) - 3], **settings),
            shapes=(shape,),
        )
        for name, (shape, settings) in POOLINGS.items()
        if "dilation" not in settings
    ]
    found += [
        *(
            Written(
                f"LpPool {p}",
                ref.LpPool(p, 3, 2),
                partial(lambda p, x: F.avg_pool2d(x.abs() ** p, 3, 2, divisor_override=1) ** (1 / p), p),
                ((2, 3, 7, 6),),
            )
            for p in (1, 2, 3.5)
        ),
        Written(
            "AveragePool of the cells inside",
            ref.AveragePool(3, 2, 1, count_include_pad=False),
            partial(F.avg_pool2d, kernel_size=3, stride=2, padding=1, count_include_pad=False),
            shapes=((2, 3, 7, 6),),
        ),
        Written(
            "AveragePool as a sum",
            ref.AveragePool(3, 2, divisor=1),
            partial(F.avg_pool2d, kernel_size=3, stride=2, divisor_override=1),
            shapes=((2, 3, 7, 6),),
        ),
    ]
    found += [
        Written(
            f"SwitchPool {name}", ref.SwitchPool(partial(pool, return_switches=True)), peer or pool, ((2, 3, 7, 6),)
        )
        for name, (pool, peer) in SWITCHED.items()
    ]
    found += [
        Written(
            "PointwiseConvolution",
            ref.PointwiseConvolution(),
            lambda x, w, b: F.conv2d(x, w[..., None, None], b),
            ((2, 3, 4, 2), (5, 3), (5,)),
        ),
        Written(
            "DepthwiseConvolution",
            ref.DepthwiseConvolution(stride=2, padding=1),
            lambda x, w, b: F.conv2d(x, w, b, 2, 1, groups=3),
            ((2, 3, 5, 6), (6, 1, 3, 2), (6,)),
        ),
        Written(
            "LocallyConnected 2d",
            ref.LocallyConnected(stride=(2, 1), padding=1, dilation=(1, 2)),
            partial(locally_connected, stride=(2, 1), padding=1, dilation=(1, 2)),
            ((2, 2, 5, 6), (3, 6, 3, 2, 3, 2), (3, 3, 6)),
        ),
        Written(
            "LocallyConnected 1d",
            ref.LocallyConnected(stride=2),
            partial(locally_connected, stride=2),
            ((2, 2, 7), (3, 4, 2, 3), (4, 3)),
        ),
        Written("Linear", ref.Linear(), F.linear, ((4, 3), (5, 3), (5,))),
        *activations("Sigmoid", ref.Sigmoid(), torch.sigmoid),
        *activations("Tanh", ref.Tanh(), torch.tanh),
        *activations("ReLU", ref.ReLU(), F.relu),
        *activations("LeakyReLU", ref.LeakyReLU(0.2), partial(F.leaky_relu, negative_slope=0.2)),
        *activations("PReLU", ref.PReLU(), F.prelu, (4,)),
        *activations("ELU", ref.ELU(1.3), partial(F.elu, alpha=1.3)),
        *activations("Softmax", ref.Softmax(), partial(F.softmax, dim=1)),
        Written(
            "Maxout",
            ref.Maxout(),
            lambda x, W, b: torch.stack([F.linear(x, *piece) for piece in zip(W, b, strict=True)]).max(0).values,
            ((4, 3), (3, 5, 3), (3, 5)),
        ),
        Written(
            "BatchNorm of units",
            ref.BatchNorm(),
            batch_norm,
            arguments=partial(lambda shape, g: batch_norm_arguments(g, *shape), (6, 3)),
            batched=(),
        ),
        Written(
            "BatchNorm of maps",
            ref.BatchNorm(),
            batch_norm,
            arguments=partial(lambda shape, g: batch_norm_arguments(g, *shape), (2, 3, 4, 2)),
            batched=(),
        ),
        Written(
            "BatchNormEvaluation",
            ref.BatchNormEvaluation(),
            lambda z, gamma, beta, mu, variance: F.batch_norm(z, mu.detach(), variance.detach(), gamma, beta),
            arguments=evaluation_arguments,
        ),
        *(
            Written(
                f"LocalResponseNorm {n}",
                ref.LocalResponseNorm(n, 0.5, 0.75, 2.0),
                partial(F.local_response_norm, size=n, alpha=0.5, beta=0.75, k=2.0),
                shapes=((2, 6, 3, 2),),
            )
            for n in (1, 4, 5)
        ),
        Written("LocalContrastNorm", ref.LocalContrastNorm(5), partial(local_contrast, kernel_size=5), ((2, 3, 7, 6),)),
        Written("UnitLength", ref.UnitLength(), F.normalize, ((4, 3),)),
        Written(
            "Dropout",
            ref.Dropout(0.3),
            lambda x, mask: x * mask / 0.7,
            arguments=lambda g: (normal(g, 4, 5), bits(g, 4, 5)),
            batched=(0, 1),
        ),
        Written(
            "SpatialDropout",
            ref.SpatialDropout(0.3),
            lambda x, mask: x * mask[:, :, None, None] / 0.7,
            arguments=lambda g: (normal(g, 4, 5, 2, 3), bits(g, 4, 5)),
            batched=(0, 1),
        ),
        Written(
            "DropConnect",
            ref.DropConnect(0.3),
            lambda a, W, b, M, m: torch.stack([*map(F.linear, a, W * M / 0.7, b * m / 0.7)]),
            arguments=lambda g: (*(normal(g, *s) for s in ((4, 3), (5, 3), (5,))), bits(g, 4, 5, 3), bits(g, 4, 5)),
            batched=(0, 3, 4),
        ),
        Written("Flatten", ref.Flatten(), partial(torch.flatten, start_dim=1), ((2, 3, 2, 4),)),
        Written("Add", ref.Add(), torch.add, ((2, 3, 4), (2, 3, 4)), batched=(0, 1)),
        Written(
            "Concat",
            ref.Concat(),
            lambda *inputs: torch.cat(inputs, 1),
            ((2, 3, 4), (2, 1, 4), (2, 2, 4)),
            batched=(0, 1, 2),
        ),
        Written(
            "SquaredError",
            ref.SquaredError(),
            lambda yhat, y: F.mse_loss(yhat, y, reduction="sum") / 6,
            arguments=lambda g: (normal(g, 3, 4), normal(g, 3, 4)),
            batched=(),
        ),
        Written("CrossEntropy", ref.CrossEntropy(), F.cross_entropy, arguments=classes, batched=()),
        Written(
            "CrossEntropy far out",
            ref.CrossEntropy(),
            F.cross_entropy,
            arguments=lambda g: (EXTREMES, torch.tensor([3, 1])),
            kink=True,
            batched=(),
        ),
        Written(
            "BinaryCrossEntropy",
            ref.BinaryCrossEntropy(),
            F.binary_cross_entropy_with_logits,
            arguments=lambda g: (normal(g, 4, 3), torch.rand(4, 3, generator=g, dtype=torch.float64)),
            batched=(),
        ),
        Written(
            "BinaryCrossEntropy far out",
            ref.BinaryCrossEntropy(),
            F.binary_cross_entropy_with_logits,
            arguments=lambda g: (EXTREMES, bits(g, 2, 4)),
            kink=True,
            batched=(),
        ),
        Written("Hinge", ref.Hinge(), lambda s, y: 4 * F.multi_margin_loss(s, y), arguments=classes, batched=()),
        Written(
            "Triplet",
            ref.Triplet(),
            partial(F.triplet_margin_with_distance_loss, distance_function=squared_distance, margin=0.2),
            arguments=embeddings,
            batched=(),
        ),
        Written(
            "Contrastive",
            ref.Contrastive(),
            contrastive,
            arguments=lambda g: (0.5 * normal(g, 8, 3), 0.5 * normal(g, 8, 3), bits(g, 8)),
            batched=(),
        ),
    ]
    return found


LAYERS = {case.name: case for case in every_layer()}
