"""report.html and the pictures: complete, self-contained, escaped, and true to the numbers."""

import base64
import dataclasses
import io
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pages import Page
from switchgrad import data
from switchgrad.train import Evaluation, Row, evaluate
from switchgrad.train.charts import Line, line_chart, linear_ticks, log_ticks, whole_ticks
from switchgrad.train.pictures import draw_confusion, draw_curves
from switchgrad.train.report import data_uri, render


def made_up(digits_run, classes, count=200, seed=0):
    """A run, a data set and an evaluation with these class names and random predictions."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(classes), (count,), generator=generator)
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    scores = torch.randn(count, len(classes), generator=generator)
    scores[torch.arange(count), labels] += 2
    split = data.Split(images, labels, tuple(f"{i}<x>.png" for i in range(count)))
    dataset = data.Dataset.from_splits("<data> & more", "here", classes, split, split)
    evaluation = evaluate(torch.nn.Identity(), scores, labels, num_classes=len(classes))
    description = dataclasses.replace(digits_run.description, classes=classes)
    return dataclasses.replace(digits_run, description=description), dataset, evaluation


def test_the_page_needs_nothing_beside_itself(digits_run):
    text = (digits_run.folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "http" not in text
    assert "url(" not in text
    assert "<script" not in text
    assert "@import" not in text


def test_the_page_tells_the_result(digits_run):
    dataset = data.load("digits")
    evaluation = digits_run.evaluate(dataset)
    text = render(digits_run, dataset, evaluation)
    wrong = round((1 - digits_run.accuracy) * 359)
    assert f"<strong>{digits_run.accuracy:.2%}</strong>" in text
    assert f"of 359 held-out pictures right, {wrong} wrong" in text
    for row in digits_run.metrics:
        assert f"<td>{row.val_loss:.4f}</td><td>{row.val_accuracy:.2%}</td>" in text
    for name, value in digits_run.recipe.to_fields().items():
        assert f"<dt>{name}</dt>" in text, value
    cells = re.findall(r'<td class="(?:none|right|wrong)[^>]*>(\d+)</td>', text)
    assert [int(cell) for cell in cells] == evaluation.confusion.flatten().tolist()
    for score in evaluation.per_class():
        assert f"{score.precision:.2%}<meter" in text
        assert f"{score.recall:.2%}<meter" in text


def test_the_worst_mistakes_come_with_their_pictures(digits_run):
    run, dataset, evaluation = made_up(digits_run, ("a", "b", "c"))
    page = Page(render(run, dataset, evaluation))
    worst = evaluation.worst(24)
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == len(worst) == 24
    for attrs, mistake in zip(pictures, worst, strict=True):
        shown = Image.open(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2])))
        assert list(shown.getdata() if not hasattr(shown, "get_flattened_data") else shown.get_flattened_data()) == (
            dataset.val.images[mistake.index].flatten().tolist()
        )
        assert attrs["alt"] == f"{'abc'[mistake.true]}, taken for {'abc'[mistake.predicted]}"


def test_names_are_escaped_everywhere(digits_run, tmp_path):
    classes = ("<script>alert(1)</script>", 'a"b', "c & d")
    run, dataset, evaluation = made_up(digits_run, classes)
    text = render(run, dataset, evaluation)
    Page(text)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;data&gt; &amp; more" in text
    assert "&lt;x&gt;.png" in text
    assert 'a"b' not in text
    draw_confusion(tmp_path / "c.png", evaluation.confusion, ("$x^$", "a\n_b", "c"))


def test_many_classes_show_the_most_confused_pairs(digits_run, tmp_path):
    classes = tuple(f"class {k}" for k in range(30))
    run, dataset, evaluation = made_up(digits_run, classes, count=600)
    text = render(run, dataset, evaluation)
    Page(text)
    assert 'class="matrix"' not in text
    assert "in the best five" in text
    pairs = [(t, p, int(evaluation.confusion[t, p])) for t in range(30) for p in range(30) if t != p]
    most = max(pairs, key=lambda pair: pair[2])
    assert f'<th scope="row">class {most[0]}</th><td>class {most[1]}</td><td>{most[2]}</td>' in text
    draw_confusion(tmp_path / "c.png", evaluation.confusion, classes)
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size[0] > 1000


def test_no_mistakes_and_a_class_never_seen(digits_run):
    dataset = data.load("digits")
    zeros = torch.zeros(5, dtype=torch.int64)
    perfect = Evaluation(10, zeros, zeros, torch.zeros(5).double(), torch.ones(5).double(), zeros)
    text = render(digits_run, dataset, perfect)
    Page(text)
    assert "None: every held-out picture was recognised." in text
    assert "<td>–</td>" in text


def test_tables_have_headers_and_pictures_have_words(digits_run):
    page = Page((digits_run.folder / "report.html").read_text(encoding="utf-8"))
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.tags if tag == "th")
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    charts = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(charts) == 2
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for attrs in charts)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_picture_becomes_a_png_of_itself(channels):
    picture = torch.randint(0, 256, (channels, 3, 5), dtype=torch.uint8)
    shown = Image.open(io.BytesIO(base64.b64decode(data_uri(picture).partition(",")[2])))
    assert shown.size == (5, 3)
    for y in range(3):
        for x in range(5):
            expected = tuple(picture[:, y, x].tolist()) if channels == 3 else picture[0, y, x].item()
            assert shown.getpixel((x, y)) == expected


ROWS = [Row(epoch, 0.1, 2.0 / epoch, 0.5, 1.5 / epoch**2, 0.6 + epoch / 100, 1.0, 9.0) for epoch in range(1, 15)]


@pytest.mark.parametrize("count", [1, 2, 14])
def test_curves_are_drawn_for_any_number_of_epochs(tmp_path, count):
    draw_curves(tmp_path / "c.png", ROWS[:count], 1)
    with Image.open(tmp_path / "c.png") as file:
        picture = file.convert("RGB")
    assert picture.size == (1200, 480)
    colours = {colour for _, colour in picture.getcolors(1 << 24)}
    assert {(0xD9, 0x77, 0x06), (0x25, 0x63, 0xEB)} <= colours


def test_a_line_lies_where_its_numbers_say():
    svg = line_chart("t", [1, 2, 3], [Line("x", "val", [0.0, 5.0, 10.0])], 3, str, log=False)
    points = [tuple(map(float, p.split(","))) for p in re.search(r'points="([^"]*)"', svg)[1].split()]
    assert points == [(56.0, 260.0), (281.0, 137.0), (506.0, 14.0)]
    svg = line_chart("t", [1, 2, 3], [Line("x", "val", [1.0, 10.0, 100.0])], 3, str, log=True)
    points = [tuple(map(float, p.split(","))) for p in re.search(r'points="([^"]*)"', svg)[1].split()]
    assert points == [(56.0, 260.0), (281.0, 137.0), (506.0, 14.0)]


@given(st.floats(-5, 3), st.floats(0, 4), st.integers(1, 5000), st.integers(0, 5000))
def test_ticks_enclose_the_values(decade, more_decades, first, span):
    low = 10**decade
    high = low * 10**more_decades
    for ticks in (linear_ticks(low, high), log_ticks(low, high)):
        assert ticks[0] <= low * (1 + 1e-8)
        assert ticks[-1] >= high * (1 - 1e-8)
        assert ticks == sorted(set(ticks))
        assert 2 <= len(ticks) <= 14
    whole = whole_ticks(first, first + span)
    assert whole[0] == first
    assert len(whole) <= 9
    assert all(first <= tick <= first + span for tick in whole)
