"""From JSON values to an event: which fields a request has, and what they must be. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from playhead.errors import PlayheadError
from playhead.events import OutgoingEvent, outgoing
from playhead.http.limits import MAX_FIELDS_NAMED
from playhead.http.refusals import BatchTooLong, IdConflict, InvalidFields, MissingFields
from playhead.http.schemas import BatchRequest, MoveRequest, TriggerRequest

EVENT_FIELDS: Final = frozenset(TriggerRequest.model_fields)
MOVE_FIELDS: Final = frozenset(MoveRequest.model_fields)
BATCH_FIELDS: Final = frozenset(BatchRequest.model_fields)

_ESCAPED = re.compile(r'\\(["\\])')


def event_from(item: Any, header_id: str | None = None) -> OutgoingEvent:
    """The event that a request names. A field that is null counts as missing.

    Args:
        item: `{"event", "payload", "id", "key", "delay", "at"}`; all but `event` may be missing.
        header_id: the value of Idempotency-Key.

    Raises:
        MissingFields, InvalidFields, IdConflict, InvalidEventName, InvalidPayload, InvalidDelay, InvalidInput.
    """
    if not isinstance(item, dict):
        raise MissingFields
    name = item.get("event")
    if not name and not isinstance(name, list | dict):  # as JavaScript's `!body.event`
        raise MissingFields
    _check_fields(item, EVENT_FIELDS)
    _check_text(item, ("id", "key"))
    event_id = item.get("id")
    if header_id is not None:
        if event_id is not None and event_id != header_id:
            raise IdConflict(header_id, event_id)
        event_id = header_id
    _check_at(item.get("at"))
    when = {"delay": item.get("delay"), "at": item.get("at")}
    return outgoing(item["event"], item.get("payload"), id=event_id, key=item.get("key"), **when)


def move_from(body: Any) -> dict[str, Any]:
    """When a timer is to fire instead: `delay` or `at`.

    Raises:
        InvalidFields: it is no object, or has other fields. (That one of the two is there, the client checks.)
    """
    if not isinstance(body, dict):
        raise InvalidFields([("", "it must be an object with `delay` or `at`")])
    _check_fields(body, MOVE_FIELDS)
    _check_at(body.get("at"))
    return {"delay": body.get("delay"), "at": body.get("at")}


def _check_at(at: Any) -> None:
    if at is not None and not isinstance(at, str):
        raise InvalidFields([("at", "it must be text, such as 2027-03-01T09:00:00+01:00")])


def batch_from(body: Any, limit_events: int) -> list[OutgoingEvent | PlayheadError]:
    """The events of a batch; what is wrong with one of them stands in its place.

    Raises:
        MissingFields, InvalidFields, BatchTooLong: the batch as a whole can't be taken.
    """
    items = body.get("events") if isinstance(body, dict) else None
    if items is None:
        raise MissingFields
    _check_fields(body, BATCH_FIELDS)
    if not isinstance(items, list):
        raise InvalidFields([("events", "it must be a list")])
    if len(items) > limit_events:
        raise BatchTooLong(len(items), limit_events)
    events: list[OutgoingEvent | PlayheadError] = []
    for item in items:
        try:
            events.append(event_from(item))
        except PlayheadError as error:
            events.append(error)
    return events


def idempotency_key(headers: list[str]) -> str | None:
    """The value of the Idempotency-Key headers: bare, or as a quoted string of structured fields (RFC 9651).

    Raises:
        InvalidFields: there are several, or it is not a value.
    """
    if not headers:
        return None
    if len(headers) > 1:
        raise InvalidFields([("Idempotency-Key", "the header is there more than once")])
    value = headers[0].strip()
    if value.startswith('"'):
        if len(value) < 2 or not value.endswith('"'):
            raise InvalidFields([("Idempotency-Key", "the quotes do not match")])
        value = _ESCAPED.sub(r"\1", value[1:-1])
    if not value or not value.isascii():
        raise InvalidFields([("Idempotency-Key", "it is empty or not ASCII; the body's `id` takes all of Unicode")])
    return value


def _check_fields(given: Mapping[str, Any], known: frozenset[str]) -> None:
    """Unknown fields are refused: a misspelt `key` that were passed over would cost the order of the events."""
    if given.keys() <= known:
        return
    unknown = sorted(given.keys() - known)[:MAX_FIELDS_NAMED]
    takes = "no such field; known: " + ", ".join(sorted(known))
    raise InvalidFields([(field, takes) for field in unknown])


def _check_text(given: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        value = given.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidFields([(name, "it must be text")])
