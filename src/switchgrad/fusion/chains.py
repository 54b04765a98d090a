"""From a traced graph to the blocks that run fused, and to the reasons why others do not."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn

from switchgrad.fusion.rule import Rule
from switchgrad.fusion.rules import RULES, canonical
from switchgrad.fusion.stages import CONVS, POOLS, Stage, read
from switchgrad.fusion.timings import WRITTEN, Costs


@dataclass(frozen=True)
class Link:
    """One or two stages that a rule sees as one: a convolution, or a convolution with its normalisation folded in."""

    kind: str
    stages: tuple[Stage, ...]

    @property
    def name(self) -> str:
        """Its nodes, which are the same in every reading of the module."""
        return " + ".join(stage.node.name for stage in self.stages)


@dataclass(frozen=True)
class Block:
    """A chain that a fused operator computes: its nodes are replaced by one call at the place of the first."""

    links: tuple[Link, ...]
    rule: Rule

    @property
    def name(self) -> str:
        """Its nodes, which are the same in every reading of the module."""
        return " + ".join(link.name for link in self.links)

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
    graph: fx.Graph, modules: Mapping[str, nn.Module], training: bool, costs: Costs | None = None
) -> tuple[list[Block], list[Rest], list[Stage]]:
    """The blocks of a graph in one mode, the stages worth telling of that are in none, and all stages.

    Where every candidate of a chain has its ``costs``, the cheapest way to cut the chain into candidates is taken; else
    the longest rule that fits at each place and does not call itself slow.
    """
    finder = _finder(graph, modules, training)
    for chain in _chains(finder.stages):
        links = _fold(chain)
        chosen = None if costs is None else finder.cheapest(links, costs)
        finder.cover(links, finder.longest(links) if chosen is None else chosen)
    return finder.blocks, finder.rests, list(finder.stages.values())


def candidates(
    graph: fx.Graph, modules: Mapping[str, nn.Module], training: bool
) -> Iterator[tuple[list[Link], list[Block]]]:
    """Each chain of a graph that any rule fits: what it is made of, and every block that could run a piece of it."""
    finder = _finder(graph, modules, training)
    for chain in _chains(finder.stages):
        links = _fold(chain)
        blocks = [block for place in range(len(links)) for block in finder.fitting(links[place:], [], "measured")]
        if blocks:
            yield links, blocks


def _finder(graph: fx.Graph, modules: Mapping[str, nn.Module], training: bool) -> _Finder:
    stages = {node: stage for node in graph.nodes if (stage := read(node, modules)) is not None}
    return _Finder(stages, {node: place for place, node in enumerate(graph.nodes)}, training)


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

    def __init__(self, stages: Mapping[fx.Node, Stage], order: Mapping[fx.Node, int], training: bool) -> None:
        self.stages, self.order, self.training = stages, order, training
        self.blocks: list[Block] = []
        self.rests: list[Rest] = []

    def cover(self, links: Sequence[Link], chosen: Mapping[int, Block | str]) -> None:
        """Take the blocks chosen at their places; the others stay, for the reasons that stand in their places."""
        left: list[Stage] = []
        refusals: list[str] = []
        place = 0
        while place < len(links):
            found = chosen[place]
            if not isinstance(found, Block):
                found = self._for_memory(links[place]) or found
            if isinstance(found, Block):
                self._close(left, refusals)
                self.blocks.append(found)
                place += len(found.links)
                continue
            left += links[place].stages
            refusals += [found] if found else []
            place += 1
        self._close(left, refusals)

    def longest(self, links: Sequence[Link]) -> dict[int, Block | str]:
        """At each place the first rule that fits and is not slow, or why there is none."""
        chosen: dict[int, Block | str] = {}
        for place in range(len(links)):
            said: list[str] = []
            fitting = self.fitting(links[place:], said, "unmeasured")
            quick = (block for block in fitting if not self._is_slow(block, said))
            chosen[place] = next(quick, None) or next(iter(said), "")
        return chosen

    def cheapest(self, links: Sequence[Link], costs: Costs) -> dict[int, Block | str] | None:
        """At each place what the cheapest way to the chain's end begins with; None where a candidate has no cost."""
        rest = [0.0] * (len(links) + 1)  # what the chain costs from each place on
        chosen: dict[int, Block | str] = {}
        for place in reversed(range(len(links))):
            said: list[str] = []
            blocks = list(self.fitting(links[place:], said, "measured"))
            written = costs.get((links[place].name, WRITTEN))
            each = [costs.get((block.name, block.rule.operator)) for block in blocks]
            if written is None or None in each:
                if blocks:
                    return None
                written = 0.0  # a chain that no rule fits here is not measured, and costs the same in every cut
            totals = [ms + rest[place + len(b.links)] for ms, b in zip(each, blocks, strict=True) if ms is not None]
            rest[place] = min([written + rest[place + 1], *totals])
            if totals and min(totals) == rest[place]:
                chosen[place] = blocks[totals.index(rest[place])]
            else:
                chosen[place] = next(iter(said), "") if not blocks else _compared(blocks[0], costs)
        return chosen

    def fitting(self, links: Sequence[Link], refusals: list[str], among: str) -> Iterator[Block]:
        """Every block that begins these links, the longest first; what speaks against others goes to ``refusals``."""
        for rule in RULES:
            if rule.among != among and (rule.among or among == "left"):
                continue
            head = tuple(links[: len(rule.kinds)])
            if canonical(_as_rule(rule, head)) != rule.kinds:
                continue
            block = Block(head, rule)
            refusal = self._refusal(block) or rule.refuses(block.stages)
            if not refusal:
                yield block
            else:
                refusals.append(refusal)

    def _for_memory(self, link: Link) -> Block | None:
        """What takes a link that no candidate gained by."""
        return next((block for block in self.fitting([link], [], "left") if not self._is_slow(block, [])), None)

    def _is_slow(self, block: Block, refusals: list[str]) -> bool:
        reason = block.rule.slow(block.stages, self.training)
        refusals += [reason] if reason else []
        return bool(reason)

    def _close(self, left: list[Stage], refusals: list[str]) -> None:
        told = tuple(stage for stage in left if _is_worth_telling(stage))
        if told:
            self.rests.append(Rest(told, _reason(told, refusals)))
        left.clear()
        refusals.clear()

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


def _compared(block: Block, costs: Costs) -> str:
    written = sum(costs.get((link.name, WRITTEN), 0.0) for link in block.links)
    return f"{written:.3g} ms, {costs[block.name, block.rule.operator]:.3g} ms by {block.rule.operator}"


def _is_worth_telling(stage: Stage) -> bool:
    idle = stage.kind == "dropout" and not stage.training
    return bool((stage.kind in _WORTH_TELLING and not idle) or stage.problem)


def _reason(stages: Sequence[Stage], refusals: Sequence[str]) -> str:
    problems = [stage.problem for stage in stages if stage.problem]
    if problems:
        return problems[0]
    kinds = " and ".join(dict.fromkeys(_WORDS.get(stage.kind, stage.kind) for stage in stages))
    users = len(stages[-1].node.users)
    several = f"; its result is used in {users} places, so it has to be kept" if users > 1 else ""
    return f"{refusals[0] if refusals else f'no fused operator for {kinds} here'}{several}"


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
