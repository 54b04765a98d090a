"""What each registered operator becomes in an ONNX graph, and which have nothing there to become.

Values agree with ours but for NaN, whose place in a maximum ONNX leaves open. Switches, where somebody asks for them,
are computed beside the values and drop out of the graph where nobody does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from switchgrad.ops.convolution.reference import winograd_conv
from switchgrad.ops.exporting import refuse
from switchgrad.ops.filter_pool.reference import filter_pool
from switchgrad.ops.fully_connected.reference import linear
from switchgrad.ops.lowering import average, fused, maximum, regions
from switchgrad.ops.mlp.reference import mlp
from switchgrad.ops.placed.reference import placed_max_pool

_LOWERED: dict[str, Callable[..., Any]] = {
    **maximum.LOWERED,
    **average.LOWERED,
    **fused.LOWERED,
    **regions.LOWERED,
    # ONNX has all that their references are made of.
    "filter_pool": filter_pool,
    "linear": linear,
    "mlp": mlp,
    "placed_max_pool": placed_max_pool,
    "winograd_conv": winograd_conv,
}


def lowered(function: Any, *args: Any, **kwargs: Any) -> Any:
    """The operator written with what ONNX has; raises `ExportError` for gradients, which are no part of inference."""
    name = str(function.name()).removeprefix("switchgrad::")
    return _LOWERED.get(name, _no_forward(name))(*args, **kwargs)


def _no_forward(name: str) -> Callable[..., NoReturn]:
    def refused(*_: Any, **__: Any) -> NoReturn:
        refuse(
            f"switchgrad::{name}",
            "it belongs to a backward pass or to training, and ONNX graphs infer",
            "export the model without gradients, after model.eval()",
        )

    return refused
