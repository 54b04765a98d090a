"""What happens to our operators when `torch.onnx.export` meets them: each becomes ONNX's own, or says why it cannot.

The exporter traces a model, then decomposes what it traced. In that second step every registered operator of ours asks
`ops.lowering` for its meaning in ONNX; in all other tracing (compiler, `torch.export`) it stays what it is. So plain
`torch.onnx.export` works, of models and of programs that `torch.export` made.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode

from switchgrad.errors import ExportError
from switchgrad.kernels.schema import LIBRARY, SCHEMAS

AT_RANDOM = (
    "pooling at random",
    "its numbers are drawn anew at every call, and ONNX draws others",
    "call model.eval() before the export, or give the random numbers as an input of the model",
)


def is_exporting() -> bool:
    """Whether `torch.onnx.export` is tracing. Operators ask where ONNX has one of its own for the whole of them."""
    return torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export()


# The compiler's tracer takes the second question for False; marked so (what `torch.compiler.assume_constant_result`
# does, which would import the compiler) it asks in earnest. An export never runs code that was compiled before it.
is_exporting._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


def stable_sort(input: Tensor, dim: int = -1, descending: bool = False) -> Any:
    """``input.sort(dim, descending, stable=True)``: values and indices, equal values in their order.

    ONNX's TopK keeps that order by itself, and its exporter knows sorting only without the word.
    """
    if is_exporting():
        return input.sort(dim, descending)
    return input.sort(dim=dim, descending=descending, stable=True)


def refuse_while_exporting(what: str, why: str, instead: str) -> None:
    """Raise `ExportError` if `torch.onnx.export` is tracing: an operator that ONNX cannot express calls this first."""
    if is_exporting():
        refuse(what, why, instead)


def refuse(what: str, why: str, instead: str) -> NoReturn:
    """One sentence: what cannot be exported, why, and what to do."""
    raise ExportError(f"{what} cannot be exported to ONNX: {why}; {instead}")


def _rule(
    mode: ProxyTorchDispatchMode,
    function: Any,
    types: Sequence[type],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """Traced as it is, unless an export to ONNX runs; asking only then keeps torch.onnx from being imported."""
    given = kwargs or {}
    if "torch.onnx" not in sys.modules or not torch.onnx.is_in_onnx_export():
        return mode.__torch_dispatch__(function, tuple(types), tuple(args), dict(given))
    lowered = importlib.import_module("switchgrad.ops.lowering").lowered
    with mode:
        return lowered(function, *args, **given)


for _name in SCHEMAS:
    torch.library.register_torch_dispatch(f"switchgrad::{_name}", ProxyTorchDispatchMode, _rule, lib=LIBRARY)
