"""A trace against plain autograd: the same values, the same gradients, for any module, and nothing left behind."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import switchgrad
from switchgrad import models
from switchgrad.errors import ModelError


def by_title(story):
    return {step.title: step for step in story.steps}


def same(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["lenet5", "lenet5-1998", "convnet"])
def test_every_number_is_autograds(name):
    """Outputs and their gradients as retain_grad keeps them, weights' gradients, the update."""
    net = models.create(name, input_size=(12, 12))
    x, target = torch.randn(2, 1, 12, 12), torch.tensor([3, 1])
    story = switchgrad.trace(net, x, target, lr=0.05, seed=7)

    twin, kept, order = copy.deepcopy(net).train(), {}, []

    def keep(key, y):
        y.retain_grad()
        kept[key] = y
        order.append(key)

    for key, layer in twin.named_children():
        layer.register_forward_hook(lambda _, __, y, key=key: keep(key, y))
    leaf = x.clone().requires_grad_()
    torch.manual_seed(7)
    loss = F.cross_entropy(twin(leaf), target)
    loss.backward()

    assert story.loss.value == loss.item()
    assert [step.name for step in story.steps] == order
    for step in story.steps:
        same(step.outputs[0].value, kept[step.name].detach())
        same(step.outputs[0].gradient, kept[step.name].grad)
    same(story.inputs[0].gradient, leaf.grad)
    for before, step in zip(story.steps, story.steps[1:], strict=False):
        same(step.inputs[0].value, before.outputs[0].value)
        same(step.inputs[0].gradient, before.outputs[0].gradient)
        assert step.inputs[0].source == before.number
    weights = dict(twin.named_parameters())
    assert [update.name for update in story.updates] == list(weights)
    for update in story.updates:
        same(update.before, dict(net.named_parameters())[update.name].detach())
        same(update.gradient, weights[update.name].grad)
        torch.testing.assert_close(update.after, update.before - 0.05 * update.gradient, rtol=1e-6, atol=1e-8)


def test_the_loss_after_is_that_of_the_updated_weights():
    net, x = nn.Linear(4, 3), torch.randn(2, 4)
    story = switchgrad.trace(net, x, torch.tensor([0, 2]), lr=0.5)
    with torch.no_grad():
        for update in story.updates:
            dict(net.named_parameters())[update.name].copy_(update.after)
    assert story.loss.after == pytest.approx(F.cross_entropy(net(x), torch.tensor([0, 2])).item(), abs=1e-7)
    assert story.loss.after < story.loss.value


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, dy):
        return 2 * dy


