"""From a traced graph to the blocks that run fused, and to the reasons why others do not."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import fx, nn

from switchgrad.fusion.rules import RULES, Rule, canonical
from switchgrad.fusion.stages import CONVS, POOLS, Stage, read
from switchgrad.fusion.timings import Timing

Measured: TypeAlias = "Mapping[tuple[bool, str], Timing]"


@dataclass(frozen=True)
class Link:
    """One or two stages that a rule sees as one: a convolution, or a convolution with its normalisation folded in."""

    kind: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Block:
    """A chain that a fused operator computes: its nodes are replaced by one call at the place of the first."""

    links: tuple[Link, ...]
    rule: Rule

    @property
    def name(self) -> str:
        """Its nodes, which are the same in every reading of the module."""
        return " + ".join(stage.node.name for stage in self.stages)

    @property
    def runs(self) -> str:
        """What runs, for the report."""
        folded = any(link.kind.startswith("folded") for link in self.links)
        return f"{self.rule.runs}, batch norm folded in" if folded else self.rule.runs

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every stage, in order."""
        return tuple(stage for link in self.links for stage in link.stages)


@dataclass(frozen=True)
class Rest:
    """A piece of a chain that runs as the model wrote it, and why."""

    stages: tuple[Stage, ...]
    reason: str


_WORTH_TELLING = {*CONVS, *POOLS, "norm", "mean", "flat_mean", "dropout"}
_FRESH_FUNCTIONS = (operator.add, operator.sub, operator.mul, torch.add, torch.sub, torch.mul, torch.cat)
_UNDILATED = (1, (1,), (1, 1), (1, 1, 1), [1], [1, 1], [1, 1, 1])
_WORDS = {"norm": "batch norm", "act": "ReLU", "mean": "global mean", "flat_mean": "global mean"}


def find(
    graph: fx.Graph, modules: Mapping[str, nn.Module], training: bool, timings: Measured | None = None
) -> tuple[list[Block], list[Rest], list[Stage]]:
    """The blocks of a graph in one mode, the stages worth telling of that are in none, and all stages.

    ``timings`` decide what gains by fusing, as far as they go; where there are none, the rules' model of costs does.
    """
    stages = {node: stage for node in graph.nodes if (stage := read(node, modules)) is not None}
    finder = _Finder(stages, {node: place for place, node in enumerate(graph.nodes)}, training, timings)
    for chain in _chains(stages):
        finder.cover(chain)
    return finder.blocks, finder.rests, list(stages.values())


def _chains(stages: Mapping[fx.Node, Stage]) -> list[list[Stage]]:
    """The stages in rows, each of which alone reads what the one before it gives."""
    after = {stage.input: stage for stage in stages.values() if _alone(stage)}
    starts = [stage for stage in stages.values() if stage.input not in stages or not _alone(stage)]
    chains: list[list[Stage]] = []
    for stage in starts:
        chain = [stage]
        while (following := after.get(chain[-1].node)) is not None:
            chain.append(following)
        chains.append(chain)
    return chains


def _alone(stage: Stage) -> bool:
    return set(stage.input.users) - set(stage.absorbed) == {stage.node}


