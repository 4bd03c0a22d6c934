"""Rows and positions change together, and once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import orjson
import pytest
import sqlalchemy as sa

from playhead.history.projection import Rows, project
from playhead.history.schema import EVENT, RUN, RUN_COUNT
from playhead.history.store import HistoryStore, Moved, Span
from playhead.records import Partition

RUNS = Partition("run", 0)
USERS = Partition("user", 1)


class Stored(NamedTuple):
    """A record as it is read back."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def told(offset: int, name: str, attempt: int = 1, *, started: int = 5) -> Stored:
    """An event of run r-0, told a second after its attempt started."""
    body = {
        "runId": "r-0",
        "jobId": "welcome",
        "eventId": "e",
        "eventName": "user.created",
        "jobVersion": "1.0.0",
        "attempt": attempt,
        "startedAt": f"1970-01-01T00:00:{started:02d}.000Z",
        "durationMs": 1000.0,
    }
    at_ms = (started + 1) * 1000
    return Stored("run", 0, offset, at_ms, b"r-0", orjson.dumps(body), [("ce_type", name.encode()), ("ce_id", b"x")])


def created(offset: int) -> Stored:
    return Stored("user", 1, offset, 4_000, b"k", b"{}", [("ce_type", b"user.created"), ("ce_id", b"e")])


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    store = HistoryStore(f"sqlite:///{tmp_path}/history.db")
    store.begin({RUNS: 0, USERS: 0})
    return store


def write(store: HistoryStore, records: list[Stored], spans: dict[Partition, Span]) -> None:
    rows = Rows()
    for record in records:
        project([record], record.topic, store.base(Partition(record.topic, record.partition)), rows)
    store.write(rows, spans)


class TestWriting:
    def test_rows_and_positions_change_together(self, store: HistoryStore) -> None:
        write(store, [created(7), told(3, "run.succeeded")], {RUNS: Span(0, 4), USERS: Span(0, 8)})
        assert store.positions() == {RUNS: 4, USERS: 8}
        with store.reading() as db:
            (event,) = db.execute(sa.select(EVENT))
            (run,) = db.execute(sa.select(RUN))
        assert (event.name, event.id, event.key) == ("user.created", "e", "k")
        assert (run.id, run.state, run.began_ms, run.ended_ms) == ("r-0", "succeeded", 5_000, 6_000)

    def test_span_that_does_not_begin_where_the_position_is_writes_nothing(self, store: HistoryStore) -> None:
        write(store, [created(0)], {USERS: Span(0, 1)})
        with pytest.raises(Moved):
            write(store, [told(0, "run.succeeded"), created(0)], {RUNS: Span(0, 1), USERS: Span(0, 1)})
        assert store.positions() == {RUNS: 0, USERS: 1}
        with store.reading() as db:
            assert db.scalar(sa.select(sa.func.count()).select_from(RUN)) == 0

    def test_run_is_what_its_last_event_says_and_began_with_its_first(self, store: HistoryStore) -> None:
        write(store, [told(0, "run.retrying", started=5)], {RUNS: Span(0, 1)})
        write(store, [told(1, "run.retrying", 2, started=8), told(2, "run.failed", 3, started=9)], {RUNS: Span(1, 3)})
        with store.reading() as db:
            (run,) = db.execute(sa.select(RUN))
            counts = db.execute(sa.select(RUN_COUNT.c.state, RUN_COUNT.c.count).where(RUN_COUNT.c.step == 60)).all()
        assert (run.state, run.attempt, run.began_ms, run.ended_ms) == ("failed", 3, 5_000, 10_000)
        assert sorted(tuple(row) for row in counts) == [("failed", 1), ("retrying", 2)]
