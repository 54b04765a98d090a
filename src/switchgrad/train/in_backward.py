"""Update each parameter as soon as its gradient is whole, and free the gradient: no two large ones are ever alive."""

from __future__ import annotations

from threading import Lock
from typing import Any

import torch
from torch import Tensor

from switchgrad.errors import RunError


class UpdatesInBackward:
    """What `update_in_backward` gives: in force until `remove`, or the end of its ``with`` block."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._lock = Lock()  # with several devices, backward runs in a thread for each
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._updater(place))
            for place, group in enumerate(optimizer.param_groups)
            for parameter in group["params"]
            if parameter.requires_grad
        ]

    def remove(self) -> None:
        """Let gradients be gathered again, and ``optimizer.step()`` update; a second call does nothing."""
        hooks, self._hooks = self._hooks, []
        for hook in hooks:
            hook.remove()

    def __enter__(self) -> UpdatesInBackward:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def _updater(self, place: int) -> Any:
        def update(parameter: Tensor) -> None:
            with self._lock:
                self._step(place, parameter)
            parameter.grad = None

        return update

    def _step(self, place: int, parameter: Tensor) -> None:
        """A step of the optimiser, to which ``parameter`` is all there is; its group's settings are those of now."""
        groups = self.optimizer.param_groups
        alone = {**groups[place], "params": [parameter]}
        before = dict(alone)
        self.optimizer.param_groups = [alone]
        try:
            self.optimizer.step()
        finally:
            self.optimizer.param_groups = groups
        if any(alone[name] is not value for name, value in before.items()) or len(alone) > len(before):
            raise RunError(
                f"{type(self.optimizer).__name__} counts its steps for all parameters together, so they cannot be "
                "updated one by one; use it after backward"
            )


def update_in_backward(optimizer: torch.optim.Optimizer) -> UpdatesInBackward:
    """From now on, or within a ``with`` block, ``loss.backward()`` also updates: a parameter at a time, in backward.

    By default every gradient waits for ``optimizer.step()``, so that all of them, as large as the parameters together,
    are alive at once. Here a parameter is updated when its gradient is whole, and the gradient is freed: alive are no
    more than those that backward is just making. The numbers are the same. The loop may stay as it is: the gradients
    are None after backward, and what ``optimizer.step()`` and ``zero_grad()`` find to do is nothing.

    It takes any optimiser that treats each parameter by itself, as those of ``torch.optim`` do (but `torch.optim.LBFGS`
    does not). State, groups and their settings stay the optimiser's own, so learning rate schedulers,
    ``state_dict()`` and ``load_state_dict()`` work, also in the midst of training. Hooks around the optimiser's step
    are called for each parameter.

    What needs all gradients before any update does not go with it: clipping by their common norm, adding up the
    gradients of several batches, `torch.amp.GradScaler`, and holding an update back after looking at gradients. (A
    loss that is not finite has to be looked at before backward.) Nor does `torch.nn.parallel.DistributedDataParallel`,
    which exchanges gradients after the update would have used them. A parameter that only begins to require a gradient
    later, or is in a group added later, is updated by ``optimizer.step()`` as ever. Each parameter is a call of its
    own, some tens of microseconds.

    Raises `RunError` for an optimiser that cannot update parameters one by one.

    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> with update_in_backward(torch.optim.SGD([weight], lr=0.5)):
    ...     weight.sum().backward()
    >>> weight.data, weight.grad
    (tensor([0.5000, 0.5000]), None)
    """
    if not isinstance(optimizer, torch.optim.Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RunError(f"update_in_backward takes a torch.optim.Optimizer, and this is a {type(optimizer).__name__}")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise RunError("LBFGS needs all gradients before it updates anything; use it after backward")
    return UpdatesInBackward(optimizer)
