"""Rules for ReLU and max pooling: what they do to a gradient, however the network is written and wherever it runs."""

import itertools
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional

from switchgrad import backprop, ops, optimize
from switchgrad.backprop import routing
from switchgrad.errors import ModelError
from switchgrad.nn import MaxPool2d, ReLUMaxPool2d


@pytest.mark.parametrize("rule", backprop.RELU_RULES)
def test_relu_rules_cell_by_cell(rule):
    values = [-2.0, -0.0, 0.0, 1.5, float("inf"), float("nan")]
    cells = torch.tensor(list(itertools.product(values, [-3.0, 0.0, 2.0])))
    x, g = cells[:, 0].clone().requires_grad_(), cells[:, 1]
    y = backprop.relu(x, rule)
    torch.testing.assert_close(y, torch.relu(x), equal_nan=True)
    (dx,) = torch.autograd.grad(y, x, g)
    for value, gradient, got in zip(x.tolist(), g.tolist(), dx.tolist(), strict=True):
        wanted = gradient if rule == "gradient" else max(gradient, 0.0)
        assert got == (wanted if rule == "deconvnet" or value > 0 else 0.0)


def test_the_gradient_rule_is_the_gradient():
    x = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(backprop.relu, (x,))
    assert torch.autograd.gradgradcheck(backprop.relu, (x,))


def pool_by_loops(x, g, size, stride, padding, dilation, rule):
    """The rules of max pooling on one map, window by window."""
    dx = torch.zeros_like(x)
    for p, q in itertools.product(range(g.shape[0]), range(g.shape[1])):
        cells = [
            (p * stride + r * dilation - padding, q * stride + t * dilation - padding)
            for r, t in itertools.product(range(size), repeat=2)
        ]
        cells = [(h, w) for h, w in cells if 0 <= h < x.shape[0] and 0 <= w < x.shape[1]]
        best = max(x[c].item() for c in cells)
        tied = [c for c in cells if x[c].item() == best]
        chosen = {"winner": tied[:1], "every-winner": tied, "uniform": cells}[rule]
        for c in chosen:
            dx[c] += g[p, q] / (len(chosen) if rule == "uniform" else 1)
    return dx


@pytest.mark.parametrize("rule", backprop.POOL_RULES)
@pytest.mark.parametrize(
    ("height", "size", "stride", "padding", "dilation", "ceil"),
    [
        (6, 2, 2, 0, 1, False),
        (7, 3, 2, 1, 1, False),
        (7, 2, 2, 0, 1, True),
        (7, 2, 1, 1, 2, False),
        (8, 2, 3, 0, 1, False),
    ],
)
def test_pool_rules_window_by_window(rule, height, size, stride, padding, dilation, ceil):
    torch.manual_seed(0)
    x = torch.randint(-2, 3, (2, 3, height, 6), dtype=torch.float64).requires_grad_()  # many ties, negatives too
    y = backprop.max_pool(x, size, stride, padding, dilation, ceil, rule)
    torch.testing.assert_close(y, functional.max_pool2d(x, size, stride, padding, dilation, ceil))
    g = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, g)
    for n, c in itertools.product(range(2), range(3)):
        wanted = pool_by_loops(x.detach()[n, c], g[n, c], size, stride, padding, dilation, rule)
        torch.testing.assert_close(dx[n, c], wanted)


def test_pool_rules_in_one_and_three_dimensions_and_at_nan():
    x = torch.tensor([[1.0, 1.0, float("nan"), 4.0]], requires_grad=True)
    (dx,) = torch.autograd.grad(backprop.max_pool(x, 2, rule="every-winner", dims=1).sum(), x)
    assert dx.tolist() == [[1.0, 1.0, 1.0, 0.0]]
    volume = torch.zeros(1, 2, 2, 2, requires_grad=True)
    (dx,) = torch.autograd.grad(backprop.max_pool(volume, 2, rule="uniform", dims=3).sum(), volume)
    assert dx.unique().tolist() == [0.125]


class Functional(nn.Module):
    def forward(self, x):
        return functional.max_pool2d(functional.relu(x), 2)


