"""One call that trains: what it leaves in the folder, what it reproduces, what it refuses, what it leaves alone."""

import dataclasses
import os
import random
import re
import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from switchgrad import data, train
from switchgrad.errors import DataError, ModelError, RunError
from switchgrad.fusion.modules import is_optimized
from switchgrad.train import Progress, Recipe, Run, fit, fitting
from switchgrad.train.record import read_rows


def weights_of(folder):
    with safe_open(str(folder / "best.safetensors"), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def without_clock(rows):
    return [dataclasses.replace(row, seconds=0.0, samples_per_second=0.0) for row in rows]


class TinyNet(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))


def test_the_folder_holds_what_is_promised(digits_run):
    assert sorted(str(p.relative_to(digits_run.folder)) for p in digits_run.folder.rglob("*")) == [
        "best.safetensors", "config.toml", "confusion.png", "curves.png", "last",
        os.path.join("last", "state.safetensors"), "metrics.csv", "report.html",
    ]  # fmt: skip
    assert (digits_run.folder / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (digits_run.folder / "confusion.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_result_is_that_of_the_best_weights(digits_run):
    rows = read_rows(digits_run.folder / "metrics.csv")
    assert list(digits_run.metrics) == rows
    assert [row.epoch for row in rows] == [1, 2, 3]
    best = max(rows, key=lambda row: (row.val_accuracy, -row.val_loss))
    assert (digits_run.description.epoch, digits_run.accuracy, digits_run.loss) == (
        best.epoch,
        best.val_accuracy,
        best.val_loss,
    )
    assert digits_run.accuracy > 0.8

    dataset = data.load("digits")
    scores = digits_run.model(data.normalise(dataset.val.images, dataset.mean, dataset.std))
    right = (scores.argmax(1) == dataset.val.labels).sum().item()
    assert digits_run.accuracy == right / len(dataset.val)
    assert digits_run.evaluate(dataset).accuracy == digits_run.accuracy
    assert not digits_run.model.training


def test_a_run_comes_back_from_its_folder(digits_run):
    again = Run.load(digits_run.folder)
    assert same(digits_run.model.state_dict(), again.model.state_dict())
    assert (again.recipe, again.metrics, again.description) == (
        digits_run.recipe,
        digits_run.metrics,
        digits_run.description,
    )
    images = data.load("digits").val.images[:9]
    assert torch.equal(again.predict(images), digits_run.predict(images))


def test_predictions_are_probabilities(digits_run):
    images = data.load("digits").val.images[:300]
    shares = digits_run.predict(images)
    assert shares.shape == (300, 10)
    assert torch.allclose(shares.sum(1), torch.ones(300))
    assert torch.allclose(digits_run.predict(images[7]), shares[7:8], atol=1e-6)
    with pytest.raises(
        RunError, match=r"the pictures are torch.float32 of shape \[2, 1, 8, 8\]; this run takes uint8 \[N, 1, 8, 8\]"
    ):
        digits_run.predict(images[:2].float())
    with pytest.raises(RunError, match=r"of shape \[2, 1, 4, 4\]; this run takes uint8"):
        digits_run.predict(images[:2, :, :4, :4])
    with pytest.raises(RunError, match="split is 'test'; give 'val', 'train' or 'all'"):
        digits_run.evaluate(data.load("digits"), "test")


def test_the_same_recipe_gives_the_same_bits_and_config_replays_it(digits_run, tmp_path):
    recipe = Recipe.from_toml((digits_run.folder / "config.toml").read_text())
    assert recipe == digits_run.recipe
    again = fit(**{**recipe.to_fields(), "out": tmp_path / "again"})
    assert same(weights_of(digits_run.folder), weights_of(again.folder))
    assert without_clock(again.metrics) == without_clock(digits_run.metrics)


def test_paths_in_the_recipe_hold_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "root").mkdir()
    fit("digits", TinyNet(), out="r", epochs=1, data_root="root")
    assert Recipe.from_toml((tmp_path / "r" / "config.toml").read_text()).data_root == str(tmp_path / "root")


def test_a_path_is_a_folder_even_where_a_data_set_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "digits"))):
        fit(Path("digits"), TinyNet(), epochs=1)


