"""Weight gradients of wide linear layers come last, and are in every other respect what they would have been."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import switchgrad
from switchgrad import ops
from switchgrad.fusion import late, linear_rules, tuning

WIDE = 48 * 32


class Head(nn.Module):
    """A convolution, then what ``head`` says of a wide linear layer."""

    def __init__(self, bias=True, square=32):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.wide = nn.Linear(48, square, bias)
        self.again = nn.Linear(square, square, bias)

    def forward(self, x):
        return self.head(torch.flatten(self.pool(torch.relu(self.conv(x))), 1))

    def head(self, x):
        return self.again(torch.relu_(self.wide(x)))


class Twice(Head):
    def head(self, x):
        return self.again(self.again(self.again(self.wide(x))))


class Called(Head):
    def head(self, x):
        return functional.linear(x, self.wide.weight, self.wide.bias)


class Rows(Head):
    """A batch of rows of rows, which PyTorch's own layer takes."""

    def head(self, x):
        return self.again(self.wide(x.unsqueeze(1)))


@pytest.fixture(autouse=True)
def layers_alone(monkeypatch):
    """Weights as small as these would go through `ops.mlp` together."""
    monkeypatch.setattr(linear_rules, "TOO_LARGE", 1)


def made(kind=Head, monkeypatch=None, *, fewest=WIDE // 2, **arguments):
    """A model and the same through `optimize`, where weights of so many numbers are wide."""
    torch.manual_seed(0)
    model = kind(**arguments)
    if monkeypatch is not None:
        monkeypatch.setattr(late, "FEWEST", fewest)
    return switchgrad.optimize(model), torch.randn(3, 1, 8, 8, requires_grad=True)


@pytest.fixture(params=[Twice, Called])
def both(request, monkeypatch):
    """A model with late gradients, the same without, and a picture."""
    ours, x = made(request.param, monkeypatch)
    plain = made(request.param, monkeypatch, fewest=10**9)[0]
    monkeypatch.setattr(late, "FEWEST", WIDE // 2)
    return ours, plain, x


def gradients(model, x, loss=lambda y: y.square().sum()):
    found = torch.autograd.grad(loss(model(x)), [x, *model.parameters()], allow_unused=True)
    return [torch.zeros(()) if gradient is None else gradient for gradient in found]


def same(first, second):
    assert len(first) == len(second)
    assert all(map(torch.equal, first, second))


def arrivals(model, x):
    """Names of the parameters in the order in which their gradients came."""
    order = []
    for name, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: order.append(name))
    model(x).square().sum().backward()
    return order


def test_wide_weights_come_last(monkeypatch):
    model, x = made(Head, monkeypatch)
    order = arrivals(model, x)
    assert set(order[-2:]) == {"wide.weight", "again.weight"}
    assert "conv.weight" in order[:-2]
    assert arrivals(made(Head, monkeypatch, fewest=10**9)[0], x)[-1].startswith("conv")


def test_what_was_kept_is_free_by_then(monkeypatch):
    """Of what forward keeps, nothing but the few rows is left when the first wide product is made."""
    model, x = made(Head, monkeypatch)
    alive, seen = set(), []

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor
            alive.add(id(self))

        def __del__(self):
            alive.discard(id(self))

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        loss = model(x).square().sum()
    assert alive
    model.wide.weight.register_hook(lambda _: seen.append(len(alive)))
    loss.backward()
    assert seen == [0]


def test_same_bits(both):
    ours, plain, x = both
    assert torch.equal(ours(x), plain(x))
    same(gradients(ours, x), gradients(plain, x))


@pytest.mark.parametrize("frozen", ["conv", "wide.weight", "wide.bias", "again", "x"])
def test_frozen_parts(both, frozen):
    found = []
    for model in both[:2]:
        x = both[2].detach().clone().requires_grad_(frozen != "x")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))
        model(x).square().sum().backward()
        found.append([p.grad if p.grad is not None else torch.zeros(()) for p in (x, *model.parameters())])
    same(*found)


