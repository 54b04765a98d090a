"""Checkpoints in safetensors, written atomically: the best weights, and the whole state of a run under way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from switchgrad.errors import RunError
from switchgrad.train.atomic import replacing
from switchgrad.train.position import Position

WEIGHTS, STATE = "switchgrad weights 1", "switchgrad state 1"


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors by name, and the fields that came with them."""

    tensors: Mapping[str, Tensor]
    fields: Mapping[str, Any]


def save_weights(path: Path, model: nn.Module, fields: Mapping[str, object]) -> None:
    """Write the parameters and buffers of ``model``, with ``fields`` (what JSON can hold) as metadata."""
    _write(path, _weights(model), {"format": WEIGHTS, "fields": json.dumps(fields)})


def save_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position, identity: Mapping[str, object]
) -> None:
    """Write all that a run needs to go on bit for bit: weights, buffers, the optimiser's tensors and the position.

    No generator's state is among them: each step's randomness is drawn from (seed, epoch, step). ``identity`` says
    which recipe and data the state belongs to. `RunError` where a parameter is not finite, so that the last good
    checkpoint is not replaced by a spoilt one.
    """
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise RunError(
                f"the weights {name!r} are no longer finite in epoch {position.epoch + 1}, so they were not saved and "
                "the last checkpoint is intact; try a lower lr, more warmup_epochs, or clip_grad_norm=1"
            )
    tensors = {f"model/{name}": tensor for name, tensor in _weights(model).items()}
    for name, parameter in model.named_parameters():
        state = cast("dict[str, Any]", optimizer.state.get(parameter, {}))
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{key}/{name}"] = _copy(value)
    fields = {"position": position.to_fields(), "identity": dict(identity)}
    _write(path, tensors, {"format": STATE, "fields": json.dumps(fields)})


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, identity: Mapping[str, object]
) -> Position:
    """Put a saved state into ``model`` and ``optimizer`` and return its position.

    `RunError` where the file is damaged or no state, or where ``identity`` says that it belongs to another recipe or
    other data; nothing is changed then.
    """
    checkpoint = read(path, STATE)
    saved = cast("Mapping[str, object]", checkpoint.fields.get("identity", {}))
    for key, value in identity.items():
        if saved.get(key) != value:
            raise RunError(f"{path} cannot be resumed: the {key} changed since it was saved; start a new run")
    position = Position.from_fields(checkpoint.fields.get("position", {}))
    weights = {name[6:]: tensor for name, tensor in checkpoint.tensors.items() if name.startswith("model/")}
    check_weights(model, weights, path)
    parameters = dict(model.named_parameters())
    moments = [
        (parameters.get(name.split("/", 2)[2]), name.split("/", 2)[1], tensor)
        for name, tensor in checkpoint.tensors.items()
        if name.startswith("optimizer/") and name.count("/") >= 2
    ]
    if any(owner is None or tensor.shape not in (owner.shape, ()) for owner, _, tensor in moments):
        raise RunError(f"{path} holds an optimiser's state for other parameters than this network has")
    put_weights(model, weights, path)
    for owner, key, tensor in moments:
        if owner is not None:
            optimizer.state[owner][key] = _like(tensor, owner)
    return position


def put_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Copy ``weights`` into ``model``; `RunError` where names or shapes differ, and then nothing is changed."""
    check_weights(model, weights, path)
    with torch.no_grad():
        for name, tensor in _own_tensors(model).items():
            tensor.copy_(weights[name])


def check_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse ``weights`` (`RunError`) whose names, shapes or dtypes are not those of ``model``."""
    own = _own_tensors(model)
    missing, foreign = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or foreign:
        raise RunError(
            f"{path} does not fit this network: it lacks {missing[:3] or 'nothing'} and brings "
            f"{foreign[:3] or 'nothing'} that the network does not have"
        )
    for name, tensor in own.items():
        if tensor.shape != weights[name].shape or tensor.dtype != weights[name].dtype:
            raise RunError(
                f"{path} does not fit this network: {name!r} is {weights[name].dtype} {list(weights[name].shape)} "
                f"in the file and {tensor.dtype} {list(tensor.shape)} in the network"
            )


def read(path: Path, form: str) -> Checkpoint:
    """The tensors and fields of a checkpoint of this ``form``, on the CPU.

    `RunError` where the file is missing, cut short, no safetensors file, or not written by this version's `_write`.
    """
    if not path.is_file():
        raise RunError(f"{path} does not exist, so there is nothing to load")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = cast("dict[str, str]", file.metadata() or {})
            names = list(file.keys()) if metadata.get("format") == form else []
            tensors = {name: cast("Tensor", file.get_tensor(name)) for name in names}
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is damaged or no safetensors file ({error}); use another checkpoint") from error
    if metadata.get("format") != form:
        raise RunError(f"{path} is not a checkpoint of the form {form!r}, but {metadata.get('format', 'unmarked')!r}")
    try:
        fields = json.loads(metadata.get("fields", ""))
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is damaged: its description cannot be read ({error})") from error
    if not isinstance(fields, dict):
        raise RunError(f"{path} is damaged: its description is not a table")
    return Checkpoint(tensors, cast("dict[str, Any]", fields))


def _own_tensors(model: nn.Module) -> dict[str, Tensor]:
    own = cast("dict[str, object]", model.state_dict())
    strange = [name for name, value in own.items() if not isinstance(value, Tensor)]
    if strange:
        raise RunError(f"the network keeps {strange[0]!r}, which is no tensor, so its state cannot be saved or loaded")
    return cast("dict[str, Tensor]", own)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: _copy(tensor) for name, tensor in _own_tensors(model).items()}


def _copy(tensor: Tensor) -> Tensor:
    """A compact copy on the CPU; safetensors refuses tensors that share memory, as tied weights do."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """``tensor`` with the device and, where the shapes are equal, the layout of the parameter that it belongs to."""
    if tensor.shape != parameter.shape:
        return tensor.to(parameter.device, copy=True)
    return torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor)


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        save_file(dict(tensors), str(temporary), metadata=metadata)
