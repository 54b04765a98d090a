"""Checkpoints: everything comes back bit for bit, and a damaged or foreign file is refused and changes nothing."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from switchgrad.errors import RunError
from switchgrad.train import Position, Recipe
from switchgrad.train.checkpoint import STATE, WEIGHTS, load_state, put_weights, read, save_state, save_weights
from switchgrad.train.loop import make_optimizer

IDENTITY = {"recipe": {"epochs": 3}, "data": "abc"}


class Net(nn.Module):
    """Batch norm for buffers of floats and integers, a 0-d parameter, channels-last weights."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.norm(self.conv(x)).mean((2, 3)) * self.scale


def stepped(optimizer_name, steps=3):
    torch.manual_seed(0)
    net = Net()
    optimizer = make_optimizer(net, Recipe(optimizer=optimizer_name))
    step(net, optimizer, steps)
    return net, optimizer


def step(net, optimizer, count, seed=5):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        optimizer.zero_grad()
        net(torch.randn(6, 3, 8, 8, generator=generator)).pow(2).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("optimizer_name", ["sgd", "adamw"])
def test_a_loaded_state_goes_on_bit_for_bit(tmp_path, optimizer_name):
    path = tmp_path / "last" / "state.safetensors"
    net, optimizer = stepped(optimizer_name)
    position = Position(epoch=0, step=3, seen=18, correct=7, loss_sum=1 / 3, seconds=2.5)
    save_state(path, net, optimizer, position, IDENTITY)

    torch.manual_seed(77)
    other = Net()
    other_optimizer = make_optimizer(other, Recipe(optimizer=optimizer_name))
    assert load_state(path, other, other_optimizer, IDENTITY) == position
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    assert other.conv.weight.is_contiguous(memory_format=torch.channels_last)
    for (name, mine), theirs in zip(net.named_parameters(), other.parameters(), strict=True):
        saved, loaded = optimizer.state[mine], other_optimizer.state[theirs]
        assert saved.keys() == loaded.keys()
        for key in saved:
            assert torch.equal(saved[key], loaded[key]), (name, key)
            assert saved[key].stride() == loaded[key].stride(), (name, key)

    step(net, optimizer, 4, seed=9)
    step(other, other_optimizer, 4, seed=9)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_state_before_the_first_step(tmp_path):
    net, optimizer = stepped("adamw", steps=0)
    save_state(tmp_path / "s", net, optimizer, Position(), IDENTITY)
    again, again_optimizer = stepped("adamw", steps=0)
    assert load_state(tmp_path / "s", again, again_optimizer, IDENTITY) == Position()
    assert not again_optimizer.state


def test_no_pickle_is_written(tmp_path):
    net, optimizer = stepped("sgd")
    save_state(tmp_path / "s", net, optimizer, Position(), IDENTITY)
    save_weights(tmp_path / "w", net, {"a": 1})
    for name in ("s", "w"):
        with (tmp_path / name).open("rb") as file, pytest.raises(pickle.UnpicklingError):
            pickle.load(file)


def test_tied_weights_are_saved_and_loaded(tmp_path):
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    optimizer = make_optimizer(net, Recipe())
    save_state(tmp_path / "s", net, optimizer, Position(), IDENTITY)
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    other[1].weight = other[0].weight
    load_state(tmp_path / "s", other, make_optimizer(other, Recipe()), IDENTITY)
    assert torch.equal(other[1].weight, net[0].weight)
    assert other[1].weight is other[0].weight


def test_spoilt_weights_are_not_saved_over_good_ones(tmp_path):
    net, optimizer = stepped("sgd")
    save_state(tmp_path / "s", net, optimizer, Position(), IDENTITY)
    good = (tmp_path / "s").read_bytes()
    with torch.no_grad():
        net.conv.bias[1] = float("nan")
    with pytest.raises(
        RunError, match=r"the weights 'conv.bias' are no longer finite in epoch 1, so they were not saved"
    ):
        save_state(tmp_path / "s", net, optimizer, Position(), IDENTITY)
    assert (tmp_path / "s").read_bytes() == good


