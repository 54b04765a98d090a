"""One call that trains: data and network in, a run folder and a `Run` out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from switchgrad import data as data_sets
from switchgrad.data import Dataset
from switchgrad.errors import ModelError, RunError
from switchgrad.fusion import optimize
from switchgrad.train import checkpoint, record
from switchgrad.train.atomic import sweep
from switchgrad.train.batches import Batches
from switchgrad.train.cuda_graph import make_run
from switchgrad.train.description import Description, digest
from switchgrad.train.environment import environment
from switchgrad.train.evaluation import Evaluation, evaluate
from switchgrad.train.folder import RunFolder, create
from switchgrad.train.interrupt import Interrupted, StopRequest, stop_on_signals
from switchgrad.train.loop import make_optimizer, out_of_patience, train
from switchgrad.train.named import PYTHON, load_data, make_network
from switchgrad.train.position import Position, Row
from switchgrad.train.progress import Plan, Progress
from switchgrad.train.recipe import Recipe
from switchgrad.train.report import write_report
from switchgrad.train.run import Run

MAY_CHANGE = ("data_root", "device", "threads", "cuda_graphs", "save_every_s")


def fit(
    data: str | Path | Dataset = "digits",
    model: str | nn.Module = "lenet5",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    **recipe: Any,
) -> Run:
    """Train ``model`` on ``data`` and leave a run folder; further arguments are the fields of `Recipe`.

    ``data`` is a data set's name, a folder of pictures or a `Dataset`; ``model`` the name of a network or any module
    that gives scores ``[N, classes]``, which is then trained in place. The folder is ``out``, or the next free
    ``runs/<data>-<model>-<n>``; it holds ``config.toml``, ``metrics.csv``, ``best.safetensors``, ``last/``,
    ``curves.png``, ``confusion.png`` and ``report.html``.

    With ``resume=True`` the run in ``out`` goes on from its last save as if it had never stopped: on one thread of
    the same machine every weight gets the same bits. Its recipe is the one in the folder; of the arguments only
    ``data_root``, ``device``, ``threads``, ``cuda_graphs`` and ``save_every_s`` may then differ. SIGINT (Ctrl-C) and
    SIGTERM save the state between two steps and raise `Interrupted`, a ``KeyboardInterrupt``.

    On a CUDA device a whole step is recorded in a CUDA graph once for each size of batch, after three steps of that
    size, and then replayed: hundreds of kernels for the price of one launch. It keeps the memory of its activations
    besides that of evaluation. A network that asks the device for a number on its way (``item``, ``nonzero``, a
    condition on a tensor) cannot be recorded; ``progress.note`` then gets a sentence that says where it waits, and the
    run goes on without. ``cuda_graphs=False`` leaves graphs out.

    Weights, order, augmentation and dropout follow from ``seed``; the caller's random state is left as it was.
    `RunError` says what is wrong with a recipe, a folder or a checkpoint, or that the loss is no longer finite;
    `DataError` and `ModelError` what is wrong with the rest.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = fit("digits", "lenet5", out=folder, epochs=1, seed=1)
    ...     sorted(path.name for path in run.folder.iterdir())
    ['best.safetensors', 'config.toml', 'confusion.png', 'curves.png', 'last', 'metrics.csv', 'report.html']
    """
    asked = {**recipe, "data": _data_name(data), "model": _model_name(model)}
    if isinstance(recipe.get("data_root"), (str, Path)):
        asked["data_root"] = str(Path(recipe["data_root"]).expanduser().resolve())
    chosen = _resumed_recipe(out, asked) if resume else Recipe.from_fields(asked)
    told = progress or Progress()
    dataset = data if isinstance(data, Dataset) else load_data(chosen, told.reading)
    batch_values = min(chosen.batch_size, len(dataset.train)) * dataset.train.images[0].numel()
    with environment(chosen, batch_values) as device:
        network = (model if isinstance(model, nn.Module) else make_network(chosen, dataset)).to(device)
        check_network(network, dataset, device)
        folder = RunFolder(Path(out)) if resume and out else create(out, chosen, dataset.name)
        with stop_on_signals() as request:
            return _Session(folder, chosen, dataset, network, device, request, told).run()


def resume(folder: str | Path, *, progress: Progress | None = None, **changes: Any) -> Run:
    """Go on with the run in ``folder``, its data and network found by the names in its recipe; see `fit`."""
    recipe = RunFolder(Path(folder)).read_recipe()
    if recipe.model.startswith(PYTHON):
        raise RunError(f"{folder} trains a module of your own; give it again: fit(data, model, out=..., resume=True)")
    names: dict[str, Any] = {"data": recipe.data, "model": recipe.model}
    return fit(**{**names, **changes}, out=folder, resume=True, progress=progress)


def check_network(network: nn.Module, dataset: Dataset, device: torch.device) -> None:
    """Show the network two pictures: `ModelError` where its scores do not fit the classes, before a folder is made."""
    evaluate(
        network,
        dataset.val.images[:2],
        dataset.val.labels[:2],
        num_classes=dataset.num_classes,
        prepare=lambda images: data_sets.normalise(images.to(device), dataset.mean, dataset.std),
    )


def _fast(network: nn.Module) -> nn.Module:
    try:
        return optimize(network)
    except ModelError as error:
        raise RunError(f"{error}; or train it as it is: optimize=False") from error


def _data_name(data: str | Path | Dataset) -> str:
    """What the recipe says of the data: a name as it is, a folder as an absolute path that holds from anywhere."""
    if isinstance(data, Dataset):
        return data.source
    if isinstance(data, str) and data in data_sets.names():
        return data
    path = Path(data).expanduser()
    return str(path.resolve()) if path.exists() else str(data)


def _model_name(model: str | nn.Module) -> str:
    return model if isinstance(model, str) else PYTHON + type(model).__name__


def _resumed_recipe(out: str | Path | None, asked: Mapping[str, object]) -> Recipe:
    """The recipe of the run in ``out``, if nothing in ``asked`` contradicts it beyond what may change."""
    if out is None:
        raise RunError("resume needs the run's folder; give out='runs/...'")
    recipe = RunFolder(Path(out)).read_recipe()
    wanted = recipe.replace(**asked)
    for name, value in wanted.to_fields().items():
        if name not in MAY_CHANGE and value != recipe.to_fields().get(name):
            raise RunError(
                f"{name} is {value!r}, but the run to resume has {recipe.to_fields().get(name)!r}; leave it out, "
                "or start a new run"
            )
    return wanted


class _Session:
    """One run under way: it prepares the pictures, saves between steps, and finishes with the report."""

    def __init__(
        self,
        folder: RunFolder,
        recipe: Recipe,
        dataset: Dataset,
        network: nn.Module,
        device: torch.device,
        request: StopRequest,
        progress: Progress,
    ) -> None:
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.folder, self.recipe, self.dataset, self.progress = folder, recipe, dataset, progress
        self.request, self.device, self.layout = request, device, layout
        self.network = cast("Any", network).to(memory_format=layout) if recipe.channels_last else network
        self.fast = _fast(self.network) if recipe.optimize else self.network  # the same weights; what trains
        self.optimizer = make_optimizer(network, recipe, capturable=device.type == "cuda")
        self.digest = digest(dataset)
        self.identity = {
            "recipe": {name: value for name, value in recipe.to_fields().items() if name not in MAY_CHANGE},
            "data": self.digest,
        }
        self.train_images, self.train_labels = dataset.train.images.to(device), dataset.train.labels.to(device)
        self.val_images, self.val_labels = dataset.val.images.to(device), dataset.val.labels.to(device)

    def run(self) -> Run:
        """Train from where the folder stands to the end."""
        position = self._begin()
        batches = Batches(
            self.train_images, self.train_labels, self.recipe.batch_size, self.recipe.seed, self._prepare_training
        )
        self.progress.start(self._plan(len(batches)), position)
        run = make_run(self.fast, self.optimizer, self.recipe, self.device, self.progress.note)
        train(self.fast, self.optimizer, batches, self._validate, self.recipe, position, self, run)
        return self._finish()

    def after_step(self, position: Position) -> None:
        """Save where it is time to, and stop where somebody asked for it."""
        self.progress.step(position)
        self._stop_if_asked()
        if monotonic() - self.saved_at >= self.recipe.save_every_s:
            self._save()

    def after_epoch(self, row: Row, best: bool) -> None:
        """Put the epoch on disk: first the state, which is the authority, then what follows from it."""
        self._save()
        if best:
            self._save_best(row)
        record.append_row(self.folder.metrics, row)
        self.progress.epoch(row, best)

    def _begin(self) -> Position:
        sweep(self.folder.path)
        sweep(self.folder.state.parent)
        if self.folder.state.exists():
            self.position = checkpoint.load_state(self.folder.state, self.network, self.optimizer, self.identity)
        else:
            self.position = Position()
            self._save()
        self.saved_at = monotonic()
        record.write_rows(self.folder.metrics, self.position.history)
        if self.position.history and self.position.step == 0 and self.position.best_epoch == self.position.epoch:
            self._save_best(self.position.history[-1])
        return self.position

    def _finish(self) -> Run:
        reason = "early stop" if out_of_patience(self.position, self.recipe) else "all epochs"
        self.progress.finish(reason)
        run = Run.load(self.folder.path, self.network)
        write_report(self.folder, run, self.dataset, self._validate(self.fast))
        return run

    def _plan(self, steps: int) -> Plan:
        return Plan(
            folder=self.folder,
            recipe=self.recipe,
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            pictures=len(self.dataset.train),
            held_out=len(self.dataset.val),
            steps=steps,
            device=self.device.type,
            threads=torch.get_num_threads(),
        )

    def _prepare_training(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self._prepare(data_sets.augment(images, self.recipe.augment, generator))

    def _prepare(self, images: Tensor) -> Tensor:
        batch = data_sets.normalise(images, self.dataset.mean, self.dataset.std)
        return batch.contiguous(memory_format=self.layout)

    def _validate(self, network: nn.Module) -> Evaluation:
        return evaluate(
            network,
            self.val_images,
            self.val_labels,
            num_classes=self.dataset.num_classes,
            batch_size=self.recipe.batch_size,
            prepare=self._prepare,
            between=self._stop_if_asked,
        )

    def _stop_if_asked(self) -> None:
        if self.request.signal_number:
            self._stop()

    def _stop(self) -> NoReturn:
        self._save()
        self.progress.finish("stopped")
        raise Interrupted(self.folder.path, self.request.signal_number)

    def _save(self) -> None:
        checkpoint.save_state(self.folder.state, self.network, self.optimizer, self.position, self.identity)
        self.saved_at = monotonic()

    def _save_best(self, row: Row) -> None:
        description = Description(
            model=self.recipe.model,
            model_options=self.recipe.model_options,
            classes=self.dataset.classes,
            in_channels=self.dataset.in_channels,
            input_size=self.dataset.input_size,
            mean=self.dataset.mean,
            std=self.dataset.std,
            data_digest=self.digest,
            epoch=row.epoch,
            accuracy=row.val_accuracy,
            loss=row.val_loss,
        )
        checkpoint.save_weights(self.folder.best, self.network, description.to_fields())