def test_another_seed_gives_other_weights(digits_run, tmp_path):
    other = fit("digits", "lenet5", out=tmp_path / "other", epochs=1, threads=1, seed=5)
    assert not same(weights_of(digits_run.folder), weights_of(other.folder))


def test_the_callers_state_is_left_alone(tmp_path):
    net, threads = TinyNet(), torch.get_num_threads()
    before = torch.get_rng_state(), random.getstate()
    fit("digits", net, out=tmp_path / "r", epochs=1, threads=1)
    Run.load(fit("digits", "lenet5", out=tmp_path / "q", epochs=1, threads=1).folder)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert torch.get_num_threads() == threads


def test_folders_are_numbered_and_never_shared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [fit("digits", TinyNet(), epochs=1).folder.as_posix() for _ in range(2)]
    assert names == ["runs/digits-python-TinyNet-1", "runs/digits-python-TinyNet-2"]
    (tmp_path / "runs" / "digits-python-TinyNet-7").mkdir()
    assert fit("digits", TinyNet(), epochs=1).folder.name == "digits-python-TinyNet-8"


def test_a_run_never_overwrites(tmp_path, digits_run):
    before = (digits_run.folder / "best.safetensors").read_bytes()
    with pytest.raises(RunError, match="is not empty, and a run never overwrites; give another folder, or resume"):
        fit("digits", "lenet5", out=digits_run.folder, epochs=1)
    assert (digits_run.folder / "best.safetensors").read_bytes() == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="cannot be made"):
        fit("digits", "lenet5", out=tmp_path / "file", epochs=1)


def test_any_module_and_any_dataset(tmp_path):
    images = torch.randint(0, 256, (40, 3, 6, 5), dtype=torch.uint8)
    labels = torch.arange(40) % 2
    images[labels == 1, 0] //= 8
    split = data.Split(images, labels)
    dataset = data.Dataset.from_splits("dark", "memory", ("bright", "dark"), split, split)
    net = nn.Sequential(nn.Flatten(), nn.Linear(90, 2))
    run = fit(dataset, net, out=tmp_path / "r", epochs=5, batch_size=8, lr=0.01)
    assert run.accuracy == 1.0
    assert run.model is net
    assert run.recipe.model == "python:Sequential"
    with pytest.raises(
        RunError, match=r"trained a module of your own; give it again: Run.load\(folder, model=Sequential"
    ):
        Run.load(run.folder)
    again = Run.load(run.folder, nn.Sequential(nn.Flatten(), nn.Linear(90, 2)))
    assert torch.equal(again.predict(images), run.predict(images))


def test_a_module_that_does_not_fit_is_refused_before_a_folder_is_made(tmp_path):
    with pytest.raises(ModelError, match="the network scores 7 classes, but the data have 10"):
        fit("digits", nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("error", "sentence", "call"),
    [
        (RunError, "a recipe has no setting 'epoch'; did you mean 'epochs'", {"epoch": 3}),
        (RunError, "epochs is 0; give a whole number", {"epochs": 0}),
        (ModelError, 'there is no model "lenet6"', {"model": "lenet6"}),
        (ModelError, 'lenet5 has no option "width"', {"model_options": {"width": 2}}),
        (DataError, "'digitz' is neither a folder nor the name", {"data": "digitz"}),
        (RunError, "device is 'cuda', but PyTorch finds no CUDA device", {"device": "cuda"}),
        (RunError, "resume needs the run's folder", {"resume": True}),
    ],
)
def test_wrong_input_is_refused_in_words_and_leaves_nothing(tmp_path, monkeypatch, error, sentence, call):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(error, match=sentence):
        fit(**call)
    assert list(tmp_path.iterdir()) == []