class InPlace(nn.Module):
    def forward(self, x):
        x = x * 1
        x.relu_()
        return torch.max_pool2d(functional.relu(x - 0, inplace=True), 2)


WAYS = {
    "layers": nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)),
    "layers in place, ours": nn.Sequential(nn.Identity(), nn.ReLU(inplace=False), MaxPool2d(2)),
    "functional": Functional(),
    "in place": InPlace(),
    "fused": ReLUMaxPool2d(2),
}


def by_rules(x, g, relu, pool):
    y = backprop.max_pool(backprop.relu(x, relu), 2, rule=pool)
    return torch.autograd.grad(y, x, g)[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rules", list(itertools.product(backprop.RELU_RULES, backprop.POOL_RULES)))
def test_the_context_reaches_every_way_of_writing(way, rules):
    torch.manual_seed(0)
    x = torch.randn(2, 2, 4, 4, requires_grad=True)
    with routing(*rules):
        y = WAYS[way](x)
    g = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, g)  # outside: the rule was stored at the forward
    assert torch.equal(y, functional.max_pool2d(functional.relu(x), 2))
    torch.testing.assert_close(dx, by_rules(x, g, *rules))


class Fused(nn.Module):
    """Convolution, ReLU and pooling in one call, or in three."""

    def __init__(self, one):
        super().__init__()
        self.one, self.conv = one, nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x):
        if self.one:
            return ops.conv_relu_max_pool2d(x, self.conv.weight, self.conv.bias, padding=1)
        return ops.conv_max_pool2d(x, self.conv.weight, self.conv.bias, padding=(1, 1))


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_fused_convolutions(one, compiled):
    torch.manual_seed(0)
    block = Fused(one)
    x = torch.randn(2, 2, 6, 6, requires_grad=True)
    call = torch.compile(block, backend="aot_eager", fullgraph=True) if compiled else block
    with routing(relu="deconvnet", pool="uniform"):
        y = call(x)
    g = torch.randn_like(y)
    z = block.conv(x)
    steps = backprop.max_pool(backprop.relu(z, "deconvnet") if one else z, 2, rule="uniform")
    torch.testing.assert_close(y, steps)
    torch.testing.assert_close(torch.autograd.grad(y, x, g), torch.autograd.grad(steps, x, g))


@pytest.mark.parametrize("pooled", [True, False])
def test_fused_batch_norms(pooled):
    torch.manual_seed(0)
    x = torch.randn(3, 2, 4, 4, requires_grad=True)
    statistics = [torch.zeros(2), torch.ones(2), torch.randn(2), torch.randn(2)]
    with routing(relu="guided", pool="uniform"):
        fused = ops.batch_norm_relu_max_pool2d if pooled else ops.batch_norm_relu
        y = fused(x, *(t.clone() for t in statistics), training=True)
    z = backprop.relu(functional.batch_norm(x, *(t.clone() for t in statistics), training=True), "guided")
    steps = backprop.max_pool(z, 2, rule="uniform") if pooled else z
    torch.testing.assert_close(y, steps)
    g = torch.randn_like(y)
    torch.testing.assert_close(torch.autograd.grad(y, x, g), torch.autograd.grad(steps, x, g))


def test_an_optimised_network_explains_as_the_network_itself():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten())
    fast = optimize(net)
    x = torch.randn(1, 1, 12, 12, requires_grad=True)
    with routing(relu="guided"):
        slow, quick = net(x), fast(x)
    g = torch.randn_like(slow)
    torch.testing.assert_close(torch.autograd.grad(quick, x, g), torch.autograd.grad(slow, x, g))


def test_indices_and_switches_come_along():
    x = torch.randn(1, 1, 4, 4)
    with routing(pool="uniform"):
        values, indices = functional.max_pool2d(x, 2, return_indices=True)
        _, switches = ops.max_pool2d(x, 2, return_switches=True)
    wanted = functional.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(values, wanted[0])
    assert torch.equal(indices, wanted[1])
    assert torch.equal(switches.to_indices(), wanted[1])