def test_without_bias(monkeypatch):
    found = [gradients(*made(Head, monkeypatch, fewest=fewest, bias=False)) for fewest in (0, 10**9)]
    same(*found)


def test_several_graphs_alive(both):
    found = []
    for model in both[:2]:
        first, second = (model(both[2] * scale).square().sum() for scale in (1, 2))
        model(both[2])  # and one that nobody goes back through
        second.backward()
        first.backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    same(*found)


def test_a_graph_gone_through_again(both):
    found = []
    for model in both[:2]:
        loss = model(both[2]).square().sum()
        of_x = torch.autograd.grad(loss, both[2], retain_graph=True)
        of_one = torch.autograd.grad(loss, model.wide.weight, retain_graph=True)
        loss.backward(retain_graph=True, inputs=[model.conv.weight])
        loss.backward(retain_graph=True)
        loss.backward()
        found.append([*of_x, *of_one, *(p.grad for p in model.parameters() if p.grad is not None)])
    same(*found)


@pytest.mark.parametrize("asked", ["every", "bias"])
def test_a_graph_that_is_kept_keeps_nothing_of_a_pass(monkeypatch, asked):
    model, x = made(Head, monkeypatch)
    values, seen = model(x), []
    values.register_hook(lambda gradient: seen.append(weakref.ref(gradient)))
    parameters = [p for name, p in model.named_parameters() if asked == "every" or name.endswith("bias")]
    loss = values.square().sum()
    for _ in range(2):
        torch.autograd.grad(loss, parameters, retain_graph=True)
    gc.collect()
    assert [reference() is None for reference in seen] == [True, True]


def test_a_penalty_on_gradients(both):
    found = []
    for model in both[:2]:
        (slope,) = torch.autograd.grad(model(both[2]).square().sum(), both[2], create_graph=True)
        (weights,) = torch.autograd.grad(model(both[2]).square().sum(), model.wide.weight, create_graph=True)
        (slope.square().sum() + weights.square().sum()).backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_every_order_of_differentiation():
    x, w, b = (torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((2, 40), (40, 40), (40,)))

    def layer(x, w, b):
        given = late.begin(w)
        assert isinstance(given, late.LateWeight)
        return late.linear(torch.tanh(x), linear_weight=given, linear_bias=b)

    assert torch.autograd.gradcheck(layer, (x, w, b), fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, (x, w, b), fast_mode=True)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("algorithm", ["streamed", "direct"])
def test_the_products_of_our_operators(algorithm, relu):
    layer = ops.linear_relu if relu else ops.linear
    found = []
    for lately in (False, True):
        torch.manual_seed(0)
        x, w, b = (torch.randn(size, requires_grad=True) for size in ((5, 70), (90, 70), (90,)))
        if lately:
            given = late.begin(w)
            y = late.linear(torch.tanh(x), linear_weight=given, linear_bias=b, relu=relu, algorithm=algorithm)
            assert "_Linear" in y.grad_fn.name()
        else:
            y = layer(torch.tanh(x), w, b, algorithm=algorithm)
        found.append([y, *torch.autograd.grad(y.square().sum(), (x, w, b))])
    same(*found)


def test_a_changed_weight_is_noticed(monkeypatch):
    model, x = made(Head, monkeypatch)
    loss = model(x).sum()
    with torch.no_grad():
        model.wide.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(both, reentrant):
    x = both[2]
    results = []
    for model in both[:2]:
        checkpoint(model, x, use_reentrant=reentrant).square().sum().backward()
        results.append([x.grad, *(p.grad for p in model.parameters() if p.grad is not None)])
        x.grad = None
    same(*results)


def test_hooks_see_whole_gradients(monkeypatch):
    model, x = made(Twice, monkeypatch)
    seen = []
    model.again.weight.register_hook(lambda gradient: seen.append(gradient.clone()))
    model(x).square().sum().backward()
    assert len(seen) == 1
    assert torch.equal(seen[0], model.again.weight.grad)


