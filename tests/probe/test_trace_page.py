"""The page of a trace: whole by itself, true to the numbers, escaped, and the same cells in neighbouring grids."""

import re

import pytest
import torch
from torch import nn

import switchgrad
from pages import Page
from switchgrad import models
from switchgrad.errors import ModelError
from switchgrad.probe.tracing.crops import Crop, crops_of
from switchgrad.probe.tracing.draw import grid, switch_map
from switchgrad.probe.tracing.figures import step_figures, winner_marks
from switchgrad.probe.tracing.page import render
from switchgrad.probe.tracing.tables import facts_of, overview, scores


@pytest.fixture(scope="module")
def story():
    torch.manual_seed(1)
    net = models.create("lenet5", input_size=(8, 8))
    return switchgrad.trace(net, torch.randn(1, 1, 8, 8), 3, classes=[f"<{k}>" for k in range(10)])


def test_the_page_needs_nothing_beside_itself(story):
    text = render(story)
    page = Page(text)
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert page.sources
    assert all(source.startswith("#") and source[1:] in ids for source in page.sources)
    for outside in ("http", "url(", "<script", "@import", "src="):
        assert outside not in text
    assert len(text) < 700_000


def test_the_page_tells_everything(story):
    text = render(story)
    for step in story.steps:
        assert f'id="step-{step.number}"' in text
        assert text.count(f">{step.title}") >= 2
    for update in story.updates:
        assert f"<h3>{update.name} <small>" in text
    assert text.count('aria-label="switch map of ') == 2
    assert "&lt;3&gt; ← target" in text
    assert "<3>" not in text
    assert f"{story.loss.value:.3g} → {story.loss.after:.3g}<" in text


def test_a_grid_holds_the_numbers():
    drawing = grid([[1.0, -0.5], [0.0, 0.25]], "gradient", "a <grid>", winners={(0, 0)}, block=(2, 2))
    assert re.findall(r"<text[^>]*>([^<]*)</text>", drawing.body) == ["1.00", "−0.50", "0", "0.25"]
    assert drawing.body.count('class="fill"') == 2
    assert drawing.body.count('class="ring"') == 1
    assert drawing.body.count('class="win"') == 1
    assert 'aria-label="a &lt;grid&gt;"' in drawing.inline()
    opacity = [float(v) for v in re.findall(r'(?:fill|stroke)-opacity="([\d.]+)"', drawing.body)]
    assert opacity == [0.9, 0.49, 0.28]
    small = grid([[2e-5, 0.0]], "gradient", "")
    assert re.findall(r"<text[^>]*>([^<]*)</text>", small.body) == ["2.00", "0"]


def test_a_grid_of_nonsense_is_drawn():
    drawing = grid([[float("nan"), float("inf"), -float("inf"), 1.0]], "forward", "")
    assert re.findall(r"<text[^>]*>([^<]*)</text>", drawing.body) == ["NaN", "∞", "−∞", "1.00"]


def test_a_switch_map_fills_the_winner():
    drawing = switch_map([[3, 0], [255, 1]], (2, 2), "map")
    assert drawing.body.count('class="on"') == 3
    assert drawing.body.count('class="off"') == 13
    assert re.findall(r"<text[^>]*>([^<]*)</text>", drawing.body) == ["3", "0", "–", "1"]
    assert "class" in switch_map([[30]], (6, 6), "wide").body


@pytest.mark.parametrize("side", [4, 8])
@pytest.mark.parametrize("size", [8, 20])
def test_pooled_cells_stand_over_their_windows(side, size):
    torch.manual_seed(0)
    story = switchgrad.trace(models.create("lenet5", input_size=(size, size)), torch.randn(1, 1, size, size), 3)
    crops = crops_of(story, side)
    pools = [(step, crop) for step, crop in zip(story.steps, crops, strict=True) if step.winners is not None]
    assert len(pools) == 2
    for step, crop in pools:
        x, y = crop.inputs[0], crop.outputs[0]
        assert x.index == y.index
        assert (x.rows[0], x.columns[0]) == (2 * y.rows[0], 2 * y.columns[0])
        assert x.rows[1] - x.rows[0] == 2 * (y.rows[1] - y.rows[0]) <= side
        marks = winner_marks(step, x)
        assert len(marks) == (y.rows[1] - y.rows[0]) * (y.columns[1] - y.columns[0])
        values, pooled = x.cut(step.inputs[0].value), y.cut(step.outputs[0].value)
        assert sorted(values[r][c] for r, c in marks) == sorted(v for row in pooled for v in row)
        relu = crops[step.number - 2]
        assert relu.outputs[0] == relu.inputs[0] == x


