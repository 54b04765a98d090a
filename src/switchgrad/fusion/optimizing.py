"""The call that people make: `optimize`."""

from __future__ import annotations

import os
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from switchgrad.errors import ModelError
from switchgrad.fusion import tuning
from switchgrad.fusion.modules import convert, take_programs
from switchgrad.fusion.planning import in_mode
from switchgrad.fusion.sharing import share
from switchgrad.fusion.timing_file import TimingFile

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def optimize(model: ModuleT, example_input: Any = None, *, tune: bool | str | os.PathLike[str] = False) -> ModuleT:
    """The same model, with chains of operations run by fused operators; parameters, names and results stay.

    A new tree of modules of the same classes comes back, and ``model`` stays as it is. Both hold the same parameters,
    buffers and hooks: train one and the other is trained, and a ``state_dict`` of either loads into either. Each has
    its own structure and its own mode (``train()``, ``eval()``). Other attributes are copied.

    Each forward is read once with ``torch.fx``; chains such as convolution, batch norm, ReLU and max pool, as layers or
    as function calls, in any order that has a fused operator, are replaced by one call. Where a forward cannot be read
    (control flow that depends on values, randomness, side effects) it runs as it was written and its sub-modules are
    read one by one. `report` lists what runs fused, what does not, and why.

    Dropout draws its masks by a counter: from another stream than PyTorch's, so that with the same seed the masks are
    others, and as repeatable. Everything else gives the original's numbers up to rounding.

    In evaluation, a batch norm after a convolution is folded into its weights: the parameters stay as they are, and
    the product is made again when they change. (A change through ``.data`` counts after the next ``eval()``.)

    With ``example_input`` (a tensor, or a tuple of forward's arguments) both are run on it in evaluation, and
    `ModelError` says so where they differ. With ``tune`` besides, everything that could run a piece of the model is
    timed with the shapes that it leads to, on this machine and with the present number of threads: each operation as it
    was written, each fused operator that fits, both with the maps as they come and with all maps channels last (or, if
    they come so, contiguous). The fastest is kept, for training and for evaluation; a program that works in another
    layout brings the maps to it where they come in and back where they go out. `report` shows what was taken, and
    ``print(switchgrad.fusion.measured(fast))`` is the whole table. With a path as ``tune`` the milliseconds are also
    kept on that file (JSON), by machine, threads and shapes, and what stands there is not measured again.

    Without ``tune`` a rule of thumb is the model of costs: the longest fused operator that fits is taken, but wide
    convolutions (64 channels and more) are fused with their pool in training alone, and dense 3x3 and 5x5 convolutions
    choose their algorithm at each call, by `switchgrad.ops.conv2d`'s estimate for the shapes, as large fully connected
    layers do by `switchgrad.ops.linear`'s.
    Where 8 or more pictures of at most 8 channels come in and such convolutions follow, a program on the CPU lays the
    pictures channels last, and what it gives as they came.

    In training, the weight gradient of a wide linear layer (from 2^20 weights on, where batch times features is small
    beside that) is the last thing that backward makes: then what the other layers kept is free. The numbers are the
    same; only the order in which gradients arrive is another, which `torch.nn.parallel.DistributedDataParallel` feels:
    these gradients are then exchanged last.

    Hooks keep working: a module that has hooks, now or later, is run as itself. ``copy.deepcopy``, pickling,
    ``DistributedDataParallel`` and ``torch.compile`` around the result, ``torch.export`` and autocast work. After an
    attribute or a sub-module is replaced, the modules around it run as they were written, with a `FusionWarning`;
    optimize again then.

    Raises `ModelError` for what is no module, what cannot be copied, wrappers that belong outside, ``tune`` without an
    example, and a file that holds no timings.

    >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    >>> fast = optimize(net)
    >>> fast[0].weight is net[0].weight, fast(torch.zeros(1, 1, 8, 8)).shape
    (True, torch.Size([1, 8, 3, 3]))
    """
    _check(model)
    optimized = share(model)
    for module in optimized.modules():
        take_programs(module)
    example = _arguments(example_input)
    if tune is not False and example is None:
        raise ModelError("tune needs an example_input, whose shapes it measures with; give one batch")
    if tune is not False and example is not None:
        file = TimingFile(None if tune is True else tune)
        tuning.tune(optimized, example, file)
        file.save()
    convert(optimized)
    if example is not None:
        _compare(model, optimized, example)
    return cast("ModuleT", optimized)


def _arguments(example_input: Any) -> tuple[Any, ...] | None:
    if example_input is None or isinstance(example_input, tuple):
        return example_input
    return (example_input,)


def _compare(model: nn.Module, optimized: nn.Module, example: tuple[Any, ...]) -> None:
    """Refuse a program that misread a forward: rounding differs in the last digits, a wrong branch in the first."""
    outputs: list[list[Any]] = []
    for net in (model, optimized):
        given = tuple(value.detach().clone() if isinstance(value, Tensor) else value for value in example)
        with in_mode(net, False), torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            outputs.append([value for value in tree_leaves(net(*given)) if isinstance(value, Tensor)])
    ours, theirs = outputs[1], outputs[0]
    same = len(ours) == len(theirs) and all(map(_near, ours, theirs))
    if not same:
        raise ModelError(
            f"the optimized {type(model).__name__} differs from the original on example_input: its forward depends on "
            "something that cannot be seen before it runs; optimize its sub-modules instead"
        )


def _near(ours: Tensor, theirs: Tensor) -> bool:
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    if not ours.is_floating_point():
        return torch.equal(ours, theirs)
    scale = theirs[theirs.isfinite()].abs().max().item() if theirs.isfinite().any() else 0.0
    return torch.allclose(ours, theirs, rtol=0, atol=scale * torch.finfo(ours.dtype).eps ** 0.5, equal_nan=True)


def _check(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise ModelError(f"optimize takes a torch.nn.Module, and this is a {type(model).__name__}")
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch._dynamo.OptimizedModule)  # pyright: ignore[reportPrivateUsage]
    if isinstance(model, (*wrappers, torch.jit.ScriptModule)):
        raise ModelError(f"the model is wrapped in a {type(model).__name__}; optimize what is inside, then wrap that")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if torch.nn.parameter.is_lazy(tensor):
            raise ModelError(f"{name} has no size yet; run the model once, then optimize it")
