"""The command line in one process: what each command prints, and one line for everything that goes wrong."""

import csv
import dataclasses
import io
import re

import pytest
import torch
from PIL import Image

import switchgrad
from switchgrad import data
from switchgrad.app.options import recipe_fields
from switchgrad.train import Recipe, Run


def failed(result, sentence, code=1):
    """The command failed with one line ``error: ...`` on stderr and nothing on stdout."""
    assert result.exit_code == code
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert re.search(sentence, lines[0]), lines[0]


def misused(result, words):
    """A usage error: exit code 2, explained on stderr."""
    assert result.exit_code == 2
    assert result.stdout == ""
    text = " ".join(result.stderr.replace("│", " ").split())
    assert words in text, text


def test_version(cli):
    assert cli("--version").stdout == f"switchgrad {switchgrad.__version__}\n"


def test_help_teaches(cli):
    text = cli("--help").output
    for command in ("train", "evaluate", "predict", "summary", "info", "data"):
        assert command in text
    assert "switchgrad predict runs/digits-lenet5-1 picture.png --top 3" in text
    text = cli("train", "--help").output
    assert "switchgrad train --resume runs/digits-lenet5-1" in text
    for spec in dataclasses.fields(Recipe):
        if spec.name not in ("data", "model_options"):
            assert "--" + spec.name.replace("_", "-") in text, spec.name
    assert "--model-option" in text
    assert "sgd|adamw" in text
    assert "(default 20)" in text


def test_no_command_shows_the_help(cli):
    result = cli()
    assert "Usage" in result.output
    assert result.exit_code in (0, 2)


def test_train_prints_the_result_on_stdout_and_progress_on_stderr(cli, tmp_path):
    result = cli("train", "digits", "--epochs", 3, "--threads", 1)
    assert result.exit_code == 0
    run = Run.load(tmp_path / "runs" / "digits-lenet5-1")
    assert run.recipe == Recipe(epochs=3, threads=1)
    out = result.stdout.splitlines()
    assert out[0].startswith(
        f"accuracy  {run.accuracy:.2%} of the held-out pictures (epoch {run.description.epoch}; last"
    )
    assert out[2:] == ["run       runs/digits-lenet5-1", "report    runs/digits-lenet5-1/report.html"]
    err = result.stderr.splitlines()
    assert err[0].startswith("lenet5 (21,386 parameters) on 1,438 pictures, 359 held out; 3 epochs of 23 steps on ")
    assert len(err) == 2 + 3
    for line, row in zip(err[2:], run.metrics, strict=True):
        assert f"{row.epoch}/3" in line
        assert f"{row.val_loss:.4f}" in line
        assert f"{row.val_accuracy:.2%}" in line
    assert err[2].endswith("best")


def test_options_reach_the_recipe(cli, tmp_path):
    result = cli(
        "train", "digits", "--out", "here", "--model", "convnet", "--model-option", "dropout=0.25", "--epochs", 2,
        "--batch-size", 512, "--image-size", "10x12", "--no-nesterov", "--schedule", "step", "--milestones", "1",
        "--optimizer", "sgd", "--seed", 9, "--threads", 1, "--label-smoothing", 0,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert Run.load(tmp_path / "here").recipe == Recipe(
        model="convnet", model_options={"dropout": 0.25}, epochs=2, batch_size=512, image_size=(10, 12), nesterov=False,
        schedule="step", milestones=(1,), seed=9, threads=1, label_smoothing=0,
    )  # fmt: skip


def test_a_config_replays_and_options_change_it(cli, run, tmp_path):
    result = cli("train", "--config", run.folder / "config.toml", "--epochs", 1, "--out", "again")
    assert result.exit_code == 0
    assert Run.load(tmp_path / "again").recipe == run.recipe.replace(epochs=1)


def test_resume_of_a_finished_run_reports_it_again(cli, run):
    (run.folder / "report.html").unlink()
    result = cli("train", "--resume", run.folder)
    assert result.exit_code == 0
    assert f"{run.accuracy:.2%}" in result.stdout
    assert (run.folder / "report.html").exists()
    failed(
        cli("train", "--resume", run.folder, "--epochs", 9), "epochs is 9, but the run to resume has 6; leave it out"
    )
    misused(cli("train", "--resume", run.folder, "--out", "x"), "leave --config and --out out")


def test_values_are_read_as_their_kind():
    assert recipe_fields({"model_options": ["a=1", "b=0.5", "c=true", "d=word", 'e="1"', "f=[1, 2]"], "lr": None}) == {
        "model_options": {"a": 1, "b": 0.5, "c": True, "d": "word", "e": "1", "f": [1, 2]}
    }
    assert recipe_fields({"image_size": "32", "milestones": "3,7"}) == {"image_size": (32, 32), "milestones": (3, 7)}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "digitz"], "'digitz' is neither a folder nor the name of a data set; did you mean 'digits'"),
        (["train", "digits", "--epochs", "0"], "epochs is 0; give a whole number from 1 to 100000"),
        (["train", "digits", "--lr", "-1"], "lr is -1.0; give a number above 0 to 1000"),
        (["train", "digits", "--augment", "twist"], "augment is 'twist'; give none, or some of shift"),
        (["train", "digits", "--model", "lenet6"], 'there is no model "lenet6"'),
        (["train", "digits", "--model-option", "width=3"], 'lenet5 has no option "width"'),
        (["train", "digits", "--schedule", "step"], "schedule is 'step' without milestones"),
        (["train", "mnist", "--data-root", "nowhere"], "the data root .*nowhere is not a folder"),
        (["train", "--config", "none.toml"], "there is no recipe none.toml; give a run's config.toml"),
        (["train", "--resume", "nowhere"], "nowhere is not the folder of a run: it has no config.toml"),
        (["evaluate", "nowhere"], "nowhere is not the folder of a run"),
        (["predict", "nowhere", "x.png"], "nowhere is not the folder of a run"),
        (["summary", "lenet6"], 'there is no model "lenet6"'),
    ],
)
def test_what_goes_wrong_is_one_line(cli, words, sentence):
    failed(cli(*words), sentence)


