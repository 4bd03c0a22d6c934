"""Exit codes, and how an error is shown.

0    done
1    a check came out negative (`topics check`, `schemas export --check`)
2    the command line, or what it names, is wrong (PH1xx): trying again changes nothing
3    the broker is away (PH2xx): the same command may work later
4    a person has to act (PH3xx)
70   a bug in Playhead; the traceback is on stderr
130  Ctrl-C
141  whoever read stdout has closed it
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from playhead.errors import InvalidInput, PlayheadError, Retriable

if TYPE_CHECKING:
    from typer import TyperException

NEGATIVE = 1
INVALID = 2
RETRIABLE = 3
FATAL = 4
BUG = 70
INTERRUPTED = 130
OUTPUT_CLOSED = 141

BUG_HINT = "This is a bug in Playhead. Please report it, with the lines above and what you typed."

TRACEBACK = "PLAYHEAD_TRACEBACK"
"""Set to 1 to see where an error comes from."""


def exit_code(error: PlayheadError) -> int:
    """The exit code that stands for an error."""
    if isinstance(error, InvalidInput):
        return INVALID
    if isinstance(error, Retriable):
        return RETRIABLE
    return FATAL


def wants_json(arguments: Sequence[str] | None = None) -> bool:
    """Whether `--json` is among the command's arguments, or this process's: then stderr is JSON too, a line each."""
    given = sys.argv[1:] if arguments is None else arguments
    return "--json" in (given[: given.index("--")] if "--" in given else given)


def show(error: PlayheadError) -> None:
    """Print an error to stderr: code, message, and on a line of its own what to do about it; JSON after `--json`."""
    from rich.console import Console
    from rich.text import Text

    if os.environ.get(TRACEBACK) == "1":
        traceback.print_exception(error)
    if wants_json():
        _print_json(error.code, error.message, error.remedy, retriable=error.retriable)
        return
    text = Text.assemble((f"error {error.code}", "bold red"), ": ", error.message.rstrip())
    if error.remedy:
        text.append("\n  ").append(error.remedy, style="cyan")
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)


def report(error: Exception) -> int:
    """Print what ended a command, and answer its exit code."""
    if isinstance(error, PlayheadError):
        show(error)
        return exit_code(error)
    traceback.print_exception(error)
    print(BUG_HINT, file=sys.stderr)
    return BUG


def report_usage(error: TyperException) -> int:
    """Print what is wrong with the command line as JSON, and answer its exit code."""
    context = getattr(error, "ctx", None)
    path = "playhead" if context is None else context.command_path
    _print_json(InvalidInput.code, error.format_message(), f"See: {path} --help", retriable=False)
    return error.exit_code


def _print_json(code: str, message: str, remedy: str, *, retriable: bool) -> None:
    facts = {"code": code, "message": message, "remedy": remedy, "retriable": retriable}
    print(json.dumps(facts, ensure_ascii=False), file=sys.stderr)


def close_output() -> SystemExit:
    """What to raise when stdout is gone: nothing is printed about it, not even by the interpreter's last flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return SystemExit(OUTPUT_CLOSED)