class Everything(nn.Module):
    """A bit of all: a layer twice, in place, functions, a residual, recurrence, attention, a layer never called."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.twice = nn.Linear(4, 4)
        self.act = nn.ReLU(inplace=True)
        self.lstm = nn.LSTM(4, 4, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(4))
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.never = nn.Linear(2, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x, words):
        h = self.act(self.twice(x))
        h = torch.relu(self.twice(h) + x) * self.scale
        h, _ = self.lstm(h)
        h, _ = self.attention(h, h, h)
        h = self.drop(self.normed(h)) + self.embed(words)
        h = self.norm(h.transpose(1, 2))
        h = Twice.apply(switchgrad.ops.max_pool1d(h, 2))
        return self.head(h.flatten(1).contiguous())


def everything():
    return Everything(), (torch.randn(3, 4, 4), torch.randint(0, 5, (3, 4))), torch.tensor([0, 2, 1])


def test_any_module_gives_the_gradients_of_a_plain_step():
    net, inputs, target = everything()
    story = switchgrad.trace(net, inputs, target, seed=3)
    torch.manual_seed(3)
    F.cross_entropy(net(*inputs), target).backward()
    for update in story.updates:
        wanted = dict(net.named_parameters())[update.name].grad
        if update.name.startswith("never"):
            assert update.gradient is None
            same(update.after, update.before)
        else:
            torch.testing.assert_close(update.gradient, wanted, rtol=1e-5, atol=1e-7)
    assert story.uncalled == ("never",)


def test_any_module_is_told_step_by_step():
    net, inputs, target = everything()
    story = switchgrad.trace(net, inputs, target)
    titles = [step.title for step in story.steps]
    assert titles[:6] == ["twice", "act", "twice (call 2)", "add", "relu", "mul"]
    assert "multi_head_attention_forward in attention" in titles
    kinds = {step.kind: step for step in story.steps}
    assert kinds["unseen"].type == "TwiceBackward"
    assert "the tape holds TwiceBackward here" in kinds["unseen"].backward
    assert "flatten" in titles
    assert "contiguous" not in titles  # nothing happened
    steps = by_title(story)
    assert steps["max_pool1d"].winners.codes.shape == (3, 4, 2)
    assert steps["embed"].inputs[0].gradient is None
    assert steps["embed"].parameters[0].name == "embed.weight"
    assert [p.name for p in steps["mul"].parameters] == ["scale"]
    assert {p.name for p in steps["lstm"].parameters} == {
        f"lstm.{n}_l0" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    assert story.steps[3].inputs[1].source == 0


def test_a_shared_layer_has_the_gradients_of_each_call():
    net, inputs, target = everything()
    steps = by_title(switchgrad.trace(net, inputs, target))
    first, second = steps["twice"].parameters[0], steps["twice (call 2)"].parameters[0]
    assert not torch.equal(first.gradient, second.gradient)
    total = {u.name: u.gradient for u in switchgrad.trace(net, inputs, target).updates}["twice.weight"]
    torch.testing.assert_close(first.gradient + second.gradient, total)
    dy, x = steps["twice (call 2)"].outputs[0].gradient, steps["twice (call 2)"].inputs[0].value
    torch.testing.assert_close(second.gradient, torch.einsum("nti,ntj->ij", dy, x))


def test_in_place_layers_keep_their_gradients():
    """The tape forgets hooks on a view that is changed in place; a Linear on sequences gives such a view."""
    net, inputs, target = everything()
    steps = by_title(switchgrad.trace(net, inputs, target))
    act, linear = steps["act"], steps["twice"]
    same(act.inputs[0].gradient, act.outputs[0].gradient * (act.inputs[0].value > 0))
    same(linear.outputs[0].gradient, act.inputs[0].gradient)
    assert bool((act.inputs[0].value < 0).any())


class Residual(nn.Module):
    def __init__(self, inplace):
        super().__init__()
        self.a, self.act, self.b = nn.Linear(3, 3), nn.ReLU(inplace=inplace), nn.Linear(3, 3)

    def forward(self, x):
        h = self.a(x)
        y = self.act(h)
        return self.b(y) + h  # with inplace h is y


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 3)])
def test_what_is_done_in_place_is_done(inplace, shape):
    net, x = Residual(inplace), torch.randn(shape)
    story = switchgrad.trace(net, x, torch.zeros(shape))
    assert story.loss.value == pytest.approx(F.mse_loss(net(x), torch.zeros(shape)).item(), abs=1e-7)
    F.mse_loss(net(x), torch.zeros(shape)).backward()
    for update in story.updates:
        torch.testing.assert_close(update.gradient, dict(net.named_parameters())[update.name].grad)


def test_each_use_of_a_tensor_has_its_own_share():
    story = switchgrad.trace(Residual(False), torch.randn(2, 3), torch.zeros(2, 3))
    steps = by_title(story)
    through_act, skipped = steps["act"].inputs[0].gradient, steps["add"].inputs[1].gradient
    torch.testing.assert_close(steps["a"].outputs[0].gradient, through_act + skipped)


def test_the_model_is_as_it_was():
    net, inputs, target = everything()
    net.drop.eval()
    net.head.weight.grad = torch.ones_like(net.head.weight)
    handle = net.act.register_forward_hook(lambda *_: None)
    before = copy.deepcopy(net.state_dict())
    modes = [part.training for part in net.modules()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()]
    random = torch.get_rng_state()
    switchgrad.trace(net, inputs, target)
    assert torch.equal(torch.get_rng_state(), random)
    assert before.keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        same(tensor, before[name])
    assert [part.training for part in net.modules()] == modes
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()] == hooks
    same(net.head.weight.grad, torch.ones(3, 8))
    assert net.twice.weight.grad is None
    assert not inputs[0].requires_grad
    handle.remove()
    assert net(*inputs).grad_fn is not None  # the LSTM's own list of weights is sound


class Own(nn.Module):
    """A layer of one's own without layers within."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 3))

    def forward(self, x):
        return torch.tanh(x @ self.w)


