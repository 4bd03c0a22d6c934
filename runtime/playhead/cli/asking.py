"""Questions to the history's database, and how their answers are shown to people."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import typer

from playhead.errors import InvalidInput

if TYPE_CHECKING:
    from rich.text import Text

    from playhead.config import Settings
    from playhead.history.letters import Letters
    from playhead.history.opening import Reading
    from playhead.history.reading import Snapshot

T = TypeVar("T")

Database: TypeAlias = Annotated[
    str | None, typer.Option("--database", help="As `playhead history --database`; else PLAYHEAD_HISTORY_DATABASE.")
]
Since: TypeAlias = Annotated[str, typer.Option(help="Only from then on: -10m, or 2026-11-24T08:00Z.")]
Until: TypeAlias = Annotated[str, typer.Option(help="Only before then.")]
Limit: TypeAlias = Annotated[int, typer.Option(min=1, max=500, help="At most so many.")]
Cursor: TypeAlias = Annotated[str, typer.Option(help="`next` of the page before.")]

_STATE_STYLES = {
    "succeeded": "green",
    "failed": "red",
    "retrying": "yellow",
    "running": "cyan",
    "open": "red",
    "retried": "green",
    "discarded": "dim",
}


def ask(question: Callable[[Snapshot], T], database: str | None) -> T:
    """Ask history, all of one moment.

    Raises:
        NoHistory: there is none.
    """
    with _reading(database) as (_, reading), reading.snapshot() as now:
        return question(now)


def settle(work: Callable[[Letters], Awaitable[T]], database: str | None) -> T:
    """Do something to dead letters, with history and the broker."""
    from playhead import Client
    from playhead.cli.connection import connected
    from playhead.history.letters import Letters

    async def do() -> T:
        with _reading(database) as (settings, reading):
            async with connected(settings) as broker:
                return await work(Letters(reading, Client("cli", settings=settings, broker=broker)))

    return asyncio.run(do())


@contextmanager
def _reading(database: str | None) -> Iterator[tuple[Settings, Reading]]:
    from playhead.cli.connection import settings_of
    from playhead.cli.history import database_url, need_extra
    from playhead.cli.project import find_project

    need_extra()
    from playhead.history.opening import Reading

    project = find_project()
    settings = settings_of(project)
    with Reading(database_url(project, settings, database)) as reading:
        yield settings, reading


def moment_ms(text: str) -> int | None:
    """A moment as it is typed; None for `earliest`, and where nothing was.

    Raises:
        InvalidInput: it can't be read.
    """
    from playhead.cli.moments import parse_moment

    now = datetime.now().astimezone()
    moment = parse_moment(text, now) if text else "earliest"
    if moment == "earliest":
        return None
    return int((now if moment == "now" else moment).timestamp() * 1000)


def payload_filter(fields: Sequence[str]) -> dict[str, str]:
    """`path=value` of each.

    Raises:
        InvalidInput: one has no value.
    """
    pairs = [field.partition("=") for field in fields]
    if wrong := [path for path, sign, _ in pairs if not (path and sign)]:
        raise InvalidInput(f"--payload {wrong[0]!r} has no value.", remedy="Give it as in --payload address.city=Rome.")
    return {path: value for path, _, value in pairs}


def one_of(name: str, text: str, choices: Sequence[str]) -> str:
    """The text, which is empty or one of these.

    Raises:
        InvalidInput: it is none.
    """
    if text and text not in choices:
        raise InvalidInput(f"--{name} {text!r} is none.", remedy=f"Choose one of {', '.join(choices)}.")
    return text


# ── showing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def cell(value: object, style: str = "") -> Text:
    """Text for a table that can neither steer the terminal nor be taken for markup: events may come from anybody."""
    from rich.text import Text

    from playhead.cli.showing import clean

    return Text("-" if value in (None, "") else clean(value), style=style)


def state_cell(state: str | None) -> Text:
    return cell(state, _STATE_STYLES.get(state or "", ""))


def time_cell(text: str | None) -> Text:
    """A moment in local time, to the second; the day is left out where it is today."""
    if text is None:
        return cell(None)
    try:
        at, today = datetime.fromisoformat(text).astimezone(), datetime.now(UTC).astimezone().date()
    except (ValueError, OverflowError):  # a foreign record may be of the year 10000
        return cell(text, "dim")
    return cell(f"{at:%H:%M:%S}" if at.date() == today else f"{at:%Y-%m-%d %H:%M:%S}", "dim")


def took_cell(milliseconds: float | None) -> Text:
    if milliseconds is None:
        return cell(None)
    return cell(f"{milliseconds:,.1f} ms" if milliseconds < 1_000 else f"{milliseconds / 1000:,.1f} s")


def print_facts(facts: Mapping[str, object]) -> None:
    """Name and value in two columns."""
    from playhead.cli.output import print_table

    rows = [[cell(name, "bold"), value if hasattr(value, "plain") else cell(value)] for name, value in facts.items()]
    print_table(["", ""], rows, heads=False)  # type: ignore[arg-type]  # Text has `plain`


def print_block(title: str, text: str) -> None:
    """A title, and below it what may have many lines."""
    from rich.text import Text

    from playhead.cli.output import print_data
    from playhead.cli.showing import clean

    print_data(Text(f"\n{title}", style="bold"))
    if text:
        print_data(Text("\n".join(clean(line) for line in text.splitlines())))


def print_value(title: str, shown: Mapping[str, Any], name: str) -> None:
    """What is JSON as such, and what is not in base64."""
    if (encoded := shown.get(f"{name}Base64")) is not None:
        print_block(f"{title}  not JSON; its bytes in base64", encoded)
    else:
        print_block(title, pretty(shown.get(name)))


def pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def pretty_line(value: Any) -> str:
    """On one line."""
    return json.dumps(value, ensure_ascii=False)


def print_page(
    page: Mapping[str, Any], columns: Sequence[str], row: Callable[[Any], Sequence[Text]], *, as_json: bool
) -> None:
    """A page, as JSON with its cursor, or as a table with a word on how it goes on."""
    from playhead.cli.output import print_json, print_table, say

    if as_json:
        print_json(page)
        return
    if not page["items"]:
        say("There are none." if page["next"] is None else "None so far.")
    else:
        print_table(columns, [row(item) for item in page["items"]])
    if page["next"]:
        say(f"There are more: --cursor {page['next']}")
