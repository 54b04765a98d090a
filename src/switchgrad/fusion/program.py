"""A traced graph with its fused blocks, written as one Python function: ``program(self, x, ...)``.

Parameters, buffers and layers' settings are read from ``self`` at each call, so nothing is copied into the program.
"""

from __future__ import annotations

import itertools
import keyword
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from switchgrad.fusion.chains import Block
from switchgrad.fusion.folding import Fold
from switchgrad.fusion.layouts import ENTRIES, as_they_came, came, came_to_be_moved
from switchgrad.fusion.stages import Attribute, Stage, plain_class
from switchgrad.fusion.timings import Layout


@dataclass(frozen=True)
class Program:
    """The function, its source text, and the folded weights that it keeps."""

    run: Callable[..., Any]
    source: str
    folds: tuple[Fold, ...]


def write(graph: fx.Graph, blocks: Sequence[Block], layout: Layout = "") -> Program:
    """The program of ``graph`` in which each block is one call; maps are in ``layout`` from its entry to its end."""
    return _Writer(blocks, layout).write(graph)


@dataclass
class _Line:
    """A line of the program: the variable that it sets (or none), its text, and the variables that it reads."""

    sets: str | None
    text: str
    reads: set[str]


class _Writer:
    def __init__(self, blocks: Sequence[Block], layout: Layout) -> None:
        self.layout: Layout = layout
        self.heads = {block.stages[0].node: block for block in blocks}
        self.inside = {node for block in blocks for s in block.stages for node in (s.node, *s.absorbed)}
        self.names: dict[str, Any] = {}
        self.folds: list[Fold] = []
        self.lines: list[_Line] = []
        self.first: dict[str, _Line] = {}  # the lines before all others, by what they compute
        self.found: dict[str, str] = {}  # the variable that holds the layer of a path
        self.reads: set[str] = set()  # variables in the texts made since the last line
        self.came = ""  # the variable that holds the layout in which maps came in

    def write(self, graph: fx.Graph) -> Program:
        """Line by line, in the order of the graph; a variable is deleted after its last reader."""
        inputs = [node.name for node in graph.nodes if node.op == "placeholder"]
        if self.layout:
            self.came = next(name for name in _numbered("layout") if name not in {node.name for node in graph.nodes})
            told = self._name(came_to_be_moved if self.layout == "pictures" else came)
            self.lines.append(_Line(None, f"{self.came} = {told}({', '.join(inputs)})", set()))
            for name in inputs if self.layout in ENTRIES else ():
                self.lines.append(_Line(name, f"{name} = {self._name(ENTRIES[self.layout])}({name})", set()))
        for node in graph.nodes:
            if node in self.heads:
                self._block(self.heads[node])
            elif node not in self.inside and node.op not in ("placeholder", "get_attr"):
                self._node(node)
        body = _with_deletions([*self.first.values(), *self.lines])
        source = f"def program({', '.join(['self', *inputs])}):\n" + "".join(f"    {line}\n" for line in body)
        exec(compile(source, "<switchgrad.optimize>", "exec"), self.names)
        return Program(self.names["program"], source, tuple(self.folds))

    def _block(self, block: Block) -> None:
        self._layers(block)
        given = self._text(block.stages[0].input)
        arguments: dict[str, str] = {}
        met: Counter[str] = Counter()
        for link in block.links:
            for stage in link.stages:
                met[stage.kind] += 1
                number = f"_{met[stage.kind]}" if met[stage.kind] > 1 else ""
                arguments.update({f"{name}{number}": self._text(value) for name, value in stage.fields.items()})
            if link.kind.startswith("folded"):
                self._fold(link.stages, arguments)
        for name, function in block.rule.first.items():
            arguments[name] = self._make_ready(function, block.stages[0], name)
        call = ", ".join([given, *(f"{name}={text}" for name, text in arguments.items())])
        self._line(block.stages[-1].node.name, f"{self._name(block.rule.run)}({call})")

    def _make_ready(self, function: Callable[[Any], Any], stage: Stage, field: str) -> str:
        """The variable that holds what ``function`` makes of a parameter, once for all that share it."""
        value = stage.fields[field]
        path = str(value.target) if isinstance(value, fx.Node) else ".".join(filter(None, (value.path, value.name)))
        text = f"{self._name(function)}({_path(path)})"
        name = f"{stage.node.name}_ready"
        line = self.first.setdefault(text, _Line(name, f"{name} = {text}", set()))
        self.reads.add(str(line.sets))
        return str(line.sets)

    def _layers(self, block: Block) -> None:
        """Find each layer of the block once, though several of its settings are read."""
        for stage in block.stages:
            paths = {value.path for value in stage.fields.values() if isinstance(value, Attribute) and value.path}
            for path in paths - self.found.keys():
                name = f"{stage.node.name}_layer"
                self.lines.append(_Line(name, f"{name} = {_path(path)}", set()))
                self.found[path] = name

    def _fold(self, stages: tuple[Stage, ...], arguments: dict[str, str]) -> None:
        """Put the folded weight and bias where the convolution's stood, and take the normalisation away."""
        self.folds.append(Fold())
        name = f"{stages[0].node.name}_folded"
        sources = ", ".join(arguments[part] for part in ("weight", "bias"))
        text = f"{name} = {self._name(self.folds[-1], 'fold')}({sources}, {arguments.pop('norm')})"
        self.lines.append(_Line(name, text, set()))  # what it reads counts as read by the call that follows
        self.reads.add(name)
        arguments.update(weight=f"{name}[0]", bias=f"{name}[1]")

    def _node(self, node: fx.Node) -> None:
        if node.op == "output":
            text = self._text(node.args[0])
            whole = f"{self._name(as_they_came)}({self.came}, {text})" if self.layout else text
            self._line(None, f"return {whole}")
            return
        arguments = [self._text(value) for value in node.args]
        named = [f"{name}={self._text(value)}" for name, value in node.kwargs.items()]
        if node.op == "call_method":
            function = f"{arguments.pop(0)}.{node.target}"
        elif node.op == "call_module" and not node.target:
            function, arguments = self._name(_as_written), ["self", *arguments]
        elif node.op == "call_module":
            function = self._text(Attribute(str(node.target)))
        else:
            function = self._name(node.target)
        self._line(node.name, f"{function}({', '.join([*arguments, *named])})")

    def _line(self, sets: str | None, text: str) -> None:
        self.lines.append(_Line(sets, f"{sets} = {text}" if sets else text, self.reads))
        self.reads = set()

    def _text(self, value: Any) -> str:
        """``value`` as an expression."""
        if isinstance(value, fx.Node):
            if value.op == "get_attr":
                return _path(str(value.target))
            self.reads.add(value.name)
            return value.name
        if isinstance(value, Attribute):
            owner = self.found.get(value.path) or _path(value.path)
            return f"{owner}.{value.name}" if value.name else owner
        if isinstance(value, slice):
            return f"slice({', '.join(self._text(part) for part in (value.start, value.stop, value.step))})"
        if isinstance(value, list):  # or the class in which fx keeps lists
            return f"[{', '.join(map(self._text, value))}]"
        if isinstance(value, tuple) and not hasattr(value, "_fields") and type(value).__module__ != "torch":
            return f"({''.join(f'{self._text(part)}, ' for part in value)})"
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return f"{self._name(type(value))}({', '.join(map(self._text, value))})"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{key!r}: {self._text(part)}' for key, part in value.items())}}}"
        if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
            return repr(value)
        return self._name(value)

    def _name(self, value: Any, hint: str = "") -> str:
        """A global name of the program for ``value``."""
        for name, known in self.names.items():
            if known is value:
                return name
        stem = hint or getattr(value, "__name__", type(value).__name__)
        stem = f"_{stem}" if stem.isidentifier() else "_value"
        name = next(name for name in _numbered(stem) if name not in self.names)
        self.names[name] = value
        return name


def _as_written(module: nn.Module, *arguments: Any) -> Any:
    """A layer that has a program of its own, without that program."""
    return plain_class(module).forward(module, *arguments)


def _numbered(stem: str) -> Iterator[str]:
    return itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(1)))


def _path(path: str) -> str:
    text = "self"
    for part in path.split(".") if path else ():
        plain = part.isidentifier() and not keyword.iskeyword(part)
        text = f"{text}.{part}" if plain else f"getattr({text}, {part!r})"
    return text


def _with_deletions(lines: Sequence[_Line]) -> list[str]:
    """The text of the lines, with a ``del`` after the last reader of each variable."""
    seen: set[str] = set()
    body: list[str] = []
    for line in reversed(lines):
        last = sorted(line.reads - seen)
        seen |= line.reads
        if last and line.sets:
            body.append(f"del {', '.join(last)}")
        body.append(line.text)
    return body[::-1]
