"""A run that was killed, or stopped, or crashed at any point ends as if nothing had happened, bit for bit."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors import safe_open
from torch import nn

from switchgrad.errors import RunError
from switchgrad.train import Interrupted, Progress, Run, checkpoint, fit, record, resume
from switchgrad.train.record import read_rows


def tensors(path):
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def assert_same_run(one, two):
    """The same best weights, last weights, moments and metrics; only the clock may differ."""
    for name in ("best.safetensors", "last/state.safetensors"):
        first, second = tensors(one / name), tensors(two / name)
        assert first.keys() == second.keys()
        for key in first:
            assert torch.equal(first[key], second[key]), (name, key)
    rows = [
        [dataclasses.replace(row, seconds=0.0, samples_per_second=0.0) for row in read_rows(folder / "metrics.csv")]
        for folder in (one, two)
    ]
    assert rows[0] == rows[1]
    leftovers = [path for path in two.rglob("*") if path.suffix == ".tmp"]
    assert not leftovers


RECIPES = {
    "sgd": {"model": "convnet", "augment": "shift", "epochs": 3, "batch_size": 256},
    "adamw": {"model": "lenet5", "optimizer": "adamw", "epochs": 3, "clip_grad_norm": 1.0, "monitor": "val_loss"},
}


@pytest.fixture(scope="module", params=list(RECIPES))
def uninterrupted(request, tmp_path_factory):
    recipe = {**RECIPES[request.param], "data": "digits", "threads": 1}
    run = fit(out=tmp_path_factory.mktemp("whole") / "run", **recipe)
    return run.folder, recipe


class StopAt(Progress):
    """Sends a signal after a number of steps."""

    def __init__(self, steps, number=signal.SIGINT):
        self.left, self.number = steps, number

    def step(self, position):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_between_two_steps_and_the_run_goes_on(uninterrupted, tmp_path, number):
    folder, recipe = uninterrupted
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught:
        fit(out=tmp_path / "run", progress=StopAt(8, number), **recipe)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert (caught.value.folder, caught.value.signal_number) == (tmp_path / "run", number)
    assert signal.getsignal(number) is before
    with pytest.raises(Interrupted):  # the whole second epoch's steps are done, its evaluation is not
        resume(tmp_path / "run", progress=StopAt(4, number))
    run = resume(tmp_path / "run")
    assert_same_run(folder, run.folder)


@pytest.mark.parametrize("uninterrupted", ["sgd"], indirect=True)
def test_every_single_step_can_be_the_last_of_its_process(uninterrupted, tmp_path):
    folder, recipe = uninterrupted
    steps, out = 0, tmp_path / "run"
    with pytest.raises(Interrupted):
        fit(out=out, progress=StopAt(1), **recipe)
    while True:
        steps += 1
        try:
            resume(out, progress=StopAt(1))
            break
        except Interrupted:
            continue
    assert steps == 3 * 6
    assert_same_run(folder, out)


class CrashError(BaseException):
    """What no code catches."""


CRASHES = [
    (checkpoint, "save_state", "before"),
    (checkpoint, "save_state", "after"),
    (checkpoint, "save_weights", "before"),
    (checkpoint, "save_weights", "after"),
    (record, "append_row", "before"),
    (record, "append_row", "after"),
]


@pytest.mark.parametrize("uninterrupted", ["adamw"], indirect=True)
@pytest.mark.parametrize(("module", "name", "when"), CRASHES)
def test_a_crash_around_every_write_of_an_epochs_end(uninterrupted, tmp_path, monkeypatch, module, name, when):
    folder, recipe = uninterrupted
    real, calls = getattr(module, name), []

    def crashing(*args, **more):
        calls.append(name)
        if len(calls) == 2 and when == "before":
            raise CrashError
        real(*args, **more)
        if len(calls) == 2:
            raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(module, name, crashing)
        with pytest.raises(CrashError):
            fit(out=tmp_path / "run", **recipe)
    assert_same_run(folder, resume(tmp_path / "run").folder)


SERVER = """
import json, os, sys, time
from switchgrad.train import fit, resume