def test_a_spoilt_loss_is_the_last_line(cli):
    result = cli("train", "digits", "--lr", 1000, "--clip-grad-norm", 0, "--threads", 1)
    assert result.exit_code == 1
    assert re.match(r"error: the (loss became|weights .* are no longer finite)", result.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train"], "name the data: switchgrad train digits"),
        (["train", "digits", "--epoch", "3"], "No such option"),
        (["train", "digits", "--epochs", "many"], "Invalid value for '--epochs'"),
        (["train", "digits", "--image-size", "big"], "'big' is no size; give one side in pixels"),
        (["train", "digits", "--milestones", "soon"], "'soon' is no list of epochs"),
        (["train", "digits", "--model-option", "dropout"], "'dropout' is no option of a network; give name=value"),
        (["evaluate", "RUN", "--split", "test"], "--split is val, train or all"),
        (["evaluate", "RUN", "--threads", "-1"], "--threads is a whole number"),
        (["predict", "RUN", "x.png", "--top", "0"], "Invalid value for '--top'"),
        (["predict", "RUN"], "Missing argument"),
        (["summary", "lenet5", "--input", "28x28"], "'28x28' is no input; give channels x height x width"),
        (["frobnicate"], "No such command"),
    ],
)
def test_misuse_is_explained(cli, run, words, sentence):
    misused(cli(*[run.folder if word == "RUN" else word for word in words]), sentence)


def test_evaluate_repeats_the_runs_own_figures(cli, run):
    result = cli("evaluate", run.folder)
    assert result.exit_code == 0
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    right = round(run.accuracy * 359)
    assert lines[0] == f"accuracy  {run.accuracy:.2%} ({right} of 359 held-out pictures of digits)"
    assert lines[1] == f"loss      {run.loss:.4f} nats"
    dataset = data.load("digits")
    for line, name, score in zip(lines[4:], dataset.classes, run.evaluate(dataset).per_class(), strict=True):
        assert line.split() == [
            name,
            str(score.support),
            f"{score.precision:.2%}",
            f"{score.recall:.2%}",
            f"{score.f1:.2%}",
        ]


def test_evaluate_on_the_training_pictures(cli, run):
    accuracy = run.evaluate(data.load("digits"), "train").accuracy
    assert cli("evaluate", run.folder, "--split", "train").stdout.startswith(f"accuracy  {accuracy:.2%} (")
    right = round(accuracy * 1438) + round(run.accuracy * 359)
    text = cli("evaluate", run.folder, "--split", "all").stdout
    assert text.startswith(f"accuracy  {right / 1797:.2%} ({right:,} of 1,797 pictures of digits)")


def save_folder(root, images, labels, names):
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        folder = root / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(folder / f"{number}.png")


def test_classes_of_other_data_are_matched_by_name(cli, run, tmp_path):
    dataset = data.load("digits")
    some = (dataset.val.labels >= 6).nonzero().flatten()[:60]  # classes 6 to 9 would be numbered 0 to 3
    for part in ("train", "val"):
        save_folder(tmp_path / "photos" / part, dataset.val.images[some], dataset.val.labels[some], "0123456789")
    shares = run.predict(dataset.val.images[some])
    right = (shares.argmax(1) == dataset.val.labels[some]).sum().item()
    result = cli("evaluate", run.folder, tmp_path / "photos")
    assert f"({right} of 60 held-out pictures of photos)" in result.stdout, result.output
    save_folder(tmp_path / "photos" / "val", dataset.val.images[:2], torch.zeros(2, dtype=torch.int64), ["zebra"])
    save_folder(tmp_path / "photos" / "train", dataset.val.images[:2], torch.zeros(2, dtype=torch.int64), ["zebra"])
    result = cli("evaluate", run.folder, tmp_path / "photos")
    assert result.exit_code == 1
    assert "error: the data have classes that this run was not trained on: 'zebra'; it knows '0', '1'" in result.stderr


