"""The worked numbers of the five documents that this project implements, each under its number in their inventory.

Values compare exactly. Where the text is wrong, the comment gives its words and the test the right figure.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional

from switchgrad import models
from switchgrad.errors import ModelError
from switchgrad.geometry import ReceptiveField, output_size
from switchgrad.models.lenet import ScaledTanh
from switchgrad.nn import MaxPool2d


def rows(module, shape, **options):
    return models.summary(module, shape, **options).rows


def outputs(module, shape, **options):
    return [row.output_shape for row in rows(module, shape, **options)]


def picture(values):
    """Rows of numbers as a batch of one picture with one channel."""
    return torch.tensor(values, dtype=torch.float64)[None, None]


def with_kernel(values, in_channels=1):
    """A convolution of one output map without bias, every channel with this kernel."""
    layer = nn.Conv2d(in_channels, 1, (len(values), len(values[0])), bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(picture(values).expand_as(layer.weight))
    return layer


def test_g1_max_of_3_9_0_6_is_9():
    assert MaxPool2d(2)(picture([[3, 9], [0, 6]])).tolist() == [[[[9.0]]]]


def test_g2_average_of_3_9_0_6_is_4_5():
    # The text: "would produce an output of 4." (cut) and "Rounding to full numbers gives us 5." The mean is 4.5.
    assert nn.AvgPool2d(2)(picture([[3, 9], [0, 6]])).tolist() == [[[[4.5]]]]


def test_g3_first_layer_of_alexnet():
    # (227-11)/4+1=55, K=96 -> 55x55x96
    conv = nn.Conv2d(3, 96, 11, stride=4)
    assert outputs(conv, (3, 227, 227), strict=True) == [(96, 55, 55)]


def test_g3_alexnet_with_224_is_illegal():
    # (224-11)/4+1=54.25 not integer; erratum: "AlexNet input 224" must be 227
    conv = nn.Conv2d(3, 96, 11, stride=4)
    with pytest.raises(ModelError, match=r"\(224-11\)/4\+1 = 54\.25 is not an integer"):
        models.summary(conv, (3, 224, 224), strict=True)
    (row,) = rows(conv, (3, 224, 224))
    assert row.output_shape == (96, 54, 54)
    assert "54.25" in row.note


def test_g4_weights_of_the_first_layer_of_alexnet():
    # 96*11*11*3=34,848 weights; +96 biases = 34,944
    assert models.summary(nn.Conv2d(3, 96, 11, stride=4, bias=False), (3, 227, 227)).parameters == 34_848
    assert models.summary(nn.Conv2d(3, 96, 11, stride=4), (3, 227, 227)).parameters == 34_944


def test_g5_an_illegal_stride():
    # W=10,F=3,P=0,S=2 -> 4.5 (illegal)
    with pytest.raises(ModelError, match=r"\(10-3\)/2\+1 = 4\.5 is not an integer"):
        models.summary(nn.Conv1d(1, 1, 3, stride=2), (1, 10), strict=True)


def test_g6_two_filters_with_stride_and_padding():
    # 5x5x3, K=2, F=3, S=2, P=1 -> 3x3x2
    assert outputs(nn.Conv2d(3, 2, 3, stride=2, padding=1), (3, 5, 5), strict=True) == [(2, 3, 3)]


def test_g7_full_against_local_against_shared_weights():
    # 32*32*3=3072 weights per FC neuron; 5x5x3 filter: 75 weights + 1 bias; 5x5 shared: 25 params
    assert models.summary(nn.Linear(32 * 32 * 3, 1, bias=False), (3072,)).parameters == 3072
    assert models.summary(nn.Conv2d(3, 1, 5, bias=False), (3, 32, 32)).parameters == 75
    assert models.summary(nn.Conv2d(3, 1, 5), (3, 32, 32)).parameters == 75 + 1
    assert models.summary(nn.Conv2d(1, 1, 5, bias=False), (1, 32, 32)).parameters == 25


@pytest.mark.parametrize("channels", [1, 8, 64])
def test_g8_one_7x7_against_three_3x3(channels):
    # 7x7 conv 49C^2 vs three 3x3 27C^2 (biases left out); the same field of 7
    one = models.summary(nn.Conv2d(channels, channels, 7, bias=False), (channels, 20, 20))
    three = models.summary(
        nn.Sequential(*(nn.Conv2d(channels, channels, 3, bias=False) for _ in range(3))), (channels, 20, 20)
    )
    assert one.parameters == 49 * channels**2
    assert three.parameters == 27 * channels**2
    assert one.rows[-1].receptive_field == three.rows[-1].receptive_field == (7, 7)


def test_g8_two_3x3_see_5x5():
    two = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))
    assert rows(two, (1, 9, 9))[-1].receptive_field == (5, 5)


def five_pools(channels=1):
    return nn.Sequential(*(MaxPool2d(2) for _ in range(5)), nn.Conv2d(channels, 1000, 7))


def test_g9_five_halvings_and_a_map_of_scores():
    # 224/2/2/2/2/2=7; 384 -> 12x12x512 -> 6x6x1000 = 36 crops of 224 at stride 32
    # Erratum: the text gives AlexNet "5 pooling layers"; five halvings to 7x7x512 are VGG's.
    with torch.device("meta"):
        net = five_pools(512)
    assert [shape[1:] for shape in outputs(net, (512, 224, 224), strict=True)] == [
        *((112, 112), (56, 56), (28, 28), (14, 14), (7, 7)),
        (1, 1),
    ]
    large = rows(net, (512, 384, 384), strict=True)
    assert large[-2].output_shape == (512, 12, 12)
    assert large[-1].output_shape == (1000, 6, 6)
    assert (large[-1].receptive_field, large[-1].jump) == ((224, 224), (32, 32))


def test_g9_the_map_of_scores_is_that_of_36_crops():
    torch.manual_seed(0)
    net = five_pools().double()
    x = torch.randn(1, 1, 384, 384, dtype=torch.float64)
    crops = torch.cat([x[:, :, t : t + 224, s : s + 224] for t in range(0, 161, 32) for s in range(0, 161, 32)])
    assert crops.shape[0] == 36
    torch.testing.assert_close(net(x)[0].flatten(1).T, net(crops).flatten(1))


def test_g10_three_layers_that_keep_the_size():
    # 224x224x3, three 3x3x64 pad 1 -> three 224x224x64
    convs = [nn.Conv2d(channels, 64, 3, padding=1) for channels in (3, 64, 64)]
    with torch.device("meta"):
        assert outputs(nn.Sequential(*convs).to("meta"), (3, 224, 224), strict=True) == [(64, 224, 224)] * 3


def test_g11_a_border_keeps_6x6():
    # 6x6 * 3x3 -> 4x4; pad 1 -> input 8x8, output 6x6
    assert outputs(nn.Conv2d(1, 1, 3), (1, 6, 6), strict=True) == [(1, 4, 4)]
    padded = nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(1, 1, 3))
    assert outputs(padded, (1, 6, 6), strict=True) == [(1, 8, 8), (1, 6, 6)]
    assert outputs(nn.Conv2d(1, 1, 3, padding=1), (1, 6, 6), strict=True) == [(1, 6, 6)]


def test_g12_a_vertical_edge_gives_minus_5():
    # 3*1+0+1*-1+1*1+5*0+8*-1+2*1+7*0+2*-1 = -5
    vertical = with_kernel([[1, 0, -1]] * 3)
    assert vertical(picture([[3, 0, 1], [1, 5, 8], [2, 7, 2]])).item() == -5


def test_g13_a_vertical_line_in_a_plus_sign_gives_3():
    # "matches and returns 3"; the kernel is not in the text
    plus = [[0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]]
    answer = with_kernel([[0, 1, 0]] * 3)(picture(plus))[0, 0]
    assert answer.tolist() == [[1, 3, 1], [1, 3, 1], [1, 3, 1]]


def test_g14_ten_filters_of_3x3x3():
    # 27+1=28 each, 28*10=280
    assert models.summary(nn.Conv2d(3, 1, 3), (3, 6, 6)).parameters == 28
    assert models.summary(nn.Conv2d(3, 10, 3), (3, 6, 6)).parameters == 280


def test_g15_an_output_of_27_products():
    # 6x6x3 * 3x3x3: first output = sum of 27 products (9 per channel)
    torch.manual_seed(0)
    x = torch.randint(-9, 10, (1, 3, 6, 6), dtype=torch.float64)
    conv = nn.Conv2d(3, 1, 3, bias=False, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.copy_(torch.randint(-9, 10, (1, 3, 3, 3)))
    products = [x[0, c, i, j] * conv.weight[0, c, i, j] for c in range(3) for i in range(3) for j in range(3)]
    assert len(products) == 27
    assert conv(x)[0, 0, 0, 0].item() == sum(products).item()
    assert models.summary(conv, (3, 6, 6)).macs == 27 * 16


def test_g16_a_1x1_convolution_mixes_channels():
    # 28x28x192 x 32 filters -> 28x28x32
    (row,) = rows(nn.Conv2d(192, 32, 1), (192, 28, 28), strict=True)
    assert row.output_shape == (32, 28, 28)
    assert row.receptive_field == (1, 1)


def test_g17_unrolled():
    # 7x7x40=1960
    assert outputs(nn.Flatten(), (40, 7, 7)) == [(1960,)]


def test_g18_24_rather_than_28():
    # 28x28 conv 5x5 s1 p0 -> 24x24; pool 2x2 -> 12x12 "rather than 14x14"; (26,26) k(3,3) -> (24,24)
    net = nn.Sequential(nn.Conv2d(1, 1, 5), MaxPool2d(2))
    assert outputs(net, (1, 28, 28), strict=True) == [(1, 24, 24), (1, 12, 12)]
    assert outputs(nn.Conv2d(1, 1, 3), (1, 26, 26), strict=True) == [(1, 24, 24)]


def test_g19_the_chain_from_128():
    # Erratum: "conv 2x2 ... 126x126x32" is 127 by the formula; the rest holds, the last pool with stride 2.
    net = nn.Sequential(nn.Conv2d(1, 32, 2), MaxPool2d(2), nn.Conv2d(32, 32, 3), MaxPool2d(3, stride=2))
    result = rows(net, (1, 128, 128))
    assert [row.output_shape for row in result] == [(32, 127, 127), (32, 63, 63), (32, 61, 61), (32, 30, 30)]
    assert ["63.5" in row.note for row in result] == [False, True, False, False]


def test_g19_a_3x3_kernel_gives_the_126_of_the_text():
    net = nn.Sequential(nn.Conv2d(1, 32, 3), MaxPool2d(2), nn.Conv2d(32, 32, 3), MaxPool2d(3, stride=2))
    assert [shape[1] for shape in outputs(net, (1, 128, 128), strict=True)] == [126, 63, 61, 30]


def test_g20_every_channel_is_pooled_alone():
    # 4x4x3 pooled 2x2 per channel -> 2x2x3
    x = torch.arange(48, dtype=torch.float64).reshape(1, 3, 4, 4)
    assert outputs(MaxPool2d(2), (3, 4, 4), strict=True) == [(3, 2, 2)]
    assert MaxPool2d(2)(x).tolist() == [[[[b + 5, b + 7], [b + 13, b + 15]] for b in (0, 16, 32)]]


def test_g21_flatten_and_global_average():
    # (samples,8,10,64)->(samples,5120); GAP (16,7,7,64)->(16,64)
    assert outputs(nn.Flatten(), (64, 8, 10)) == [(5120,)]
    gap = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert outputs(gap, (64, 7, 7))[-1] == (64,)
    x = torch.arange(16 * 64 * 49, dtype=torch.float64).reshape(16, 64, 7, 7)
    assert gap(x).shape == (16, 64)
    assert torch.equal(gap(x), x[:, :, 3, 3])  # the mean of a ramp lies in its middle


def test_g22_a_pool_drops_three_quarters():
    # 2x2/2 pool keeps 25% / drops 75%
    net = nn.Sequential(nn.Identity(), MaxPool2d(2))
    (_, pool) = rows(net, (3, 32, 32), strict=True)
    assert 4 * pool.activation_bytes == models.summary(net, (3, 32, 32)).input_bytes
    mask = torch.zeros(1, 3, 32, 32, requires_grad=True)
    (MaxPool2d(2)(mask + torch.rand(1, 3, 32, 32))).sum().backward()
    assert mask.grad.mean().item() == 0.25


def test_g23_the_slide():
    # rows 28 15 28 184 / 0 100 70 38 -> max 100, 184; average 35.75, 80
    x = picture([[28, 15, 28, 184], [0, 100, 70, 38]])
    assert MaxPool2d(2)(x).flatten().tolist() == [100, 184]
    assert nn.AvgPool2d(2)(x).flatten().tolist() == [35.75, 80]


def test_g24_fields_of_11_and_31():
    # "overall receptive field size of 11x11 pixels in the first layer and 31x31 pixels in the second layer"
    net = nn.Sequential(nn.Conv2d(1, 1, 10), MaxPool2d(2), nn.Conv2d(1, 1, 10), MaxPool2d(2))
    seen = [row.receptive_field for row in rows(net, (1, 41, 41))]
    assert (seen[1], seen[3]) == ((11, 11), (31, 31))
    field = ReceptiveField().through(10).through(2, 2)
    assert (field.size, field.through(10).through(2, 2).size) == (11, 31)


def test_g25_tanh_is_a_stretched_sigmoid():
    # tanh(x)=2 sigma(2x)-1
    x = torch.linspace(-5, 5, 41, dtype=torch.float64)
    torch.testing.assert_close(torch.tanh(x), 2 * torch.sigmoid(2 * x) - 1, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(ScaledTanh()(x), 1.7159 * (2 * torch.sigmoid(4 / 3 * x) - 1), rtol=1e-13, atol=1e-15)


def test_g26_equal_weights_stay_equal():
    # both hidden units ReLU(gamma x1+gamma x2)
    gamma = 0.375
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(gamma)
        net[0].bias.zero_()
    x = torch.tensor([[0.5, 2.0]], dtype=torch.float64)
    assert net[:2](x).tolist() == [[gamma * 2.5, gamma * 2.5]]
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        (net(x) - 3).square().sum().backward()
        optimiser.step()
    assert not torch.equal(net[0].weight[0], torch.full((2,), gamma, dtype=torch.float64))
    assert torch.equal(net[0].weight[0], net[0].weight[1])
    # What `create` gives is not symmetric: no two maps are alike.
    assert models.create("lenet5").c1.weight.flatten(1).unique(dim=0).shape[0] == 6


def test_g27_a_residual_block_of_zeros_is_the_identity():
    # w[l+2]=0, b[l+2]=0 -> g(a[l])=a[l] for ReLU
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, a):
            return functional.relu(self.second(functional.relu(self.first(a))) + a)

    block = Block()
    nn.init.zeros_(block.second.weight)
    nn.init.zeros_(block.second.bias)
    a = functional.relu(torch.randn(3, 2, 5, 5))
    assert torch.equal(block(a), a)
    # Two 3x3 on one way and none on the other: the widest counts.
    assert rows(nn.Sequential(block, nn.Identity()), (2, 9, 9))[-1].receptive_field == (5, 5)


def test_g29_linear_classifiers_of_cifar():
    # x 3072x1, W 10x3072 -> 10 scores; W2 10x100 after 100 hidden; FC output 1x1x10
    linear = models.summary(nn.Linear(3072, 10, bias=False), (3072,))
    assert (linear.parameters, linear.rows[0].output_shape) == (30_720, (10,))
    two = nn.Sequential(nn.Linear(3072, 100, bias=False), nn.ReLU(), nn.Linear(100, 10, bias=False))
    assert tuple(two[2].weight.shape) == (10, 100)
    assert outputs(two, (3072,)) == [(100,), (100,), (10,)]
    assert outputs(nn.Conv2d(3, 10, 32), (3, 32, 32), strict=True) == [(10, 1, 1)]


def test_g30_rows_of_784_become_pictures():
    # (8000,784)->(8000,28,28,1), labels (.,10)
    flat = torch.arange(8000 * 784, dtype=torch.float32).reshape(8000, 784)
    images = flat.reshape(8000, 1, 28, 28)
    assert images[7999, 0, 27, 3] == flat[7999, 27 * 28 + 3]
    labels = functional.one_hot(torch.arange(8000) % 10, 10)
    assert labels.shape == (8000, 10)
    scores = models.create("lenet5").eval()(images[::400] / flat.max())
    assert scores.shape == labels[::400].shape


def test_g31_gradients_go_to_the_recorded_maximum():
    # 2x2 gradient blocks, value at recorded argmax, 0 elsewhere
    # Erratum: "the derivative is [[1,1],[1,1]]" is wrong: the derivative is the mask of the winner.
    x = picture([[3, 9, -1, -2], [0, 6, -3, -4], [5, 5, 1, 2], [5, 5, 8, 4]]).requires_grad_()
    MaxPool2d(2)(x).backward(picture([[1, 2], [3, 4]]))
    assert x.grad[0, 0].tolist() == [[0, 1, 2, 0], [0, 0, 0, 0], [3, 0, 0, 0], [0, 0, 4, 0]]


def test_g32_first_layer_of_lenet():
    # 32x32, six 5x5 s1 -> 6 maps of 28x28; "28*28 unique positions"
    # Erratum: LeNet has not "five convolutional layers"; LeNet-5 has three (C1, C3, C5) among its seven levels.
    result = {row.name: row for row in rows(models.create("lenet5-1998"), (1, 32, 32), strict=True)}
    assert result["c1"].output_shape == (6, 28, 28)
    assert result["c1"].parameters == 156
    assert output_size(32, 5) ** 2 == 28 * 28
    assert [name for name in result if name in ("c1", "s2", "c3", "s4", "c5", "f6", "output")] == [
        *("c1", "s2", "c3", "s4", "c5", "f6", "output")
    ]


def test_g33_as_many_pooled_maps_as_maps():
    # 3 feature maps -> 3 pooled maps; 1000 filters global max -> 1000-dim whatever the size
    assert outputs(MaxPool2d(2), (3, 28, 28), strict=True) == [(3, 14, 14)]
    for filter_size, size in [(3, 9), (5, 20)]:
        net = nn.Sequential(nn.Conv2d(1, 1000, filter_size), nn.AdaptiveMaxPool2d(1), nn.Flatten())
        assert outputs(net, (1, size, size))[-1] == (1000,)
