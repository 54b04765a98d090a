"""Where the layers bend: margins met exactly, equal embeddings, maps without contrast."""

from __future__ import annotations

import torch

from declarations.reference_layers import normal
from harness.written_out import close, seeded
from switchgrad.reference import Contrastive, Hinge, LocalContrastNorm, Triplet, UnitLength

ONE = torch.ones((), dtype=torch.float64)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_losses_stop_pulling_where_the_margin_is_met_exactly():
    """As ReLU at 0: a difference of exactly nothing sends nothing back."""
    scores, right = numbers([1, 0, -5], [0.5, 0, 0]), torch.tensor([0, 0])
    loss, kept = Hinge().forward(scores, right)
    assert loss == (0 + 2 * 0.5) / 2
    assert Hinge().backward(ONE, kept)[0].tolist() == [[0, 0, 0], [-1, 0.5, 0.5]]
    A, P, N = numbers([0, 0]), numbers([1, 0]), numbers([0, 1])
    loss, kept = Triplet(margin=0.0).forward(A, P, N)
    assert loss == 0
    assert all((gradient == 0).all() for gradient in Triplet(margin=0.0).backward(ONE, kept))


def test_triplet_has_a_margin_of_0_2_on_unit_length_embeddings():
    # max(0, d(A,P) - d(A,N) + margin), default margin 0.2
    A, P, N = (UnitLength().forward(normal(seeded(name), 5, 3))[0] for name in "APN")
    close(A.norm(dim=1), torch.ones(5, dtype=torch.float64), "length")
    wanted = (((A - P) ** 2).sum(1) - ((A - N) ** 2).sum(1) + 0.2).clamp(min=0).mean()
    close(Triplet().forward(A, P, N)[0], wanted, "loss")
    assert wanted > 0
    assert Triplet().forward(A, A, -A)[0] == 0
    close(Triplet().forward(A, A, A)[0], 0.2 * ONE, "loss of three equal ones")


def test_equal_embeddings_of_different_people_have_no_direction_to_part_in():
    f = numbers([0.3, 0.4])
    loss, kept = Contrastive().forward(f, f, numbers(0))
    df1, df2, _ = Contrastive().backward(ONE, kept)
    assert loss == 0.5
    assert df1.tolist() == df2.tolist() == [[0, 0]]


def test_hinge_of_scores_0_and_s_is_that_of_one_score():
    for s, label in ((0.3, 1), (0.3, 0), (-2.0, 1), (-2.0, 0)):
        sign = 2 * label - 1
        assert Hinge().forward(numbers([0, s]), torch.tensor([label]))[0] == max(0, 1 - sign * s)


def test_a_flat_map_has_no_contrast_and_its_gradient_stays_finite():
    layer = LocalContrastNorm(3)
    y, kept = layer.forward(torch.full((1, 2, 6, 6), 3.0, dtype=torch.float64))
    assert y.abs().max() < 1e-9
    assert layer.backward(torch.ones_like(y), kept)[0].isfinite().all()