def test_progress_hears_of_everything(tmp_path):
    heard = []

    class Ear(Progress):
        def start(self, plan, position):
            heard.append(("start", plan.steps, plan.pictures, plan.held_out, position.epoch))

        def step(self, position):
            heard.append(("step", position.epoch, position.step))

        def epoch(self, row, best):
            heard.append(("epoch", row.epoch, best))

        def finish(self, reason):
            heard.append(("finish", reason))

    fit("digits", TinyNet(), out=tmp_path / "r", epochs=2, batch_size=500, progress=Ear())
    assert [entry for entry in heard if entry[0] != "epoch"] == [
        ("start", 3, 1438, 359, 0),
        *[("step", epoch, step) for epoch in (0, 1) for step in (1, 2, 3)],
        ("finish", "all epochs"),
    ]
    assert [entry[:2] for entry in heard if entry[0] == "epoch"] == [("epoch", 1), ("epoch", 2)]


def test_early_stopping_ends_the_run(tmp_path):
    run = fit("digits", TinyNet(), out=tmp_path / "r", epochs=30, patience=2, lr=1e-12, warmup_epochs=0)
    assert len(run.metrics) == 3


def test_it_runs_in_another_thread(tmp_path):
    results = []
    worker = threading.Thread(target=lambda: results.append(fit("digits", TinyNet(), out=tmp_path / "r", epochs=1)))
    worker.start()
    worker.join()
    assert len(results[0].metrics) == 1


def test_channels_last_and_augmentation_learn_too(tmp_path):
    run = fit(
        "digits",
        "convnet",
        out=tmp_path / "r",
        epochs=3,
        threads=1,
        channels_last=True,
        augment="shift",
        optimizer="adamw",
    )
    assert run.accuracy > 0.8


def test_bad_weights_end_in_words_with_the_last_good_state_on_disk(tmp_path):
    with pytest.raises(RunError, match=r"the loss became nan|no longer finite"):
        fit("digits", "lenet5", out=tmp_path / "r", epochs=2, lr=1000, clip_grad_norm=0, warmup_epochs=0, threads=1)
    with safe_open(str(tmp_path / "r" / "last" / "state.safetensors"), framework="pt") as file:
        assert all(file.get_tensor(name).isfinite().all() for name in file.keys())  # noqa: SIM118


def test_fused_operators_run_by_default_and_can_be_left_out(tmp_path, monkeypatch):
    seen = []
    real = fitting.train
    monkeypatch.setattr(fitting, "train", lambda model, *rest: (seen.append(is_optimized(model)), real(model, *rest)))
    for name, options in (("fused", {}), ("plain", {"optimize": False})):
        run = fit("digits", "lenet5", out=tmp_path / name, epochs=1, threads=1, **options)
        assert f"optimize = {str(name == 'fused').lower()}" in (run.folder / "config.toml").read_text()
        assert run.accuracy > 0.5
    assert seen == [True, False]
    with pytest.raises(RunError, match=r"optimize is False, but the run to resume has True"):
        fit("digits", "lenet5", out=tmp_path / "fused", resume=True, optimize=False)


def test_a_module_that_cannot_be_copied_trains_without(tmp_path):
    model = TinyNet()
    model.lock = threading.Lock()
    with pytest.raises(RunError, match="optimize=False"):
        fit("digits", model, out=tmp_path / "one", epochs=1)
    assert fit("digits", model, out=tmp_path / "two", epochs=1, optimize=False).recipe.optimize is False


def test_names_of_the_room_are_found():
    assert all(getattr(train, name) is not None for name in train.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        train.nothing  # noqa: B018


def test_only_the_report_loads_matplotlib():
    import subprocess
    import sys

    code = "import sys; from switchgrad.train import Recipe, Run, evaluate; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
