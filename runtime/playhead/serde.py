"""Bytes: JSON payloads, and the CloudEvents headers that carry everything else.

CloudEvents 1.0, Kafka protocol binding, binary content mode: attributes are record headers `ce_<name>`, the value is
the payload alone. https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
Extension attributes are lower-case letters and digits, as the specification asks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

MAX_ID_CHARS = 255

CE_ID = "ce_id"
CE_TYPE = "ce_type"
CE_SOURCE = "ce_source"
CE_TIME = "ce_time"
CE_SUBJECT = "ce_subject"
CE_SCHEMA = "ce_dataschema"
CAUSATION = "ce_causationid"
"""Extension: id of the event whose run sent this one."""
CORRELATION = "ce_correlationid"
"""Extension: id of the first event of the chain."""
DEPTH = "ce_causationdepth"
"""Extension: how many runs lie between the first event of the chain and this one."""
SENT_BY = "ce_runid"
"""Extension: the run that sent this event."""
MINTED = "ce_playheadminted"
"""Extension: Playhead made the id, and never makes one twice; foreign and chosen ids are remembered instead."""
DUE = "ce_dueat"
"""Extension: of a timer and of the event that it became: when it is due, RFC 3339."""
PARTITION_KEY = "ce_partitionkey"
"""Extension of CloudEvents (partitioning): of a timer: the key that its event will have."""
SCHEDULE = "ce_scheduleid"
"""Extension: of a timer that the scheduler armed: the job whose schedule it is of."""
REPLAY_ID = "ce_replayid"
"""Extension: the record is a copy, written for one job to work on an event again; each replay has an id of its own."""
REPLAY_OF = "ce_replayof"
"""Extension, of a replay: the run that is replayed, or the dead letter where no run began."""
FOR_JOB = "ce_forjob"
"""Extension, of a replay: the job that it is for; all others pass over it."""
TRACEPARENT = "traceparent"
"""W3C Trace Context, carried on as it came."""

SPEC_VERSION_HEADER = ("ce_specversion", b"1.0")
JSON_HEADER = ("content-type", b"application/json")
MINTED_HEADER = (MINTED, b"1")


def own_headers(
    name: bytes, id_: bytes, source: bytes, now_ms: int, *more: tuple[str, bytes]
) -> list[tuple[str, bytes]]:
    """The headers of an event that Playhead itself writes; its name first, as whoever skips events needs it."""
    return [
        (CE_TYPE, name),
        (CE_ID, id_),
        SPEC_VERSION_HEADER,
        (CE_SOURCE, source),
        (CE_TIME, rfc3339(now_ms).encode()),
        JSON_HEADER,
        *more,
    ]


NON_FINITE = "a number is NaN or infinite"


class NotJson(ValueError):
    """The value has no JSON form."""


def to_json(value: Any) -> bytes:
    """Encode as JSON.

    Raises:
        NotJson: a part of it has no JSON form, NaN and infinities included (they would silently become null).
    """
    try:
        encoded = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise NotJson(str(error)) from error
    # orjson writes NaN as null. A search for that word costs next to nothing, and is all that most payloads need.
    if b"null" in encoded and has_non_finite(value):
        raise NotJson(NON_FINITE)
    return encoded


def from_json(data: bytes) -> Any:
    """Decode JSON.

    Raises:
        NotJson: it is none.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise NotJson(f"not JSON: {error}") from error


def json_object(data: bytes | None) -> dict[str, Any]:
    """The object that this is; empty where it is none. For what anybody may have written."""
    try:
        told = from_json(data or b"{}")
    except NotJson:
        return {}
    return told if isinstance(told, dict) else {}


def has_non_finite(value: Any) -> bool:
    """Whether a NaN or an infinity is anywhere in it."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(has_non_finite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(has_non_finite(item) for item in value)
    return False


def plain_text(value: object) -> str:
    """`str(value)`, whatever it is: text that JSON and UTF-8 take, and an answer even where `__str__` raises."""
    try:
        text = str(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 -- a user's code
        text = f"<{type(value).__qualname__}, whose text can't be had: {type(error).__qualname__}>"
    return text.encode(errors="replace").decode()


def shortened(text: str, max_chars: int) -> str:
    """The text; or its beginning, with a word on how long it is."""
    return text if len(text) <= max_chars else f"{text[:max_chars]}… ({len(text):,} characters)"


@lru_cache(maxsize=256)
def rfc3339(millis: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC."""
    second, rest = divmod(millis, 1000)
    return f"{_second(second)}.{rest:03d}Z"


def rfc3339_of(moment: datetime) -> str:
    """An aware moment as `rfc3339` writes it, to the millisecond."""
    return rfc3339(round(moment.timestamp() * 1000))


@lru_cache(maxsize=16)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