def saved(tmp_path):
    net, optimizer = stepped("sgd")
    save_state(tmp_path / "s", net, optimizer, Position(), IDENTITY)
    return tmp_path / "s"


def refused(path, sentence, identity=IDENTITY, net=None):
    net = net or stepped("sgd")[0]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    optimizer = make_optimizer(net, Recipe())
    with pytest.raises(RunError, match=sentence) as caught:
        load_state(path, net, optimizer, identity)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not optimizer.state


def test_a_missing_file(tmp_path):
    refused(tmp_path / "none", "does not exist, so there is nothing to load")


@pytest.mark.parametrize("keep", [0, 7, 300, -1])
def test_a_file_cut_short(tmp_path, keep):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "is damaged or no safetensors file")


def test_a_file_of_noise(tmp_path):
    (tmp_path / "s").write_bytes(bytes(range(256)) * 10)
    refused(tmp_path / "s", "is damaged or no safetensors file")


def test_a_pickle_is_no_checkpoint(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "s")
    refused(tmp_path / "s", "is damaged or no safetensors file")


def test_a_foreign_safetensors_file(tmp_path):
    save_file({"a": torch.zeros(3)}, str(tmp_path / "s"))
    refused(tmp_path / "s", "is not a checkpoint of the form 'switchgrad state 1', but 'unmarked'")
    save_weights(tmp_path / "s", Net(), {})
    refused(tmp_path / "s", "but 'switchgrad weights 1'")


@pytest.mark.parametrize("fields", ["", "[]", "{", "{}", '{"position": 3, "identity": {}}'])
def test_a_description_that_is_none(tmp_path, fields):
    save_file({"a": torch.zeros(3)}, str(tmp_path / "s"), metadata={"format": STATE, "fields": fields})
    refused(tmp_path / "s", "damaged|changed")


def test_another_recipe_or_other_data(tmp_path):
    path = saved(tmp_path)
    refused(path, "the recipe changed since it was saved", identity={**IDENTITY, "recipe": {"epochs": 4}})
    refused(path, "the data changed since it was saved", identity={**IDENTITY, "data": "xyz"})


def test_another_network(tmp_path):
    path = saved(tmp_path)
    refused(path, "it lacks .*'0.weight'.* and brings", net=nn.Sequential(nn.Linear(2, 2)))
    wider = Net()
    wider.norm = nn.BatchNorm2d(5)
    refused(path, r"'norm.weight' is torch.float32 \[4\] in the file and torch.float32 \[5\] in the net", net=wider)


def test_moments_of_other_parameters(tmp_path):
    net, _ = stepped("sgd")
    tensors = {f"model/{name}": tensor.clone().contiguous() for name, tensor in net.state_dict().items()}
    metadata = {"format": STATE, "fields": json.dumps({"position": Position().to_fields(), "identity": IDENTITY})}
    for name, tensor in (
        ("optimizer/momentum_buffer/nobody", torch.zeros(3)),
        ("optimizer/momentum_buffer/conv.bias", torch.zeros(9)),
    ):
        save_file({**tensors, name: tensor}, str(tmp_path / "s"), metadata=metadata)
        refused(tmp_path / "s", "an optimiser's state for other parameters")


def test_a_module_that_keeps_more_than_tensors(tmp_path):
    class Odd(nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

        def set_extra_state(self, state):
            pass

    with pytest.raises(RunError, match="keeps '_extra_state', which is no tensor"):
        save_weights(tmp_path / "w", Odd(2, 2), {})


def test_weights_and_their_fields_come_back(tmp_path):
    net = stepped("sgd")[0]
    fields = {"classes": ["ants", "bees"], "mean": [0.1 + 0.2]}
    save_weights(tmp_path / "w", net, fields)
    checkpoint = read(tmp_path / "w", WEIGHTS)
    assert checkpoint.fields == fields
    other = Net()
    put_weights(other, checkpoint.tensors, tmp_path / "w")
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