def test_layers_of_ones_own():
    story = switchgrad.trace(nn.Sequential(Own(), nn.Linear(3, 2)), torch.randn(1, 3), 1)
    assert story.steps[0].type == "Own"
    assert story.steps[0].functions == ("matmul", "tanh")
    assert story.steps[0].parameters[0].name == "0.w"
    assert story.steps[0].backward == "the tape goes back through matmul, tanh, last to first."
    alone = switchgrad.trace(Own(), torch.randn(1, 3), 1)
    assert [step.title for step in alone.steps] == ["matmul", "tanh"]


def test_a_layer_alone():
    story = switchgrad.trace(nn.Linear(3, 2), torch.randn(1, 3), 1)
    assert [step.name for step in story.steps] == ["(model)"]


class Documented(switchgrad.nn.MaxPool2d):
    """Something new.

    Backward: :math:`dx` is ``dy``
    at the winner.
    """


def test_rules_come_from_the_class_or_its_docstring():
    from switchgrad.probe.tracing.rules import documented, function_rule, layer_rule

    assert "winner" in layer_rule(Documented(2)).backward
    assert documented(Documented) == ("Something new.", "dx is dy at the winner.")
    assert layer_rule(nn.Hardswish()).backward == "what its own backward says."
    told = layer_rule(switchgrad.nn.SoftPool2d(2))
    assert told.backward == "∂y / ∂x_i = w_i (1 + x_i - y)."
    assert function_rule("erfinv").backward == "PyTorch's own derivative of erfinv."
    for name in models.names():
        for layer in models.create(name).children():
            assert "its own" not in layer_rule(layer).backward, layer


def test_old_weight_normalisation_is_followed():
    with pytest.warns(FutureWarning):
        net = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 2))
    net(torch.ones(1, 3))  # leaves a weight that hangs on a tape, which deepcopy refuses
    story = switchgrad.trace(net, torch.ones(1, 3), 0)
    assert {u.name for u in story.updates if u.gradient is not None} >= {"0.weight_g", "0.weight_v", "1.weight"}


def test_named_inputs_several_outputs_and_a_loss_of_ones_own():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(3, 2), nn.Linear(3, 4)

        def forward(self, x, scale=None):
            return {"up": self.up(x) * scale, "down": self.down(x)}

    def total(output):
        return output["up"].sum() - output["down"].mean()

    story = switchgrad.trace(Two(), {"x": torch.ones(1, 3), "scale": torch.tensor(2.0)}, loss=total)
    assert story.loss.name == "total"
    assert [step.title for step in story.steps] == ["up", "mul", "down"]
    same(story.inputs[1].gradient, story.steps[0].outputs[0].value.sum())
    with pytest.raises(ModelError, match="gives a dict, not one tensor; give a loss"):
        switchgrad.trace(Two(), {"x": torch.ones(1, 3), "scale": torch.tensor(2.0)}, 0)


def test_updates_by_adam_and_by_an_optimiser_of_ones_own():
    net = nn.Linear(3, 2)
    story = switchgrad.trace(net, torch.ones(1, 3), 0, optimizer="adam", lr=0.01)
    step = story.updates[0].after - story.updates[0].before
    torch.testing.assert_close(step, -0.01 * story.updates[0].gradient.sign(), rtol=1e-3, atol=1e-6)

    def decay(parameters):
        return torch.optim.SGD(parameters, lr=0.1, weight_decay=0.5)

    story = switchgrad.trace(net, torch.ones(1, 3), 0, optimizer=decay)
    wanted = story.updates[0].before - 0.1 * (story.updates[0].gradient + 0.5 * story.updates[0].before)
    torch.testing.assert_close(story.updates[0].after, wanted)
    assert story.rule == "decay"