class _Finder:
    """Blocks and rests, gathered chain by chain."""

    def __init__(
        self,
        stages: Mapping[fx.Node, Stage],
        order: Mapping[fx.Node, int],
        training: bool,
        timings: Measured | None,
    ) -> None:
        self.stages, self.order, self.training, self.timings = stages, order, training, timings
        self.blocks: list[Block] = []
        self.rests: list[Rest] = []

    def cover(self, chain: Sequence[Stage]) -> None:
        """Take the longest rule that fits at each place; what none fits stays."""
        links = _fold(chain)
        left: list[Stage] = []
        refusals: list[str] = []
        while links:
            said: list[str] = []
            block = self._match(links, said)
            if block is None:
                left += links.pop(0).stages
                refusals += said
                continue
            self._close(left, refusals)
            self.blocks.append(block)
            del links[: len(block.links)]
        self._close(left, refusals)

    def _close(self, left: list[Stage], refusals: list[str]) -> None:
        told = tuple(stage for stage in left if _is_worth_telling(stage))
        if told:
            self.rests.append(Rest(told, _reason(told, refusals)))
        left.clear()
        refusals.clear()

    def _match(self, links: Sequence[Link], refusals: list[str]) -> Block | None:
        for rule in RULES:
            head = tuple(links[: len(rule.kinds)])
            if canonical(_as_rule(rule, head)) != rule.kinds:
                continue
            block = Block(head, rule)
            refusal = self._refusal(block) or rule.refuses(block.stages) or self._slow(block)
            if not refusal:
                return block
            refusals.append(refusal)
        return None

    def _slow(self, block: Block) -> str:
        if self.timings is None:
            return block.rule.slow(block.stages, self.training)
        timing = self.timings.get((self.training, block.name))
        return str(timing) if timing is not None and timing.fused_ms > timing.written_ms else ""

    def _refusal(self, block: Block) -> str:
        first = block.stages[0]
        for stage in block.stages:
            if stage.problem:
                return stage.problem
            others = [node for node in stage.node.all_input_nodes if node is not stage.input and node.op != "get_attr"]
            late = [node for node in others if self.order[node] > self.order[first.node]]
            if set(late) - set(stage.absorbed):
                return "it uses a tensor that is computed after the block begins"
        if first.in_place and not _is_private(first, self.stages):
            return "it works in place on a tensor that others may see"
        if _swaps(block) and any(stage.facts.get("pool_dilation", 1) not in _UNDILATED for stage in block.stages):
            return "a dilated pool may have windows without a cell, where ReLU and max do not commute"
        if any((stage.facts.get("negative_slope") or 0.0) < 0 for stage in block.stages):
            return "negative_slope is below 0, so the activation is not monotone"
        return ""


def _is_worth_telling(stage: Stage) -> bool:
    idle = stage.kind == "dropout" and not stage.training
    return bool((stage.kind in _WORTH_TELLING and not idle) or stage.problem)


def _reason(stages: Sequence[Stage], refusals: Sequence[str]) -> str:
    problems = [stage.problem for stage in stages if stage.problem]
    if problems or refusals:
        return (problems or list(refusals))[0]
    kinds = " and ".join(dict.fromkeys(_WORDS.get(stage.kind, stage.kind) for stage in stages))
    users = len(stages[-1].node.users)
    several = f"; its result is used in {users} places, so it has to be kept" if users > 1 else ""
    return f"no fused operator for {kinds} here{several}"


def _fold(chain: Sequence[Stage]) -> list[Link]:
    """A convolution and the normalisation after it as one link, where the normalisation does not train."""
    links: list[Link] = []
    for stage in chain:
        before = links[-1] if links else None
        if before is not None and before.kind in CONVS and _foldable(before.stages[0], stage):
            links[-1] = Link(before.kind.replace("conv", "folded"), (*before.stages, stage))
        else:
            links.append(Link(stage.kind, (stage,)))
    return links


def _foldable(conv: Stage, norm: Stage) -> bool:
    if norm.kind != "norm" or norm.training or norm.problem or conv.problem:
        return False
    has_statistics = norm.facts.get("running_mean") if norm.module is None else norm.module.running_mean
    return has_statistics is not None


def _as_rule(rule: Rule, links: Sequence[Link]) -> list[str]:
    """The kinds of ``links``; a folded convolution passes for a plain one where the rule asks for that."""
    plain = [link.kind.replace("folded", "conv") for link in links]
    return plain if any(kind in CONVS for kind in rule.kinds) else [link.kind for link in links]


def _swaps(block: Block) -> bool:
    kinds = [link.kind for link in block.links]
    return list(canonical(kinds)) != kinds


def _is_private(stage: Stage, stages: Mapping[fx.Node, Stage]) -> bool:
    """Whether the tensor that ``stage`` changes in place is new and read by nothing else."""
    source = stage.input
    if set(source.users) != {stage.node}:
        return False
    maker = stages.get(source)
    if maker is None:
        return source.op == "call_function" and source.target in _FRESH_FUNCTIONS
    return maker.kind not in ("flatten", "dropout", "act") or (maker.kind == "act" and not maker.in_place)
