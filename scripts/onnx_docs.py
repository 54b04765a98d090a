"""Writes docs/onnx.md: what every operator becomes in an ONNX graph, exported, run and compared while it is written.

python scripts/onnx_docs.py               # the uses that the page does not have; fails where a graph differs
python scripts/onnx_docs.py --all         # takes some minutes
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from every_pooling import USES, Use  # noqa: E402  (found by the line above)
from switchgrad.errors import ExportError  # noqa: E402
from switchgrad.export import to_onnx  # noqa: E402

PAGE = ROOT / "docs" / "onnx.md"
MOST = 6  # kinds of nodes that a cell names
HEAD = """# ONNX

`torch.onnx.export(model, args, dynamo=True)` works for every model with operators of ours once `switchgrad` is
imported (`pip install 'switchgrad[onnx]'`); graphs hold ONNX's own operators alone, so no run time needs Switchgrad.
`switchgrad.export.to_onnx(model, example, path)` does the same with an open batch, errors of one sentence, and a check
of the graph against the model by ONNX Runtime. Optimized models (`switchgrad.optimize`) export as well.

- All padding is written out, and what ceil mode adds with it, so that graphs round down everywhere.
- Divisors of averages that ONNX counts in another way are constants of the graph.
- Adaptive pooling is unrolled into slices, reductions and joins for the size of the example; with open sizes it is
  refused. Batch and sizes may be open for all other windows.
- Switches and indices are in the graph only where the model returns or uses them; the first of equal cells wins.
- NaN in a maximum is up to the run time, and ONNX Runtime gives -3.4e38 where all cells of a window are -inf.
- RoI averages and position-sensitive pooling take memory of boxes times the map there. `batched_nms` moves the
  classes apart in float32.

Written by `python scripts/onnx_docs.py`, which exports every use of `tests/every_pooling.py`, runs it in ONNX Runtime
and compares; `tests/export` does so in CI.

| use | in the graph |
|---|---|
"""


class Call(torch.nn.Module):
    """One use as a model."""

    def __init__(self, use: Use) -> None:
        super().__init__()
        self.use = use

    def forward(self, *inputs: torch.Tensor) -> object:
        return self.use.call(*inputs)


def cell(use: Use) -> str:
    """The kinds of nodes, the frequent ones first; or the sentence that refuses."""
    try:
        program = to_onnx(Call(use), use.inputs, open_batch=False, check=True)
    except ExportError as error:
        if use.refused is None:
            raise
        return f"*refused*: {error}"
    if use.refused is not None:
        raise SystemExit(f"{use} should be refused, and was exported")
    kinds = Counter(node.op_type for node in program.model_proto.graph.node)
    named = [f"{kind} x {n}" if n > 1 else kind for kind, n in kinds.most_common(MOST)]
    more = sum(n for _, n in kinds.most_common()[MOST:])
    return ", ".join(named) + (f" and {more} more" if more else "")


def name(use: Use) -> str:
    """The first cell of a use's line."""
    return f"| `{use.name}`{f': {use.note}' if use.note else ''}"


def main() -> None:
    there = PAGE.is_file() and "--all" not in sys.argv
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")] if there else []
    known = {line.partition(" | ")[0]: line + "\n" for line in lines}
    PAGE.write_text(HEAD + "".join(known.get(name(use)) or f"{name(use)} | {cell(use)} |\n" for use in USES))


if __name__ == "__main__":
    main()
