"""Data to stdout, words to stderr. With `--json` a command prints one JSON document, or one a line for a stream.

Its words are then JSON too: `{"note": …}`, and an error as `playhead.cli.exits` has it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from playhead.cli.exits import close_output, wants_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""The option that every command has which prints data."""

_UNBOUNDED_COLUMNS = 10_000
_WHOLE = {"id", "time", "at", "began", "due at", "next at"}
"""Columns of tables that are of no use when cut: others give way on a narrow terminal."""


@cache
def console() -> Console:
    """Stdout. A pipe or a file has no width: there nothing is wrapped or cut."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _UNBOUNDED_COLUMNS)


@cache
def words() -> Console:
    """Stderr: what is for people only."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document, laid out for reading on a terminal, on one line elsewhere."""
    _write(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None, default=str))


def print_json_line(value: Any) -> None:
    """One document of a stream."""
    _write(json.dumps(value, ensure_ascii=False, default=str))


def print_data(item: RenderableType, *, one_line: bool = False) -> None:
    """Print something that rich renders. `one_line` cuts it at the terminal's width instead of wrapping."""
    try:
        console().print(item, no_wrap=one_line, overflow="ellipsis" if one_line else None, crop=one_line)
        sys.stdout.flush()
    except BrokenPipeError:
        raise close_output() from None


def print_table(columns: Sequence[str], rows: Iterable[Sequence[RenderableType]], *, heads: bool = True) -> None:
    """A table without lines, as it is easy to read and to cut. A name that ends in `#` is a column of numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=heads)
    for name in columns:
        number = name.endswith("#")
        whole = number or name in _WHOLE
        table.add_column(name.rstrip("#").upper(), justify="right" if number else "left", no_wrap=whole)
    for row in rows:
        table.add_row(*row)
    print_data(table)


def say(text: str, *, style: str = "") -> None:
    """Tell people something, on stderr."""
    if wants_json():
        print(json.dumps({"note": text.strip()}, ensure_ascii=False), file=sys.stderr)
    else:
        words().print(text, style=style, markup=False)


def _write(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise close_output() from None
