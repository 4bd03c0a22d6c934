"""`playhead dead-letters`: what failed for good, and what becomes of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playhead.cli import asking, exits
from playhead.cli.asking import Cursor, Database, Limit, cell, state_cell, time_cell
from playhead.cli.output import AsJson, print_json, say
from playhead.errors import NotInHistory
from playhead.history.states import LETTER_STATES
from playhead.serde import shortened

if TYPE_CHECKING:
    from rich.text import Text

    from playhead.errors import PlayheadError
    from playhead.history.letters import Letters
    from playhead.history.reading import Snapshot

app = typer.Typer(name="dead-letters", help="Show what failed for good; retry it, or discard it.", no_args_is_help=True)

STATES = (*LETTER_STATES, "any")
_REASON_CHARS = 40
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="The letters' ids.")]


@app.command("list")
def list_(
    state: Annotated[str, typer.Option(help=f"Only in this state: {', '.join(STATES)}.")] = "open",
    job: Annotated[str, typer.Option(help="Only of this job.")] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
    database: Database = None,
    json: AsJson = False,
) -> None:
    """Show dead letters, newest first; those that are open unless others are asked for."""
    asking.one_of("state", state, STATES)

    def letters(now: Snapshot) -> dict[str, Any]:
        from playhead.history import wire

        wanted = "" if state == "any" else state
        page = now.letters(state=wanted, job_id=job, cursor=cursor or None, limit=limit)
        return {"items": [wire.letter_item(letter) for letter in page.items], "next": page.next}

    columns = ["time", "job", "id", "reason"] if state == "open" else ["time", "job", "state", "id", "reason"]

    def row(letter: Mapping[str, Any]) -> list[Text]:
        middle = [] if state == "open" else [state_cell(letter["state"])]
        reason = letter["reason"]
        short = reason if len(reason) <= _REASON_CHARS or not sys.stdout.isatty() else f"{reason[:_REASON_CHARS]}…"
        return [time_cell(letter["time"]), cell(letter["job"], "bold"), *middle, cell(letter["id"]), cell(short, "red")]

    asking.print_page(asking.ask(letters, database), columns, row, as_json=json)


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="The letter's id.")],
    database: Database = None,
    json: AsJson = False,
) -> None:
    """Show one dead letter, with the record that is in it."""

    def shown(now: Snapshot) -> dict[str, Any]:
        from playhead.history import wire

        letter = now.letter(letter_id)
        if letter is None:
            raise NotInHistory("dead letter", letter_id)
        return wire.letter_shown(letter)

    letter = asking.ask(shown, database)
    if json:
        print_json(letter)
        return
    record: Mapping[str, Any] = letter["record"] or {}
    asking.print_facts(
        {
            "id": letter["id"],
            "job": letter["job"],
            "state": state_cell(letter["state"]),
            "time": letter["time"],
            "settled": letter["settledAt"],
            "run": letter["runId"],
            "attempts": letter["attempts"],
            "worked on again": letter["replayRunId"],
            "reason": cell(shortened(letter["reason"], 500), "red"),
            "event": f"{letter['eventName'] or '?'} {letter['eventId'] or '?'}",
            "place": f"{record['topic']}[{record['partition']}] @ {record['offset']}" if record else None,
            "key": record.get("key"),
            "left out": ", ".join(record.get("leftOut", ())),
        }
    )
    asking.print_value("RECORD", record, "value")
    if (failure := letter["failure"]) and failure.get("traceback"):
        asking.print_block("TRACEBACK", failure["traceback"])


@app.command()
def retry(ids: Ids, database: Database = None, json: AsJson = False) -> None:
    """Let each letter's job work on its record again, as a new run. Exit code 1 where some could not be."""

    async def work(letters: Letters) -> list[PlayheadError | None]:
        return await letters.retry(ids)

    _print_settled(ids, asking.settle(work, database), "retried", as_json=json)


@app.command()
def discard(ids: Ids, database: Database = None, json: AsJson = False) -> None:
    """Settle letters; nobody works on them. Exit code 1 where some could not be."""

    async def work(letters: Letters) -> list[PlayheadError | None]:
        return await letters.discard(ids)

    _print_settled(ids, asking.settle(work, database), "discarded", as_json=json)


def _print_settled(ids: Sequence[str], errors: Sequence[PlayheadError | None], outcome: str, *, as_json: bool) -> None:
    if len(errors) == 1 and errors[0] is not None:
        raise errors[0]
    if as_json:
        print_json(
            [
                {"id": id_, "outcome": outcome}
                if error is None
                else {"id": id_, "error": error.message, "code": error.code}
                for id_, error in zip(ids, errors, strict=True)
            ]
        )
    for id_, error in zip(ids, errors, strict=True):
        if error is not None:
            exits.show(error)
        elif not as_json:
            say(f"{outcome} {id_}")
    if any(errors):
        raise typer.Exit(exits.NEGATIVE)
