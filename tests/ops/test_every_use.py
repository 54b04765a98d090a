"""Every pooling operator under PyTorch's transforms, on other devices, in other precisions and with wrong arguments.

Each gives what it gives in eager execution, or refuses with the sentence in `REFUSALS`; no crash, no other number, no
message from inside PyTorch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, func, nn

from every_pooling import USES, Use
from switchgrad import ops
from switchgrad.errors import SwitchgradError

ONCE = [use for use in USES if not use.again]  # the others are the same composition over other axes

Check = Callable[[Use], None]
RANDOM = tuple(f"fractional_max_pool{d}d" for d in (1, 2, 3))  # and training: numbers are drawn, and others each time


def tensors(results: Any) -> list[Tensor]:
    """What an operator returned, as a list."""
    return list(results) if isinstance(results, (tuple, list)) else [results]


def run(use: Use, *inputs: Tensor) -> list[Tensor]:
    """The use on other inputs, always with the same random numbers."""
    torch.manual_seed(0)
    return tensors(use.call(*(inputs or use.inputs)))


def close(got: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(
        tensors(got), tensors(wanted), rtol=tolerance, atol=tolerance, equal_nan=True, check_stride=False
    )


def is_random(use: Use) -> bool:
    return str(use).endswith("training") or str(use) in RANDOM


def is_of_batch(use: Use, position: int) -> bool:
    """Whether the first axis of this input counts pictures: of the first, and of what goes along with it."""
    along = ("lip_pool", "max_unpool", "over_time", "cross_entropy", "nms")
    return position == 0 or any(part in use.name for part in along) or "samples" in str(use)


def leaves(use: Use) -> list[Tensor]:
    return [x.clone().requires_grad_(x.is_floating_point()) for x in use.inputs]


# ---- what is asked of each -----------------------------------------------------------------------------------------


def is_the_same_when_watched(use: Use) -> None:
    """With inputs that require a gradient, without, and in inference mode."""
    wanted = run(use)
    # Weights that may be trained go through a convolution, which adds in another order.
    close(run(use, *leaves(use)), wanted, 1e-6 if str(use) == "weighted_avg_pool2d-weights" else 0)
    with torch.no_grad():
        close(run(use, *leaves(use)), wanted, 0)
    with torch.inference_mode():
        close(run(use, *(x.clone() for x in use.inputs)), wanted, 0)


def takes_any_strides(use: Use) -> None:
    wanted = run(use)
    for lay in (lambda x: torch.stack([x, x], -1)[..., 0], lambda x: x.transpose(0, -1).contiguous().transpose(0, -1)):
        close(run(use, *(lay(x) for x in use.inputs)), wanted)


def knows_its_shapes(use: Use) -> None:
    """On meta tensors, and where a device other than the tensors' is the default."""
    wanted = run(use)
    for got, value in zip(run(use, *(x.to("meta") for x in use.inputs)), wanted, strict=True):
        assert got.is_meta
        assert (got.shape, got.dtype) == (value.shape, value.dtype)
    with torch.device("meta"):
        close(run(use), wanted)


def maps_over_a_batch(use: Use) -> None:
    x, *rest = use.inputs
    many = torch.stack([x, x.flip(-1) * 2])
    wanted = [torch.stack(parts) for parts in zip(*(run(use, one, *rest) for one in many), strict=True)]
    close(tensors(func.vmap(use.call, in_dims=(0, *[None] * len(rest)))(many, *rest)), wanted)


def differentiates(use: Use) -> None:
    """`torch.func.grad` is autograd's gradient, and `torch.func.jvp` its transpose."""
    x, *rest = leaves(use)
    values = [value for value in run(use, x, *rest) if value.requires_grad]
    if not values or is_random(use):
        return
    weights = [torch.linspace(-1, 1, value.numel(), dtype=value.dtype).reshape(value.shape) for value in values]

    def loss(x: Tensor) -> Tensor:
        found = [value for value in run(use, x, *use.inputs[1:]) if value.is_floating_point()]
        return torch.stack([(value * weight).sum() for value, weight in zip(found, weights, strict=True)]).sum()

    (wanted,) = torch.autograd.grad(loss(x), x)
    close(func.grad(loss)(use.inputs[0]), wanted)
    way = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).roll(3).reshape(x.shape)
    close(func.jvp(loss, (use.inputs[0],), (way,))[1], (wanted * way).sum(), 1e-4)


def is_itself_under_autocast(use: Use) -> None:
    """Near the same, integers the same; what multiplies matrices may come in the lower precision."""
    wanted = run(use)
    with torch.autocast("cpu", torch.bfloat16):
        for got, value in zip(run(use), wanted, strict=True):
            assert got.is_floating_point() == value.is_floating_point()
            close(got.to(value.dtype), value, 0.05 if got.is_floating_point() else 0)


