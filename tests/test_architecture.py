"""The house: imports go down only, siblings do not know each other, files stay short. Read from the source text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (
    ("kernels", "gpu", "geometry", "layout", "errors", "memory", "version", "page"),
    ("ops",),
    ("nn",),
    ("fusion",),
    ("models", "data", "backprop"),
    ("train", "probe", "explain", "export", "reference"),
    ("tasks",),
    ("app",),
    ("__main__",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FRONT_DOOR = FLOOR["app"] - 0.5  # `switchgrad` itself opens every floor: only the application may come in there
# Rooms of the ground floor are one shelf each: the kernels may use the sentences and the version, not the reverse.
GROUND = {("kernels", "errors"), ("kernels", "version"), ("geometry", "errors"), ("gpu", "geometry"), ("gpu", "layout")}
MOST_LINES = 400


def room_of(module: str) -> str:
    """``switchgrad.ops.max_pool`` -> ``ops``; the package itself -> ``""``."""
    return [*module.split("."), ""][1]


def imports(tree: ast.AST, module: str, is_package: bool) -> list[tuple[int, str]]:
    """Line and full name of everything of ours that is imported, wherever it stands."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = module.split(".")[: len(module.split(".")) + is_package - node.level]
                base = ".".join([*parent, *filter(None, [node.module])])
            found += [(node.lineno, f"{base}.{name.name}") for name in node.names]
    return [(line, name) for line, name in found if name.split(".")[0] == "switchgrad"]


def hidden_imports(tree: ast.AST) -> list[int]:
    """Lines of the imports inside functions."""
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    return [n.lineno for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)]


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Some path of imports that comes back to where it began, or nothing."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph.get(module, ())):
            if found := walk(other, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := walk(module, []))), [])


def complaints(root: Path) -> list[str]:
    """Everything in a checkout that breaks the rules of the house."""
    source = root / "src" / "switchgrad"
    found: list[str] = []
    graph: dict[str, set[str]] = {}
    files = {".".join(f.relative_to(source.parent).with_suffix("").parts): f for f in sorted(source.rglob("*.py"))}
    modules = {name.removesuffix(".__init__") for name in files}
    for name, file in files.items():
        module, tree = name.removesuffix(".__init__"), ast.parse(file.read_text())
        room, where = room_of(module), file.relative_to(root)
        if room and room not in FLOOR:
            found.append(f"{where}: {room} stands on no floor")
        found += [f"{where}:{n.lineno}: assert" for n in ast.walk(tree) if isinstance(n, ast.Assert)]
        found += [
            f"{where}:{node.lineno}: torchvision"
            for node in ast.walk(tree)
            if "torchvision" in (getattr(node, "module", None) or "").split(".")
            or (isinstance(node, ast.Import) and any(n.name.split(".")[0] == "torchvision" for n in node.names))
        ]
        if room and room != "app":
            found += [f"{where}:{line}: import inside a function" for line in hidden_imports(tree)]
        for line, imported in imports(tree, module, name != module):
            target = imported if imported in modules else imported.rpartition(".")[0]
            if target in modules and target != module and not module.startswith(f"{target}."):
                graph.setdefault(module, set()).add(target)
            below = room_of(imported)
            here, there = FLOOR.get(room, 9), FLOOR.get(below, FRONT_DOOR)
            if room and below != room and here <= there and (room, below) not in GROUND:
                found.append(f"{where}:{line}: imports {imported}, {'sideways' if here == there else 'up'}")
    path = cycle({module: {t for t in targets if t != "switchgrad"} for module, targets in graph.items()})
    return found + ([f"cycle: {' -> '.join(path)}"] if path else []) + long_files(root)


def long_files(root: Path) -> list[str]:
    """Files beyond the limit that pyproject.toml does not excuse, and excuses beyond three or without a reason."""
    tool = tomllib.loads((root / "pyproject.toml").read_text()).get("tool", {}).get("switchgrad", {})
    excused: dict[str, str] = tool.get("long-files", {})
    found = [f"pyproject.toml: {len(excused)} long files are excused, at most 3 may be"] if len(excused) > 3 else []
    found += [f"pyproject.toml: no reason for the length of {name}" for name, why in excused.items() if not why.strip()]
    for folder, suffixes in (("src", {".py"}), ("csrc", {".h", ".cpp"}), ("tests", {".py", ".cpp"})):
        for file in sorted((root / folder).rglob("*")):
            name = str(file.relative_to(root))
            if file.suffix in suffixes and name not in excused:
                lines = len(file.read_text().splitlines())
                found += [f"{name}: {lines} lines, at most {MOST_LINES}"] * (lines > MOST_LINES)
    return found


def test_the_house_is_in_order() -> None:
    assert complaints(ROOT) == []


BAD = {
    "up": {"nn/layer.py": "from switchgrad.train import fit\n", "train/__init__.py": "fit = 1\n"},
    "up, relative": {"ops/__init__.py": "from ..models import net\n", "models/__init__.py": "net = 1\n"},
    "up, through the front door": {"data/__init__.py": "from switchgrad import Switches\n"},
    "sideways": {"models/net.py": "import switchgrad.data\n", "data/__init__.py": ""},
    "cycle": {"ops/a.py": "from switchgrad.ops import b\n", "ops/b.py": "from switchgrad.ops.a import x\n"},
    "import inside a function": {"data/__init__.py": "def f():\n    import json\n    return json\n"},
    "stands on no floor": {"cellar/__init__.py": ""},
    "assert": {"errors.py": "assert True\n"},
    "torchvision": {"data/__init__.py": "from torchvision.io import read_image\n"},
    "401 lines": {"errors.py": "x = 1\n" * 401},
}


@pytest.mark.parametrize("rule", BAD)
def test_a_bad_tree_is_seen(rule: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    for name, text in BAD[rule].items():
        file = tmp_path / "src" / "switchgrad" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        (file.parent / "__init__.py").touch()
    found = complaints(tmp_path)
    assert len(found) == 1
    assert rule.split(",")[0] in found[0]


def test_too_many_excuses_are_seen(tmp_path: Path) -> None:
    excuses = "".join(f'"csrc/{i}.h" = "a reason"\n' for i in range(4))
    (tmp_path / "pyproject.toml").write_text(f"[tool.switchgrad.long-files]\n{excuses}")
    (tmp_path / "src" / "switchgrad").mkdir(parents=True)
    assert complaints(tmp_path) == ["pyproject.toml: 4 long files are excused, at most 3 may be"]


def test_good_trees_pass(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.switchgrad.long-files]\n"src/switchgrad/errors.py" = "a table"\n')
    source = tmp_path / "src" / "switchgrad"
    for room in ("ops", "nn", "app"):
        (source / room).mkdir(parents=True)
    (source / "errors.py").write_text("x = 1\n" * 500)
    (source / "__init__.py").write_text("from switchgrad import nn\n")
    (source / "ops" / "__init__.py").write_text("from switchgrad.errors import x\n")
    (source / "nn" / "__init__.py").write_text("from switchgrad import ops\nfrom switchgrad.ops import x\n")
    (source / "app" / "__init__.py").write_text("def f():\n    from switchgrad import nn\n    return nn\n")
    assert complaints(tmp_path) == []
