"""What does not fit is refused in one sentence; the C++ operator, called directly, says the same; nothing crashes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from declarations.max_pool import POOL
from switchgrad import geometry, kernels, nn, ops
from switchgrad.errors import GeometryError

zeros = torch.zeros
DTYPES = "max pooling takes float64, float32, float16, bfloat16, uint8, int8, int16, int32 or int64"

# Axes, input, arguments, sentence. Both languages say these.
BOTH: dict[str, tuple[int, Tensor, dict[str, Any], str]] = {
    "kernel too large": (
        2,
        zeros(1, 1, 4, 6),
        {"kernel_size": 5},
        "the window spans 5 cells along spatial axis 0, but the input has 4 and the padding adds 0 + 0; use a smaller "
        "kernel_size or dilation, or more padding",
    ),
    "kernel too large with its padding": (
        2,
        zeros(1, 1, 9, 3),
        {"kernel_size": 7, "padding": ((0, 0), (2, 1))},
        "the window spans 7 cells along spatial axis 1, but the input has 3 and the padding adds 2 + 1; use a smaller "
        "kernel_size or dilation, or more padding",
    ),
    "kernel too large by dilation": (
        1,
        zeros(1, 1, 4),
        {"kernel_size": 3, "dilation": 3},
        "the window spans 7 cells along spatial axis 0, but the input has 4 and the padding adds 0 + 0; use a smaller "
        "kernel_size or dilation, or more padding",
    ),
    "kernel too large, even for ceil_mode": (
        1,
        zeros(1, 1, 4),
        {"kernel_size": 6, "stride": 2, "ceil_mode": True},
        "the window spans 6 cells along spatial axis 0, but the input has 4 and the padding adds 0 + 0; use a smaller "
        "kernel_size or dilation, or more padding",
    ),
    "padding too large": (
        2,
        zeros(1, 1, 4, 4),
        {"kernel_size": 2, "padding": 2},
        "padding (2, 2) along spatial axis 0 reaches the window's span of 2 cells; use at most 1 on each side",
    ),
    "padding too large at one end": (
        3,
        zeros(1, 1, 4, 4, 4),
        {"kernel_size": 2, "padding": ((0, 0), (1, 1), (0, 3)), "dilation": 2},
        "padding (0, 3) along spatial axis 2 reaches the window's span of 3 cells; use at most 2 on each side",
    ),
    "no rows": (
        2,
        zeros(1, 1, 0, 4),
        {"kernel_size": 2},
        "spatial axis 0 of the input has size 0; every axis but the batch needs at least 1 cell",
    ),
    "no columns, though padding would do": (
        1,
        zeros(1, 1, 0),
        {"kernel_size": 2, "padding": 1},
        "spatial axis 0 of the input has size 0; every axis but the batch needs at least 1 cell",
    ),
    "no channels": (
        2,
        zeros(1, 0, 4, 4),
        {"kernel_size": 2},
        "the input has 0 channels (shape (1, 0, 4, 4)); every axis but the batch needs at least 1 cell",
    ),
    "too few axes": (
        2,
        zeros(4, 4),
        {"kernel_size": 2},
        "max_pool2d takes an input of 3 or 4 axes (without or with a batch); this one has shape (4, 4)",
    ),
    "one axis": (
        1,
        zeros(4),
        {"kernel_size": 2},
        "max_pool1d takes an input of 2 or 3 axes (without or with a batch); this one has shape (4,)",
    ),
    "too many axes": (
        1,
        zeros(1, 1, 4, 4),
        {"kernel_size": 2},
        "max_pool1d takes an input of 2 or 3 axes (without or with a batch); this one has shape (1, 1, 4, 4)",
    ),
}
# What the short forms of Python allow one to get wrong, and dtypes, which each language names in its own way.
PYTHON: dict[str, tuple[int, Tensor, dict[str, Any], str]] = {
    "kernel 0": (2, zeros(1, 1, 4, 4), {"kernel_size": 0}, "kernel_size is 0; every entry must be at least 1"),
    "kernel negative": (
        2,
        zeros(1, 1, 4, 4),
        {"kernel_size": (2, -2)},
        "kernel_size is (2, -2); every entry must be at least 1",
    ),
    "stride 0": (2, zeros(1, 1, 4, 4), {"kernel_size": 2, "stride": 0}, "stride is 0; every entry must be at least 1"),
    "dilation 0": (
        2,
        zeros(1, 1, 4, 4),
        {"kernel_size": 2, "dilation": 0},
        "dilation is 0; every entry must be at least 1",
    ),
    "padding negative": (
        2,
        zeros(1, 1, 4, 4),
        {"kernel_size": 2, "padding": -1},
        "padding is -1; every entry must be at least 0",
    ),
    "three of two": (
        2,
        zeros(1, 1, 4, 4),
        {"kernel_size": (2, 2, 2)},
        "kernel_size is (2, 2, 2); give an integer, or 2 of them, one per spatial axis",
    ),
    "fraction": (
        2,
        zeros(1, 1, 4, 4),
        {"kernel_size": 2.5},
        "kernel_size is 2.5; give an integer, or 2 of them, one per spatial axis",
    ),
    "unknown padding": (
        2,
        zeros(1, 1, 4, 4),
        {"kernel_size": 2, "padding": "full"},
        'padding is "full"; give "same", "valid", an integer, or one integer or pair per axis',
    ),
    "one pair of two": (
        2,
        zeros(1, 1, 4, 4),
        {"kernel_size": 2, "padding": ((1, 1),)},
        "padding is ((1, 1),); give one (begin, end) pair for each of 2 spatial axes",
    ),
    "both outputs": (
        2,
        zeros(1, 1, 4, 4),
        {"kernel_size": 2, "return_indices": True, "return_switches": True},
        "return_indices and return_switches are both set; ask for one (switches.to_indices() has the other)",
    ),
    "booleans": (
        2,
        zeros(1, 1, 4, 4, dtype=torch.bool),
        {"kernel_size": 2},
        f"the input has dtype torch.bool; {DTYPES}",
    ),
    "complex numbers": (
        1,
        zeros(1, 1, 4, dtype=torch.complex64),
        {"kernel_size": 2},
        f"the input has dtype torch.complex64; {DTYPES}",
    ),
}


def direct(dims: int, x: Tensor, arguments: dict[str, Any]) -> None:
    """The operator itself, past every check of Python."""

    def each(value: Any) -> list[int]:
        return list(value) if isinstance(value, tuple) else [value] * dims

    kernel = each(arguments["kernel_size"])
    padding = arguments.get("padding", 0)
    pads = padding if isinstance(padding, tuple) else ((padding, padding),) * dims
    numbers = [
        *kernel,
        *each(arguments.get("stride", arguments["kernel_size"])),
        *[cells for pair in pads for cells in pair],
        *each(arguments.get("dilation", 1)),
        int(arguments.get("ceil_mode", False)),
    ]
    torch.ops.switchgrad.max_pool(x, numbers)


@pytest.mark.parametrize("name", BOTH | PYTHON)
def test_python_refuses_in_one_sentence(name: str) -> None:
    dims, x, arguments, sentence = (BOTH | PYTHON)[name]
    with pytest.raises(GeometryError) as refused:
        POOL[dims](x, **arguments)
    assert str(refused.value) == sentence


@pytest.mark.skipif(not kernels.isas(), reason="the native library is not here")
@pytest.mark.parametrize("name", BOTH)
def test_cpp_refuses_in_the_same_sentence(name: str) -> None:
    dims, x, arguments, sentence = BOTH[name]
    with pytest.raises(RuntimeError) as refused:
        direct(dims, x, arguments)
    assert str(refused.value) == sentence


@pytest.mark.skipif(not kernels.isas(), reason="the native library is not here")
@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_cpp_refuses_dtypes_without_an_order(dtype: torch.dtype) -> None:
    with pytest.raises(RuntimeError, match=DTYPES):
        direct(1, zeros(1, 1, 4, dtype=dtype), {"kernel_size": 2})


def test_layers_refuse_what_never_fits() -> None:
    with pytest.raises(GeometryError, match=r"^stride is -1; every entry must be at least 1$"):
        nn.MaxPool2d(2, stride=-1)
    with pytest.raises(GeometryError, match=r"^padding \(3, 3\) along spatial axis 0 reaches the window's span"):
        nn.MaxPool1d(3, padding=3)


POOLED = torch.tensor([[[[4.0, 5.0], [6.0, 7.0]]]])
INDICES = torch.tensor([[[[0, 2], [8, 10]]]])
SWITCHES = ops.Switches(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), geometry.window(2, 2), (4, 4))
UNPOOLING: dict[str, tuple[dict[str, Any], str]] = {
    "index beyond": (
        {"indices": INDICES + torch.tensor([[0, 14], [0, 0]]), "kernel_size": 2},
        "max_unpool found index 16, but an output of this size has the flat indices 0 to 15 in each channel; check "
        "output_size and the indices",
    ),
    "index below": (
        {"indices": INDICES - torch.tensor([[0, 0], [0, 12]]), "kernel_size": 2},
        "max_unpool found index -2, but an output of this size has the flat indices 0 to 15 in each channel; check "
        "output_size and the indices",
    ),
    "too few indices": (
        {"indices": INDICES[..., :1], "kernel_size": 2},
        "max_unpool needs int64 indices of the values' shape (1, 1, 2, 2); "
        "these have shape (1, 1, 2, 1) and dtype Long",
    ),
    "indices of another dtype": (
        {"indices": INDICES.int(), "kernel_size": 2},
        "max_unpool needs int64 indices of the values' shape (1, 1, 2, 2); these have shape (1, 1, 2, 2) and dtype Int",
    ),
    "no kernel": (
        {"indices": INDICES},
        "kernel_size is missing; it is needed with indices (Switches know their own window)",
    ),
    "a size that never pools to this": (
        {"indices": INDICES, "kernel_size": 2, "output_size": (6, 4)},
        "output_size is (6, 4); each of its last 2 entries must lie less than the stride (2, 2) from (4, 4)",
    ),
    "half a size": (
        {"indices": INDICES, "kernel_size": 2, "output_size": (4,)},
        "output_size is (4,); each of its last 2 entries must lie less than the stride (2, 2) from (4, 4)",
    ),
    "another size than the switches'": (
        {"indices": SWITCHES, "output_size": (5, 4)},
        "output_size is (5, 4), but these switches come from an input of (4, 4); leave it out",
    ),
}


@pytest.mark.skipif(not kernels.isas(), reason="the sentences of the native library")
@pytest.mark.parametrize("name", UNPOOLING)
def test_unpooling_refuses_in_one_sentence(name: str) -> None:
    arguments, sentence = UNPOOLING[name]
    with pytest.raises(GeometryError) as refused:
        ops.max_unpool2d(POOLED, **arguments)
    assert str(refused.value) == sentence
    with pytest.raises(GeometryError):
        ops.max_unpool2d(POOLED.clone().requires_grad_(), **arguments)


@pytest.mark.skipif(not kernels.isas(), reason="the sentences of the native library")
def test_compiled_unpooling_refuses_in_the_same_sentence() -> None:
    torch.compiler.reset()
    arguments, sentence = UNPOOLING["index beyond"]
    run = torch.compile(ops.max_unpool2d, backend="aot_eager", fullgraph=True)
    with pytest.raises(RuntimeError) as refused:
        run(POOLED, **arguments)
    assert str(refused.value) == sentence


def test_unpooling_refuses_switches_of_another_rank() -> None:
    with pytest.raises(GeometryError, match=r"^max_unpool1d was given switches over 2 axes; use their function$"):
        ops.max_unpool1d(POOLED[0], SWITCHES)


SMALL = st.lists(st.integers(-2, 6), max_size=4)


@settings(max_examples=300, deadline=None, database=None)
@given(
    shape=st.lists(st.integers(0, 5), max_size=6),
    kernel=SMALL,
    stride=SMALL,
    padding=st.lists(st.integers(-2, 6), max_size=8),
    dilation=SMALL,
    ceil=st.booleans(),
    size=SMALL,
    codes=st.sampled_from((torch.uint8, torch.int16, torch.int64)),
)
def test_no_arguments_crash_the_operators(
    shape: list[int],
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil: bool,
    size: list[int],
    codes: torch.dtype,
) -> None:
    x = torch.rand(shape)
    window = (kernel, stride, padding, dilation, ceil)
    numbers = torch.randint(0, 9, shape).to(codes)
    switchgrad = torch.ops.switchgrad
    for call in (
        lambda: switchgrad.max_pool(x, *window),
        lambda: switchgrad.max_pool_values(x, *window),
        lambda: switchgrad.max_pool_route(x, numbers, size, *window),
        lambda: switchgrad.max_pool_gather(x, numbers, *window),
        lambda: switchgrad.max_pool_indices(numbers, size, *window),
        lambda: switchgrad.max_unpool(x, numbers.long(), size),
    ):
        try:
            call()
        except (RuntimeError, ValueError) as refused:
            assert len(str(refused)) > 20  # noqa: PT017 - a sentence, not a bare code
