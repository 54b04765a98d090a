"""Spatial pyramids and orderless pooling: lengths, values, derivatives, codebooks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from switchgrad import nn, ops
from switchgrad.errors import GeometryError, ModelError


@pytest.mark.parametrize("size", [(7,), (13, 9), (2, 3), (3, 4, 5)])
@pytest.mark.parametrize("mode", ["max", "average"])
def test_a_pyramid_is_its_levels(size: tuple[int, ...], mode: Any) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    kind, dims = ("max" if mode == "max" else "avg"), len(size)
    torch_pool = getattr(F, f"adaptive_{kind}_pool{dims}d")
    wanted = torch.cat([torch_pool(x, level).flatten(1) for level in (3, 2, 1)], 1)
    got = ops.spatial_pyramid_pool(x, (3, 2, 1), mode)
    torch.testing.assert_close(got, wanted)
    assert got.shape == (2, 3 * (3**dims + 2**dims + 1))
    assert torch.equal(nn.SpatialPyramidPool((3, 2, 1), mode)(x), got)
    g = torch.randn_like(got)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, g)[0] for y in (got, wanted)))


def test_vlad_is_the_sum_of_residuals() -> None:
    x, codebook = torch.randn(2, 9, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    wanted = torch.zeros(2, 4, 3, dtype=torch.float64)
    for n in range(2):
        for descriptor in x[n]:
            nearest = int((descriptor - codebook).norm(dim=1).argmin())
            wanted[n, nearest] += descriptor - codebook[nearest]
    torch.testing.assert_close(ops.vlad(x, codebook, normalise=False), wanted.flatten(1))
    torch.testing.assert_close(ops.vlad(x, codebook, alpha=1e4, normalise=False), wanted.flatten(1))
    unit = ops.vlad(x, codebook)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(ops.vlad(x.flip(1), codebook), unit)


@pytest.mark.parametrize("alpha", [None, 0.7])
def test_vlad_differentiates(alpha: float | None) -> None:
    x = torch.randn(1, 5, 2, dtype=torch.float64, requires_grad=True)
    codebook = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x, c: ops.vlad(x, c, alpha), (x, codebook))


def test_k_means_finds_separate_clusters_and_repeats() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    x = torch.cat([c + torch.randn(30, 2, generator=torch.Generator().manual_seed(i)) for i, c in enumerate(centres)])
    found = [ops.k_means(x, 3, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*found)
    assert torch.cdist(centres, found[0]).amin(1).max() < 1
    assert ops.k_means(torch.ones(4, 2), 3).shape == (3, 2)


def test_orderless_pooling_of_pictures() -> None:
    pool = nn.OrderlessPool(lambda x: x.flatten(1)[:, :6], size=8, patches=(6, 4), stride=2, clusters=3)
    pictures = torch.rand(5, 1, 8, 8)
    with pytest.raises(ModelError, match="call fit"):
        pool(pictures)
    vectors = pool.fit(pictures, generator=torch.Generator().manual_seed(0))(pictures)
    assert vectors.shape == (5, 6 + 2 * 3 * 6)
    for level in vectors.split([6, 18, 18], 1):
        torch.testing.assert_close(level.norm(dim=1), torch.ones(5))
    assert set(pool.state_dict()) == {"codebook6", "codebook4"}
    with pytest.raises(ModelError, match="hold no patch of 6"):
        pool(pictures[..., :5])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ops.spatial_pyramid_pool(torch.ones(2, 3)), "1 to 3 spatial axes"),
        (lambda: ops.spatial_pyramid_pool(torch.ones(2, 3, 4), ()), "levels is empty"),
        (lambda: ops.spatial_pyramid_pool(torch.ones(2, 3, 4), (0,)), "output_size is 0"),
        (lambda: ops.spatial_pyramid_pool(torch.ones(2, 3, 4), mode="min"), 'mode is "min"'),  # type: ignore
        (lambda: ops.vlad(torch.ones(2, 3, 4), torch.ones(2, 3)), r"give \(N, M, D\)"),
        (lambda: ops.k_means(torch.ones(2, 3), 3), "k is 3"),
    ],
)
def test_refused_in_words(call: Any, words: str) -> None:
    with pytest.raises(GeometryError, match=words):
        call()


def test_second_derivatives_where_a_cluster_is_empty() -> None:
    x = torch.randn(1, 5, 3, dtype=torch.float64, requires_grad=True)
    centres = torch.cat([torch.randn(2, 3, dtype=torch.float64), torch.full((1, 3), 100.0, dtype=torch.float64)])
    assert torch.autograd.gradgradcheck(lambda x: ops.vlad(x, centres), x)
    assert ops.vlad(centres[:1].unsqueeze(0), centres[:1]).tolist() == [[0.0] * 3]
