"""How `playhead tail` shows an event: a line for people, or a JSON object."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.text import Text

from playhead.errors import Poison
from playhead.events import Event, entity_of
from playhead.records import StoredRecord
from playhead.serde import rfc3339
from playhead.topics import DEAD_LETTER, RUN

_ENTITY_STYLES = ("cyan", "magenta", "blue", "bright_cyan", "bright_magenta", "bright_blue")
_STYLES = {"run.succeeded": "green", "run.retrying": "yellow", "run.failed": "red", "dead-letter.created": "red"}
_NAME_COLUMNS = 18


def read_event(record: StoredRecord) -> Event | None:
    """The event in a record; None where it is no CloudEvent."""
    headers = {name: value for name, value in record.headers if value is not None}
    try:
        event = Event(record, headers)
        event.check()
    except Poison:
        return None
    return event


def as_json(event: Event) -> dict[str, Any]:
    """Everything that is known of an event, as one JSON object."""
    record = event.record
    return {
        "id": event.id,
        "name": event.name,
        "time": event.time,
        "source": event.source,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": event.key,
        "correlationId": event.correlation_id,
        "causationId": event.causation_id or None,
        "causationDepth": event.depth,
        "payload": _payload(event),
    }


def as_line(event: Event, now: datetime) -> Text:
    """One line: when, what, and the part of the payload that tells most."""
    record = event.record
    line = Text.assemble((f"{_when(record.timestamp, now)}  ", "dim"))
    line.append(clean(event.name).ljust(_NAME_COLUMNS) + "  ", style=_style(event.name))
    payload = _payload(event)
    if isinstance(payload, dict) and entity_of(event.name) == RUN:
        return line.append_text(_run(payload))
    if isinstance(payload, dict) and entity_of(event.name) == DEAD_LETTER:
        return line.append_text(_dead_letter(payload))
    line.append(f"{record.topic}/{record.partition}@{record.offset}  ", style="dim")
    if event.key not in (None, event.id):
        line.append(f"{clean(event.key)}  ", style="bold")
    return line.append(_compact(payload)).append(f"  {clean(event.id)}", style="dim")


def _when(at_ms: int, now: datetime) -> str:
    try:
        when = datetime.fromtimestamp(at_ms / 1000).astimezone()
    except (ValueError, OverflowError, OSError):  # a foreign record may be of the year 10000
        return rfc3339(at_ms)
    day = "" if when.date() == now.date() else when.strftime("%Y-%m-%d ")
    return f"{day}{when:%H:%M:%S}.{at_ms % 1000:03d}"


def _style(name: str) -> str:
    if name in _STYLES:
        return _STYLES[name]
    return _ENTITY_STYLES[zlib.crc32(entity_of(name).encode()) % len(_ENTITY_STYLES)]


def _run(payload: Mapping[str, Any]) -> Text:
    text = Text.assemble((f"{clean(payload.get('jobId'))}  ", "bold"))
    text.append(f"{clean(payload.get('durationMs'))} ms  ", style="dim")
    if payload.get("attempt", 1) != 1:
        text.append(f"attempt {clean(payload['attempt'])}  ", style="yellow")
    error = payload.get("error")
    if isinstance(error, Mapping):
        kind = str(error.get("type")).rpartition(".")[2]
        text.append(f"{clean(kind)}: {clean(error.get('message'))}  ", style="red")
        if "dueAt" in payload:
            text.append(f"again at {clean(payload['dueAt'])}  ", style="yellow")
    elif payload.get("output") is not None:
        text.append(_compact(payload["output"]) + "  ")
    return text.append(f"on {clean(payload.get('eventName'))} {clean(payload.get('eventId'))}", style="dim")


def _dead_letter(payload: Mapping[str, Any]) -> Text:
    origin = f"{payload.get('topic')}/{payload.get('partition')}@{payload.get('offset')}"
    job, reason = clean(payload.get("jobId")), clean(payload.get("reason"))
    return Text.assemble((f"{job}  ", "bold"), (f"{clean(origin)}  ", "dim"), (reason, "red"))


def _payload(event: Event) -> Any:
    try:
        return event.payload()
    except Poison as error:
        return f"({error.message})"


def _compact(value: Any) -> str:
    return clean(json.dumps(value, ensure_ascii=False, default=str))


def clean(value: Any) -> str:
    """Text that can't steer the terminal that it is shown on: events may come from anybody."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value))
