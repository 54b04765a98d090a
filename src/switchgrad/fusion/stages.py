"""What a node of a traced graph is: a convolution, a normalisation, an activation, a pool; as a layer or as a call.

A layer and a function with the same meaning give the same `Stage`, whose fields are what the fused operators take. A
layer's fields are read when the program runs (`Attribute`), so that a changed ``momentum`` or a replaced ``weight``
counts; a function's are what stood in the call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from switchgrad import nn as own
from switchgrad import ops

POOLS = ("pool1d", "pool2d", "pool3d")
CONVS = ("conv1d", "conv2d", "conv3d")


@dataclass(frozen=True)
class Attribute:
    """``name`` of the module at ``path`` below the module that runs, read at each call; "" is the module itself."""

    path: str
    name: str = ""


@dataclass(frozen=True)
class Stage:
    """One operation of a chain.

    ``fields`` are constants, nodes of the graph, or `Attribute`. ``absorbed`` are nodes that only serve this one (the
    batch size that a ``view`` asks for). ``problem`` says why it can never be part of a fused block; empty if it can.
    """

    kind: str
    node: fx.Node
    input: fx.Node
    fields: Mapping[str, Any]
    name: str
    module: nn.Module | None = None
    in_place: bool = False
    absorbed: tuple[fx.Node, ...] = ()
    problem: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])  # constants that rules look at before running

    @property
    def training(self) -> bool:
        """Whether a normalisation or a dropout trains, as far as it can tell before running."""
        return self.module.training if self.module is not None else bool(self.facts.get("training", False))


def read(node: fx.Node, modules: Mapping[str, nn.Module]) -> Stage | None:
    """The stage that ``node`` is, or None where it is none of those that fused operators know."""
    if node.op == "call_module":
        return _read_layer(node, modules[str(node.target)])
    table = {"call_function": _FUNCTIONS, "call_method": _METHODS}.get(node.op)
    call = None if table is None else table.get(node.target)
    bound = None if call is None else _bind(call, node)
    if call is None or bound is None or not isinstance(bound.pop("input"), fx.Node):
        return None
    stage = call.read(node, bound)
    return None if stage is None else replace(stage, facts={**stage.facts, **_held(bound, modules)})


def _held(given: Mapping[str, Any], modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The tensors among a function's arguments that are attributes of a module: rules look at their sizes."""
    held: dict[str, Tensor] = {}
    for name, value in given.items():
        if isinstance(value, fx.Node) and value.op == "get_attr":
            path, _, attribute = str(value.target).rpartition(".")
            tensor = getattr(modules.get(path), attribute, None)
            if isinstance(tensor, Tensor):
                held[name] = tensor
    return held


# -- layers


def _read_layer(node: fx.Node, module: nn.Module) -> Stage | None:
    entry = _LAYERS.get(plain_class(module))
    if entry is None or node.kwargs or len(node.args) != 1 or not isinstance(node.args[0], fx.Node):
        return None
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size not in (1, (1, 1)):
        return None
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) != (1, -1):
        return None
    kind, names = entry
    path = str(node.target)
    fields: dict[str, Any] = {field: Attribute(path, attribute) for field, attribute in names.items()}
    facts = {field: getattr(module, attribute, None) if attribute else None for field, attribute in names.items()}
    constants = _CONSTANTS.get(plain_class(module), {})
    fields.update(constants)
    return Stage(
        kind,
        node,
        node.args[0],
        fields,
        path,
        module,
        bool(getattr(module, "inplace", False)),
        facts={**facts, **constants},
        problem=_layer_problem(module),
    )


def plain_class(module: nn.Module) -> type[nn.Module]:
    """The class that the user wrote, which an optimised module extends by a class of ours."""
    return getattr(type(module), "plain_class", type(module))


