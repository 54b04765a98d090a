"""One forward pass, watched: which layers were called, with which shapes, and what their cells see.

The pass runs without gradients and in eval mode. A large module runs on the meta device, where tensors have shapes but
no values, so that it costs next to nothing; a small one, or one that cannot run there because its path depends on
values, runs for real on one picture of zeros. The module is left as it was found, whatever happens.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from switchgrad.errors import ModelError
from switchgrad.geometry import ReceptiveField
from switchgrad.models.summarise.facts import Shape, is_known, window_of
from switchgrad.models.summarise.sight import Follow, Known, Sight, Sights, tensors_in
from switchgrad.models.summarise.table import by

_SMALL_MACS = 500_000_000

_WEIGHTY_PREFIXES = ("conv", "max_pool", "avg_pool", "adaptive_", "lp_pool", "fractional_max_pool")
_WEIGHTY = frozenset(
    {
        *("linear", "bilinear", "matmul", "bmm", "mm", "addmm", "einsum", "baddbmm", "scaled_dot_product_attention"),
        *("interpolate", "unfold", "fold", "multi_head_attention_forward"),
    }
)


def is_weighty(name: str) -> bool:
    """Whether a function is worth a row, so that it is named below the table where no layer calls it."""
    return name in _WEIGHTY or name.startswith(_WEIGHTY_PREFIXES)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer: the shape of its first input and first output with their batch, and all values made."""

    name: str
    layer: nn.Module
    inputs: Shape
    outputs: Shape
    values: int
    sight: Known


@dataclass(slots=True)
class Record:
    """The calls of a forward pass in the order of their ends, and the weighty functions called outside of layers."""

    calls: list[Call] = field(default_factory=lambda: list[Call]())
    uncounted: list[str] = field(default_factory=lambda: list[str]())


def layers_in(module: nn.Module) -> dict[nn.Module, str]:
    """The modules that deserve a row, with their names: those with a rule, without children, or with own weights."""
    found: dict[nn.Module, str] = {}
    _collect(module, "", found)
    return found


def _collect(module: nn.Module, name: str, found: dict[nn.Module, str]) -> None:
    children = list(module.named_children())
    if is_known(module) or not children or any(True for _ in module.parameters(recurse=False)):
        found.setdefault(module, name or "(model)")
    if not is_known(module):
        for child_name, child in children:
            _collect(child, f"{name}.{child_name}" if name else child_name, found)


