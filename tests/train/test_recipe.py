"""The recipe: defaults, every wrong value's sentence, and an exact round trip through TOML."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgrad.errors import RunError
from switchgrad.train import Recipe

VALID = {
    "data": st.text(min_size=1).filter(str.strip),
    "data_root": st.none() | st.text(min_size=1).filter(str.strip),
    "image_size": st.none() | st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    "val_fraction": st.floats(0, 1, exclude_min=True, exclude_max=True),
    "split_seed": st.integers(0, 2**63 - 1),
    "bad_files": st.sampled_from(["refuse", "skip"]),
    "augment": st.sampled_from(["none", "shift", "flip,cutout"]),
    "model": st.text(min_size=1).filter(str.strip),
    "model_options": st.dictionaries(
        st.text(min_size=1),
        st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text()
        | st.lists(st.integers(-100, 100) | st.text(max_size=3), max_size=3),
        max_size=3,
    ),
    "epochs": st.integers(1, 100_000),
    "batch_size": st.integers(1, 2**20),
    "optimizer": st.sampled_from(["sgd", "adamw"]),
    "lr": st.none() | st.floats(0, 1000, exclude_min=True),
    "momentum": st.floats(0, 1, exclude_max=True),
    "nesterov": st.booleans(),
    "weight_decay": st.none() | st.floats(0, 1000),
    "warmup_epochs": st.floats(0, 1),
    "gamma": st.floats(0, 1, exclude_min=True),
    "label_smoothing": st.floats(0, 1, exclude_max=True),
    "clip_grad_norm": st.floats(0, 1e9),
    "monitor": st.sampled_from(["val_accuracy", "val_loss"]),
    "patience": st.integers(0, 100_000),
    "min_delta": st.floats(0, 1e9),
    "seed": st.integers(0, 2**63 - 1),
    "device": st.sampled_from(["auto", "cpu", "cuda"]),
    "threads": st.integers(0, 4096),
    "cuda_graphs": st.booleans(),
    "channels_last": st.booleans(),
    "optimize": st.booleans(),
    "save_every_s": st.floats(0, 1e9),
}
SCHEDULES = st.sampled_from([("cosine", ()), ("constant", ()), ("step", (3,)), ("step", (1, 5, 70))])


@given(st.fixed_dictionaries({}, optional=VALID), SCHEDULES)
def test_toml_round_trip_is_exact(fields, schedule):
    fields |= {"schedule": schedule[0], "milestones": schedule[1]}
    recipe = Recipe(**fields)
    again = Recipe.from_toml(recipe.to_toml())
    assert again == recipe
    assert again.to_toml() == recipe.to_toml()
    for name, value in fields.items():
        if value is not None:
            assert getattr(again, name) == value, name


def test_every_field_takes_part_in_the_round_trip():
    assert {spec.name for spec in dataclasses.fields(Recipe)} == VALID.keys() | {"schedule", "milestones"}


WRONG = {
    "data": ["", 3, None],
    "data_root": [""],
    "image_size": [0, 4097, (3,), (3, 4, 5), "28", (2.0, 2), True],
    "val_fraction": [0, 1, -0.1, math.nan, "half"],
    "split_seed": [-1, 2**63, 0.5],
    "bad_files": ["keep", True],
    "augment": ["twist", "shift,twist", 7],
    "model": ["", None],
    "model_options": [3, {"dropout": math.nan}, {"x": None}, {3: 4}, {"x": [[1]]}],
    "epochs": [0, -1, 1.5, True, "3", None, 100_001],
    "batch_size": [0, 2.0],
    "optimizer": ["adam", None],
    "lr": [0, -1, math.inf, math.nan, "fast", True],
    "momentum": [1, -0.1],
    "nesterov": [1, "yes", None],
    "weight_decay": [-1e-9, math.nan],
    "schedule": ["linear"],
    "warmup_epochs": [-1, math.inf],
    "milestones": [(2, 1), (1, 1), (0,), "30", (1.5,), 3],
    "gamma": [0, 1.1],
    "label_smoothing": [1, -0.1],
    "clip_grad_norm": [-1],
    "monitor": ["accuracy"],
    "patience": [-1],
    "min_delta": [-1e-3],
    "seed": [-1, 1.0],
    "device": ["gpu", "cuda:0"],
    "threads": [-1, 4097],
    "cuda_graphs": [1, "auto"],
    "channels_last": [0],
    "optimize": ["yes"],
    "save_every_s": [-1],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_named_with_its_field_and_what_was_wanted(name, value):
    with pytest.raises(RunError) as caught:
        Recipe(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} is {value!r}; give "), message
    assert "\n" not in message


def test_every_field_has_wrong_values_here():
    assert WRONG.keys() == {spec.name for spec in dataclasses.fields(Recipe)}


def test_the_sentences_say_the_range():
    for fields, sentence in [
        ({"epochs": 0}, "epochs is 0; give a whole number from 1 to 100000"),
        ({"momentum": 1.0}, "momentum is 1.0; give a number from 0 and below 1"),
        ({"lr": 0}, "lr is 0; give a number above 0 to 1000"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; give one of 'sgd', 'adamw'"),
        (
            {"augment": "twist"},
            "augment is 'twist'; give none, or some of shift, flip, cutout, affine separated by commas",
        ),
        (
            {"epochs": 1, "warmup_epochs": 2},
            "warmup_epochs is 2, but there are 1 epochs; give at most as many, so that the learning rate "
            "reaches its peak",
        ),
        (
            {"schedule": "step"},
            "schedule is 'step' without milestones; give the epochs after which the rate drops: (30, 60)",
        ),
        (
            {"milestones": (3,)},
            "milestones belong to schedule 'step', but schedule is 'cosine'; give one or the other",
        ),
    ]:
        with pytest.raises(RunError) as caught:
            Recipe(**fields)
        assert str(caught.value) == sentence


def test_an_unknown_setting_is_refused_with_the_nearest_name():
    with pytest.raises(RunError, match="no setting 'learning_rat'"):
        Recipe.from_fields({"learning_rat": 1})
    with pytest.raises(RunError, match="no setting 'weight_decy'; did you mean 'weight_decay'"):
        Recipe.from_toml("weight_decy = 1.0")
    with pytest.raises(RunError, match="no setting 'zzz'; it has data, data_root, "):
        Recipe().replace(zzz=1)


def test_broken_toml_is_refused():
    with pytest.raises(RunError, match=r"the recipe is not valid TOML \(.*line 1.*\); mend that line"):
        Recipe.from_toml("epochs = = 3")


def test_defaults_follow_the_optimiser():
    assert (Recipe().lr, Recipe().weight_decay) == (0.05, 5e-4)
    adamw = Recipe(optimizer="adamw")
    assert (adamw.lr, adamw.weight_decay) == (0.002, 0.05)
    assert Recipe(optimizer="adamw", lr=0.5).lr == 0.5
    assert Recipe(lr=1).lr == 1.0
    assert Recipe(image_size=24).image_size == (24, 24)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().epochs = 3