def has_hooks(module: nn.Module) -> bool:
    """Whether anything wants to see the calls of ``module`` or their gradients."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks  # pyright: ignore[reportPrivateUsage]
    )


def _layer_problem(module: nn.Module) -> str:
    if has_hooks(module):
        return "it has hooks, which must see its own input and output"
    if "forward" in vars(module):
        return "its forward was replaced on the object"
    if getattr(module, "padding_mode", "zeros") != "zeros":
        return f"padding_mode is {module.padding_mode!r}"
    if getattr(module, "return_indices", False) or getattr(module, "return_switches", False):
        return "it also returns where the winners stood"
    return ""


_CONV = {name: name for name in ("weight", "bias", "stride", "padding", "dilation", "groups")}
_POOL = {
    "pool_size": "kernel_size",
    "pool_stride": "stride",
    "pool_padding": "padding",
    "pool_dilation": "dilation",
    "ceil_mode": "ceil_mode",
}
_NORM = {"norm": ""}
_LAYERS: dict[type[nn.Module], tuple[str, dict[str, str]]] = {
    nn.Conv1d: ("conv1d", _CONV),
    nn.Conv2d: ("conv2d", _CONV),
    nn.Conv3d: ("conv3d", _CONV),
    nn.BatchNorm1d: ("norm", _NORM),
    nn.BatchNorm2d: ("norm", _NORM),
    nn.BatchNorm3d: ("norm", _NORM),
    nn.ReLU: ("act", {}),
    nn.LeakyReLU: ("act", {"negative_slope": "negative_slope"}),
    nn.MaxPool1d: ("pool1d", _POOL),
    nn.MaxPool2d: ("pool2d", _POOL),
    nn.MaxPool3d: ("pool3d", _POOL),
    own.MaxPool1d: ("pool1d", _POOL),
    own.MaxPool2d: ("pool2d", _POOL),
    own.MaxPool3d: ("pool3d", _POOL),
    nn.AdaptiveAvgPool2d: ("mean", {}),
    nn.Flatten: ("flatten", {}),
    nn.Linear: ("linear", {"linear_weight": "weight", "linear_bias": "bias"}),
    nn.Dropout: ("dropout", {"p": "p"}),
}
_CONSTANTS: dict[type[nn.Module], dict[str, Any]] = {
    nn.ReLU: {"negative_slope": 0.0},
    nn.AdaptiveAvgPool2d: {"dim": (-2, -1)},
}


# -- functions and methods


@dataclass(frozen=True)
class _Call:
    """A function: its arguments in order (a value is the default, ``...`` says that there is none), and its reader."""

    arguments: Mapping[str, Any]
    read: Callable[[fx.Node, dict[str, Any]], Stage | None]


def _bind(call: _Call, node: fx.Node) -> dict[str, Any] | None:
    names = list(call.arguments)
    if len(node.args) > len(names) or any(name not in call.arguments for name in node.kwargs):
        return None
    given = {**call.arguments, **dict(zip(names, node.args, strict=False)), **node.kwargs}
    return None if any(value is ... for value in given.values()) else given


def _constant(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_constant(part) for part in value)
    return not isinstance(value, fx.Node)


def _stage(node: fx.Node, kind: str, fields: dict[str, Any], **more: Any) -> Stage:
    computed = [name for name, value in fields.items() if name not in _TENSORS and not _constant(value)]
    problem = more.pop("problem", "") or (f"its {computed[0]} is computed in forward" if computed else "")
    given: Any = node.args[0] if node.args else node.kwargs["input"]
    facts = {name: value for name, value in fields.items() if _constant(value)}
    return Stage(
        kind, node, given, fields, node.name, facts={**facts, **more.pop("facts", {})}, problem=problem, **more
    )


_TENSORS = {"weight", "bias", "linear_weight", "linear_bias", "norm"}


def _conv(kind: str) -> _Call:
    def read_conv(node: fx.Node, given: dict[str, Any]) -> Stage:
        return _stage(node, kind, given)

    arguments = {"input": ..., "weight": ..., "bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    return _Call(arguments, read_conv)


def _pool(kind: str, **more: Any) -> _Call:
    def read_pool(node: fx.Node, given: dict[str, Any]) -> Stage:
        returns = given.pop("return_indices", False) or given.pop("return_switches", False)
        fields = {field: given[name] for field, name in _POOL.items()}
        fields["pool_stride"] = fields["pool_stride"] or None  # torch.max_pool2d says () where it was left out
        return _stage(node, kind, fields, problem="it also returns where the winners stood" if returns else "")

    common = {"input": ..., "kernel_size": ..., "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
    return _Call({**common, **more}, read_pool)


def _relu(in_place: bool) -> _Call:
    def read_relu(node: fx.Node, given: dict[str, Any]) -> Stage:
        return _stage(node, "act", {"negative_slope": 0.0}, in_place=bool(given.get("inplace", in_place)))

    return _Call({"input": ...} if in_place else {"input": ..., "inplace": False}, read_relu)


def _leaky_relu(node: fx.Node, given: dict[str, Any]) -> Stage:
    return _stage(node, "act", {"negative_slope": given["negative_slope"]}, in_place=bool(given["inplace"]))


def _batch_norm(node: fx.Node, given: dict[str, Any]) -> Stage:
    training = given["training"]
    problem = "" if _constant(training) else "its training is computed in forward"
    facts = {"training": bool(training) and not problem, "running_mean": given["running_mean"]}
    return _stage(node, "norm", {"norm": given}, problem=problem, facts=facts)


def _dropout(node: fx.Node, given: dict[str, Any]) -> Stage:
    facts = {"training": given["training"]}
    return _stage(node, "dropout", {"p": given["p"]}, in_place=bool(given["inplace"]), facts=facts)


def _linear(node: fx.Node, given: dict[str, Any]) -> Stage:
    return _stage(node, "linear", {"linear_weight": given["weight"], "linear_bias": given["bias"]})


def _adaptive_mean(node: fx.Node, given: dict[str, Any]) -> Stage | None:
    size = given["output_size"]
    return _stage(node, "mean", {"dim": (-2, -1)}) if size == 1 or tuple(size) == (1, 1) else None


def _mean(node: fx.Node, given: dict[str, Any]) -> Stage | None:
    """A mean over both axes of a map: with its axes kept it is a global pool, else a pool and the flattening."""
    dim = given["dim"]
    if not isinstance(dim, (list, tuple)) or sorted(map(str, dim)) not in (["2", "3"], ["-1", "-2"]):
        return None
    return _stage(node, "mean" if given["keepdim"] is True else "flat_mean", {"dim": dim})


def _flatten(node: fx.Node, given: dict[str, Any]) -> Stage | None:
    return _stage(node, "flatten", {}) if (given["start_dim"], given["end_dim"]) == (1, -1) else None


def _view(node: fx.Node, given: dict[str, Any]) -> Stage | None:
    """``x.view(x.size(0), -1)``: the batch stays, the rest is flattened."""
    sizes: Any = given["size"]
    shape = sizes if isinstance(sizes, (list, tuple)) else (sizes, given["more"])
    if len(shape) != 2 or shape[1] != -1 or not isinstance(shape[0], fx.Node):
        return None
    absorbed = _batch_size_nodes(shape[0], node.args[0])
    return _stage(node, "flatten", {}, absorbed=absorbed) if absorbed else None


def _batch_size_nodes(size: fx.Node, of: object) -> tuple[fx.Node, ...]:
    """The nodes that compute ``of.size(0)`` or ``of.shape[0]`` for one reader alone; empty for anything else."""
    if len(size.users) != 1:
        return ()
    if size.op == "call_method" and size.target == "size" and tuple(size.args) == (of, 0):
        return (size,)
    shape = size.args[0] if size.args else None
    by_index = getattr(size.target, "__name__", "") == "getitem" and size.args[1:] == (0,)
    if not by_index or not isinstance(shape, fx.Node) or len(shape.users) != 1 or shape.args[:1] != (of,):
        return ()
    asked = (shape.op == "call_method" and shape.target == "size") or shape.args[1:] == ("shape",)
    return (shape, size) if asked else ()


_F: Any = functional
_MEAN = _Call({"input": ..., "dim": ..., "keepdim": False}, _mean)
_FLATTEN = _Call({"input": ..., "start_dim": 0, "end_dim": -1}, _flatten)
_NORM_ARGUMENTS = {
    "input": ..., "running_mean": ..., "running_var": ..., "weight": None, "bias": None, "training": False,
    "momentum": 0.1, "eps": 1e-5,
}  # fmt: skip
_RETURNS = {"return_indices": False}

_FUNCTIONS: dict[Any, _Call] = {
    **{fn: _conv("conv1d") for fn in (_F.conv1d, torch.conv1d)},
    **{fn: _conv("conv2d") for fn in (_F.conv2d, torch.conv2d)},
    **{fn: _conv("conv3d") for fn in (_F.conv3d, torch.conv3d)},
    **{getattr(torch, f"max_{kind}"): _pool(kind) for kind in POOLS},
    **{getattr(_F, f"max_{kind}"): _pool(kind, **_RETURNS) for kind in POOLS},
    **{getattr(ops, f"max_{kind}"): _pool(kind, **_RETURNS, return_switches=False) for kind in POOLS},
    **{fn: _relu(False) for fn in (_F.relu, torch.relu)},
    **{fn: _relu(True) for fn in (_F.relu_, torch.relu_)},
    _F.leaky_relu: _Call({"input": ..., "negative_slope": 0.01, "inplace": False}, _leaky_relu),
    _F.batch_norm: _Call(_NORM_ARGUMENTS, _batch_norm),
    _F.dropout: _Call({"input": ..., "p": 0.5, "training": True, "inplace": False}, _dropout),
    _F.linear: _Call({"input": ..., "weight": ..., "bias": None}, _linear),
    _F.adaptive_avg_pool2d: _Call({"input": ..., "output_size": ...}, _adaptive_mean),
    torch.mean: _MEAN,
    torch.flatten: _FLATTEN,
}
_METHODS: dict[Any, _Call] = {
    "relu": _Call({"input": ...}, _relu(False).read),
    "relu_": _relu(True),
    "mean": _MEAN,
    "flatten": _FLATTEN,
    "view": _Call({"input": ..., "size": ..., "more": None}, _view),
    "reshape": _Call({"input": ..., "size": ..., "more": None}, _view),
}