def watch(module: nn.Module, layers: dict[nn.Module, str], shape: Shape, input_dtype: torch.dtype | None) -> Record:
    """Run ``module`` once on an input of ``shape`` (without the batch) and record every call of a layer.

    Raises `ModelError` where the module cannot take such an input.
    """
    tensors: dict[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    if any(is_lazy(tensor) for tensor in tensors.values()):
        raise ModelError("the module has lazy layers without sizes yet; run one batch through it first")
    floats = (tensor.dtype for tensor in tensors.values() if tensor.is_floating_point())
    input = torch.zeros(1, *shape, dtype=input_dtype or next(floats, torch.float32), device="meta")
    with _as_found(module), torch.no_grad():
        if not _is_small(tensors, shape):
            # What fails here may only need values; the pass for real below tells.
            with suppress(Exception):
                return _run(module, _Watcher(layers), _on_meta(tensors), input)
        watcher = _Watcher(layers)
        try:
            device = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
            return _run(module, watcher, _buffers_copied(module, tensors), torch.zeros_like(input, device=device))
        except Exception as error:
            raise _refusal(module, shape, watcher.where(), error) from error


def _is_small(tensors: dict[str, Tensor], shape: Shape) -> bool:
    """Whether a pass for real costs milliseconds: every weight used once a pixel is less than ``_SMALL_MACS``.

    The first pass of a process on the meta device loads a second of Python code.
    """
    real = all(not tensor.is_meta for tensor in tensors.values())
    return real and sum(tensor.numel() for tensor in tensors.values()) * math.prod(shape[1:]) < _SMALL_MACS


def _on_meta(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stand-ins without values; tensors that are one stay one."""
    made: dict[int, Tensor] = {}
    return {
        name: made.setdefault(id(tensor), torch.empty_like(tensor, device="meta")) for name, tensor in tensors.items()
    }


def _buffers_copied(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The module's own parameters, but copies of its buffers, which a forward pass may change."""
    return {**tensors, **{name: buffer.clone() for name, buffer in module.named_buffers()}}


def _refusal(module: nn.Module, shape: Shape, where: str, error: Exception) -> ModelError:
    text = str(error).strip().split("\n")[0] or type(error).__name__
    return ModelError(f"{type(module).__name__} cannot take an input of {by(shape)}: {where}{text}")


@contextmanager
def _as_found(module: nn.Module) -> Generator[None]:
    """Eval mode within; every part's own mode again afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _run(module: nn.Module, watcher: _Watcher, tensors: dict[str, Tensor], input: Tensor) -> Record:
    """The watched pass itself, with ``tensors`` in the place of the module's own."""
    for tensor in tensors.values():
        watcher.sights.put_constant(tensor)
    spatial = tuple(input.shape[2:])
    watcher.sights.put(input, Sight((ReceptiveField(),) * len(spatial), spatial) if spatial else None)
    with ExitStack() as stack:
        for layer in watcher.layers:
            stack.callback(layer.register_forward_pre_hook(watcher.enter, with_kwargs=True).remove)
            stack.callback(layer.register_forward_hook(watcher.leave, with_kwargs=True).remove)
        stack.enter_context(Follow(watcher.sights, watcher.called))
        functional_call(module, tensors, (input,))
    return watcher.record


def _is_ready_made(layer: nn.Module) -> bool:
    """Whether the layer's own row tells what the functions in it do."""
    return is_known(layer) or type(layer).__module__.startswith(("torch.nn.", "switchgrad."))


class _Watcher:
    """Hooks that record calls; `sights` are kept between them."""

    def __init__(self, layers: dict[nn.Module, str]) -> None:
        self.record = Record()
        self.sights = Sights()
        self.layers = layers
        self._containers = {layer for layer in layers if not is_known(layer) and next(layer.children(), None)}
        self._open: list[tuple[nn.Module, Shape, Known]] = []
        self._made: dict[int, weakref.ref[Tensor]] = {}

    def where(self) -> str:
        """The innermost layer that has not ended, to begin a sentence about an error."""
        if not self._open:
            return ""
        layer = self._open[-1][0]
        return f'layer "{self.layers[layer]}" ({type(layer).__name__}): '

    def called(self, name: str) -> None:
        """Note a weighty function that no layer called, or one that is not PyTorch's or ours."""
        if is_weighty(name) and not any(_is_ready_made(layer) for layer, _, _ in self._open):
            self.record.uncounted.append(name)

    def enter(self, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """A layer starts: keep what its input looks like (it may be changed in place)."""
        first = next(iter(tensors_in((inputs, named))), None)
        shape = () if first is None else tuple(first.shape)
        self._open.append((layer, shape, None if first is None else self.sights.get(first)))

    def leave(self, layer: nn.Module, _: tuple[Any, ...], _named: dict[str, Any], result: object) -> None:
        """A layer ends: note the call."""
        _entered, inputs, sight = self._open.pop()
        outputs = tensors_in(result)
        shape = tuple(outputs[0].shape) if outputs else ()
        window = window_of(layer, inputs[2:])
        if window is not None and outputs:
            fits = sight is not None and not sight.flat and len(sight.size) == window.dims
            self.sights.put(outputs[0], sight.through(window, shape[2:]) if fits and sight else None)
        after = self.sights.get(outputs[0]) if outputs else None
        values = self._new_values(layer, outputs)
        self.record.calls.append(Call(self.layers[layer], layer, inputs, shape, values, after))

    def _new_values(self, layer: nn.Module, outputs: list[Tensor]) -> int:
        """Values that this call made; what a container only hands on from a layer within is not counted again."""
        handed_on = layer in self._containers
        new = [tensor for tensor in outputs if not (handed_on and self._is_made(tensor))]
        self._made.update((id(tensor), weakref.ref(tensor)) for tensor in outputs)
        return sum(tensor.numel() for tensor in new)

    def _is_made(self, tensor: Tensor) -> bool:
        reference = self._made.get(id(tensor))
        return reference is not None and reference() is tensor
