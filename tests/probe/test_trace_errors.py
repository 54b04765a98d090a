"""What a trace refuses, in one sentence each, and that nothing is left behind."""

import pytest
import torch
from torch import nn

import switchgrad
from switchgrad.errors import ModelError


def test_it_is_as_it_was_after_an_error():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with pytest.raises(
        ModelError, match=r"Sequential cannot take an input of 2x5 in training mode: layer \"0\" \(Linear\)"
    ):
        switchgrad.trace(net, torch.ones(2, 5), 0)
    assert not net[0]._forward_hooks
    assert isinstance(net[0]._parameters["weight"], nn.Parameter)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "there is no target; give a class number"),
        ({"target": 7}, "the target is .*7.*, but the model tells 2 classes apart; give a number from 0 to 1"),
        ({"target": torch.tensor([1, 0])}, r"the target has shape \[2\]; scores of \[1, 2\] want \[1\]"),
        ({"target": torch.zeros(2)}, r"the target has shape \[2\] and the output \[1, 2\]; give one like it"),
        ({"target": 0, "lr": 0.0}, "lr is 0.0; give a rate above 0"),
        ({"target": 0, "optimizer": "magic"}, 'optimizer is "magic"; give "sgd", "adam" or a function'),
        ({"loss": lambda y: y}, r"the loss has shape \[1, 2\]; one number is wanted"),
        ({"loss": lambda y: y.detach().sum()}, "nothing that the loss depends on requires a gradient"),
    ],
)
def test_errors_are_one_sentence(arguments, sentence):
    with pytest.raises(ModelError, match=sentence):
        switchgrad.trace(nn.Linear(3, 2), torch.ones(1, 3), **arguments)


def test_what_cannot_be_traced_is_refused():
    with pytest.raises(ModelError, match="lazy layers"):
        switchgrad.trace(nn.LazyLinear(2), torch.ones(1, 3), 0)
    stuck = nn.Linear(3, 2)
    stuck.generator = (i for i in range(3))
    with pytest.raises(ModelError, match=r"Linear cannot be copied .*generator.*; give it a __deepcopy__"):
        switchgrad.trace(stuck, torch.ones(1, 3), 0)
    with pytest.raises(ModelError, match=r"in training mode: layer .*Expected more than 1 value per channel"):
        switchgrad.trace(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), torch.ones(1, 3), 0)
