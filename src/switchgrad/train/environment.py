"""The surroundings of a run: device, threads, generators, memory; set for its duration and put back after it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch

from switchgrad.errors import RunError
from switchgrad.memory import keep_memory
from switchgrad.train.recipe import Recipe

SMALL_BATCH_VALUES = 2**14


def find_device(name: str) -> torch.device:
    """The device that "auto", "cpu" or "cuda" stands for; `RunError` for a "cuda" that is not there.

    >>> find_device("cpu")
    device(type='cpu')
    """
    present = torch.cuda.is_available()
    if name == "cuda" and not present:
        raise RunError("device is 'cuda', but PyTorch finds no CUDA device here; give device 'cpu' or 'auto'")
    return torch.device("cuda" if name != "cpu" and present else "cpu")


def choose_threads(recipe: Recipe, batch_values: int) -> int:
    """Threads for batches of so many input values: the recipe's number, or the rule where that is 0.

    Below 16,384 values (a batch of 64 digits of 8x8 has 4,096) a second thread only waits for the first, and on a busy
    machine it waits long; such runs get one thread. All others get PyTorch's number.

    >>> choose_threads(Recipe(threads=3), 10), choose_threads(Recipe(), 64 * 8 * 8)
    (3, 1)
    """
    return recipe.threads or (1 if batch_values < SMALL_BATCH_VALUES else torch.get_num_threads())


def deterministic_cudnn() -> contextlib.AbstractContextManager[None]:
    """Within the block cuDNN takes its deterministic algorithms, by its own choice; the rest stays as the user set it.

    PyTorch's ``flags`` turns off cuDNN, and sets what else is not named, unless told.
    """
    cudnn = torch.backends.cudnn
    return cudnn.flags(enabled=cudnn.enabled, deterministic=True, benchmark=False, allow_tf32=cudnn.allow_tf32)


@contextlib.contextmanager
def environment(recipe: Recipe, batch_values: int) -> Generator[torch.device]:
    """Within the block: the recipe's device and threads, kept memory, deterministic cuDNN, and generators of our own.

    The caller's number of threads and the state of PyTorch's global generators come back at the end.
    """
    device = find_device(recipe.device)
    threads = torch.get_num_threads()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=range(torch.cuda.device_count())))
        if device.type == "cuda":
            stack.enter_context(deterministic_cudnn())
        else:
            stack.enter_context(keep_memory())
        torch.set_num_threads(choose_threads(recipe, batch_values))
        stack.callback(torch.set_num_threads, threads)
        yield device