# Everything is loaded once; each line asks for a child process that trains, to be killed by whoever asked.
for line in sys.stdin:
    call = json.loads(line)
    child = os.fork()
    if child == 0:
        try:
            os.makedirs(os.path.dirname(call["out"]), exist_ok=True)
            if os.path.exists(os.path.join(call["out"], "config.toml")):
                resume(call["out"])
            else:
                fit(out=call["out"], **call["recipe"])
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    print(child, flush=True)
    start = time.monotonic()
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), time.monotonic() - start, flush=True)
"""


@pytest.fixture(scope="module")
def server():
    """A process that has PyTorch loaded and forks trainers."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def train(out, recipe, kill_after=None):
        process.stdin.write(json.dumps({"out": str(out), "recipe": recipe}) + "\n")
        process.stdin.flush()
        child = int(process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                os.kill(child, signal.SIGKILL)
        code, seconds = process.stdout.readline().split()
        return int(code), float(seconds)

    yield train
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.parametrize(("uninterrupted", "save_every_s"), [("sgd", 0.0), ("adamw", 60.0)], indirect=["uninterrupted"])
def test_killed_again_and_again_at_any_moment(uninterrupted, tmp_path, server, save_every_s):
    folder, recipe = uninterrupted
    recipe = {**recipe, "save_every_s": save_every_s}
    code, seconds = server(tmp_path / "timed", recipe)
    assert code == 0
    assert_same_run(folder, tmp_path / "timed")

    out, kills = tmp_path / "killed", 0
    delays = torch.rand(6, generator=torch.Generator().manual_seed(3)) * seconds * 0.4
    for delay in delays.tolist():
        code, _ = server(out, recipe, kill_after=delay)
        assert code in (0, -signal.SIGKILL)
        kills += code != 0
        if code == 0:
            break
    if code != 0:
        assert server(out, recipe)[0] == 0
    assert kills >= 3
    assert_same_run(folder, out)


def test_a_finished_run_is_only_reported_again(uninterrupted, tmp_path):
    folder, recipe = uninterrupted
    before = tensors(folder / "last" / "state.safetensors")
    (folder / "report.html").unlink()
    run = resume(folder)
    assert (folder / "report.html").exists()
    assert len(run.metrics) == recipe["epochs"]
    after = tensors(folder / "last" / "state.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_what_a_resumed_run_may_change(uninterrupted, tmp_path):
    folder, _ = uninterrupted
    assert resume(folder, save_every_s=5.0, device="cpu").folder == folder
    for changes, sentence in [
        ({"epochs": 9}, "epochs is 9, but the run to resume has 3; leave it out, or start a new run"),
        ({"model": "lenet5-1998"}, "model is 'lenet5-1998', but the run to resume has"),
        ({"data": "mnist"}, "data is 'mnist', but the run to resume has 'digits'"),
        ({"lr": 1}, "lr is 1.0, but the run to resume has"),
        ({"epoch": 9}, "a recipe has no setting 'epoch'"),
        ({"image_size": 9}, r"image_size is \[9, 9\], but the run to resume has None"),
    ]:
        with pytest.raises(RunError, match=sentence):
            resume(folder, **changes)


def test_an_edited_recipe_does_not_resume(tmp_path):
    run = fit("digits", "lenet5", out=tmp_path / "run", epochs=1, threads=1)
    config = run.folder / "config.toml"
    config.write_text(config.read_text().replace("epochs = 1\n", "epochs = 2\n", 1))
    with pytest.raises(RunError, match="cannot be resumed: the recipe changed since it was saved; start a new run"):
        resume(run.folder)


def test_a_module_of_ones_own_resumes_when_given_again(tmp_path):
    def net(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Dropout(0.3), nn.Linear(32, 10))

    recipe = {"data": "digits", "epochs": 2, "threads": 1}
    whole = fit(model=net(0), out=tmp_path / "whole", **recipe)
    with pytest.raises(Interrupted):
        fit(model=net(0), out=tmp_path / "part", progress=StopAt(30), **recipe)
    with pytest.raises(RunError, match=r"trains a module of your own; give it again: fit\(data, model, out"):
        resume(tmp_path / "part")
    part = fit(model=net(1), out=tmp_path / "part", resume=True, **recipe)
    assert_same_run(whole.folder, part.folder)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(RunError, match=r"is not the folder of a run: it has no config\.toml"):
        resume(tmp_path)
    with pytest.raises(RunError, match="is not the folder of a run"):
        Run.load(tmp_path)


def test_a_run_without_a_finished_epoch_has_no_weights_yet(tmp_path):
    with pytest.raises(Interrupted):
        fit("digits", "lenet5", out=tmp_path / "run", progress=StopAt(2))
    with pytest.raises(RunError, match="has no best weights yet, as no epoch was finished; resume it"):
        Run.load(tmp_path / "run")
