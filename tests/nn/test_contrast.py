"""Local contrast normalisation against loops over the neighbourhood, at the borders too."""

import math

import pytest
import torch

from switchgrad.errors import GeometryError, ModelError
from switchgrad.nn import LocalContrastNorm


def mean_by_loops(x, rows, columns, sigma):
    """The Gaussian mean over all maps of the cells inside the picture."""
    _, height, width = x.shape
    out = x.new_zeros(height, width)
    for h in range(height):
        for w in range(width):
            total, weights = 0.0, 0.0
            for r in range(-(rows // 2), rows // 2 + 1):
                for t in range(-(columns // 2), columns // 2 + 1):
                    if 0 <= h + r < height and 0 <= w + t < width:
                        g = math.exp(-(r**2 + t**2) / (2 * sigma**2))
                        total += g * x[:, h + r, w + t].mean().item()
                        weights += g
            out[h, w] = total / weights
    return out


def by_loops(x, rows, columns, sigma, threshold=None):
    v = x - mean_by_loops(x, rows, columns, sigma)
    s = mean_by_loops(v**2, rows, columns, sigma).sqrt()
    return v / s.clamp_min(s.mean() if threshold is None else threshold)


@pytest.mark.parametrize(
    ("kernel", "sigma", "threshold", "size"),
    [(3, None, None, (5, 6)), (5, 2.0, 0.7, (6, 4)), ((3, 5), 1.0, None, (4, 7)), (9, None, None, (4, 4))],
)
def test_values(kernel, sigma, threshold, size):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
    wanted = torch.stack([by_loops(image, rows, columns, sigma or rows / 4, threshold) for image in x])
    norm = LocalContrastNorm(kernel, sigma, threshold)
    torch.testing.assert_close(norm(x), wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(norm(x[1]), wanted[1], rtol=1e-12, atol=1e-12)


def test_gradients_by_finite_differences():
    torch.manual_seed(0)
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LocalContrastNorm(3), (x,), fast_mode=True)
    assert torch.autograd.gradcheck(LocalContrastNorm(3, threshold=0.5), (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(LocalContrastNorm(3, threshold=1e-3), (x[:1],), fast_mode=True)


def test_a_flat_picture_is_zero_up_to_its_borders_and_so_is_its_gradient():
    x = torch.full((1, 2, 8, 8), 3.0, dtype=torch.float64, requires_grad=True)
    y = LocalContrastNorm(5)(x)
    assert y.abs().max() < 1e-9
    y.sum().backward()
    assert x.grad.isfinite().all()


def test_each_picture_has_a_threshold_of_its_own():
    torch.manual_seed(0)
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64) * torch.tensor([1.0, 100.0]).view(2, 1, 1, 1)
    norm = LocalContrastNorm(3)
    torch.testing.assert_close(norm(x)[:1], norm(x[:1]))


@pytest.mark.parametrize("arguments", [{"kernel_size": 4}, {"kernel_size": 0}, {"sigma": 0.0}, {"threshold": -1.0}])
def test_numbers_that_cannot_be_are_refused(arguments):
    with pytest.raises(ModelError):
        LocalContrastNorm(**arguments)


def test_another_rank_is_refused():
    with pytest.raises(GeometryError, match=r"give \[N, C, H, W\]"):
        LocalContrastNorm()(torch.zeros(8, 8))
