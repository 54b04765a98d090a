"""Steps behind graphs, with a recorder that needs no GPU: the same training to the last bit; every way to give up."""

import pytest
import torch
from torch import nn

from switchgrad.app.console import LineProgress
from switchgrad.errors import RunError
from switchgrad.train import Position, Recipe, evaluate, fit, fitting
from switchgrad.train.batches import Batches
from switchgrad.train.graphs import MOST_GRAPHS, WARM_UP, CannotRecord, GraphedStep
from switchgrad.train.loop import make_optimizer, set_rate, train
from switchgrad.train.step import Outcome, Step, hold_back, look_first

IMAGES = torch.randn(23, 3, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(23) % 2


class Recorder:
    """Records the function and runs it again at each replay, into the places that it gave out when it recorded."""

    def __init__(self, waits="", fails=""):
        self.waits, self.fails, self.calls = waits, fails, []

    def warm_up(self, step):
        self.calls.append("warm up")
        return step()

    def rehearse(self, step):
        self.calls.append("rehearse")
        return step(), self.waits

    def record(self, step):
        self.calls.append("record")
        if self.fails:
            raise CannotRecord(self.fails)
        outcome = Outcome(torch.tensor(float("nan")), torch.tensor(-1))

        def replay():
            self.calls.append("replay")
            for place, value in zip(outcome, step(), strict=True):
                place.copy_(value)

        return outcome, replay


class Watch:
    def __init__(self):
        self.rows, self.steps = [], []

    def after_step(self, position):
        self.steps.append((position.loss_sum, position.correct))

    def after_epoch(self, row, best):
        self.rows.append(row)


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.25), nn.Linear(4, 2))


def trained(recipe, recorder=None, images=IMAGES, tell=pytest.fail):
    net, watch, position = network(), Watch(), Position()
    optimizer = make_optimizer(net, recipe, capturable=True)
    run = Step(net, optimizer, recipe, guard=hold_back)
    train(
        net,
        optimizer,
        Batches(images, LABELS, recipe.batch_size, recipe.seed),
        lambda model: evaluate(model, IMAGES, LABELS, num_classes=2),
        recipe,
        position,
        watch,
        run if recorder is None else GraphedStep(run, recorder, tell),
    )
    return net, watch, optimizer


def same_state(one, two):
    a, b = one.state_dict(), two.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_graphs_train_the_same_weights_to_the_last_bit(optimizer):
    recipe = Recipe(epochs=4, batch_size=5, optimizer=optimizer, warmup_epochs=1, clip_grad_norm=0.5)
    recorder = Recorder()
    net, watch, _ = trained(recipe, recorder)
    plain, seen, _ = trained(recipe)
    assert same_state(net, plain)
    assert watch.steps == seen.steps
    assert [row.val_loss for row in watch.rows] == [row.val_loss for row in seen.rows]
    # Epochs of 23 pictures have batches of 4 and of 5: two graphs, each after three steps of its own size.
    assert len(recorder.calls) == 2 + 4 * 5
    assert {call: recorder.calls.count(call) for call in set(recorder.calls)} == {
        "warm up": 2 * (WARM_UP - 1), "rehearse": 2, "record": 2, "replay": 4 * 5 - 2 * WARM_UP,
    }  # fmt: skip


def test_the_rate_is_read_where_a_graph_reads_it():
    net = network()
    optimizer = make_optimizer(net, Recipe(), capturable=True)
    rate = optimizer.param_groups[0]["lr"]
    set_rate(optimizer, 0.25)
    assert all(group["lr"] is rate for group in optimizer.param_groups)
    assert rate == 0.25
    plain = make_optimizer(net, Recipe())
    set_rate(plain, 0.3)
    assert [group["lr"] for group in plain.param_groups] == [0.3, 0.3]


@pytest.mark.parametrize("fault", [{"waits": "the host waits at net.py:7"}, {"fails": "its capture failed (no)"}])
def test_what_cannot_be_recorded_is_told_once_and_trains_without(fault):
    told = []
    recipe = Recipe(epochs=3, batch_size=6)
    recorder = Recorder(**fault)
    net, watch, _ = trained(recipe, recorder, tell=told.append)
    plain, seen, _ = trained(recipe)
    assert same_state(net, plain)
    assert watch.steps == seen.steps
    assert told == [
        f"steps run without a CUDA graph: {next(iter(fault.values()))}; cuda_graphs=False skips the attempt"
    ]
    assert recorder.calls.count("rehearse") == 1
    assert recorder.calls.count("record") == ("fails" in fault)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("graphs", [False, True])
