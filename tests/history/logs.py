"""Records of a made-up log, as they are read back."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from playhead.records import Record

SECOND_MS = 1_000


class Stored(NamedTuple):
    """A record as it is read back."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def at(offset: int, record: Record) -> Stored:
    return Stored(record.topic, record.partition, offset, record.timestamp_ms, *record[2:5])


def event(topic: str, partition: int, id_: str, *, at_ms: int = 4_000, key: str = "k", value: bytes = b"{}") -> Record:
    headers = [("ce_type", f"{topic.rpartition('.')[2]}.made".encode()), ("ce_id", id_.encode())]
    return Record(topic, partition, key.encode(), value, headers, at_ms)


def run_event(
    run_id: str,
    name: str = "run.succeeded",
    *,
    partition: int = 0,
    attempt: int = 1,
    at_ms: int = 6_000,
    topic: str = "run",
    **more: Any,
) -> Record:
    """Told a second after the attempt started."""
    body = {
        "runId": run_id,
        "jobId": "welcome",
        "eventId": "e",
        "eventName": "user.made",
        "jobVersion": "1.0.0",
        "attempt": attempt,
        "startedAt": moment(at_ms - SECOND_MS),
        "durationMs": 1000.0,
        **more,
    }
    headers = [("ce_type", name.encode()), ("ce_id", f"{run_id}/{attempt}/{name}".encode())]
    return Record(topic, partition, run_id.encode(), orjson.dumps(body), headers, at_ms)


def letter(id_: str, name: str = "created", *, partition: int = 0, at_ms: int = 7_000) -> Record:
    """A dead letter, or that it was `retried` or `discarded`."""
    told: dict[str, Any] = {"jobId": "welcome", "reason": "broken", "runId": "r"}
    own = id_ if name == "created" else f"{id_}/{name}"
    if name != "created":
        told = {"letterId": id_}
    headers = [("ce_type", f"dead-letter.{name}".encode()), ("ce_id", own.encode())]
    return Record("dead-letter", partition, b"r", orjson.dumps(told), headers, at_ms)


def moment(at_ms: int) -> str:
    from playhead.serde import rfc3339

    return rfc3339(at_ms)
