"""From a traced graph to the blocks that run fused, and to the reasons why others do not."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn

from switchgrad.fusion.rules import RULES, Rule, canonical
from switchgrad.fusion.stages import CONVS, POOLS, Stage, has_hooks, read


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
    def runs(self) -> str:
        """What runs, for the report."""
        folded = any(link.kind.startswith("folded") for link in self.links)
        return f"{self.rule.operator}, batch norm folded in" if folded else self.rule.operator

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
_WORDS = {"norm": "batch norm", "act": "ReLU", "mean": "global mean", "flat_mean": "global mean"}


def find(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> tuple[list[Block], list[Rest], list[Stage]]:
    """The blocks of a graph, the stages worth telling of that are in none, and all stages."""
    stages = {node: stage for node in graph.nodes if (stage := read(node, modules)) is not None}
    order = {node: place for place, node in enumerate(graph.nodes)}
    blocks: list[Block] = []
    rests: list[Rest] = []
    for chain in _chains(stages):
        _cover(chain, stages, order, blocks, rests)
    return blocks, rests, list(stages.values())


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


def _cover(
    chain: list[Stage],
    stages: Mapping[fx.Node, Stage],
    order: Mapping[fx.Node, int],
    blocks: list[Block],
    rests: list[Rest],
) -> None:
    """Take the longest rule that fits at each place; what none fits stays."""
    links = _fold(chain)
    left: list[Stage] = []
    refusals: list[str] = []
    at = 0
    while at < len(links):
        said: list[str] = []
        block = _match(links[at:], stages, order, said)
        if block is None:
            left += links[at].stages
            refusals += said
            at += 1
            continue
        _close(left, refusals, rests)
        blocks.append(block)
        at += len(block.links)
    _close(left, refusals, rests)


def _close(left: list[Stage], refusals: list[str], rests: list[Rest]) -> None:
    told = tuple(stage for stage in left if _is_worth_telling(stage))
    if told:
        rests.append(Rest(told, _reason(told, refusals)))
    left.clear()
    refusals.clear()


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


def _match(
    links: Sequence[Link], stages: Mapping[fx.Node, Stage], order: Mapping[fx.Node, int], refusals: list[str]
) -> Block | None:
    for rule in RULES:
        head = tuple(links[: len(rule.kinds)])
        if canonical(_as_rule(rule, head)) != rule.kinds:
            continue
        block = Block(head, rule)
        refusal = _refusal(block, stages, order)
        if not refusal:
            return block
        refusals.append(refusal)
    return None


def _as_rule(rule: Rule, links: Sequence[Link]) -> list[str]:
    """The kinds of ``links``; a folded convolution passes for a plain one where the rule asks for that."""
    plain = [link.kind.replace("folded", "conv") for link in links]
    return plain if any(kind in CONVS for kind in rule.kinds) else [link.kind for link in links]


def _refusal(block: Block, stages: Mapping[fx.Node, Stage], order: Mapping[fx.Node, int]) -> str:
    first = block.stages[0]
    for stage in block.stages:
        if stage.problem:
            return stage.problem
        if stage.module is not None and has_hooks(stage.module):
            return "it has hooks, which must see its own input and output"
        others = [node for node in stage.node.all_input_nodes if node is not stage.input and node.op != "get_attr"]
        if any(order[node] > order[first.node] for node in others if node not in stage.absorbed):
            return "it uses a tensor that is computed after the block begins"
    if first.in_place and not _is_private(first, stages):
        return "it works in place on a tensor that others may see"
    if _swaps(block) and any(s.facts.get("pool_dilation", 1) not in (1, (1,), (1, 1), (1, 1, 1)) for s in block.stages):
        return "a dilated pool may have windows without a cell, where ReLU and max do not commute"
    slopes = [stage.facts.get("negative_slope") or 0.0 for stage in block.stages]
    if min(slopes) < 0:
        return "negative_slope is below 0, so the activation is not monotone"
    return block.rule.refuses(block.stages)


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
