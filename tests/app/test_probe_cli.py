"""``switchgrad trace`` and ``switchgrad check-gradients`` as they are typed."""

import re

import pytest
from PIL import Image

MINE = """
import torch
from torch import nn

class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x ** 2

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[0]

class Square(nn.Module):
    def forward(self, x):
        return Wrong.apply(x)

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 2, 3), Square(), nn.Flatten(), nn.Linear(32, 3))

words = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 2))
number = 3
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return "mine.py"


def test_trace_tells_every_step_and_draws_the_page(cli, tmp_path):
    result = cli("trace", "lenet5", "--html", "page.html", "--seed", 3, "--pictures", "drawn")
    assert result.exit_code == 0, result.output
    out = result.stdout
    assert out.startswith("lenet5 on held-out picture 0 of digits\n")
    for name in ("c1", "relu1", "s2", "c3", "relu3", "s4", "flatten", "c5", "relu5", "f6", "relu6", "output"):
        assert re.search(rf"^\d+  {name}  ", out, re.MULTILINE), name
    assert out.count("   forward   ") == out.count("   backward  ") == 13
    assert out.count("   switches  ") == 2
    assert re.search(r"^loss \S+ before, \S+ after", out, re.MULTILINE)
    marked = re.findall(r"\[−?[\d.]+\]", out.partition("\nloss  cross-entropy")[0])
    assert len(marked) == 2 * (16 + 4)  # the winners of a map of S2 and of S4, values and gradients
    assert max(map(len, out.splitlines())) < 200
    assert result.stderr == "page      page.html\npictures  drawn\n"
    drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert drawn[:3] == ["01-c1.svg", "02-relu1.svg", "03-s2.svg"]
    assert len(drawn) == 12
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "One training iteration: lenet5 on held-out picture 0 of digits" in page
    assert cli("trace", "lenet5", "--seed", 3).stdout == out


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_computed(cli, tmp_path):
    nowhere = cli("trace", "lenet5", "--html", "nowhere/page.html")
    assert (nowhere.exit_code, nowhere.stdout) == (2, "")
    assert "there is no folder nowhere; make it, or name another file" in " ".join(nowhere.stderr.split())
    (tmp_path / "pages").mkdir()
    assert "pages is a folder; name a file in it" in cli("trace", "lenet5", "--html", "pages").stderr


def test_trace_of_a_run_and_a_picture(cli, run, pictures):
    picture = next(path for path in sorted((pictures / "more").iterdir()))
    label = picture.stem[-1]
    result = cli("trace", run.folder, picture, "--label", label, "--brief", "--eval", "--lr", 0.5)
    assert result.exit_code == 0, result.output
    assert f"target      {label}" in result.stdout
    assert "lr = 0.5" in result.stdout
    assert "evaluation, seed 0" in result.stdout
    assert "forward" not in result.stdout
    guess = cli("trace", run.folder, picture, "--brief").stdout
    assert "no --label was given, so the network's own guess, " in guess
    held_out = cli("trace", run.folder, "--index", 5, "--layer", "s2", "--crop", 4).stdout
    assert "held-out picture 5 of digits" in held_out
    assert held_out.count("   forward   ") == 2


def test_trace_of_a_picture_by_a_fresh_network(cli, tmp_path):
    Image.new("L", (50, 40), 200).save(tmp_path / "grey.png")
    out = cli("trace", "lenet5", "grey.png", "--label", 7, "--brief").stdout
    assert "1×1×28×28" in out
    out = cli("trace", "lenet5", "grey.png", "--label", 7, "--brief", "--input-size", "3x12x16").stdout
    assert "1×3×12×16" in out
    out = cli("trace", "convnet", "--input-size", "12", "--brief").stdout
    assert "1×1×12×12" in out


def test_trace_of_ones_own(cli, mine):
    result = cli("trace", f"{mine}:Net", "--input-size", "1x6x6", "--label", 2)
    assert result.exit_code == 0, result.output
    assert "mine.py:Net on random numbers" in result.stdout
    assert "Square" in result.stdout
    held_out = cli("trace", f"{mine}:Net", "--data", "digits", "--input-size", "1x6x6", "--label", 1)
    assert "mine.py:Net on held-out picture 0 of digits" in held_out.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("trace", "lenet"), 'there is no model "lenet"; did you mean "lenet5"'),
        (("trace", "lenet5", "nothing.png"), "cannot read the picture nothing.png"),
        (("trace", "lenet5", "--label", "x"), 'there is no class "x" in lenet5; known are 0, 1, 2'),
        (("trace", "lenet5", "--label", "12"), "tells 10 classes apart; give a number from 0 to 9"),
        (("trace", "lenet5", "--layer", "s9"), 'there is no step "s9"; known are c1'),
        (("trace", "lenet5", "--index", "999"), "--index is 999; digits has held-out pictures 0 to 358"),
        (("trace", "lenet5", "--lr", "0"), "lr is 0.0; give a rate above 0"),
        (("trace", "gone.py:Net"), "gone.py:Net cannot be made: there is no file gone.py"),
        (
            ("trace", "mine.py:number", "--input-size", "1x6x6"),
            "cannot be made: 'int' object is not callable",
        ),
        (("check-gradients", "mine.py:Net", "--input", "1x3x3"), "Net cannot take 2x1x3x3 in float64"),
    ],
)
def test_errors_are_one_line(cli, mine, words, sentence):
    result = cli(*words)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert sentence in result.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("check-gradients", "mine.py:Net"), "say what your module takes: --input 3x8x8"),
        (("check-gradients", "lenet5", "--input", "8y8"), "'8y8' is no shape"),
        (("check-gradients", "lenet5", "--tolerance", "0"), "--tolerance is 0.0; give a share between 0 and 1"),
        (("trace", "mine.py:Net", "x.png"), "say which pictures your module takes"),
    ],
)
def test_misuse_is_explained(cli, mine, words, sentence):
    result = cli(*words)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.replace("│", " ").split())


def test_check_gradients_of_a_network_is_right(cli):
    result = cli("check-gradients", "lenet5", "--input", "1x8x8", "--samples", 4, "--directions", 1, "--worst", 3)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:5] == ["tensor", "shape", "checked", "kinks", "wrong"]
    assert [line.split()[0] for line in lines[1:4]] == ["input", "c1.weight", "c1.bias"]
    assert lines[-1] == "right: every gradient agrees with differences to 1e-05"
    assert lines[13].startswith("worst entries")


def test_check_gradients_finds_the_wrong_backward(cli, mine):
    result = cli("check-gradients", f"{mine}:Net", "--input", "1x6x6", "--samples", 10)
    assert result.exit_code == 1
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert re.search(r"^0.weight .* wrong$", result.stdout, re.MULTILINE)
    assert re.search(r"^3.weight .* right$", result.stdout, re.MULTILINE)
    assert lines[-2] == "wrong: the gradients of input, 0.weight, 0.bias differ from the differences"
    assert lines[-1].startswith('layer "1" (Square): its own backward is wrong at input[')


def test_check_gradients_of_runs_and_of_words(cli, run, mine):
    assert cli("check-gradients", run.folder, "--samples", 2, "--directions", 1, "--batch", 1).exit_code == 0
    result = cli("check-gradients", f"{mine}:words", "--input", "2", "--integers", 5, "--eval")
    assert result.exit_code == 0
    assert "not checked, as they need no gradient: input" in result.stdout


def test_help_teaches(cli):
    text = cli("trace", "--help").output
    for option in ["label", "data", "index", "layer", "crop", "lr", "seed", "input-size", "html", "pictures", "eval"]:
        assert f"--{option}" in text
    assert "switchgrad trace lenet5 --html trace.html" in text
    text = cli("check-gradients", "--help").output
    assert "switchgrad check-gradients my_layers.py:MyPool --input 3x8x8" in text
    assert "--tolerance" in text
