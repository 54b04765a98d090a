"""Whole models as ONNX files: the zoo, optimized models, programs of torch.export, and what goes wrong."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import switchgrad
from switchgrad import models, ops
from switchgrad.errors import ExportError
from switchgrad.export import onnx as exporter
from switchgrad.export import to_onnx
from switchgrad.nn import MaxPool2d, replace_pooling


def run(model: onnx.ModelProto | str, x: Tensor) -> np.ndarray:
    source = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source)
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


class Function(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "optimized"), [("lenet5", False), ("lenet5", True), ("convnet", True)])
def test_zoo_with_an_open_batch(name: str, optimized: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = models.create(name).train()
    model = switchgrad.optimize(net) if optimized else net
    path = tmp_path / "net.onnx"
    program = to_onnx(model, torch.rand(2, 1, 28, 28), path)
    assert model.training
    onnx.checker.check_model(str(path))
    assert {node.op_type for node in program.model.graph} <= {"Conv", "Relu", "MaxPool", "Reshape", "Gemm", "Flatten"}
    x = torch.rand(5, 1, 28, 28)
    np.testing.assert_allclose(run(str(path), x), net.eval()(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_block_with_batch_norm_dropout_and_adaptive_pooling() -> None:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1, ceil_mode=True))
    model = nn.Sequential(block, nn.Dropout(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 10)).eval()
    with torch.no_grad():
        block[1].running_mean.normal_()
        block[1].running_var.uniform_(0.5, 2)
    replace_pooling(model)
    x = torch.rand(3, 3, 17, 16)
    program = to_onnx(switchgrad.optimize(model), x)
    np.testing.assert_allclose(run(program.model_proto, x), model(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_program_of_torch_export() -> None:
    """Exported before anybody thought of ONNX: the operators are in the program as they are."""
    x = torch.randn(2, 3, 9, 9)
    program = torch.export.export(nn.Sequential(MaxPool2d(3, 2, 1, ceil_mode=True)), (x,))
    assert "switchgrad.max_pool" in str(program.graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = torch.onnx.export(program, verbose=False)
    np.testing.assert_array_equal(run(found.model_proto, x), ops.max_pool2d(x, 3, 2, 1, ceil_mode=True).numpy())


def test_tracing_for_others_keeps_the_operators() -> None:
    """Only ONNX gets them in pieces: a program of torch.export holds our kernels before and after an export to it."""
    x = torch.randn(2, 3, 9, 9)
    to_onnx(nn.Sequential(MaxPool2d(3, 2)), x, check=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(nn.Sequential(MaxPool2d(3, 2)), (x,)).run_decompositions()
    assert "switchgrad.max_pool" in str(program.graph)
    assert "symbolic" not in str(program.graph)


def test_padding_is_written_out() -> None:
    """Ceil mode has met every rounding error there is; our graphs have none of it."""
    program = to_onnx(Function(lambda x: ops.max_pool2d(x, 3, 2, 1, ceil_mode=True)), torch.randn(1, 2, 10, 9))
    (node,) = program.model_proto.graph.node
    attributes = {a.name: list(a.ints) or a.i for a in node.attribute}
    assert node.op_type == "MaxPool"
    assert not attributes.get("ceil_mode")
    assert attributes["pads"] == [1, 1, 2, 1]


def test_open_sizes() -> None:
    """Height and width are open as well: windows are counted when the graph runs."""
    model = Function(lambda x: ops.avg_pool2d(ops.max_pool2d(x, 3, 2, 1), 2))
    dims = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(model, (torch.randn(2, 3, 20, 24),), verbose=False, dynamic_shapes=(dims,))
    for size in ((20, 24), (21, 17), (9, 30)):
        x = torch.randn(3, 3, *size)
        np.testing.assert_allclose(run(program.model_proto, x), model(x).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_adaptive_pooling_of_open_sizes_is_refused() -> None:
    model = Function(lambda x: ops.adaptive_avg_pool2d(x, 3))
    dims = {2: torch.export.Dim.DYNAMIC}
    with pytest.raises(Exception, match=r"adaptive pooling to .* cannot be exported to ONNX: its windows depend"):
        torch.onnx.export(model.eval(), (torch.randn(2, 3, 20, 24),), verbose=False, dynamic_shapes=(dims,))


def test_a_graph_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "_TOLERANCE", -1.0)
    with pytest.raises(ExportError, match=r"output 0 of the graph differs from the model's by 0 of .* check=False"):
        to_onnx(nn.Identity(), torch.rand(2, 3))


@pytest.mark.parametrize(
    ("ours", "theirs", "gap"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.25),
        ([1.0, float("inf")], [1.0, float("inf")], 0.0),
        ([float("nan"), 4.0], [float("nan"), 4.0], 0.0),
        ([1.0], [1.0, 1.0], float("inf")),
        ([], [], 0.0),
    ],
)
def test_gap(ours: list[float], theirs: list[float], gap: float) -> None:
    assert exporter._gap(torch.tensor(ours), torch.tensor(theirs)) == gap


@pytest.mark.parametrize("theirs", [[float("nan"), 4.0], [float("inf"), 4.0]])
def test_gap_of_what_is_no_number(theirs: list[float]) -> None:
    assert not exporter._gap(torch.tensor([1.0, 4.0]), torch.tensor(theirs)) <= 1.0


def test_a_model_that_does_not_run_says_so_itself() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        to_onnx(nn.Linear(3, 2), torch.rand(2, 4))


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"onnx and onnxscript are not installed.*pip install 'switchgrad\[onnx\]'"):
        to_onnx(nn.Identity(), torch.rand(2, 3))


def test_what_else_goes_wrong_is_one_sentence() -> None:
    class Reads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(ExportError, match="the model cannot be exported to ONNX: ") as caught:
        to_onnx(Reads(), torch.rand(2, 3))
    assert "\n" not in str(caught.value)
