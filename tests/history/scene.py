"""Records as jobs and services write them, and a store that they are in."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson

from playhead.history.projection import Rows, project
from playhead.history.reading import Snapshot
from playhead.history.store import HistoryStore, Span
from playhead.ids import run_id
from playhead.records import Partition
from playhead.serde import rfc3339


class Stored(NamedTuple):
    """A record as it is read back."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class History:
    """The questions of a store that is open: what `history.opening.Reading` is for one that may not be there."""

    def __init__(self, store: HistoryStore) -> None:
        self._store = store

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        with self._store.reading() as db:
            yield Snapshot(db)


class Scene:
    """Writes one record after the other into a history."""

    def __init__(self, store: HistoryStore) -> None:
        self.store = store
        self._ends: dict[Partition, int] = {}

    def write(self, topic: str, partition: int, at_ms: int, key: str | None, value: Any, **headers: str) -> None:
        """One record; headers by name without `ce_`."""
        place = Partition(topic, partition)
        offset = self._ends.get(place, 0)
        if place not in self._ends:
            self.store.begin({place: 0})
        pairs = [(f"ce_{name}", text.encode()) for name, text in headers.items()]
        data = value if value is None or isinstance(value, bytes) else orjson.dumps(value)
        record = Stored(topic, partition, offset, at_ms, None if key is None else key.encode(), data, pairs)
        rows = Rows()
        project([record], topic, self.store.base(place), rows)
        self.store.write(rows, {place: Span(offset, offset + 1)})
        self._ends[place] = offset + 1

    def event(
        self,
        id_: str,
        name: str = "user.created",
        at_ms: int = 1_000,
        *,
        key: str | None = None,
        payload: Any = None,
        cause: str = "",
        by: str = "",
    ) -> None:
        topic = name.partition(".")[0]
        more = {"causationid": cause, "runid": by} if cause else {}
        self.write(topic, 0, at_ms, key or id_, payload, type=name, id=id_, source="/test", **more)

    def told(
        self,
        event_id: str,
        state: str,
        at_ms: int,
        *,
        job: str = "welcome",
        attempt: int = 1,
        began_ms: int | None = None,
        **more: Any,
    ) -> str:
        """An attempt of a job on an event has ended. Returns the run's id."""
        run = run_id(job, event_id, 0)
        began = at_ms - 10 if began_ms is None else began_ms
        body = {
            "runId": run,
            "jobId": job,
            "jobVersion": "1",
            "eventId": event_id,
            "eventName": "user.created",
            "attempt": attempt,
            "startedAt": rfc3339(began),
            "durationMs": float(at_ms - began),
            "logs": [],
            **more,
        }
        self.write("run", 0, at_ms, run, body, type=f"run.{state}", id=f"{run}.{attempt}")
        return run

    def letter(self, id_: str, at_ms: int = 1_000, *, job: str = "welcome", event_id: str = "e") -> None:
        headers = [
            [name, b64encode(text).decode()] for name, text in (("ce_id", event_id.encode()), ("ce_type", b"x.y"))
        ]
        body = {
            "jobId": job,
            "reason": "it broke",
            "topic": "thing",
            "partition": 0,
            "offset": 7,
            "timestampMs": at_ms,
            "key": b64encode(b"k").decode(),
            "value": b64encode(b'{"n": 1}').decode(),
            "headers": headers,
            "runId": run_id(job, event_id, 0),
            "attempts": 3,
            "error": {"type": "ValueError", "message": "no", "traceback": "Traceback"},
        }
        self.write("dead-letter", 0, at_ms, id_, body, type="dead-letter.created", id=id_)

    def settle(self, letter_id: str, state: str, at_ms: int = 2_000) -> None:
        body = {"letterId": letter_id}
        self.write("dead-letter", 0, at_ms, letter_id, body, type=f"dead-letter.{state}", id=f"{letter_id}.{state}")
