"""What people put around a model works around an optimized one: the compiler, export, distribution, transforms."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import switchgrad
from fusion.small_models import make


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )


@pytest.mark.parametrize("name", ["residual", "flattened"])
def test_compile(name):
    model, x = make(name)
    optimized = switchgrad.optimize(model)
    compiled = torch.compile(optimized, backend="aot_eager", fullgraph=True)
    for training in (False, True):
        optimized.train(training)
        buffers = copy.deepcopy(dict(optimized.named_buffers()))
        torch.manual_seed(1)
        wanted = optimized(x)
        gradients = torch.autograd.grad(wanted.sum(), list(optimized.parameters()))
        optimized.load_state_dict(buffers, strict=False)
        torch.manual_seed(1)
        got = compiled(x)
        torch.testing.assert_close(got, wanted)
        for ours, theirs in zip(torch.autograd.grad(got.sum(), list(optimized.parameters())), gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def targets(graph):
    return {str(node.target) for node in graph.nodes if node.op == "call_function"}


def test_the_compiler_sees_the_fused_operators_and_the_hooks():
    graphs = []

    def look(graph, inputs):
        graphs.append(graph.graph)
        return graph

    optimized = switchgrad.optimize(small()).eval()
    torch.compile(optimized, backend=look)(torch.zeros(1, 1, 8, 8))
    (graph,) = graphs
    modules = [node for node in graph.nodes if "batch_norm" in str(node.target)]
    assert modules == []
    seen = []
    hooked = copy.deepcopy(optimized)
    hooked[2].register_forward_hook(lambda m, args, out: seen.append(1))
    torch.compile(hooked, backend="eager")(torch.zeros(1, 1, 8, 8))
    assert seen


def test_export():
    model, x = small().eval(), torch.randn(2, 1, 8, 8)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(switchgrad.optimize(model), (x,), dynamic_shapes={"input": {0: batch}})
    assert any("switchgrad.conv_max_pool" in target for target in targets(program.graph))
    assert not any("batch_norm" in target for target in targets(program.graph))
    assert set(program.state_dict) == set(model.state_dict())
    more = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(program.module()(more), model(more))


def test_export_leaves_the_model_as_it_was():
    model, x = make("residual")
    optimized = switchgrad.optimize(model).eval()
    torch.export.export(optimized, (x,))
    torch.testing.assert_close(optimized(x), model.eval()(x))  # and warns of nothing


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_keeps_pytorch_operators_alone():
    model, x = make("residual")
    optimized = switchgrad.optimize(model).eval()
    script = torch.jit.trace(optimized, x)
    assert "switchgrad::" not in str(script.inlined_graph)
    torch.testing.assert_close(script(x[:1]), model.eval()(x[:1]))
    torch.testing.assert_close(optimized(x), model(x))


@pytest.mark.parametrize("before", [True, False])
def test_parametrised_weights(before):
    from torch.nn.utils.parametrizations import weight_norm

    model, x = small().eval(), torch.randn(2, 1, 8, 8)
    wanted = model(x)
    if before:
        weight_norm(model[0])
    optimized = switchgrad.optimize(copy.deepcopy(model))
    if not before:
        weight_norm(optimized[0])
    torch.testing.assert_close(optimized(x), wanted)
    optimized(x).sum().backward()
    assert optimized[0].parametrizations.weight.original1.grad.abs().sum() > 0


def test_distributed_data_parallel(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        model = small()
        peer = copy.deepcopy(model)
        wrapped = nn.parallel.DistributedDataParallel(switchgrad.optimize(model))
        x = torch.randn(2, 1, 8, 8)
        wrapped(x).sum().backward()
        peer(x).sum().backward()
        assert list(wrapped.state_dict()) == [f"module.{name}" for name in peer.state_dict()]
        for ours, theirs in zip(wrapped.module.parameters(), peer.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)
    finally:
        torch.distributed.destroy_process_group()


def test_batches_of_batches_that_go_out_as_maps():
    block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    tiles = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
    last = torch.randn(2, 8, 8, 8, 3).movedim(-1, 2)  # each batch channels last
    for model, x in ((block, last), (tiles, last.contiguous())):
        optimized = switchgrad.optimize(model)
        wanted = torch.stack([model(one) for one in x])
        torch.testing.assert_close(torch.func.vmap(optimized)(x), wanted)  # and warns of nothing


def test_functional_call_and_transforms():
    model, x = small().eval(), torch.randn(3, 1, 8, 8)
    optimized = switchgrad.optimize(model)
    others = {name: parameter.detach() * 2 for name, parameter in model.named_parameters()}
    wanted = torch.func.functional_call(model, others, (x,))
    torch.testing.assert_close(torch.func.functional_call(optimized, others, (x,)), wanted)

    def loss(parameters, sample):
        return torch.func.functional_call(optimized, parameters, (sample[None],)).sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(others, x)
    together = torch.func.grad(lambda p: torch.func.functional_call(model, p, (x,)).sum())(others)
    for name, gradients in each.items():
        torch.testing.assert_close(gradients.sum(0), together[name], rtol=1e-3, atol=1e-4)


def test_an_averaged_copy():
    optimized, x = switchgrad.optimize(small()).eval(), torch.randn(2, 1, 8, 8)
    averaged = torch.optim.swa_utils.AveragedModel(optimized)
    averaged.update_parameters(optimized)
    torch.testing.assert_close(averaged(x), optimized(x))


def test_optimizer_steps_reach_both():
    model, x = small(), torch.randn(4, 1, 8, 8)
    optimized = switchgrad.optimize(model)
    optimizer = torch.optim.SGD(optimized.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        optimized(x).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(optimized.eval()(x), model.eval()(x))
