"""The documents' worked numbers on the written-out layers, each under its number in their inventory."""

from __future__ import annotations

import pytest
import torch

from switchgrad.geometry import output_size
from switchgrad.reference import (
    Add,
    Convolution,
    ConvolutionIm2col,
    Flatten,
    Linear,
    MaxPool,
    PointwiseConvolution,
    ReLU,
    Sigmoid,
    Tanh,
)

CONVOLUTIONS = pytest.mark.parametrize("kind", [Convolution, ConvolutionIm2col], ids=["loops", "im2col"])


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def shape_of(kind, x, filters, size, **settings):
    """The shape that a convolution gives to a map of zeros of shape ``x`` (channels first)."""
    w = torch.zeros(filters, x[0], *(size,) * (len(x) - 1))
    return tuple(kind(**settings).forward(torch.zeros(1, *x), w, torch.zeros(filters))[0].shape[1:])


def test_g3_227_less_11_by_4_plus_1_is_55():
    # (227-11)/4+1=55, K=96 -> 55x55x96; (224-11)/4+1=54.25 not integer
    # Erratum: "AlexNet input 224" must be 227. Here a size that does not divide is rounded down, the rest unseen.
    assert shape_of(ConvolutionIm2col, (3, 227, 227), 96, 11, stride=4) == (96, 55, 55)
    assert (224 - 11) / 4 + 1 == 54.25
    w, b = torch.ones(1, 3, 11, 11), torch.zeros(1)
    y, kept = ConvolutionIm2col(stride=4).forward(torch.zeros(1, 3, 224, 224), w, b)
    assert y.shape == (1, 1, 54, 54)
    dx, _, _ = ConvolutionIm2col(stride=4).backward(torch.ones_like(y), kept)
    assert dx[0, 0, 222].count_nonzero() > 0
    assert dx[0, 0, 223].count_nonzero() == 0


def test_g4_34848_weights_and_34944_with_biases():
    # 96*11*11*3=34,848 weights; +96 biases = 34,944: as many gradients come back
    x, w, b = torch.ones(1, 3, 11, 11), torch.ones(96, 3, 11, 11), torch.ones(96)
    y, kept = ConvolutionIm2col(stride=4).forward(x, w, b)
    _, dw, db = ConvolutionIm2col(stride=4).backward(torch.ones_like(y), kept)
    assert dw.count_nonzero() == 96 * 11 * 11 * 3 == 34_848
    assert dw.numel() + db.numel() == 34_944


@CONVOLUTIONS
def test_g5_w_10_f_3_p_0_s_2_is_illegal_and_leaves_a_cell_unseen(kind):
    # W=10,F=3,P=0,S=2 -> 4.5 (illegal); floor gives 4 places, which see 9 of the 10 cells
    x, w, b = torch.ones(1, 1, 10), torch.ones(1, 1, 3), torch.zeros(1)
    y, kept = kind(stride=2).forward(x, w, b)
    assert y.shape == (1, 1, 4)
    assert kind(stride=2).backward(torch.ones_like(y), kept)[0][0, 0].tolist() == [1, 1, 2, 1, 2, 1, 2, 1, 1, 0]


@CONVOLUTIONS
def test_g6_5x5x3_with_two_filters_stride_2_padding_1_gives_3x3x2(kind):
    assert shape_of(kind, (3, 5, 5), 2, 3, stride=2, padding=1) == (2, 3, 3)


def test_g7_3072_weights_a_neuron_against_75_and_1_bias_against_25():
    # 32*32*3=3072 weights per FC neuron; 5x5x3 filter: 75 weights + 1 bias; 5x5 shared: 25 params
    x = torch.ones(1, 3, 32, 32)
    z, kept = Linear().forward(Flatten().forward(x)[0], torch.ones(1, 3072), torch.zeros(1))
    assert Linear().backward(torch.ones_like(z), kept)[1].numel() == 32 * 32 * 3 == 3072
    for channels, weights in ((3, 75), (1, 25)):
        y, kept = ConvolutionIm2col().forward(x[:, :channels], torch.ones(1, channels, 5, 5), torch.zeros(1))
        _, dw, db = ConvolutionIm2col().backward(torch.ones_like(y), kept)
        assert (dw.numel(), db.numel()) == (weights, 1)
        assert (dw == 28 * 28).all()  # one gradient from each of 28*28 unique positions, added up


