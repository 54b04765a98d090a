"""PyTorch's convolution with bias, ReLU and pool behind it in one Triton kernel, held to the loops."""

import pytest
import torch

from declarations.conv_pool import CONV_MAX_POOL, CONV_RELU_MAX_POOL
from harness.interpreted import GRADIENTS, LAYOUTS, VALUES, held_to, subset
from switchgrad import geometry
from switchgrad.gpu import conv_pool
from switchgrad.kernels.schema import REFERENCES

test_values = held_to(
    subset(
        CONV_RELU_MAX_POOL, "3x2, pool 3x3/2 padded", "strides all different", "asymmetric", "1 to 1, 5x5",
        dtypes=(torch.float32,), samples=("ties", "special"),
    ),
    VALUES[:2], "conv_max_pool",
)  # fmt: skip
test_without_relu = held_to(
    subset(CONV_MAX_POOL, "pool dilated", dtypes=(torch.float64,), samples=("ties",)), VALUES[:1], "conv_max_pool"
)
test_gradients = held_to(
    subset(
        CONV_RELU_MAX_POOL, "3x2, pool 3x3/2 padded", "strides all different", "asymmetric",
        gradient_dtypes=(torch.float32,), samples=("ties",),
    ),
    GRADIENTS[:1], "conv_max_pool", "conv_max_pool_backward",
)  # fmt: skip
test_layouts = held_to(
    subset(CONV_RELU_MAX_POOL, "2x2, pool 2x2/2", dtypes=(torch.float32,), samples=("whole",)),
    LAYOUTS[:1], "conv_max_pool",
)  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="it calls the launchers on the CPU")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_halves_round_where_pytorchs_steps_round(dtype: torch.dtype, layout: torch.memory_format) -> None:
    """On CUDA every dtype is fused: the sum of convolution and bias is rounded before it competes."""
    generator = torch.Generator().manual_seed(1)
    x, w = torch.randn(2, 3, 9, 8, generator=generator), torch.randn(5, 3, 3, 3, generator=generator)
    x, w, b = x.to(dtype).contiguous(memory_format=layout), w.to(dtype), torch.linspace(-2, 2, 5).to(dtype)
    window = geometry.window(2, (3, 2), 2, ((1, 0), (0, 1))).numbers
    z = torch.conv2d(x, w, padding=1) + b.reshape(-1, 1, 1)
    wanted, winners = REFERENCES["relu_max_pool"](z, window)
    values, codes = conv_pool.conv_max_pool(x, w, b, [1, 1], [1, 1, 1, 1], window, True)
    assert torch.equal(values, wanted)
    assert torch.equal(codes, winners)
    assert values.stride() == codes.stride()
    assert values.is_contiguous(memory_format=layout)
    grad = torch.randn(values.shape, generator=generator).to(dtype)
    dz = REFERENCES["max_pool_route"](grad, codes, z.shape[2:], window)
    dx, dw, db = torch.ops.aten.convolution_backward(
        dz, x, w, [5], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, True]
    )
    found = conv_pool.conv_max_pool_backward(grad, codes, x, w, [1, 1], [1, 1, 1, 1], window, True, True, True)
    for got, exact in zip(found, (dx, dw, db), strict=True):
        torch.testing.assert_close(got, exact)
    assert found[0].stride() == x.stride()
