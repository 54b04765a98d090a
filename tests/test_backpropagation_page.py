"""docs/backpropagation.md: its numbers and pictures are a trace's, and plain Python arrives at the same numbers."""

import importlib.util
import math
import re
import xml.etree.ElementTree as ET
from itertools import chain
from pathlib import Path

import pytest

from switchgrad.geometry import output_size

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "backpropagation.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("backpropagation_page", ROOT / "scripts" / "backpropagation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def printed():
    """Every matrix of the page by its name, as lists of numbers."""
    found = {}
    for part in re.findall(r"```text\n(.*?)\n```", TEXT, re.DOTALL):
        for chunk in part.split("\n\n"):
            name, equals, rest = chunk.partition(" = ")
            if equals and "loss" not in name:
                found[name.strip()] = [[float(n) for n in line.split()] for line in rest.splitlines()]
    return found


def test_the_page_is_what_the_script_writes(script):
    assert script.rewritten(TEXT, script.story()) == TEXT


def test_the_pictures_are_what_the_script_draws(script):
    drawn = script.pictures(script.story())
    assert set(drawn) == {path.name for path in (ROOT / "docs" / "pictures").glob("*.svg")}
    for name, text in drawn.items():
        ET.fromstring(text)
        assert (ROOT / "docs" / "pictures" / name).read_text(encoding="utf-8") == text, name
        assert "http" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_a_stale_page_is_seen(script):
    trace = script.story()
    assert script.rewritten(TEXT.replace("0.9802", "0.9803"), trace) == TEXT
    with pytest.raises(SystemExit, match="each of these blocks once"):
        script.rewritten(TEXT.replace("<!-- numbers: pool -->", ""), trace)


def test_what_the_page_points_at_is_there():
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / "docs" / target).is_file(), target
    assert re.findall(r"scripts/\S+?\.py", TEXT) == ["scripts/backpropagation.py"]


def test_plain_python_arrives_at_the_same_numbers():
    """The whole iteration in loops, from the picture and the weights that the page prints."""
    page, four = printed(), range(4)
    x, w, b, weights = page["x"], page["w"], page["b"][0][0], page["W"]
    rate, target = 0.01, page["t"][0].index(1)

    y = [[b + sum(w[r][c] * x[p + r][q + c] for r in range(3) for c in range(3)) for q in four] for p in four]
    a = [[max(0.0, v) for v in row] for row in y]
    cells = [[(a[2 * p + i][2 * q + j], -(2 * i + j)) for i in (0, 1) for j in (0, 1)] for p in (0, 1) for q in (0, 1)]
    v = [max(window)[0] for window in cells]
    switches = [-max(window)[1] for window in cells]
    s = [sum(row[k] * v[k] for k in four) for row in weights]
    total = sum(math.exp(score) for score in s)
    p = [math.exp(score) / total for score in s]

    ds = [p[k] - (k == target) for k in (0, 1)]
    dv = [sum(weights[k][j] * ds[k] for k in (0, 1)) for j in four]
    da = [[0.0] * 4 for _ in four]
    for place, switch in enumerate(switches):
        da[2 * (place // 2) + switch // 2][2 * (place % 2) + switch % 2] += dv[place]
    dy = [[da[r][c] * (y[r][c] > 0) for c in four] for r in four]
    dw = [[sum(dy[i][j] * x[i + r][j + c] for i in four for j in four) for c in range(3)] for r in range(3)]
    dx = [[0.0] * 6 for _ in range(6)]
    for i in four:
        for j in four:
            for r in range(3):
                for c in range(3):
                    dx[i + r][j + c] += dy[i][j] * w[r][c]
    db = sum(map(sum, dy))

    def agree(name, numbers):
        shown = page[name]
        assert [len(row) for row in shown] == [len(row) for row in numbers], name
        for mine, theirs in zip(chain(*numbers), chain(*shown), strict=True):
            assert abs(mine - theirs) <= 5.001e-5, name

    computed = {
        "y": y, "a": a, "m": [v[:2], v[2:]], "switches": [switches[:2], switches[2:]], "v": [v], "s": [s], "p": [p],
        "ds": [ds], "dW": [[d * value for value in v] for d in ds], "dc": [ds], "dv": [dv], "dm": [dv[:2], dv[2:]],
        "da": da, "dy": dy, "dw": dw, "db": [[db]], "dx": dx,
        "w'": [[w[r][c] - rate * dw[r][c] for c in range(3)] for r in range(3)], "b'": [[b - rate * db]],
        "W'": [[weights[k][j] - rate * ds[k] * v[j] for j in four] for k in (0, 1)], "c'": [[-rate * d for d in ds]],
    }  # fmt: skip
    assert set(computed) | {"x", "w", "b", "W", "t"} == set(page)
    for name, numbers in computed.items():
        agree(name, numbers)
    assert f"loss = -log {p[target]:.4f} = {-math.log(p[target]):.4f}" in TEXT


def test_every_sum_in_the_prose_is_right():
    """``(128 - 2) / 1 + 1 = 127`` and its kin, and those with floor."""
    sums = re.findall(r"(?<![\w(])(\((?:\d+ [-+] )+\d+\) / \d+(?: \+ 1)?) = ([\d.]+)", TEXT)
    assert len(sums) >= 6
    for expression, result in sums:
        assert eval(expression) == float(result.rstrip(".")), expression
    floors = re.findall(r"floor\((\(\d+ - \d+\) / \d+)\) \+ 1 = (\d+)", TEXT)
    assert floors
    for expression, result in floors:
        assert math.floor(eval(expression)) + 1 == int(result)


def test_the_sizes_in_the_errata_are_those_of_the_formula():
    assert output_size(128, 2) == 127
    assert output_size(128, 3) == 126
    assert (output_size(61, 2, 2), output_size(61, 2, 2, ceil_mode=True)) == (30, 31)
    assert output_size(6, 3, padding=(1, 1)) == 6
    assert output_size(227, 11, 4) == 55
    alexnet = 55
    for kernel, stride, pad in ((3, 2, 0), (5, 1, 2), (3, 2, 0), (3, 1, 1), (3, 1, 1), (3, 1, 1), (3, 2, 0)):
        alexnet = output_size(alexnet, kernel, stride, (pad, pad))
    assert alexnet == 6
    assert 224 // 2**5 == 7