def test_signals_and_volumes_have_marks():
    def weigh(y):
        return (y * torch.arange(1.0, 1 + y.numel()).view_as(y)).sum()

    nets = {nn.MaxPool1d(2): (1, 3, 8), nn.MaxPool3d(2): (1, 1, 4, 4, 4), nn.MaxPool2d(3, 2, 1): (3, 7, 7)}
    for net, shape in nets.items():
        story = switchgrad.trace(net, torch.randn(shape), loss=weigh)
        crop = crops_of(story, 8)[0].inputs[0]
        back = crop.cut(story.steps[0].inputs[0].gradient)
        marks = winner_marks(story.steps[0], crop)
        assert marks == {(r, c) for r, row in enumerate(back) for c, value in enumerate(row) if value}
        Page(render(story))


def test_crops_stay_inside_and_small():
    story = switchgrad.trace(nn.Linear(50, 40), torch.randn(3, 50), torch.tensor([1, 2, 3]))
    crop = crops_of(story, 6)[0]
    assert crop.parameters[0].rows[1] - crop.parameters[0].rows[0] == 6
    assert crop.parameters[1] == Crop((), (0, 1), crop.parameters[1].columns)
    assert crop.parameters[1].columns[1] - crop.parameters[1].columns[0] == 12
    assert crop.inputs[0].rows == (0, 3)


def test_layers_are_chosen_by_name_and_number(story):
    text = render(story, layers=["s2", "4"])
    assert [int(n) for n in re.findall(r'id="step-(\d+)"', text)] == [3, 4]
    assert Page(text).sources == ["#step-3", "#step-4"]
    assert "<h3>c3.weight" in text
    assert "<h3>c5.weight" not in text
    with pytest.raises(ModelError, match='there is no step "s9"; known are c1, relu1, s2'):
        render(story, layers=["s9"])


def test_tables_tell_the_numbers(story):
    head, rows = overview(story)
    assert len(rows) == len(story.steps) + 1
    assert rows[0][:4] == ["1", "c1", "Conv2d", "1×6×8×8"]
    assert rows[0][8] == "156"
    wanted = story.steps[2].outputs[0].gradient.norm().item()
    assert float(rows[2][head.index("|dy|")]) == pytest.approx(wanted, rel=0.01)
    _, classes = scores(story)
    assert sum(float(row[2]) for row in classes) == pytest.approx(1, abs=1e-3)
    assert [row[0] for row in classes if row[-1]] == ["<3>"]
    assert facts_of(story)["target"] == "<3>"


def test_many_classes_show_the_likeliest_and_the_target():
    story = switchgrad.trace(nn.Linear(3, 50), torch.randn(1, 3), 49)
    _, rows = scores(story)
    assert 20 <= len(rows) <= 21
    assert rows[-1][-1] == "target"
    assert scores(switchgrad.trace(nn.Linear(3, 2), torch.randn(1, 3), torch.zeros(1, 2))) is None


def test_names_are_escaped():
    class Odd(nn.Module):
        def forward(self, x):
            return x * x

        def extra_repr(self):
            return "<script>alert(1)</script>"

    net = nn.Sequential()
    net.add_module("a<b>&", Odd())
    net.add_module("end", nn.Linear(2, 2))
    text = render(switchgrad.trace(net, torch.randn(1, 2), 0), title="<i>t</i>")
    Page(text)
    assert "<script" not in text
    assert "a&lt;b&gt;&amp;" in text
    assert "&lt;i&gt;t&lt;/i&gt;" in text


def test_everything_odd_has_a_page():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.lstm = nn.Embedding(9, 4), nn.LSTM(4, 5, batch_first=True)
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, words):
            h, (last, _) = self.lstm(self.embed(words))
            return torch.cat([last[0], h.amax(1)], 1) * self.scale

    story = switchgrad.trace(Net(), torch.randint(0, 9, (2, 6)), torch.tensor([1, 2]))
    Page(render(story, side=5))
    assert [row[2] for row in overview(story)[1]] == ["Embedding", "LSTM", *["function"] * 4, "cross-entropy"]
    for step, crop in zip(story.steps, crops_of(story, 5), strict=True):
        assert step_figures(step, crop)["y"]
