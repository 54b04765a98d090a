"""Jordan's and the independently recurrent network: against their formulas step by step, called as torch.nn.RNN is."""

import pytest
import torch
from torch import nn

from switchgrad.errors import GeometryError, ModelError
from switchgrad.nn import IndRNN, IndRNNCell, Jordan, JordanCell

F64 = {"dtype": torch.float64}


def jordan_by_formula(cell, x, s):
    h = torch.tanh(cell.weight_ih @ x + cell.weight_sh @ s + cell.bias_h)
    y = torch.sigmoid(cell.weight_ho @ h + cell.bias_o)
    return y, cell.decay * s + y


def indrnn_by_formula(cell, x, h):
    return torch.stack(
        [
            (cell.weight_ih[i] @ x + cell.weight_hh[i] * h[i] + cell.bias[i]).clamp_min(0)
            for i in range(cell.hidden_size)
        ]
    )


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_jordan_cell(decay):
    torch.manual_seed(0)
    cell = JordanCell(3, 4, 2, output_nonlinearity="sigmoid", decay=decay, **F64)
    x, s = torch.randn(5, 3, **F64), torch.randn(5, 2, **F64)
    wanted = [torch.stack(t) for t in zip(*(jordan_by_formula(cell, x[n], s[n]) for n in range(5)), strict=True)]
    torch.testing.assert_close(list(cell(x, s)), wanted)
    torch.testing.assert_close(list(cell(x[0], s[0])), [t[0] for t in wanted])
    torch.testing.assert_close(cell(x)[0], cell(x, torch.zeros_like(s))[0])


def test_indrnn_cell():
    torch.manual_seed(0)
    cell = IndRNNCell(3, 4, **F64)
    x, h = torch.randn(5, 3, **F64), torch.randn(5, 4, **F64)
    torch.testing.assert_close(cell(x, h), torch.stack([indrnn_by_formula(cell, x[n], h[n]) for n in range(5)]))
    torch.testing.assert_close(cell(x[0]), indrnn_by_formula(cell, x[0], torch.zeros(4, **F64)))


def test_indrnn_is_a_plain_network_whose_recurrent_matrix_is_diagonal():
    torch.manual_seed(0)
    ours, plain = (
        IndRNN(3, 4, num_layers=2, bidirectional=True, **F64),
        nn.RNN(3, 4, 2, "relu", bidirectional=True, **F64),
    )
    for index, cell in enumerate(ours.cells):
        name = f"_l{index // 2}{'_reverse' * (index % 2)}"
        state = {"weight_ih": cell.weight_ih, "weight_hh": cell.weight_hh.diag(), "bias_ih": cell.bias}
        for key, value in {**state, "bias_hh": torch.zeros(4)}.items():
            getattr(plain, key + name).data.copy_(value)
    x, h = torch.randn(6, 2, 3, **F64), torch.randn(4, 2, 4, **F64)
    torch.testing.assert_close(ours(x, h), plain(x, h))
    gradients = []
    for net in (ours, plain):
        leaf = x.clone().requires_grad_()
        sum(t.square().sum() for t in net(leaf, h)).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_jordan_over_a_sequence_is_its_cells_step_by_step():
    torch.manual_seed(0)
    net = Jordan(3, 5, 2, num_layers=2, decay=0.2, **F64)
    x, states = torch.randn(4, 3, 3, **F64), torch.randn(2, 3, 2, **F64)
    output, last = net(x, states)
    lower, upper = states
    for t in range(4):
        below, lower = net.cells[0](x[t], lower)
        above, upper = net.cells[1](below, upper)
        torch.testing.assert_close(output[t], above)
    torch.testing.assert_close(last, torch.stack([lower, upper]))


NETWORKS = [
    lambda **o: Jordan(3, 5, 2, num_layers=2, **o, **F64),
    lambda **o: IndRNN(3, 2, num_layers=2, nonlinearity="tanh", **o, **F64),
]


