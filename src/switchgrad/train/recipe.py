"""The recipe of a run: every choice that decides the result, checked in one place, written to and read from TOML."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import tomli_w

from switchgrad.data import POLICIES, check_policy
from switchgrad.errors import DataError, RunError
from switchgrad.train import settings as kind
from switchgrad.train.settings import setting

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]


def _policy(name: str, value: object) -> str:
    try:
        check_policy(kind.text(name, value))
    except DataError as error:
        raise kind.refuse(name, value, f"none, or some of {', '.join(POLICIES)} separated by commas") from error
    return str(value)


DEFAULT_LR = {"sgd": 0.05, "adamw": 0.002}
DEFAULT_WEIGHT_DECAY = {"sgd": 5e-4, "adamw": 0.05}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a training run, besides the data themselves.

    ``switchgrad train --help`` tells what each field means. Each is checked when the recipe is made; `RunError` names
    the field, the value and what was wanted.
    Two fields have a default that depends on another: ``lr`` (sgd 0.05, adamw 0.002) and ``weight_decay`` (sgd 0.0005,
    adamw 0.05). Weight decay acts on weights of two or more axes only: biases and the scales and shifts of
    normalisation have one axis and are left alone, since shrinking them restrains nothing and costs accuracy.

    >>> recipe = Recipe(data="digits", model="lenet5", epochs=5)
    >>> recipe.lr, Recipe.from_toml(recipe.to_toml()) == recipe
    (0.05, True)
    >>> Recipe(epochs=0)
    Traceback (most recent call last):
    switchgrad.errors.RunError: epochs is 0; give a whole number from 1 to 100000
    """

    data: str = setting("digits", "a data set's name, or a folder with a sub-folder for each class", kind.text, "data")
    data_root: str | None = setting(
        None, "folder that holds data sets already on this machine", kind.optional(kind.text), "data"
    )
    image_size: tuple[int, int] | None = setting(
        None,
        "resize pictures to this height and width in pixels (default: as they are, or the data set's rule)",
        kind.optional(kind.height_width),
        "data",
    )
    val_fraction: float = setting(
        0.2,
        "share of the pictures held out where the data bring no test set",
        kind.real(0, 1, low_open=True, high_open=True),
        "data",
    )
    split_seed: int = setting(
        0,
        "seed of that split, apart from --seed, so that runs compare on the same pictures",
        kind.whole(0, 2**63 - 1),
        "data",
    )
    bad_files: str = setting(
        "refuse",
        "files that cannot be read: refuse lists them all and stops, skip leaves them out",
        kind.OneOf("refuse", "skip"),
        "data",
    )
    augment: str = setting(
        "none",
        f"how training pictures are varied: none, or some of {', '.join(POLICIES)} separated by commas",
        _policy,
        "data",
    )

    model: str = setting("lenet5", "the network's name", kind.text, "model")
    model_options: Mapping[str, object] = dataclasses.field(
        default_factory=dict,
        metadata={"help": "the network's own options", "reader": kind.options, "group": "model"},
    )

    epochs: int = setting(20, "times that training goes through all pictures", kind.whole(1, 100_000), "training")
    batch_size: int = setting(
        64,
        "pictures a step, at most: an epoch is cut into the fewest batches of nearly equal size",
        kind.whole(1, 2**20),
        "training",
    )
    optimizer: str = setting("sgd", "the rule that turns gradients into steps", kind.OneOf("sgd", "adamw"), "training")
    lr: float = setting(
        None, "peak learning rate (default: sgd 0.05, adamw 0.002)", kind.real(0, 1000, low_open=True), "training"
    )
    momentum: float = setting(0.9, "momentum of sgd", kind.real(0, 1, high_open=True), "training")
    nesterov: bool = setting(True, "Nesterov's form of momentum", kind.flag, "training")
    weight_decay: float = setting(
        None,
        "weight decay, not on biases and norms (default: sgd 0.0005, adamw 0.05)",
        kind.real(0, 1000),
        "training",
    )
    schedule: str = setting(
        "cosine", "how the learning rate falls", kind.OneOf("cosine", "step", "constant"), "training"
    )
    warmup_epochs: float = setting(
        0.5, "epochs over which the learning rate rises in a line to its peak", kind.real(0, 100_000), "training"
    )
    milestones: tuple[int, ...] = setting(
        (), "step schedule: epochs after which the rate is multiplied by gamma", kind.wholes(1, 100_000), "training"
    )
    gamma: float = setting(0.1, "step schedule: that factor", kind.real(0, 1, low_open=True), "training")
    label_smoothing: float = setting(
        0.1, "share of the target spread evenly over all classes", kind.real(0, 1, high_open=True), "training"
    )
    clip_grad_norm: float = setting(
        2.0, "largest norm of the gradient over all parameters; 0 leaves it alone", kind.real(0, 1e9), "training"
    )

    monitor: str = setting(
        "val_accuracy",
        "what makes an epoch the best",
        kind.OneOf("val_accuracy", "val_loss"),
        "stopping",
    )
    patience: int = setting(
        0, "stop after so many epochs without improvement; 0 never stops early", kind.whole(0, 100_000), "stopping"
    )
    min_delta: float = setting(0.0, "least change that counts as an improvement", kind.real(0, 1e9), "stopping")

    seed: int = setting(
        0, "seed of weights, order of pictures, augmentation and dropout", kind.whole(0, 2**63 - 1), "machine"
    )
    device: str = setting(
        "auto", "where to train; auto takes cuda where there is one", kind.OneOf("auto", "cpu", "cuda"), "machine"
    )
    threads: int = setting(
        0,
        "CPU threads; 0 chooses: one for batches under 16,384 values, PyTorch's number for larger ones",
        kind.whole(0, 4096),
        "machine",
    )
    optimize: bool = setting(
        True, "run chains of layers by fused operators (switchgrad.optimize)", kind.flag, "machine"
    )
    cuda_graphs: bool = setting(
        True, "on cuda: record a whole step once for each size of batch, and replay it", kind.flag, "machine"
    )
    channels_last: bool = setting(False, "keep pictures and weights channels-last in memory", kind.flag, "machine")
    save_every_s: float = setting(
        60.0, "seconds between saves within an epoch; each epoch's end is saved always", kind.real(0, 1e9), "machine"
    )

    def __post_init__(self) -> None:
        """Read every field, then fill in what depends on the optimiser, then check what two fields say together."""
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            depends = spec.name in ("lr", "weight_decay") and value is None
            if not depends:
                object.__setattr__(self, spec.name, spec.metadata["reader"](spec.name, value))
        if cast("float | None", self.lr) is None:
            object.__setattr__(self, "lr", DEFAULT_LR[self.optimizer])
        if cast("float | None", self.weight_decay) is None:
            object.__setattr__(self, "weight_decay", DEFAULT_WEIGHT_DECAY[self.optimizer])
        self._check_together()

    def _check_together(self) -> None:
        if self.warmup_epochs > self.epochs:
            raise RunError(
                f"warmup_epochs is {self.warmup_epochs:g}, but there are {self.epochs} epochs; give at most as many, "
                "so that the learning rate reaches its peak"
            )
        if self.schedule == "step" and not self.milestones:
            raise RunError(
                "schedule is 'step' without milestones; give the epochs after which the rate drops: (30, 60)"
            )
        if self.milestones and self.schedule != "step":
            raise RunError(
                f"milestones belong to schedule 'step', but schedule is {self.schedule!r}; give one or the other"
            )

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> Recipe:
        """A recipe from names and values; a name that no recipe has is refused with the nearest one.

        >>> Recipe.from_fields({"epoch": 3})
        Traceback (most recent call last):
        switchgrad.errors.RunError: a recipe has no setting 'epoch'; did you mean 'epochs'?
        """
        known = [spec.name for spec in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else "it has " + ", ".join(known)
                raise RunError(f"a recipe has no setting {name!r}; {hint}")
        return cls(**cast("dict[str, Any]", dict(fields)))

    def to_fields(self) -> dict[str, object]:
        """Names and values of all fields that are set, tuples as lists: what TOML and JSON can hold."""
        fields = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items() if v is not None}

    def to_toml(self) -> str:
        """The recipe as TOML; `from_toml` gives back an equal recipe, to the last bit of every number."""
        fields = self.to_fields()
        table = fields.pop("model_options")
        if table:
            fields["model_options"] = table
        return tomli_w.dumps(fields)

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """The recipe that ``text`` holds; `RunError` where it is no TOML or a field is unknown or out of range."""
        try:
            fields = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RunError(f"the recipe is not valid TOML ({error}); mend that line") from error
        return cls.from_fields(fields)

    def replace(self, **changes: object) -> Recipe:
        """This recipe with some fields changed.

        >>> Recipe().replace(epochs=3).epochs
        3
        """
        fields = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        return Recipe.from_fields({**fields, **changes})
