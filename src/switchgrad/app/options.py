"""The options of ``switchgrad train``, made from the fields of `Recipe`: a new field is a new option with its help."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, cast

import typer

from switchgrad.train.recipe import Recipe
from switchgrad.train.settings import OneOf

_TITLES = {
    "data": "Data",
    "model": "Network",
    "training": "Training",
    "stopping": "The best epoch, and stopping early",
    "machine": "Randomness and machine",
}
_SIMPLE: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str, "str | None": str}


def recipe_parameters() -> list[inspect.Parameter]:
    """A keyword for each field of a recipe but ``data``, which is the command's argument; None means not given."""
    return [_parameter(spec) for spec in dataclasses.fields(Recipe) if spec.name != "data"]


def recipe_fields(given: Mapping[str, object]) -> dict[str, object]:
    """The fields that were given on the command line, in the recipe's own types."""
    read: dict[str, Callable[[Any], object]] = {
        "image_size": _read_size,
        "milestones": _read_milestones,
        "model_options": _read_model_options,
    }
    present = {name: value for name, value in given.items() if value is not None and value != []}
    return {name: read[name](value) if name in read else value for name, value in present.items()}


def _parameter(spec: dataclasses.Field[Any]) -> inspect.Parameter:
    names = {"image_size": "24 or 24x32", "milestones": "30,60", "model_options": "name=value"}
    reader = spec.metadata["reader"]
    switch = spec.name.replace("_", "-")
    declaration = "--model-option" if spec.name == "model_options" else f"--{switch}"
    if spec.type == "bool":
        declaration += f"/--no-{switch}"
    kind: Any = list[str] | None if spec.name == "model_options" else _SIMPLE.get(cast("str", spec.type), str) | None
    option = typer.Option(
        declaration,
        help=spec.metadata["help"] + _default(spec),
        rich_help_panel=_TITLES[spec.metadata["group"]],
        metavar=names.get(spec.name) or ("|".join(reader.choices) if isinstance(reader, OneOf) else None),
        show_default=False,
    )
    return inspect.Parameter(
        spec.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
    )


def _default(spec: dataclasses.Field[Any]) -> str:
    value = spec.default
    if value in (None, ()) or value is dataclasses.MISSING or "default" in spec.metadata["help"]:
        return ""
    shown = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else value
    return f" (default {shown})"


def _read_size(text: str) -> tuple[int, int]:
    try:
        sides = [int(part) for part in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        raise typer.BadParameter(f"{text!r} is no size; give one side in pixels, or height x width: 24x32")
    return sides[0], sides[-1]


def _read_milestones(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of epochs; give whole numbers with commas: 30,60") from error


def _read_model_options(items: list[str]) -> dict[str, object]:
    pairs = [item.partition("=") for item in items]
    for item, (name, equals, _) in zip(items, pairs, strict=True):
        if not (name and equals):
            raise typer.BadParameter(f"{item!r} is no option of a network; give name=value")
    return {name: _read_value(value) for name, _, value in pairs}


def _read_value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