def test_copies(monkeypatch):
    model, x = made(Head, monkeypatch)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        same(gradients(copied, x), gradients(model, x))
        assert set(arrivals(copied, x)[-2:]) == {"wide.weight", "again.weight"}


def takes_plain_layers(monkeypatch, run):
    """Run with a node for late gradients that fails."""
    monkeypatch.setattr(late._Begin, "forward", lambda *_: pytest.fail("a node was made"))
    return run()


def test_nothing_is_made_where_nobody_differentiates(monkeypatch):
    model, x = made(Head, monkeypatch)
    x = x.detach()
    with torch.no_grad():
        takes_plain_layers(monkeypatch, lambda: model(x))
    takes_plain_layers(monkeypatch, lambda: copy.deepcopy(model).requires_grad_(False)(x))
    takes_plain_layers(monkeypatch, lambda: model.eval()(x))


def test_transforms_and_modes_get_plain_layers(monkeypatch):
    model, x = made(Head, monkeypatch)
    x = x.detach()
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters):
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    wanted = gradients(model, x.clone().requires_grad_())[1:]
    found = takes_plain_layers(monkeypatch, lambda: torch.func.grad(loss)(parameters))
    torch.testing.assert_close([*found.values()], wanted)
    takes_plain_layers(monkeypatch, lambda: torch.func.jvp(model, (x,), (x,)))
    with torch.autocast("cpu", torch.bfloat16), warnings.catch_warnings():
        assert takes_plain_layers(monkeypatch, lambda: model(x)).dtype == torch.bfloat16
    with torch.device("cpu"):  # a mode that sees every function
        takes_plain_layers(monkeypatch, lambda: model(x))


def test_the_compiler_and_export_get_plain_layers(monkeypatch):
    model, x = made(Head, monkeypatch)
    wanted = gradients(model, x)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    found = takes_plain_layers(monkeypatch, lambda: gradients(compiled, x))
    torch.testing.assert_close(found[: len(wanted)], wanted)
    program = torch.export.export(model, (x.detach(),))
    torch.testing.assert_close(program.module()(x), model.eval()(x), rtol=1e-3, atol=1e-4)


def test_distributed_data_parallel(both, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        found = []
        for model in both[:2]:
            wrapped = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
            for _ in range(2):  # the second step has its buckets in the order of the first
                wrapped(both[2]).square().sum().backward()
            found.append([p.grad for p in model.parameters() if p.grad is not None])
        same(*found)
    finally:
        torch.distributed.destroy_process_group()


def test_training(both):
    weights = []
    for model in both[:2]:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        for _ in range(4):
            optimizer.zero_grad()
            model(both[2]).square().mean().backward()
            optimizer.step()
        weights.append([p.detach() for p in model.parameters()])
    same(*weights)


def test_many_rows_stay_plain(monkeypatch):
    """What is handed over would be as large as the gradient; and rows of rows are left to PyTorch."""
    same(*(gradients(*made(Rows, monkeypatch, fewest=fewest)) for fewest in (0, 10**9)))
    model, _ = made(Head, monkeypatch)
    order = arrivals(model, torch.randn(64, 1, 8, 8))
    assert order[-1].startswith("conv")


def test_report_and_tuning(monkeypatch):
    model, x = made(Head, monkeypatch)
    rows = {row.operations: row for row in switchgrad.fusion.report(model).rows}
    assert rows["wide",].mode == "training"
    assert rows["wide",].runs == "linear, its weight's gradient last"
    monkeypatch.setattr(tuning, "_ROUNDS", 1)
    tuned = switchgrad.optimize(model, x.detach(), tune=True)
    assert any(row.operations == ("wide",) for row in switchgrad.fusion.report(tuned).fused)
    small = switchgrad.fusion.report(made(Head, monkeypatch, fewest=10**9)[0])
    assert all("last" not in row.runs for row in small.rows)


def test_a_layer_alone_stays_plain(monkeypatch):
    monkeypatch.setattr(late, "FEWEST", 1)
    assert type(switchgrad.optimize(nn.Linear(48, 32))) is nn.Linear
