"""The call that people make: `optimize`."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
from torch import nn

from switchgrad.errors import ModelError
from switchgrad.fusion.modules import convert, take_programs
from switchgrad.fusion.sharing import share

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def optimize(model: ModuleT) -> ModuleT:
    """The same model, with chains of operations run by fused operators; parameters, names and results stay.

    A new tree of modules of the same classes comes back, and ``model`` stays as it is. Both hold the same parameters,
    buffers and hooks: train one and the other is trained, and a ``state_dict`` of either loads into either. Each has
    its own structure and its own mode (``train()``, ``eval()``). Other attributes are copied.

    Each forward is read once with ``torch.fx``; chains such as convolution, batch norm, ReLU and max pool, as layers or
    as function calls, in any order that has a fused operator, are replaced by one call. Where a forward cannot be read
    (control flow that depends on values, randomness, side effects) it runs as it was written and its sub-modules are
    read one by one. `report` lists what runs fused, what does not, and why.

    In evaluation, a batch norm after a convolution is folded into its weights: the parameters stay as they are, and
    the product is made again when they change. (A change through ``.data`` counts after the next ``eval()``.)

    Hooks keep working: a module that has hooks, now or later, is run as itself. ``copy.deepcopy``, pickling,
    ``DistributedDataParallel`` and ``torch.compile`` around the result, ``torch.export`` and autocast work. After an
    attribute or a sub-module is replaced, the modules around it run as they were written, with a `FusionWarning`;
    optimize again then.

    Raises `ModelError` for what is no module, what cannot be copied, and wrappers that belong outside.

    >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    >>> fast = optimize(net)
    >>> fast[0].weight is net[0].weight, fast(torch.zeros(1, 1, 8, 8)).shape
    (True, torch.Size([1, 8, 3, 3]))
    """
    _check(model)
    optimized = share(model)
    for module in optimized.modules():
        take_programs(module)
    convert(optimized)
    return cast("ModuleT", optimized)


def _check(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise ModelError(f"optimize takes a torch.nn.Module, and this is a {type(model).__name__}")
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch._dynamo.OptimizedModule)  # pyright: ignore[reportPrivateUsage]
    if isinstance(model, (*wrappers, torch.jit.ScriptModule)):
        raise ModelError(f"the model is wrapped in a {type(model).__name__}; optimize what is inside, then wrap that")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if torch.nn.parameter.is_lazy(tensor):
            raise ModelError(f"{name} has no size yet; run the model once, then optimize it")
