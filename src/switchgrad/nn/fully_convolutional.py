"""A classifier trained on pictures of one size, turned into one that slides over larger pictures."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from switchgrad.errors import ModelError, SwitchgradError
from switchgrad.geometry import IntOrTuple
from switchgrad.nn.as_convolution import linear_to_conv
from switchgrad.nn.drop_connect import DropConnect

Shape = tuple[int, ...]


def to_fully_convolutional(model: nn.Module, input_size: IntOrTuple) -> fx.GraphModule:
    """The same network with its fully connected layers as convolutions, so that it takes larger pictures.

    ``input_size``: the pictures that ``model`` was trained on, ``(C, H, W)``, or ``(H, W)`` or an integer where its
    first convolution says ``C``. The result answers ``[N, C, H, W]`` with ``[N, classes, 1, 1]`` and a larger picture
    with a map of scores: the cell ``(p, q)`` is what ``model`` gives for the crop of the training size at ``(p, q)``
    times the network's total stride. Five halvings make 32: trained on 224x224 it gives a 6x6 map on 384x384, the 36
    crops in one pass. Where layers pad (or pools round up), a crop ends where the map goes on, so that the two are near
    each other and not equal.

    What changes: linear layers (`linear_to_conv`; the first has the whole map as its kernel), flattening (left out),
    global and adaptive pooling to 1x1 (the same pooling with the training map as its window, stride 1) or to the size
    that is there already (left out), 1-D batch norm and softmax behind linear layers. `DropConnect` becomes its mean.
    Names in the ``state_dict`` stay, parameters are copies, and ``model`` itself is left alone. The layers may be
    modules or functional calls in a ``forward`` that ``torch.fx`` can trace.

    Raises `ModelError` for a model that cannot be traced, for a layer behind the flattening that has no counterpart on
    maps, and where the result does not repeat the model's numbers at the training size.

    P. Sermanet et al.: OverFeat, 2014; J. Long, E. Shelhamer, T. Darrell: Fully convolutional networks, 2015.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 7 * 7, 10))
    >>> sliding = to_fully_convolutional(net, 16)
    >>> x = torch.rand(1, 3, 20, 20)
    >>> sliding(x).shape, torch.allclose(sliding(x)[:, :, 2, 1], net(x[:, :, 4:20, 2:18]), atol=1e-5)
    (torch.Size([1, 10, 3, 3]), True)
    """
    root = copy.deepcopy(model)
    shape = _input_shape(root, input_size)
    graph = _traced(root)
    modes = {name: module.training for name, module in root.named_modules(remove_duplicate=False)}
    root.eval()
    like = next((p for p in root.parameters() if p.is_floating_point()), torch.zeros(()))
    with torch.no_grad():
        numbers = torch.arange(2 * math.prod(shape), dtype=like.dtype, device=like.device)
        sample = numbers.sin().view(2, *shape)
        shapes = _Shapes(fx.GraphModule(root, graph))
        wanted = shapes.run(sample)
        rewritten = fx.GraphModule(root, _Rewriter(root, shapes.of).rewrite(graph))
        _check(wanted, rewritten(sample))
    for name, module in rewritten.named_modules():
        module.training = modes[name]
    return rewritten


class _Tracer(fx.Tracer):
    """Stops at layers: at PyTorch's, at ours, and at any module without children."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        ours = m.__module__.startswith("switchgrad.nn.")
        return ours or not any(True for _ in m.children()) or super().is_leaf_module(m, module_qualified_name)


