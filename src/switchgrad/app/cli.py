"""``switchgrad``: train, evaluate, predict, and look at networks, data and this installation."""

from __future__ import annotations

import errno
import inspect
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

import switchgrad
from switchgrad.app import console, gradients, look, tracing, use
from switchgrad.app.options import recipe_fields, recipe_parameters
from switchgrad.errors import DataWarning, SwitchgradError
from switchgrad.train.interrupt import Interrupted


class Group(TyperGroup):
    """The commands; whatever goes wrong on purpose ends as one line on stderr and an exit code, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command: 1 for an error of ours or the system's, 130 for Ctrl-C, 143 for SIGTERM."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("always", category=DataWarning)
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except SwitchgradError as problem:
            console.error(str(problem))
            raise typer.Exit(1) from problem
        except OSError as problem:
            if problem.errno == errno.EPIPE:
                raise
            console.error(str(problem))
            raise typer.Exit(1) from problem
        except Interrupted as stop:
            console.note(f"stopped and saved; go on with:  switchgrad train --resume {stop.folder}")
            raise typer.Exit(128 + stop.signal_number) from stop
        except KeyboardInterrupt as stop:
            console.note("stopped")
            raise typer.Exit(128 + signal.SIGINT) from stop


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our own warnings as a line like an error's; any other as Python shows it."""
    if issubclass(category, DataWarning):
        console.warning(str(message))
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), end="", file=file or sys.stderr)


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=use.examples(
        "switchgrad train digits",
        "switchgrad train mnist --model convnet --epochs 2 --data-root ~/data",
        "switchgrad train photos/ --image-size 64 --augment flip",
        "switchgrad predict runs/digits-lenet5-1 picture.png --top 3",
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"switchgrad {switchgrad.__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Convolutional networks whose backward pass follows the switches of max pooling."""
    del version


def _with_recipe_options(function: Callable[..., None]) -> Callable[..., None]:
    """``function`` as Typer sees it: its own parameters, and one for each field of a recipe."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[:-1]
    parameters = [*own, *recipe_parameters()]

    def command(**values: Any) -> None:
        function(**values)

    command.__doc__, command.__name__ = function.__doc__, function.__name__
    command.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


@app.command(
    epilog=use.examples(
        "switchgrad train digits --epochs 30 --seed 7",
        "switchgrad train mnist --model convnet --epochs 2 --data-root ~/data",
        "switchgrad train photos/ --model convnet --image-size 64 --augment flip --patience 10",
        "switchgrad train --config runs/digits-lenet5-1/config.toml",
        "switchgrad train --resume runs/digits-lenet5-1",
    )
)
@_with_recipe_options
def train(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA", help="A data set's name, or a folder with a sub-folder of pictures for each class."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder (default: the next free runs/<data>-<model>-<n>).")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Take the recipe from this config.toml; further options change it.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with the run in this folder as if it had never stopped.")
    ] = None,
    **options: Any,
) -> None:
    """Train a network on pictures, and leave a run folder with weights, curves, confusions and a report.

    Progress goes to stderr, the result to stdout. Ctrl-C saves between two steps and prints how to go on.
    """
    fields = recipe_fields({**options, "data": data})
    use.train(fields, out=out, config=config, resume=resume)


app.command(
    epilog=use.examples(
        "switchgrad evaluate runs/mnist-convnet-1",
        "switchgrad evaluate runs/photos-convnet-1 other-photos/ --split train",
    )
)(use.evaluate)
app.command(
    epilog=use.examples(
        "switchgrad predict runs/digits-lenet5-1 seven.png",
        "switchgrad predict runs/photos-convnet-1 inbox/ --top 3 --csv guesses.csv",
        "switchgrad predict runs/photos-convnet-1 inbox/ --csv - | sort",
    )
)(use.predict)
app.command(epilog=use.examples("switchgrad summary lenet5", "switchgrad summary convnet --input 3x64x64 --classes 2"))(
    look.summary
)
app.command(
    epilog=use.examples(
        "switchgrad trace lenet5 --html trace.html",
        "switchgrad trace runs/digits-lenet5-1 seven.png --label 7 --layer s2 --layer c3",
        "switchgrad trace convnet --data mnist --index 12 --brief",
        "switchgrad trace my_layers.py:Net --input-size 1x16x16 --label 0",
    )
)(tracing.trace)
app.command(
    "check-gradients",
    epilog=use.examples(
        "switchgrad check-gradients lenet5",
        "switchgrad check-gradients my_layers.py:MyPool --input 3x8x8",
        "switchgrad check-gradients runs/digits-lenet5-1 --samples 200 --worst 20",
    ),
)(gradients.check_gradients)
app.command()(look.info)
data_app = typer.Typer(no_args_is_help=True, help="Look at data before training on them.")
data_app.command("check", epilog=use.examples("switchgrad data check photos/"))(look.check)
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line."""
    app(prog_name="switchgrad")