@pytest.mark.parametrize("make", NETWORKS)
def test_batch_first_and_no_batch(make):
    torch.manual_seed(0)
    net, turned = make(), make(batch_first=True)
    turned.load_state_dict(net.state_dict())
    x, hx = torch.randn(4, 2, 3, **F64), torch.randn(2, 2, 2, **F64)
    output, state = net(x, hx)
    for other in (turned(x.transpose(0, 1), hx), turned(x.transpose(0, 1).contiguous(), hx)):
        torch.testing.assert_close(other, (output.transpose(0, 1), state))
    torch.testing.assert_close(net(x[:, 1], hx[:, 1]), (output[:, 1], state[:, 1]))


@pytest.mark.parametrize("make", NETWORKS)
def test_gradients_by_finite_differences(make):
    torch.manual_seed(0)
    net = make()
    names = [name for name, _ in net.named_parameters()]

    def call(x, hx, *values):
        return torch.func.functional_call(net, dict(zip(names, values, strict=True)), (x, hx))

    x, hx = (torch.randn(shape, **F64, requires_grad=True) for shape in ((3, 2, 3), (2, 2, 2)))
    assert torch.autograd.gradcheck(call, (x, hx, *net.parameters()), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (x, hx, *net.parameters()), fast_mode=True)


def test_dropout_acts_between_layers_in_training_only():
    torch.manual_seed(0)
    net = IndRNN(3, 50, num_layers=2, dropout=0.5)
    x = torch.rand(2, 1, 3)
    assert not torch.equal(net(x)[0], net(x)[0])
    net.eval()
    assert torch.equal(net(x)[0], net(x)[0])
    single = IndRNN(3, 50, dropout=0.5)
    assert torch.equal(single(x)[0], single(x)[0])


def test_recurrent_weights_are_clipped_so_that_little_grows_in_so_many_steps():
    net = IndRNN(2, 8, num_layers=2)
    for cell in net.cells:
        cell.weight_hh.data = torch.linspace(-3, 3, 8)
    net.clip_recurrent(10)
    assert all((cell.weight_hh.abs() ** 10 <= 2 * 1.0001).all() for cell in net.cells)
    assert net.cells[0].weight_hh.abs().max() ** 10 > 1.999


def test_indrnn_remembers_over_a_thousand_steps():
    torch.manual_seed(0)
    net = IndRNN(1, 2)
    net.cells[0].weight_hh.data.fill_(1.0)
    net.cells[0].weight_ih.data.fill_(1.0)
    net.cells[0].bias.data.zero_()
    x = torch.zeros(1000, 1)
    x[0] = 1.0
    x.requires_grad_()
    net(x)[0][-1].sum().backward()
    assert x.grad[0].item() == 2.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: IndRNN(3, 4)(torch.zeros(2, 2, 4)), r"wants \[L, N, 3\]"),
        (lambda: IndRNN(3, 4, batch_first=True)(torch.zeros(3)), r"wants \[N, L, 3\]"),
        (lambda: Jordan(3, 4, 2)(torch.zeros(2, 5, 3), torch.zeros(1, 5, 4)), r"give \(1, 5, 2\)"),
        (lambda: Jordan(3, 4, 2)(torch.zeros(2, 3), torch.zeros(2)), r"give \(1, 2\)"),
        (lambda: IndRNN(3, 4)(torch.zeros(0, 2, 3)), "at least 1 step"),
        (lambda: IndRNN(3, 4)(nn.utils.rnn.pack_sequence([torch.zeros(2, 3)])), "give a padded tensor"),
        (lambda: IndRNNCell(3, 4)(torch.zeros(2, 2, 3)), r"wants \[N, 3\]"),
        (lambda: JordanCell(3, 4, 2)(torch.zeros(5, 3), torch.zeros(5, 4)), r"the state is \(5, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(GeometryError, match=words):
        call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: IndRNN(3, 0), "hidden_size is 0"),
        (lambda: IndRNN(3, 4, num_layers=0), "num_layers is 0"),
        (lambda: Jordan(3, 4, 2, nonlinearity="swish"), "'tanh'"),
        (lambda: Jordan(3, 4, 2, dropout=1.0), "dropout is 1.0"),
        (lambda: JordanCell(3, 4, 2, decay=1.0), "decay is 1.0"),
        (lambda: IndRNNCell(3, 4).clip_recurrent(0), "steps is 0"),
    ],
)
def test_arguments_out_of_range_are_refused(call, words):
    with pytest.raises(ModelError, match=words):
        call()
