"""`playhead send`: one event from the shell."""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playhead.cli.names import complete_event, doubt
from playhead.cli.output import AsJson, print_data, print_json, say
from playhead.errors import InvalidDelay, InvalidInput, PlayheadError

if TYPE_CHECKING:
    from playhead import OutgoingEvent, SentEvent
    from playhead.config import Settings

CLIENT_ID = "cli"
_DELAY_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
"""The longer suffix first."""


def send(
    name: Annotated[str, typer.Argument(help="The event's name, such as user.created.", autocompletion=complete_event)],
    payload: Annotated[
        str, typer.Argument(help="A JSON object, @FILE for one from a file, - for one from stdin.")
    ] = "{}",
    key: Annotated[str | None, typer.Option(help="Events with the same key stay in order.")] = None,
    id: Annotated[str | None, typer.Option(help="An idempotency key: sent twice, it starts one run per job.")] = None,
    delay: Annotated[str | None, typer.Option(help="Send it so much later: 90s, 5m, 24h, 7d, 2w.")] = None,
    at: Annotated[str | None, typer.Option(help="Send it then: ISO 8601 with its zone.")] = None,
    json: AsJson = False,
) -> None:
    """Send one event, and wait until it is in the log. With --delay or --at it is a timer until then.

    playhead send user.created '{"email": "ada@example.com", "userId": "7"}'
    """
    from playhead import outgoing
    from playhead.cli.connection import settings_of
    from playhead.cli.project import find_project
    from playhead.serde import rfc3339_of

    values = read_payload(payload)
    project = find_project()
    project.import_catalog()
    with delays_as_options("--at"):
        later = None if delay is None else read_delay(delay)
        # What is wrong with it shows before a broker is looked for.
        event = outgoing(name, values, id=id, key=key, delay=later, at=at)
    if (why := doubt(event.name, project)) is not None:
        say(why, style="yellow")
    with delays_as_options("--at"):  # too far ahead is seen by who sends, who has the clock
        sent = asyncio.run(_send(settings_of(project), event))
    if json:
        told = sent._asdict()
        due_at = told.pop("due_at")
        print_json({**told, "dueAt": rfc3339_of(due_at) if due_at else None})
    else:
        from rich.text import Text

        place = f"{sent.topic}/{sent.partition}@{sent.offset}"
        due = f"  due {rfc3339_of(sent.due_at)}" if sent.due_at else ""
        print_data(Text.assemble(("sent ", "green"), (sent.name, "bold"), f"  {sent.id}  ", (place, "dim"), due))


def read_delay(text: str) -> dict[str, float]:
    """The delay that an argument means.

    Raises:
        InvalidDelay: it is none.
    """
    suffix = next((suffix for suffix in _DELAY_UNITS if text.endswith(suffix)), "")
    try:
        number = float(text.removesuffix(suffix))
    except ValueError:
        number = math.nan
    if not suffix or math.isnan(number):
        raise InvalidDelay("delay", f"{text!r} is no delay; write 250ms, 90s, 5m, 24h, 7d or 2w.")
    return {_DELAY_UNITS[suffix]: number}


@contextmanager
def delays_as_options(moment: str) -> Iterator[None]:
    """Let what is wrong with a delay be mended on the command line, where `moment` is the option for a time."""
    try:
        yield
    except InvalidDelay as error:
        error.remedy = f"Give one of them: --delay 24h, or {moment} 2027-03-01T09:00:00+01:00."
        raise


def read_payload(text: str) -> dict[str, Any]:
    """The payload that an argument means.

    Raises:
        InvalidInput: the file can't be read, or it is no JSON object.
    """
    from playhead.serde import NotJson, from_json

    try:
        if text == "-":
            # Piece by piece: one large read would not notice a Ctrl-C that comes between two of its system calls.
            data = b"".join(iter(lambda: os.read(sys.stdin.fileno(), 65_536), b""))
        elif text.startswith("@"):
            data = Path(text[1:]).read_bytes()
        else:
            data = text.encode()
        values = from_json(data)
    except OSError as error:
        raise InvalidInput(f"the payload's file can't be read: {error}.") from error
    except NotJson as error:
        example = """'{"userId": "7"}'"""
        raise InvalidInput(f"the payload is {error}.", remedy=f"Quote it for the shell: {example}") from error
    if not isinstance(values, dict):
        raise InvalidInput(f"the payload is a JSON object, not {type(values).__name__}.")
    return values


async def _send(settings: Settings, event: OutgoingEvent) -> SentEvent:
    from playhead import Client
    from playhead.cli.connection import connected

    async with connected(settings) as broker:
        client = Client(CLIENT_ID, settings=settings, broker=broker)
        (sent,) = await client.send_all([event])
        if isinstance(sent, PlayheadError):
            raise sent
        return sent