def takes_half_precision(use: Use) -> None:
    """Near what float32 gives for the same numbers."""
    for dtype in (torch.float16, torch.bfloat16):
        lower = [x.to(dtype) if x.is_floating_point() else x for x in use.inputs]
        wanted = run(use, *(x.float() if x.is_floating_point() else x for x in lower))
        for got, value in zip(run(use, *lower), wanted, strict=True):
            assert got.dtype in (dtype, torch.float32) or not got.is_floating_point()
            if not is_random(use) and "samples" not in str(use):  # which round to other windows
                close(got.to(value.dtype), value, 0.04)


def takes_an_empty_batch(use: Use) -> None:
    """No picture in, none out, and a gradient without a picture; the further inputs have none either."""
    first = use.inputs[0]
    empty = [x[:0] if is_of_batch(use, i) else x for i, x in enumerate(leaves(use))]
    got = run(use, *empty)
    assert all(value.shape[0] == 0 for value in got if value.dim())
    watched = [value.sum() for value in got if value.requires_grad]
    if watched:
        (grad,) = torch.autograd.grad(torch.stack(watched).sum(), empty[0], allow_unused=True)
        assert grad is None or grad.shape == first[:0].shape


CHECKS: tuple[Check, ...] = (
    is_the_same_when_watched,
    takes_any_strides,
    knows_its_shapes,
    maps_over_a_batch,
    differentiates,
    is_itself_under_autocast,
    takes_half_precision,
    takes_an_empty_batch,
)
# Which use refuses what, and a part of the sentence.
REFUSALS: dict[Check, dict[str, str]] = {
    knows_its_shapes: {
        "k_means": "k_means takes as many steps as the numbers ask for",
        "nms": "nms was given tensors on meta",
        "conv2d-winograd": "the kernels are for the CPU, and this is meta",
        "linear-streamed": "the kernels are for the CPU, and this is meta",
        "linear_relu": "the kernels are for the CPU, and this is meta",
    },
    takes_half_precision: {
        "conv2d-winograd": "the kernels take float32 or float64",
        "linear-streamed": "the kernels take float32 or float64",
        "linear_relu": "the kernels take float32 or float64",
        "batch_norm_relu-training": "running statistics move in float64 or float32",
    },
    takes_an_empty_batch: {
        "max_pool2d-no batch": "every axis but the batch needs at least 1 cell",
        "k_means": "give (M, D) and k from 1 to M",
        "loss_max": "give one floating-point number a pixel",
        "roi_": "the batch has 0; pictures count from 0",
        "batch_norm_relu-training": "training needs 2 or more values for each channel",
    },
}


def refusal(check: Check, use: Use) -> str | None:
    """The sentence with which the use refuses what the check asks."""
    return next((said for part, said in REFUSALS.get(check, {}).items() if part in str(use)), None)


def asked(check: Check) -> Iterator[Use]:
    """The uses that a check is for."""
    for use in ONCE:
        if check is maps_over_a_batch and not use.mapped:
            continue
        yield use


def failing(check: Check, uses: Iterator[Use]) -> list[str]:
    """The uses that neither do it nor say why not."""
    wrong: list[str] = []
    for use in uses:
        said = refusal(check, use)
        try:
            check(use)
        except SwitchgradError as error:
            if said is None or said not in str(error) or "\n" in str(error):
                wrong.append(f"{use}: refused: {error}")
        except Exception as error:
            wrong.append(f"{use}: {type(error).__name__}: {error}")
        else:
            if said is not None:
                wrong.append(f"{use}: does it; take it out of REFUSALS")
    return wrong


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch's own resizing, mapped
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_use(check: Check) -> None:
    assert failing(check, asked(check)) == []


def test_other_results_are_seen() -> None:
    """A use whose result hangs on being watched fails the check that looks at it."""
    wrong = Use("wrong", lambda x: x + float(x.requires_grad), (torch.ones(2, 3),))
    assert len(failing(is_the_same_when_watched, iter([wrong]))) == 1
    crashing = Use("crashing", lambda x: x.nothing, (torch.ones(2, 3),))
    assert ["AttributeError" in line for check in CHECKS for line in failing(check, iter([crashing]))] == [True] * 8


# ---- the compiler and the exporter ---------------------------------------------------------------------------------


class Call(nn.Module):
    def __init__(self, use: Use) -> None:
        super().__init__()
        self.use = use

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return tensors(self.use.call(*inputs))


def compiles_with_open_sizes(use: Use) -> None:
    torch.compiler.reset()
    compiled = torch.compile(use.call, backend="eager", fullgraph=True, dynamic=True)
    wanted = run(use)
    torch.manual_seed(0)
    close(compiled(*use.inputs), wanted)