def test_contexts_nest_and_end():
    x = torch.tensor([-1.0, 1.0], requires_grad=True)

    def rule_in_force():
        (dx,) = torch.autograd.grad(torch.relu(x), x, torch.tensor([1.0, -1.0]))
        return {(0.0, -1.0): "gradient", (1.0, 0.0): "deconvnet", (0.0, 0.0): "guided"}[tuple(dx.tolist())]

    with routing(relu="guided"):
        assert rule_in_force() == "guided"
        with routing(relu="deconvnet"):
            assert rule_in_force() == "deconvnet"
        assert rule_in_force() == "guided"
        with pytest.raises(ZeroDivisionError), routing(relu="deconvnet"):
            1 / 0  # noqa: B018
        assert rule_in_force() == "guided"
    assert rule_in_force() == "gradient"


def test_two_threads_have_rules_of_their_own():
    x, g = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 2, 2)
    together, found = threading.Barrier(3), {}

    def explain(rule):
        leaf = x.clone().requires_grad_()
        with routing(relu=rule):
            together.wait(10)
            for _ in range(20):
                y = WAYS["fused"](leaf)
            together.wait(10)
        found[rule] = torch.autograd.grad(y, leaf, g)[0]

    threads = [threading.Thread(target=explain, args=(rule,)) for rule in ("guided", "deconvnet")]
    for thread in threads:
        thread.start()
    together.wait(10)
    leaf = x.clone().requires_grad_()
    found["gradient"] = torch.autograd.grad(WAYS["functional"](leaf), leaf, g)[0]
    together.wait(10)
    for thread in threads:
        thread.join()
    for rule, dx in found.items():
        torch.testing.assert_close(dx, by_rules(x.clone().requires_grad_(), g, rule, "winner"))


@pytest.mark.parametrize("way", ["functional", "fused"])
def test_under_the_compiler(way):
    torch.manual_seed(0)
    torch.compiler.reset()
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    g = torch.randn(1, 2, 2, 2)
    compiled = torch.compile(WAYS[way], backend="aot_eager", fullgraph=True)
    for relu, pool in [("gradient", "winner"), ("guided", "winner"), ("deconvnet", "uniform"), ("gradient", "winner")]:
        if (relu, pool) == ("gradient", "winner"):
            y = compiled(x)
        else:
            with routing(relu, pool):
                y = compiled(x)
        torch.testing.assert_close(torch.autograd.grad(y, x, g)[0], by_rules(x, g, relu, pool))

    @torch.compile(backend="aot_eager", fullgraph=True)
    def entered_inside(x):
        with routing(relu="guided"):
            return WAYS[way](x)

    (dx,) = torch.autograd.grad(entered_inside(x), x, g)
    torch.testing.assert_close(dx, by_rules(x, g, "guided", "winner"))


def test_compiled_from_two_threads():
    torch.compiler.reset()
    x, g = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 2, 2)
    compiled = torch.compile(WAYS["functional"], backend="aot_eager")
    found = {}

    def explain(rule):
        leaf = x.clone().requires_grad_()
        with routing(relu=rule):
            y = compiled(leaf)
        found[rule] = torch.autograd.grad(y, leaf, g)[0]

    threads = [threading.Thread(target=explain, args=(rule,)) for rule in ("guided", "deconvnet")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rule, dx in found.items():
        torch.testing.assert_close(dx, by_rules(x.clone().requires_grad_(), g, rule, "winner"))


def test_per_picture_gradients_by_vmap():
    x, g = torch.randn(3, 2, 4), torch.randn(2, 4)

    def explain(picture):
        return torch.func.vjp(lambda z: backprop.relu(z, "guided"), picture)[1](g)[0]

    wanted = torch.stack([explain(picture) for picture in x])
    assert torch.equal(torch.func.vmap(explain)(x), wanted)


def test_every_operator_that_holds_a_relu_says_what_it_is_made_of():
    fused = [name for name in dir(ops) if "relu" in name and callable(getattr(ops, name))]
    assert "relu_max_pool2d" in fused
    assert [name for name in fused if getattr(getattr(ops, name), "unfused", None) is None] == []


def test_unknown_rules_are_refused():
    for call in (lambda: routing("guide"), lambda: routing(pool="all"), lambda: backprop.relu(torch.zeros(1), "x")):
        with pytest.raises(ModelError, match="give one of"):
            call()