def test_evaluate_refuses_data_that_changed(cli, tmp_path):
    dataset = data.load("digits")
    save_folder(tmp_path / "d", dataset.train.images[:60], dataset.train.labels[:60] % 2, "ab")
    assert cli("train", tmp_path / "d", "--epochs", 1, "--out", "r", "--image-size", 8).exit_code == 0
    assert cli("evaluate", "r").exit_code == 0
    (tmp_path / "d" / "a" / "0.png").write_bytes(next((tmp_path / "d" / "b").iterdir()).read_bytes())
    result = cli("evaluate", "r")
    assert result.exit_code == 1
    assert "are not those that the run was trained on; to measure it on other data name them" in result.stderr


def test_predict_names_what_is_there(cli, run, pictures):
    result = cli("predict", run.folder, pictures)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["picture", "class", "probability"]
    rows = [line.split() for line in lines[1:]]
    assert [row[0] for row in rows] == sorted(str(path) for path in (pictures / "more").iterdir())
    split = data.load("digits").val
    shares = run.predict(split.images[:12])
    assert [row[1] for row in rows] == [str(k) for k in shares.argmax(1).tolist()]
    assert [row[2] for row in rows] == [f"{share:.2%}" for share in shares.amax(1).tolist()]


def test_predict_writes_csv(cli, run, pictures, tmp_path):
    result = cli("predict", run.folder, pictures / "more", "--top", 3, "--csv", "-")
    table = list(csv.DictReader(io.StringIO(result.stdout)))
    assert list(table[0]) == ["path", "rank", "class", "probability"]
    shares = run.predict(data.load("digits").val.images[:12])
    values, classes = shares.topk(3)
    assert [int(line["rank"]) for line in table] == [1, 2, 3] * 12
    assert [line["class"] for line in table] == [str(k) for k in classes.flatten().tolist()]
    assert [float(line["probability"]) for line in table] == pytest.approx(values.flatten().tolist(), abs=1e-6)
    assert cli("predict", run.folder, pictures / "more", "--top", 3, "--csv", "out.csv").stdout == ""
    assert (tmp_path / "out.csv").read_text() == result.stdout
    assert len(cli("predict", run.folder, pictures / "more", "--top", 99, "--csv", "-").stdout.splitlines()) == 121


def test_predict_goes_on_past_pictures_it_cannot_read(cli, run, pictures, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    good = next((pictures / "more").iterdir())
    result = cli("predict", run.folder, tmp_path / "bad.png", good, tmp_path / "none.png", "--csv", "-")
    assert result.exit_code == 1
    assert [line.split(",")[0] for line in result.stdout.splitlines()] == ["path", str(good)]
    errors = result.stderr.splitlines()
    assert len(errors) == 3
    assert all(line.startswith("error: ") for line in errors)
    assert "bad.png" in errors[0]
    assert "none.png" in errors[1]
    assert errors[2] == "error: 2 of 3 pictures could not be read and were left out"


def test_predict_without_pictures(cli, run, tmp_path):
    failed(cli("predict", run.folder, tmp_path), "there are no pictures in .*; give picture files or their folder")


def test_summary_is_that_of_the_network(cli):
    text = cli("summary", "lenet5", "--input", "1x28x28").stdout
    assert "61,706" in text
    assert "416,520" in text
    assert "3x64x64" in cli("summary", "convnet", "--input", "3x64x64", "--classes", 2).stdout


def test_info_names_versions_and_kernels(cli):
    text = cli("info").stdout
    assert torch.__version__ in text
    found = switchgrad.info()
    for operator in found.operators:
        assert re.search(rf"^{operator.name} +{operator.device} +{re.escape(operator.kernel)} +", text, re.MULTILINE)


def test_data_check(cli, tmp_path):
    assert cli("data", "check", "digits").exit_code == 0
    split = data.load("digits").train
    save_folder(tmp_path / "d", split.images[:60], split.labels[:60] % 2, "ab")
    (tmp_path / "d" / "a" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    result = cli("data", "check", tmp_path / "d")
    assert result.exit_code == 1
    assert "torn.png" in result.stdout
    result = cli("train", tmp_path / "d", "--epochs", 1)
    assert result.exit_code == 1
    assert "torn.png" in result.stderr
    result = cli("train", tmp_path / "d", "--epochs", 1, "--bad-files", "skip", "--image-size", 8)
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert "torn.png" in result.stderr


def test_an_error_of_the_system_is_a_line_too(cli, run, pictures):
    result = cli("predict", run.folder, pictures, "--csv", "no/such/folder/out.csv")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: [Errno 2]")