class _Shapes(fx.Interpreter):
    """Runs the graph once and remembers the shape of every tensor."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.of: dict[str, Shape] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.of[n.name] = tuple(result.shape)
        return result


def _input_shape(model: nn.Module, input_size: IntOrTuple) -> Shape:
    sizes = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(sizes) == 2:
        first = next((m for m in model.modules() if isinstance(getattr(m, "in_channels", None), int)), None)
        sizes = (cast("int", first.in_channels), *sizes) if first is not None else sizes
    if len(sizes) != 3 or min(sizes) < 1:
        raise ModelError(f"input_size is {input_size}; give (C, H, W), the pictures that the model was trained on")
    return sizes


def _traced(model: nn.Module) -> fx.Graph:
    try:
        return _Tracer().trace(model)
    except SwitchgradError:
        raise
    except Exception as error:  # whatever a user's forward raises when it meets a tracer
        raise ModelError(
            f"{type(model).__name__} cannot be traced ({error}); write its forward without branches on values or sizes"
        ) from error


def _check(wanted: Any, got: Any) -> None:
    if not isinstance(wanted, Tensor) or not isinstance(got, Tensor) or got.shape != (*wanted.shape, 1, 1)[:4]:
        raise ModelError(
            f"the model gives {tuple(wanted.shape) if isinstance(wanted, Tensor) else type(wanted).__name__}; "
            "a model that can be turned fully convolutional gives [N, classes]"
        )
    error = (got.reshape(wanted.shape) - wanted).abs().max()
    if not error <= 1e-3 * (1 + wanted.abs().max()):
        raise ModelError(
            f"as convolutions the model differs by {error:.3g} at its training size; behind the flattening it does "
            "something that depends on the axes of the flat vector: put that into a layer of torch.nn"
        )


_FLAT = ("flatten", "view", "reshape", "squeeze")
_POOLS: dict[object, Callable[..., Tensor]] = {
    nn.AdaptiveAvgPool2d: functional.avg_pool2d,
    nn.AdaptiveMaxPool2d: functional.max_pool2d,
    functional.adaptive_avg_pool2d: functional.avg_pool2d,
    functional.adaptive_max_pool2d: functional.max_pool2d,
}
_SAME_NAMES = frozenset(
    (
        *("relu", "relu_", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "tanh"),
        *("hardtanh", "hardswish", "softplus", "dropout", "alpha_dropout", "add", "sub", "mul", "truediv", "neg"),
        *("clamp", "contiguous"),
    )
)


class _Rewriter:
    """Goes through the graph once; ``flat`` holds, for each flat vector, the map ``(C, h, w)`` that it stands for."""

    def __init__(self, root: nn.Module, shapes: dict[str, Shape]) -> None:
        self.root, self.shapes = root, shapes
        self.flat: dict[fx.Node, Shape] = {}

    def rewrite(self, graph: fx.Graph) -> fx.Graph:
        for node in list(graph.nodes):
            if node.op in ("call_module", "call_function", "call_method") and node.name in self.shapes:
                self._rewrite_node(graph, node)
        graph.eliminate_dead_code()
        graph.lint()
        return graph

    def _rewrite_node(self, graph: fx.Graph, node: fx.Node) -> None:
        inputs = [n for n in node.all_input_nodes if n.name in self.shapes]
        source, module = inputs[0] if inputs else None, self._module(node)
        kind: Any = type(module) if module is not None else node.target
        name = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind)).lower()
        if source is None:
            return
        before, after = self._shape(source), self.shapes[node.name]
        if kind in _POOLS and len(before) == 4:
            self._pool(graph, node, source, _POOLS[kind])
        elif name == "mean" and len(before) == 4 and after == before[:2]:
            self.flat[self._pool(graph, node, source, functional.avg_pool2d)] = (before[1], 1, 1)
        elif name in _FLAT and len(before) == 4 and after == (before[0], before[1] * before[2] * before[3]):
            self.flat[self._replaced(graph, node, operator.pos, (source,))] = before[1:]
        elif source in self.flat or any(n in self.flat for n in inputs):
            self._behind(node, source, inputs, kind, name)
        elif len(after) != len(before):
            raise ModelError(f"{self._named(node)} turns {before} into {after}; flatten with torch.nn.Flatten instead")
        elif len({self._shape(n)[-2:] for n in inputs if len(self._shape(n)) == 4}) > 1:
            raise ModelError(
                f"{self._named(node)} meets maps of several sizes, {[self._shape(n) for n in inputs]}; a number taken "
                "from the whole picture has no counterpart that slides"
            )

    def _pool(self, graph: fx.Graph, node: fx.Node, source: fx.Node, pool: Callable[..., Tensor]) -> fx.Node:
        size, after = self._shape(source)[2:], self.shapes[node.name][2:]
        if after == size:
            return self._replaced(graph, node, operator.pos, (source,))
        if any(cells != 1 for cells in after):
            raise ModelError(
                f"{self._named(node)} pools {size} into {after}; only pooling to 1x1 or to the size that is there has "
                "a counterpart that slides"
            )
        return self._replaced(graph, node, pool, (source, size, 1))

    def _replaced(
        self, graph: fx.Graph, node: fx.Node, call: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> fx.Node:
        """A call in the place of a node: the map behind it (``operator.pos`` where nothing is left to do)."""
        with graph.inserting_before(node):
            other = graph.call_function(call, arguments)
        shape, source = self.shapes[node.name], self._shape(arguments[0])
        self.shapes[other.name] = source if call is operator.pos else (*shape[:2], 1, 1)
        node.replace_all_uses_with(other)
        return other

    def _behind(self, node: fx.Node, source: fx.Node, inputs: list[fx.Node], kind: Any, name: str) -> None:
        """A node behind the flattening: its input is a map by now."""
        shape = self.flat.get(source, ())
        if kind in (nn.Linear, DropConnect) and shape:
            self._linear(node, shape)
            shape = (self.shapes[node.name][1], 1, 1)
        elif kind is nn.BatchNorm1d and shape[1:] == (1, 1):
            self.root.set_submodule(str(node.target), _batch_norm2d(cast("nn.BatchNorm1d", self._module(node))))
        elif kind in (nn.Softmax, nn.LogSoftmax) and shape[1:] == (1, 1):
            make = cast("type[nn.Softmax]", kind)
            self.root.set_submodule(str(node.target), make(dim=1))
        elif name in ("softmax", "log_softmax") and shape[1:] == (1, 1):
            node.args, node.kwargs = (source,), {"dim": 1}
        elif name in _FLAT and len(self.shapes[node.name]) == 2:
            node.replace_all_uses_with(source)
            return
        elif not self._same_on_maps(node, inputs, name, shape):
            raise ModelError(
                f"{self._named(node)} stands behind the flattening and has no counterpart on maps; use linear layers, "
                "BatchNorm1d, softmax over the classes, dropout and activations there"
            )
        self.flat[node] = shape

    def _same_on_maps(self, node: fx.Node, inputs: list[fx.Node], name: str, shape: Shape) -> bool:
        """Whether what the node does to a flat vector it does to a map as well."""
        if any(self.flat.get(n) != shape for n in inputs):
            return False
        if node.op != "call_module":
            return name in _SAME_NAMES
        module = self.root.get_submodule(str(node.target))
        return _acts_on_each_number_alone(module, shape) or (isinstance(module, nn.PReLU) and shape[1:] == (1, 1))

    def _linear(self, node: fx.Node, shape: Shape) -> None:
        self.root.set_submodule(str(node.target), linear_to_conv(cast("nn.Linear", self._module(node)), shape))

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.root.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _shape(self, node: fx.Node) -> Shape:
        return self.shapes[node.name]

    def _named(self, node: fx.Node) -> str:
        module = self._module(node)
        kind = type(module).__name__ if module is not None else getattr(node.target, "__name__", node.target)
        return f"{node.target} ({kind})" if module is not None else f"the call of {kind}"


def _acts_on_each_number_alone(module: nn.Module, shape: Shape) -> bool:
    """Whether a module gives the same numbers on a map as on a flat vector, and moves with its input: an activation."""
    like = next(module.parameters(), torch.zeros((), dtype=torch.float64))
    numbers = torch.arange(2.0 * math.prod(shape), dtype=like.dtype, device=like.device).sin()
    try:
        flat, moved = (module(x.view(2, -1)).flatten() for x in (numbers, numbers.roll(1)))
        mapped = module(numbers.view(2, *shape)).flatten()
    except (RuntimeError, ValueError, TypeError):
        return False
    return torch.equal(flat, mapped) and torch.equal(moved, flat.roll(1))


def _batch_norm2d(norm: nn.BatchNorm1d) -> nn.BatchNorm2d:
    """The same statistics and parameters, for maps."""
    twin = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    twin._parameters, twin._buffers = norm._parameters, norm._buffers  # pyright: ignore[reportPrivateUsage]
    return twin.train(norm.training)
