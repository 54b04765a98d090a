"""LeNet-5 as published: its table, its squashing function, its first weights, its front."""

import math

import pytest
import torch

from switchgrad import models
from switchgrad.models.lenet import C3_CONNECTIONS, ScaledTanh
from switchgrad.nn.subsampling import TrainableSubsampling2d

# Table I as printed: a row for each map of S2, a column for each map of C3.
TABLE_I = """
X . . . X X X . . X X X X . X X
X X . . . X X X . . X X X X . X
X X X . . . X X X . . X . X X X
. X X X . . X X X X . . X . X X
. . X X X . . X X X X . X X . X
. . . X X X . . X X X X . X X X
"""


def test_c3_sees_what_table_i_says():
    rows = [line.split() for line in TABLE_I.strip().splitlines()]
    columns = [tuple(s2 for s2 in range(6) if rows[s2][c3] == "X") for c3 in range(16)]
    assert tuple(columns) == C3_CONNECTIONS


def test_c3_has_the_structure_that_the_paper_explains():
    lengths = [len(inputs) for inputs in C3_CONNECTIONS]
    assert lengths == [3] * 6 + [4] * 9 + [6]
    around = [{(start + step) % 6 for step in range(3)} for start in range(6)]
    assert [set(inputs) for inputs in C3_CONNECTIONS[:6]] == around
    around = [{(start + step) % 6 for step in range(4)} for start in range(6)]
    assert [set(inputs) for inputs in C3_CONNECTIONS[6:12]] == around
    # Every map of S2 is used ten times: 60 pairs, 60 * 25 + 16 = 1,516 weights.
    assert [sum(s2 in inputs for inputs in C3_CONNECTIONS) for s2 in range(6)] == [10] * 6
    assert sum(lengths) * 25 + 16 == 1_516


def test_scaled_tanh_against_the_formula():
    x = torch.linspace(-4, 4, 33, dtype=torch.float64)
    expected = torch.tensor([1.7159 * math.tanh(2 * v / 3) for v in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(ScaledTanh()(x), expected, rtol=1e-14, atol=0)


def test_first_weights_are_uniform_in_2_4_over_fan_in():
    torch.manual_seed(0)
    net = models.create("lenet5-1998")
    bounds = {"c1": 2.4 / 25, "s2": 2.4 / 4, "s4": 2.4 / 4, "c5": 2.4 / 400, "f6": 2.4 / 120, "output": 2.4 / 84}
    for name, bound in bounds.items():
        values = torch.nn.utils.parameters_to_vector(net.get_submodule(name).parameters())
        assert values.abs().max() <= bound
        assert values.abs().max() > 0.8 * bound
        # A uniform distribution over ±b has the mean square b²/3.
        slack = 0.5 if values.numel() < 100 else 0.15
        assert values.square().mean().item() == pytest.approx(bound**2 / 3, rel=slack)
    c3 = net.get_submodule("c3")
    start = 0
    for k, inputs in enumerate(C3_CONNECTIONS):
        bound = 2.4 / (25 * len(inputs))
        kernels = c3.weight[start : start + len(inputs)]
        assert 0.9 * bound < kernels.abs().max() <= bound
        assert c3.bias[k].abs() <= bound
        start += len(inputs)


def test_28_is_padded_by_copies_of_the_border():
    front = models.create("lenet5-1998", input_size=(28, 28)).get_submodule("front")
    x = torch.randn(1, 1, 28, 28)
    y = front(x)
    assert torch.equal(y[:, :, 2:30, 2:30], x)
    assert torch.equal(y[0, 0, :3, 5], x[0, 0, 0, 3].expand(3))
    assert y[0, 0, 31, 0] == x[0, 0, 27, 0]


def test_other_sizes_are_resized():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    front = models.create("lenet5-1998", input_size=(8, 8)).get_submodule("front")
    # Bilinear at 4x: the centre of column j lies at (j + 0.5) / 4 - 0.5, held at the border.
    expected = ((torch.arange(32) + 0.5) / 4 - 0.5).clamp(0, 7).expand(1, 1, 32, 32)
    torch.testing.assert_close(front(ramp), expected)
    assert list(front.parameters()) == []


def test_32_passes_unchanged():
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(models.create("lenet5-1998", in_channels=3).get_submodule("front")(x), x)


def test_the_whole_pass_by_hand():
    torch.manual_seed(1)
    net = models.create("lenet5-1998").double()
    x = torch.randn(2, 1, 32, 32, dtype=torch.float64)

    def squash(v):
        return 1.7159 * torch.tanh(2 / 3 * v)

    def subsample(v, layer: TrainableSubsampling2d):
        total = v[:, :, ::2, ::2] + v[:, :, 1::2, ::2] + v[:, :, ::2, 1::2] + v[:, :, 1::2, 1::2]
        return total * layer.coefficient.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)

    state = net.state_dict()
    s2 = squash(subsample(squash(torch.nn.functional.conv2d(x, state["c1.weight"], state["c1.bias"])), net.s2))
    maps, start = [], 0
    for k, inputs in enumerate(C3_CONNECTIONS):
        kernels = state["c3.weight"][start : start + len(inputs)]
        maps.append(torch.nn.functional.conv2d(s2[:, list(inputs)], kernels[None], state["c3.bias"][k : k + 1]))
        start += len(inputs)
    s4 = squash(subsample(squash(torch.cat(maps, 1)), net.s4))
    c5 = squash(s4.flatten(1) @ state["c5.weight"].flatten(1).T + state["c5.bias"])
    f6 = squash(c5 @ state["f6.weight"].T + state["f6.bias"])
    torch.testing.assert_close(net(x), f6 @ state["output.weight"].T + state["output.bias"])
