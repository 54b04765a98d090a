"""Every pooling operator exports to ONNX and agrees with ONNX Runtime, or refuses with the sentence that says why."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from every_pooling import NOT_POOLING, USES, Use
from switchgrad import ops
from switchgrad.errors import ExportError
from switchgrad.export import to_onnx
from switchgrad.ops import exporting

EXPORTED = [use for use in USES if use.refused is None and not use.again]  # scripts/onnx_docs.py goes through all
REFUSED = [use for use in USES if use.refused is not None]
WHOLE = ("stochastic_pool2d-training", "batch_norm_relu-training", "ps_roi_align-adaptive")  # through the exporter
PAGE = Path(__file__).resolve().parents[2] / "docs" / "onnx.md"
TOGETHER = 25  # uses in one graph: much of the time of an export goes by whatever is in it


class Calls(nn.Module):
    """Several uses as one model: the inputs of all, one after the other, and the results of all."""

    def __init__(self, uses: Sequence[Use]) -> None:
        super().__init__()
        self.uses = uses

    def forward(self, *inputs: Tensor) -> list[Any]:
        given = iter(inputs)
        return [use.call(*(next(given) for _ in use.inputs)) for use in self.uses]


def computed(uses: Sequence[Use]) -> list[list[Tensor]]:
    """What ONNX Runtime makes of each use."""
    inputs = tuple(x.clone() for use in uses for x in use.inputs)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # As users call it; without its optimiser, which takes a third of the time and only makes graphs smaller.
        program = torch.onnx.export(Calls(uses), inputs, dynamo=True, verbose=False, optimize=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    taken = {value.name for value in session.get_inputs()}
    names = [value.name for value in program.model.graph.inputs]
    given = {name: x.numpy() for name, x in zip(names, inputs, strict=True) if name in taken}
    found = (torch.from_numpy(array) for array in session.run(None, given))
    return [[next(found) for _ in results(use)] for use in uses]


def results(use: Use) -> list[Tensor]:
    """What our own kernels make of the use."""
    found = use.call(*use.inputs)
    return list(found) if isinstance(found, (tuple, list)) else [found]


def differing(uses: Sequence[Use], found: Sequence[Sequence[Tensor]]) -> list[str]:
    """The uses whose results are others than ours: in shape, in type, or by more than rounding."""

    def agrees(ours: Tensor, theirs: Tensor) -> bool:
        alike = ours.shape == theirs.shape and ours.dtype == theirs.dtype
        return alike and torch.allclose(theirs, ours, rtol=1e-5, atol=1e-5)

    return [str(use) for use, theirs in zip(uses, found, strict=True) if not all(map(agrees, results(use), theirs))]


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, len(EXPORTED), TOGETHER))
def test_agrees_with_onnx_runtime(first: int) -> None:
    uses = EXPORTED[first : first + TOGETHER]
    assert differing(uses, computed(uses)) == []


def test_other_numbers_are_seen() -> None:
    uses = EXPORTED[:3]
    found = [results(use) for use in uses]
    assert differing(uses, found) == []
    found[1][0] = found[1][0] + 1e-3
    assert differing(uses, found) == [str(uses[1])]
    found[1][0] = found[1][0][..., :-1]
    assert differing(uses, found) == [str(uses[1])]


def one_sentence(use: Use, said: str) -> bool:
    """What, why, and what to do."""
    return use.refused is not None and use.refused in said and "\n" not in said and said.count(";") >= 1


@pytest.mark.parametrize("use", [use for use in REFUSED if str(use) in WHOLE], ids=str)
def test_export_refuses_in_one_sentence(use: Use) -> None:
    with pytest.raises(ExportError) as caught:
        to_onnx(Calls([use]), use.inputs, open_batch=False)
    assert one_sentence(use, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("use", [use for use in REFUSED if str(use) not in WHOLE], ids=str)
def test_operator_refuses_while_an_export_runs(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without an export, which takes seconds: the operator believes that one runs."""
    monkeypatch.setattr(exporting, "is_exporting", lambda: True)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    with pytest.raises(ExportError) as caught:
        make_fx(use.call, tracing_mode="fake")(*use.inputs)
    assert one_sentence(use, str(caught.value)), str(caught.value)


def test_no_operator_is_missing() -> None:
    assert sorted(set(ops.__all__) - {use.name for use in USES} - NOT_POOLING) == []


def test_uses_have_names_of_their_own() -> None:
    assert len({str(use) for use in USES}) == len(USES)


def test_page_has_every_use() -> None:
    """`scripts/onnx_docs.py` takes minutes; whether its table is that of today's uses is seen at once."""
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    names = [f"| `{use.name}`" + (f": {use.note}" if use.note else "") for use in USES]
    assert [name for name, _ in rows] == names, "run python scripts/onnx_docs.py"
    assert ["*refused*" in cell for _, cell in rows] == [use.refused is not None for use in USES]
