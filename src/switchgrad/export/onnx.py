"""A model as an ONNX file: `torch.onnx.export` with errors of one sentence, and held to ONNX Runtime."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from switchgrad.errors import ExportError

_TOLERANCE = 1e-4  # relative to the largest number of an output; run times add up in other orders


def to_onnx(
    model: nn.Module,
    example: Tensor | Sequence[Tensor],
    path: str | os.PathLike[str] | None = None,
    *,
    open_batch: bool = True,
    check: bool | None = None,
    opset_version: int | None = None,
) -> Any:
    """Write ``model`` as an ONNX graph and hold the graph to the model.

    ``example``: the model's input, or a sequence of its inputs; the graph takes the same shapes and types, with
    ``open_batch`` any number along the first axis of every input. ``path``: the file to write (with ``.data`` beside
    it where the weights need more than a gigabyte and a half); None writes none. ``check``: run the graph on the
    example with ONNX Runtime and compare; None does so where onnxruntime is installed. ``opset_version``: ONNX's, by
    default PyTorch's choice.

    The model is exported as in evaluation, without gradients; its own mode and parameters stay as they are. Returns
    the `torch.onnx.ONNXProgram`, whose ``model_proto`` is the graph. What ONNX can say of our operators it says with
    its own, so no run time needs Switchgrad; docs/onnx.md lists them. NaN in a maximum is up to the run time.

    Raises `ExportError` for an operator that ONNX cannot express (what, why, and what to do), for a graph whose
    numbers differ by more than one in 10,000 from the model's, and where onnx and onnxscript are missing.

    >>> import torch, switchgrad
    >>> block = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), switchgrad.nn.MaxPool2d(3, 2, ceil_mode=True))
    >>> program = to_onnx(block, torch.rand(1, 1, 28, 28))
    >>> [node.op_type for node in program.model_proto.graph.node]
    ['Conv', 'MaxPool']
    """
    _need("onnx", "onnxscript")
    inputs = (example,) if isinstance(example, Tensor) else tuple(example)
    still = copy.deepcopy(model).eval()
    shapes = tuple({0: torch.export.Dim.DYNAMIC} if x.dim() else None for x in inputs) if open_batch else None
    with _quietly(), torch.no_grad():
        wanted = still(*inputs)  # a model that does not run says so in its own words
        program = _in_one_sentence(
            lambda: torch.onnx.export(
                still, inputs, dynamo=True, verbose=False, dynamic_shapes=shapes, opset_version=opset_version
            ),
            open_batch,
        )
    if check or (check is None and importlib.util.find_spec("onnxruntime")):
        _compare(program, wanted, inputs)
    if path is not None:
        program.save(path)
    return program


def _in_one_sentence(export: Callable[[], Any], open_batch: bool) -> Any:
    """What the exporter says over pages, cut to what was refused and why."""
    try:
        return export()
    except Exception as error:
        found: BaseException | None = error
        while found is not None:
            if isinstance(found, ExportError):
                raise ExportError(_first_line(found)) from error
            found = found.__cause__
        first = error
        while first.__cause__ is not None:
            first = first.__cause__
        hint = "; with open_batch=False the batch keeps the example's size" if open_batch else ""
        raise ExportError(
            f"the model cannot be exported to ONNX: {type(first).__name__}: {_first_line(first)}{hint}"
        ) from error


def _first_line(error: BaseException) -> str:
    """What was said at first; the tracer adds where it was."""
    return str(error).strip().partition("\n")[0]


def _compare(program: Any, wanted: Any, inputs: tuple[Tensor, ...]) -> None:
    """Raise where ONNX Runtime computes other numbers from the graph than the model does."""
    _need("onnxruntime")
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(program.model_proto.SerializeToString(), options)
    names = [value.name for value in program.model.graph.inputs]
    taken = {value.name for value in session.get_inputs()}
    given = {name: x.detach().cpu().numpy() for name, x in zip(names, inputs, strict=True) if name in taken}
    found = [torch.from_numpy(array) for array in session.run(None, given)]
    tensors = [t for t in pytree.tree_leaves(wanted) if isinstance(t, Tensor)]
    for place, (ours, theirs) in enumerate(zip(tensors, found, strict=True)):
        gap = _gap(ours.cpu(), theirs)
        if not gap <= _TOLERANCE:
            raise ExportError(
                f"output {place} of the graph differs from the model's by {gap:.2g} of its largest number; give "
                "check=False to have the graph all the same"
            )


def _gap(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest number; infinite for another shape."""
    if ours.shape != theirs.shape:
        return float("inf")
    if not ours.numel():
        return 0.0
    ours, theirs = ours.double(), theirs.double()
    same = (ours == theirs) | (ours.isnan() & theirs.isnan())
    away = torch.where(same, 0.0, (ours - theirs).abs())
    return float(away.max() / ours.nan_to_num(0.0, 0.0, 0.0).abs().max().clamp_min(1e-30))


def _need(*packages: str) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ExportError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed, and the export to ONNX "
            "needs them; run pip install 'switchgrad[onnx]'"
        )


@contextmanager
def _quietly() -> Generator[None]:
    """Without the exporter's remarks on itself: torchvision's absence, deprecations of its own."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        registration.setLevel(before)
