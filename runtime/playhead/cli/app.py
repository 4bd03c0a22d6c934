"""The command line as a whole: which commands there are, and how each of them ends."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from playhead.cli import exits
from playhead.cli.dead_letters import app as dead_letters_app
from playhead.cli.dev import dev
from playhead.cli.events import app as events_app
from playhead.cli.history import app as history_app
from playhead.cli.http import http
from playhead.cli.jobs import app as jobs_app
from playhead.cli.new import new
from playhead.cli.runs import app as runs_app
from playhead.cli.runs import stats
from playhead.cli.scheduler import scheduler
from playhead.cli.schemas import app as schemas_app
from playhead.cli.send import send
from playhead.cli.tail import tail
from playhead.cli.timers import app as timers_app
from playhead.cli.topics import app as topics_app
from playhead.cli.worker import worker

app = typer.Typer(
    name="playhead",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command(rich_help_panel="Develop")(dev)
app.command(rich_help_panel="Develop")(new)
app.add_typer(schemas_app, rich_help_panel="Develop")
app.command(rich_help_panel="Run")(worker)
app.command(rich_help_panel="Run")(scheduler)
app.add_typer(history_app, rich_help_panel="Run")
app.command(rich_help_panel="Run")(http)
app.add_typer(topics_app, rich_help_panel="Run")
app.command(rich_help_panel="Use")(send)
app.command(rich_help_panel="Use")(tail)
app.add_typer(jobs_app, rich_help_panel="Use")
app.add_typer(timers_app, rich_help_panel="Use")
app.add_typer(events_app, rich_help_panel="Look back")
app.add_typer(runs_app, rich_help_panel="Look back")
app.command(rich_help_panel="Look back")(stats)
app.add_typer(dead_letters_app, rich_help_panel="Look back")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(version("playhead"))
        except PackageNotFoundError:  # run from a source tree that is not installed
            print("unknown")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Event-sourced jobs on Apache Kafka.

    Settings come from the environment (PLAYHEAD_BOOTSTRAP_SERVERS and others), the project's catalog and jobs from
    \\[tool.playhead] in the nearest pyproject.toml.
    """


def run() -> NoReturn:
    """Run the command line of this process and end it."""
    try:
        app(prog_name="playhead")
    except BrokenPipeError:
        raise exits.close_output() from None
    except KeyboardInterrupt:
        sys.exit(exits.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 -- the last resort: what is not Playhead's own error is a bug
        sys.exit(exits.report(error))
    sys.exit(0)