def test_dropout_drops_by_the_seed_and_not_in_evaluation():
    net = nn.Sequential(nn.Linear(20, 20), nn.Dropout(0.5), nn.Linear(20, 2))
    masks = [switchgrad.trace(net, torch.ones(1, 20), 0, seed=s).steps[1].outputs[0].value == 0 for s in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    still = switchgrad.trace(net, torch.ones(1, 20), 0, training=False)
    same(still.steps[1].outputs[0].value, still.steps[1].inputs[0].value)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.MaxPool2d(3, 2, 1), (1, 2, 7, 6)),
        (lambda: switchgrad.nn.MaxPool2d(2, padding="same"), (1, 2, 5, 5)),
        (lambda: nn.MaxPool2d(2, ceil_mode=True), (2, 5, 5)),
        (lambda: nn.MaxPool1d(3, 2), (1, 2, 9)),
        (lambda: nn.MaxPool3d(2), (1, 1, 4, 4, 4)),
        (lambda: nn.AdaptiveMaxPool2d(3), (1, 2, 7, 5)),
    ],
)
def test_winners_get_the_gradient(make, shape):
    story = switchgrad.trace(
        make(), torch.randn(shape), loss=lambda y: (y * torch.arange(1.0, 1 + y.numel()).view_as(y)).sum()
    )
    step = story.steps[0]
    dims = len(step.winners.input_size)
    routed = torch.zeros(step.inputs[0].value.flatten(-dims).shape).scatter_add(
        -1, step.winners.indices.flatten(-dims), step.outputs[0].gradient.flatten(-dims)
    )
    same(step.inputs[0].gradient, routed.view(shape))
    assert (step.winners.codes is None) == isinstance(make(), nn.AdaptiveMaxPool2d)


@pytest.mark.parametrize(
    "layer",
    [switchgrad.nn.ReLUMaxPool2d(2), switchgrad.nn.FractionalMaxPool2d(2, output_size=3), switchgrad.nn.MaxPool2d(2)],
)
def test_layers_that_keep_switches_tell_them(layer):
    """Those that draw at random tell what they drew; a window without a winner sends nothing back."""
    x, random = torch.rand(1, 2, 6, 6) - 0.7, torch.get_rng_state()
    step = switchgrad.trace(nn.Sequential(nn.Identity(), layer), x, loss=torch.sum, seed=5).steps[1]
    assert torch.equal(torch.get_rng_state(), random)
    indices = step.winners.indices.flatten(2)[0] % 37  # no winner (-1) goes into a cell that is cut off
    won = torch.zeros(2, 37).scatter_add(1, indices, torch.ones(2, 9))[:, :36]
    same(step.inputs[0].gradient.view(2, 36), won)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.max_pool2d(x, 2),
        lambda x: torch.max_pool2d(x, (2, 1), stride=2),
        lambda x: F.adaptive_max_pool2d(x, 2),
    ],
)
def test_functions_have_winners_too(function):
    class Net(nn.Module):
        def forward(self, x):
            return function(x).sum().view(1)

    step = switchgrad.trace(Net(), torch.randn(1, 1, 6, 6), loss=torch.sum).steps[0]
    won = torch.zeros(36, dtype=torch.bool)
    won[step.winners.indices.flatten()] = True
    assert torch.equal(won.view(1, 1, 6, 6), step.inputs[0].gradient != 0)


def test_notes_say_what_is_worth_a_look():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.dead, self.act, self.cut, self.wild = nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Linear(2, 2)
            nn.init.zeros_(self.dead.weight)
            nn.init.constant_(self.dead.bias, -1)
            nn.init.constant_(self.wild.bias, float("nan"))

        def forward(self, x):
            return self.act(self.dead(x)) + self.cut(x).detach() + 0 * self.wild(x)

    steps = by_title(switchgrad.trace(Net(), torch.ones(1, 2), torch.zeros(1, 2)))
    assert "2 of 2 cells were not above 0 and stop the gradient" in steps["act"].notes
    assert "every value put out is 0" in steps["act"].notes
    assert "no gradient came back: nothing after it leads to the loss" in steps["cut"].notes
    assert "2 of 2 values put out are not finite" in steps["wild"].notes