def test_g8_one_7x7_has_49cc_weights_three_3x3_have_27cc_and_see_the_same():
    channels = 2
    x = torch.ones(1, channels, 15, 15, dtype=torch.float64)
    one = torch.ones(channels, channels, 7, 7, dtype=torch.float64)
    three = torch.ones(channels, channels, 3, 3, dtype=torch.float64)
    none = torch.zeros(channels, dtype=torch.float64)
    assert (one.numel(), 3 * three.numel()) == (49 * channels**2, 27 * channels**2)
    fields = []
    for stack in ([one], [three] * 3, [three] * 2):
        conv, y, keeps = Convolution(), x, []
        for w in stack:
            y, kept = conv.forward(y, w, none)
            keeps.append(kept)
        delta = torch.zeros_like(y)
        delta[0, 0, 0, 0] = 1
        for kept in reversed(keeps):
            delta = conv.backward(delta, kept)[0]
        fields.append(tuple(int((delta[0, 0] != 0).any(axis).sum()) for axis in (0, 1)))
    assert fields == [(7, 7), (7, 7), (5, 5)]


def test_g9_224_halved_five_times_is_7_and_384_gives_a_6x6_map():
    # 224/2/2/2/2/2=7 ; 384->12x12x512->6x6x1000 map = 36 crops of 224 at stride 32 (channels left out here)
    w, b = torch.rand(1, 1, 7, 7, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)

    def scores(x):
        for _ in range(5):
            x, _ = MaxPool(2).forward(x)
        return ConvolutionIm2col().forward(x, w, b)[0]

    x = torch.rand(1, 1, 384, 384, dtype=torch.float64)
    y = scores(x)
    assert y.shape == (1, 1, 6, 6)
    crops = torch.cat([x[:, :, t : t + 224, s : s + 224] for t in range(0, 161, 32) for s in range(0, 161, 32)])
    assert len(crops) == 36
    torch.testing.assert_close(scores(crops).flatten(), y.flatten(), rtol=1e-12, atol=0)


def test_g10_three_3x3_with_padding_1_keep_224x224():
    # 224x224x3, three 3x3x64 pad 1 -> three 224x224x64 (with 2 filters instead of 64)
    x = torch.zeros(1, 3, 224, 224)
    for channels in (3, 2, 2):
        x, _ = ConvolutionIm2col(padding=1).forward(x, torch.zeros(2, channels, 3, 3), torch.zeros(2))
        assert x.shape == (1, 2, 224, 224)


@CONVOLUTIONS
def test_g11_6x6_with_3x3_gives_4x4_and_padded_to_8x8_keeps_6x6(kind):
    assert shape_of(kind, (1, 6, 6), 1, 3) == (1, 4, 4)
    assert shape_of(kind, (1, 8, 8), 1, 3) == shape_of(kind, (1, 6, 6), 1, 3, padding=1) == (1, 6, 6)
    assert shape_of(kind, (1, 6, 6), 1, 3, padding="same") == (1, 6, 6)  # P=(F-1)/2 when S=1


@CONVOLUTIONS
def test_g12_the_vertical_edge_gives_minus_5_and_the_gradients_are_filter_and_patch(kind):
    # 3*1+0+1*-1+1*1+5*0+8*-1+2*1+7*0+2*-1 = -5
    x = numbers([3, 0, 1], [1, 5, 8], [2, 7, 2])[None, None]
    w = numbers(*[[1, 0, -1]] * 3)[None, None]
    y, kept = kind().forward(x, w, numbers(0))
    assert y.tolist() == [[[[-5]]]]
    dx, dw, db = kind().backward(torch.ones_like(y), kept)
    assert torch.equal(dx, w)
    assert torch.equal(dw, x)
    assert db.tolist() == [1]


@CONVOLUTIONS
def test_g13_the_vertical_line_matches_and_returns_3(kind):
    # "matches and returns 3"; the kernel is not in the text
    plus = numbers([0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0])
    y, _ = kind().forward(plus[None, None], numbers(*[[0, 1, 0]] * 3)[None, None], numbers(0))
    assert y[0, 0].tolist() == [[1, 3, 1], [1, 3, 1], [1, 3, 1]]


def test_g14_ten_filters_of_27_and_a_bias_are_280():
    # 10 filters 3x3x3: 27+1=28 each, 28*10=280
    x, w, b = torch.ones(1, 3, 5, 5), torch.ones(10, 3, 3, 3), torch.ones(10)
    y, kept = Convolution().forward(x, w, b)
    _, dw, db = Convolution().backward(torch.ones_like(y), kept)
    assert dw[0].numel() + db[:1].numel() == 28
    assert dw.numel() + db.numel() == 280


@CONVOLUTIONS
def test_g15_rgb_the_first_output_is_the_sum_of_27_products(kind):
    # RGB input (6x6x3) * 3x3x3: first output = sum of 27 products (9 per channel)
    x = torch.arange(108, dtype=torch.float64).reshape(1, 3, 6, 6)
    w = torch.arange(27, dtype=torch.float64).reshape(1, 3, 3, 3)
    y, _ = kind().forward(x, w, numbers(0))
    products = [x[0, c, r, t].item() * w[0, c, r, t].item() for c in range(3) for r in range(3) for t in range(3)]
    assert len(products) == 27
    assert y.shape == (1, 1, 4, 4)
    assert y[0, 0, 0, 0] == sum(products)