def test_a_loss_that_is_not_finite_changes_nothing_though_nobody_looked(optimizer, graphs):
    net = network()
    recipe = Recipe(optimizer=optimizer)
    rule = make_optimizer(net, recipe, capturable=True)
    run = Step(net, rule, recipe, guard=hold_back)
    run = GraphedStep(run, Recorder(), pytest.fail) if graphs else run
    for _ in range(WARM_UP + 1):
        run(IMAGES, LABELS)
    weights = [p.clone() for p in net.parameters()]
    state = [v.clone() for values in rule.state.values() for v in values.values()]
    assert not run(torch.full_like(IMAGES, torch.inf), LABELS).loss.isfinite()
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))
    now = [v for values in rule.state.values() for v in values.values()]
    assert all(torch.equal(a, b) for a, b in zip(state, now, strict=True))
    for module in net:
        if isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
    assert torch.isfinite(run(IMAGES, LABELS).loss)
    assert not torch.equal(weights[0], net[0].weight)


def test_the_loop_stops_at_such_a_loss():
    images = IMAGES.clone()
    images[Batches(torch.arange(23), LABELS, 5, 0).at(0, 1)[0]] = torch.nan
    with pytest.raises(RunError, match="the loss became nan in epoch 1, step 2, so training stopped"):
        trained(Recipe(epochs=1, batch_size=5), Recorder(), images)


def test_looking_first_leaves_a_bad_step_out():
    optimizer = make_optimizer(network(), Recipe())
    assert look_first(optimizer, torch.tensor(1.0))
    assert not look_first(optimizer, torch.tensor(torch.inf))
    assert not hasattr(optimizer, "found_inf")


def test_shapes_and_layouts_have_graphs_of_their_own_up_to_a_limit():
    recorder, net = Recorder(), nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    square = torch.randn(2, 3, 4, 4)
    net(square)
    recipe = Recipe()
    run = GraphedStep(Step(net, make_optimizer(net, recipe, capturable=True), recipe), recorder, pytest.fail)
    y = torch.zeros(2, dtype=torch.int64)
    shapes = [square, square.contiguous(memory_format=torch.channels_last), torch.randn(1, 3, 4, 4)]
    shapes += [torch.randn(n, 3, 4, 4) for n in range(3, 3 + MOST_GRAPHS)]
    for _ in range(WARM_UP + 2):
        for x in shapes:
            run(x, y.new_zeros(len(x)))
    assert len(run.recorded) == MOST_GRAPHS
    assert recorder.calls.count("record") == MOST_GRAPHS
    assert recorder.calls.count("replay") == 2 * MOST_GRAPHS


def test_input_and_labels_are_copied_to_where_the_graph_reads():
    seen = []

    def run(x, y):
        seen.append((x, x.clone(), y.clone()))
        return Outcome(x.sum(), y.sum())

    graphed = GraphedStep(run, Recorder(), pytest.fail)
    for step in range(WARM_UP + 3):
        x, y = torch.full((2, 2), float(step)), torch.full((2,), step)
        assert graphed(x, y).read() == (4.0 * step, 2 * step)
    assert all(torch.equal(got, torch.full((2, 2), float(step))) for step, (_, got, _) in enumerate(seen))
    places = [x.data_ptr() for x, _, _ in seen]
    assert len(set(places[WARM_UP:])) == 1
    assert seen[-1][0] is not x


def test_what_a_replay_writes_counts_as_changed():
    """A GPU writes behind PyTorch's back; weights that somebody folded would stay what they were."""
    weight = torch.zeros(2, requires_grad=True)

    class Silent(Recorder):
        def record(self, step):
            outcome = Outcome(torch.zeros(()), torch.zeros((), dtype=torch.int64))
            return outcome, lambda: weight.data.add_(1)

    run = GraphedStep(lambda x, y: Outcome(x.sum(), y.sum()), Silent(), pytest.fail, [weight])
    for _ in range(WARM_UP):
        run(torch.ones(2), torch.ones(2))
    before = weight._version
    run(torch.ones(2), torch.ones(2))
    assert weight.tolist() == [1.0, 1.0]
    assert weight._version > before


def test_a_whole_run_behind_graphs_is_the_same_run(digits_run, tmp_path, monkeypatch):
    """Fused operators, folded normalisation in evaluation, augmented order, dropout's seeds: through `fit`."""
    recorder = Recorder()

    def behind(model, optimizer, recipe, device, tell):
        return GraphedStep(Step(model, optimizer, recipe, guard=hold_back), recorder, tell)

    monkeypatch.setattr(fitting, "make_run", behind)
    run = fit("digits", "lenet5", out=tmp_path / "run", epochs=3, threads=1, seed=4)
    assert same_state(run.model, digits_run.model)
    assert [row.val_loss for row in run.metrics] == [row.val_loss for row in digits_run.metrics]
    assert recorder.calls.count("replay") > 50


def test_a_run_says_why_it_goes_without(tmp_path, monkeypatch, capsys):
    def behind(model, optimizer, recipe, device, tell):
        return GraphedStep(Step(model, optimizer, recipe, guard=hold_back), Recorder(fails="out of memory"), tell)

    monkeypatch.setattr(fitting, "make_run", behind)
    fit("digits", "lenet5", out=tmp_path / "run", epochs=1, threads=1, progress=LineProgress())
    told = [line for line in capsys.readouterr().err.splitlines() if "graph" in line]
    assert told == ["steps run without a CUDA graph: out of memory; cuda_graphs=False skips the attempt"]
