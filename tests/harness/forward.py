"""Checks of values: against the loops and the peer, in every dtype, layout, instruction set and number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from harness.compare import require_agree, require_equal, require_near, require_same, require_same_but_payload
from harness.declaration import HALVES, Case, Operator, as_tuple
from harness.engines import engines, poisoned, running, threads
from harness.layouts import COMPACT, expanded, follows, layouts, lies_in_both, placed, same_strides
from harness.rounding import Judge, truth
from harness.samples import tensors


def _calls(operator: Operator, kinds: tuple[str, ...] | None = None) -> Iterator[tuple[str, Case, tuple[Tensor, ...]]]:
    for case, dtype, kind in product(operator.cases, operator.dtypes, kinds or operator.samples):
        yield f"{case.name}, {str(dtype)[6:]}, {kind}", case, tensors(operator, case, kind, dtype)


def values_equal_the_loops(operator: Operator) -> None:
    """Every case, dtype and kind of sample, by every instruction set: values and switches as the loops have them."""
    for case, dtype, kind in product(operator.cases, operator.dtypes, operator.samples):
        given = tensors(operator, case, kind, dtype)
        judge = Judge(operator, case, kind, given)
        for engine in engines(operator):
            with running(engine):
                got = operator.outputs(*given, **case.arguments)
            judge.judge(got, f"{operator.name} ({case.name}, {str(dtype)[6:]}, {kind}, {engine})")


def values_equal_the_peer(operator: Operator) -> None:
    """Values (payloads of NaN included), switches and strides as the peer's.

    Numbers are compared with what the peer says of a contiguous tensor: PyTorch's channels-last pooling refuses small
    integer types on larger maps, and its 3-d indices are wrong where all is -inf.
    """
    if operator.peer is None:
        return
    kinds = tuple(kind for kind in operator.samples if kind != "special")
    for name, case, given in _calls(operator, kinds):
        if not case.peer:
            continue
        wanted = as_tuple(operator.peer(*given, **case.arguments))
        for layout, first in layouts(given[0], *COMPACT).items():
            what = f"{operator.name} ({name}, {layout})"
            got = operator.outputs(first, *given[1:], **case.arguments)
            for i, (left, right) in enumerate(zip(got, wanted, strict=False)):  # the peer may have fewer outputs
                if i == 0 and not operator.exact and left.is_floating_point():
                    exact = truth(operator.reference, case, *given)[0]
                    allowed = {"of_largest": operator.sums or operator.cancels, "units": operator.units}
                    require_near(left, right, exact, operator.yardstick, f"{what}: values", **allowed)
                else:
                    compare = require_same_but_payload if left.dtype in HALVES else require_same
                    compare(left, right, f"{what}: output {i} against the peer")
            if operator.keeps_layout and first.dtype == torch.float32 and not lies_in_both(first):
                theirs = as_tuple(operator.peer(first, *given[1:], **case.arguments))[0].stride()
                if not same_strides(got[0].shape, got[0].stride(), theirs):
                    raise AssertionError(f"{what}: strides {got[0].stride()}, the peer's are {theirs}")


def layouts_do_not_matter(operator: Operator) -> None:
    """The numbers count, not where they lie; results follow the layout of the first tensor."""
    kinds = tuple(kind for kind in operator.kinds("plain", "nan") if kind in operator.samples)
    for name, case, given in _calls(operator, kinds):
        variants = placed(given, operator.weights)
        compact = operator.outputs(*given, **case.arguments)
        for engine, (layout, laid) in product(engines(operator), variants.items()):
            with running(engine):
                got = operator.outputs(*laid, **case.arguments)
            what = f"{operator.name} ({name}, {layout}, {engine})"
            for i, (left, right) in enumerate(zip(got, compact, strict=True)):
                _agree(operator, left, right, f"{what}: output {i}")
                if operator.keeps_layout and not follows(left, laid[0]):
                    raise AssertionError(f"{what}: output {i} has strides {left.stride()} for {laid[0].stride()}")
        for layout, first in expanded(given[0]).items():
            got = operator.outputs(first, *given[1:], **case.arguments)
            wanted = operator.outputs(first.contiguous(), *given[1:], **case.arguments)
            for i, (left, right) in enumerate(zip(got, wanted, strict=True)):
                _agree(operator, left, right, f"{operator.name} ({name}, {layout}): output {i}")


def _agree(operator: Operator, left: Tensor, right: Tensor, what: str) -> None:
    if operator.sums:
        require_equal(left, right, what)
    else:
        require_agree(left, right, operator.same_bits, what)


def inputs_stay_as_they_were(operator: Operator) -> None:
    """Nothing that goes in is written to."""
    for name, case, given in _calls(operator, ("plain",)):
        before = [t.clone() for t in given]
        operator.outputs(*given, **case.arguments)
        for i, (now, then) in enumerate(zip(given, before, strict=True)):
            require_same(now, then, f"{operator.name} ({name}): tensor {i} after the call")


def the_short_form_agrees(operator: Operator) -> None:
    """Values alone, which may take another path through the code, are the same values."""
    if operator.values_only is None:
        return
    for name, case, given in _calls(operator, operator.kinds(*operator.samples)):
        for layout, first in layouts(given[0], *COMPACT, "every second column").items():
            wanted = operator.values(first, *given[1:], **case.arguments)
            for engine in engines(operator):
                with running(engine):
                    got = operator.values_only(first, *given[1:], **case.arguments)
                require_same(got, wanted, f"{operator.name} ({name}, {layout}, {engine}): values alone")


def threads_do_not_matter(operator: Operator) -> None:
    """One, two or three threads: the same bits, in every layout and by every instruction set."""
    for case, dtype in product(operator.large, operator.dtypes):
        given = tensors(operator, case, "plain", dtype)
        for layout, first in layouts(given[0], *COMPACT).items():
            for engine in engines(operator):
                results = []
                for count in (1, 2, 3):
                    with running(engine), threads(count):
                        results.append(operator.outputs(first, *given[1:], **case.arguments))
                for outputs, i in product(results[1:], range(len(results[0]))):
                    what = f"{operator.name} ({case.name}, {dtype}, {layout}, {engine}): output {i} by more threads"
                    require_same(outputs[i], results[0][i], what)


def fresh_memory_does_not_matter(operator: Operator) -> None:
    """Nothing is read, or returned, that was never written."""
    for name, case, given in _calls(operator, ("plain",)):
        for layout, first in layouts(given[0]).items():
            results = []
            for byte in (0x55, 0xCC):
                with poisoned(byte):
                    results.append(operator.outputs(first, *given[1:], **case.arguments))
            for i, (left, right) in enumerate(zip(*results, strict=True)):
                require_same(left, right, f"{operator.name} ({name}, {layout}): output {i} on other fresh memory")


def the_batch_may_be_missing(operator: Operator) -> None:
    """One element without a batch axis gives what it gives within a batch."""
    if not operator.unbatched:
        return
    for name, case, given in _calls(operator, operator.kinds("plain")):
        batched = operator.outputs(*given, **case.arguments)
        single = operator.outputs(*operator.in_batch(given, lambda t: t[-1]), **case.arguments)
        for i, (left, right) in enumerate(zip(single, batched, strict=True)):
            require_same(left, right[-1], f"{operator.name} ({name}): output {i} without a batch")


def the_batch_may_be_empty(operator: Operator) -> None:
    """No elements in, none out: with the right shape, dtype and (empty) gradient."""
    if not operator.empty_batch:
        return
    for name, case, given in _calls(operator, ("plain",)):
        none = operator.in_batch(given, lambda t: t[:0].clone())
        wanted = operator.outputs(*given, **case.arguments)
        for first in layouts(none[0]).values():
            got = operator.outputs(first, *none[1:], **case.arguments)
            for i, (left, right) in enumerate(zip(got, wanted, strict=True)):
                require_same(left, right[:0], f"{operator.name} ({name}): output {i} of no elements")


CHECKS = (
    values_equal_the_loops,
    values_equal_the_peer,
    inputs_stay_as_they_were,
    the_short_form_agrees,
    threads_do_not_matter,
    the_batch_may_be_missing,
    the_batch_may_be_empty,
)
THOROUGH = (layouts_do_not_matter, fresh_memory_does_not_matter)