def exports_with_an_open_batch(use: Use) -> None:
    """The program takes another number of pictures than it was traced with."""
    twice, again = (
        tuple(torch.cat([x] * many) if is_of_batch(use, i) else x for i, x in enumerate(use.inputs)) for many in (2, 3)
    )
    sizes = tuple({0: torch.export.Dim.AUTO} if is_of_batch(use, i) else None for i in range(len(twice)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Call(use), twice, strict=False, dynamic_shapes=(sizes,)).module()
    got, wanted = tensors(program(*again)), run(use, *again)
    if is_random(use):
        assert [y.shape for y in got] == [y.shape for y in wanted]
    else:
        close(got, wanted)


# k_means takes as many steps as the numbers ask for.
@pytest.mark.parametrize("use", [use for use in USES if use.name != "k_means"], ids=str)
def test_traced_with_open_sizes(use: Use) -> None:
    compiles_with_open_sizes(use)
    exports_with_an_open_batch(use)


# ---- wrong arguments -----------------------------------------------------------------------------------------------

SIZES = ("three", 2.5, -1, (2, 2, 2, 2))
WRONG: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("kernel_size", "pool_size", "stride", "pool_stride", "dilation", "output_size", "scale"), SIZES),
    **dict.fromkeys(("padding", "pool_padding", "grid_size"), SIZES),
    **dict.fromkeys(("k", "chunks", "pieces", "dim", "divisor_override", "groups"), ("three", 2.5)),
    **dict.fromkeys(("levels",), ((), (0,))),
    **dict.fromkeys(("norm_type", "sigma", "eps", "p", "ratio", "shape", "alpha", "m", "mixing", "fill"), ("half", [])),
    **dict.fromkeys(("negative_slope", "spatial_scale", "iou_threshold", "coherence"), ("half", [])),
    **dict.fromkeys(("sampling_ratio",), ("three", 2.5)),
    **dict.fromkeys(("mode", "norm", "padding_mode", "group", "over", "statistic"), ("no such",)),
    **dict.fromkeys(("weights", "leaves", "gate", "gates", "logits", "codebook", "weight", "low", "high"), ("text",)),
    **dict.fromkeys(("boxes", "boxes2", "scores", "idxs", "indices", "lengths", "mask"), ("text",)),
}
# What does not pool: convolutions leave their arguments to PyTorch's own.
NOT_HERE = (
    "conv2d",
    "conv_bias_relu",
    "linear",
    "linear_relu",
    "mlp",
    "cross_entropy",
    "cross_entropy_with_gradient",
    "windows",
)


def wrongs(use: Use) -> Iterator[dict[str, Any]]:
    """The arguments of the use, each time with one of them wrong."""
    given = dict(use.arguments)
    first = next(iter(given))
    for x in ("text", use.inputs[0].to(torch.complex64), torch.tensor(1.0)):
        if not (use.name.startswith(("loss_max", "dropout")) and isinstance(x, Tensor)):  # any shape will do
            yield {**given, first: x}
    for name, values in WRONG.items():
        if name in given:
            yield from ({**given, name: value} for value in values)


def said_of(use: Use, arguments: dict[str, Any]) -> str | None:
    """What is wrong with the answer to wrong arguments."""
    told = {name: value for name, value in arguments.items() if value is not use.arguments[name]}
    try:
        getattr(ops, use.name)(**arguments)
    except SwitchgradError as error:
        return None if len(str(error)) > 20 and "\n" not in str(error) else f"{use} with {told}: {error}"
    except Exception as error:
        return f"{use} with {told}: {type(error).__name__}: {error}"
    return f"{use} with {told}: taken"


def test_wrong_arguments_are_refused_in_one_sentence() -> None:
    uses = {use.name: use for use in reversed(USES) if use.arguments and use.name not in NOT_HERE}
    assert len(uses) > 100
    found = [said_of(use, arguments) for use in uses.values() for arguments in wrongs(use)]
    assert len(found) > 1000
    assert [said for said in found if said is not None] == []


def test_sizes_beyond_any_memory_are_refused() -> None:
    x = torch.zeros(1, 1, 4, 4)
    for call in (
        lambda: ops.adaptive_max_pool2d(x, 2**62),
        lambda: ops.adaptive_avg_pool2d(x, 2**62),
        lambda: ops.max_pool2d(x, 2, stride=2**62),
        lambda: ops.soft_pool2d(x, 2, stride=2**62),
        lambda: ops.nearest_unpool2d(x, 2**62),
        lambda: ops.blur_pool2d(x, 2000, padding_mode="zeros"),
    ):
        with pytest.raises(SwitchgradError, match=r"2000|4611686018427387904"):
            call()
