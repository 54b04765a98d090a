"""The network of written-out layers: the same LeNet-5 as PyTorch's, and it learns the digits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from harness.written_out import close, seeded
from switchgrad import data, models
from switchgrad.errors import ModelError
from switchgrad.reference import (
    SGD,
    BatchNormEvaluation,
    CrossEntropy,
    Dropout,
    Linear,
    Momentum,
    Network,
    SquaredError,
    lenet5,
)


def in_double(net):
    net.parameters = [[theta.double() for theta in parameters] for parameters in net.parameters]
    return net


@pytest.fixture
def pair():
    """Our network, and PyTorch's with the same weights."""
    net = in_double(lenet5.lenet5(seeded("lenet5")))
    theirs = models.create("lenet5", input_size=(8, 8)).double()
    with torch.no_grad():
        for parameter, ours in zip(theirs.parameters(), (t for row in net.parameters for t in row), strict=True):
            parameter.copy_(ours)
    return net, theirs


@pytest.fixture
def batch():
    split = data.load("digits").val
    return (split.images[:16].double() / 255 - 0.3) / 0.4, split.labels[:16]


def test_lenet5_is_pytorch_s_to_rounding(pair, batch):
    net, theirs = pair
    x, y = batch[0].clone().requires_grad_(), batch[1]
    scores = net.forward(batch[0])
    wanted = theirs(x)
    close(scores, wanted, "scores")
    J, kept = CrossEntropy().forward(scores, y)
    dx = net.backward(CrossEntropy().backward(torch.ones_like(J), kept)[0])
    F.cross_entropy(wanted, y).backward()
    close(dx, x.grad, "gradient of the picture")
    ours = [g for row in net.gradients for g in row]
    for (name, parameter), gradient in zip(theirs.named_parameters(), ours, strict=True):
        close(gradient, parameter.grad, name)


def test_three_steps_of_training_are_pytorch_s_to_rounding(pair, batch):
    net, theirs = pair
    x, y = batch
    optimiser = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    for _ in range(3):
        _, kept = CrossEntropy().forward(net.forward(x), y)
        net.backward(CrossEntropy().backward(torch.ones((), dtype=x.dtype), kept)[0])
        net.update(Momentum(0.05, 0.9))
        optimiser.zero_grad()
        F.cross_entropy(theirs(x), y).backward()
        optimiser.step()
    ours = [theta for row in net.parameters for theta in row]
    for (name, parameter), theta in zip(theirs.named_parameters(), ours, strict=True):
        close(theta, parameter, name, 1e-11)


def test_it_works_where_no_tape_can_be(batch):
    with torch.inference_mode():
        net = in_double(lenet5.lenet5(seeded("lenet5")))
        before = net.parameters[0][0].clone()
        x, y = batch[0].clone(), batch[1].clone()
        _, kept = CrossEntropy().forward(net.forward(x), y)
        net.backward(CrossEntropy().backward(torch.ones((), dtype=x.dtype), kept)[0])
        net.update(SGD(0.1))
    assert not torch.equal(net.parameters[0][0], before)


def test_lenet5_learns_95_percent_of_held_out_digits():
    """With nothing but the files of `switchgrad.reference`; it takes four or five epochs, about a second in all."""
    said = []
    assert lenet5.main(say=said.append) >= 0.95
    assert "of 359 held-out digits" in said[-1]
    assert len(said) <= 8


def test_an_untrained_lenet5_guesses_and_says_what_it_reached():
    """The share that `main` gives back is measured, not promised."""
    said = []
    right = lenet5.main(most_epochs=1, say=said.append)
    assert 0.1 < right < 0.95
    assert len(said) == 1


def test_accuracy_is_the_share_of_right_answers():
    net = Network([(Linear(), (torch.eye(3), torch.zeros(3)))])
    assert lenet5.accuracy(net, torch.eye(3)[[0, 1, 2, 2]], torch.tensor([0, 1, 2, 0])) == 0.75


def test_masks_and_statistics_get_no_gradient_and_stay():
    mask, mu, variance = torch.tensor([[1.0, 0.0]]), torch.tensor([0.5, 0.5]), torch.tensor([4.0, 4.0])
    gamma, beta = torch.ones(2), torch.zeros(2)
    net = Network([(Dropout(0.5), (mask,)), (BatchNormEvaluation(), (gamma, beta, mu, variance))])
    loss = SquaredError()
    _, kept = loss.forward(net.forward(torch.ones(1, 2)), torch.ones(1, 2))
    dx = net.backward(loss.backward(torch.ones(()), kept)[0])
    net.update(SGD(0.1))
    assert [[g is None for g in row] for row in net.gradients] == [[True], [False, False, True, True]]
    assert net.parameters[0][0] is mask
    assert net.parameters[1][2] is mu
    assert not torch.equal(net.parameters[1][0], gamma)
    assert dx[0, 1] == 0


def test_phases_out_of_order_are_refused():
    net = Network([(Linear(), (torch.eye(2), torch.zeros(2)))])
    with pytest.raises(ModelError, match="backward was called before forward"):
        net.backward(torch.ones(1, 2))
    net.forward(torch.ones(1, 2))
    with pytest.raises(ModelError, match="update was called before backward"):
        net.update(SGD(0.1))