def test_g16_28x28x192_through_32_filters_of_1x1_gives_28x28x32():
    x, w = torch.ones(1, 192, 28, 28), torch.ones(32, 192)
    y, kept = PointwiseConvolution().forward(x, w, torch.zeros(32))
    assert y.shape == (1, 32, 28, 28)
    dx, dw, _ = PointwiseConvolution().backward(torch.ones_like(y), kept)
    assert dx.shape == (1, 192, 28, 28)
    assert (dx == 32).all()
    assert (dw == 28 * 28).all()


def test_g25_tanh_is_2_sigma_of_2x_less_1_and_so_are_their_gradients():
    # tanh(x)=2 sigma(2x)-1
    x, delta = torch.linspace(-5, 5, 41, dtype=torch.float64), torch.linspace(1, 2, 41, dtype=torch.float64)
    tanh, kept = Tanh().forward(x)
    sigma, kept_sigma = Sigmoid().forward(2 * x)
    torch.testing.assert_close(tanh, 2 * sigma - 1, rtol=1e-13, atol=1e-15)
    (of_tanh,), (of_sigma,) = Tanh().backward(delta, kept), Sigmoid().backward(2 * delta, kept_sigma)
    torch.testing.assert_close(of_tanh, 2 * of_sigma, rtol=1e-9, atol=1e-15)


def test_g26_equal_weights_gamma_make_both_hidden_units_relu_of_gamma_x1_plus_gamma_x2():
    gamma, x = 0.375, numbers([0.5, 2.0])
    W = torch.full((2, 2), gamma, dtype=torch.float64)
    z, kept = Linear().forward(x, W, numbers(0, 0))
    a, kept_relu = ReLU().forward(z)
    assert a.tolist() == [[gamma * 2.5, gamma * 2.5]]
    # Equal weights going out too, so both get the same gradient and stay equal: the symmetry is never broken.
    (delta,) = ReLU().backward(numbers([gamma, gamma]), kept_relu)
    _, dW, db = Linear().backward(delta, kept)
    assert torch.equal(dW[0], dW[1])
    assert db[0] == db[1]
    assert dW.count_nonzero() == 4


def test_g27_a_residual_block_with_weights_and_bias_0_gives_a_itself():
    # w[l+2]=0, b[l+2]=0 -> a[l+2] follows from a[l] alone: g(a[l])=a[l] for ReLU
    a = numbers([0.5, 2.0, 0.0])
    z, kept = Linear().forward(a, torch.zeros(3, 3, dtype=torch.float64), numbers(0, 0, 0))
    total, _ = Add().forward(a, z)
    out, kept_relu = ReLU().forward(total)
    assert torch.equal(out, a)
    (delta,) = ReLU().backward(numbers([1, 1, 1]), kept_relu)
    past, through = Add().backward(delta, None)
    assert past.tolist() == [[1, 1, 0]]
    assert Linear().backward(through, kept)[0].tolist() == [[0, 0, 0]]  # everything comes by the shortcut


def test_g28_through_max_of_a_and_b_all_of_the_difference_of_10_goes_to_a():
    # max(a,b) SHAP: (1 for a, 0 for b); reference 9, diff 10
    pool, reference, given = MaxPool(2), numbers([[9, 9]]), numbers([[19, 9]])
    before, _ = pool.forward(reference)
    after, kept = pool.forward(given)
    (multiplier,) = pool.backward(torch.ones_like(after), kept)
    assert (before.item(), (after - before).item()) == (9, 10)
    assert multiplier.tolist() == [[[1, 0]]]
    assert (multiplier * (given - reference)).sum() == after - before


def test_g29_cifar_scores_of_3072_numbers():
    # x 3072x1, W 10x3072 -> 10 scores; W2 10x100 after 100 hidden; FC output 1x1x10
    x = torch.ones(1, 3072)
    scores, kept = Linear().forward(x, torch.ones(10, 3072), torch.zeros(10))
    assert scores.shape == (1, 10)
    assert Linear().backward(scores, kept)[1].shape == (10, 3072)
    hidden, _ = Linear().forward(x, torch.ones(100, 3072), torch.zeros(100))
    assert Linear().forward(ReLU().forward(hidden)[0], torch.ones(10, 100), torch.zeros(10))[0].shape == (1, 10)
    as_map, _ = ConvolutionIm2col().forward(x.reshape(1, 3, 32, 32), torch.ones(10, 3, 32, 32), torch.zeros(10))
    assert as_map.shape == (1, 10, 1, 1)
    assert torch.equal(as_map.flatten(), scores.flatten())


def test_g32_c1_of_lenet_gives_six_maps_of_28x28():
    # 32x32, six 5x5 s1 -> 6 maps of 28x28; "28*28 unique positions" is stated for 5*5*3
    assert shape_of(ConvolutionIm2col, (1, 32, 32), 6, 5) == (6, 28, 28)
    assert output_size(32, 5) ** 2 == 28 * 28
