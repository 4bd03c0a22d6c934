"""The tables of history, for SQLite and PostgreSQL alike.

    part         which partitions were read, and how far: the projection's own checkpoints
    event        every event of an entity, by its place in the log
    run          every run, folded from its events              ── run.event_id = event.id, joined when it is asked for
    run_event    what was told of each run
    letter       dead letters, with what became of them         ── settlement: what was told of that
    event_count, run_count, duration    sums over minutes and hours, so that a page costs the same at any size

A row's key is where it is in the log, or the run's id: never a counter or a clock. Partitions can be read in any order
and to any place, and the same offsets give the same rows; that is what `verify` shows.

A place is a number: the partition's number in `part`, shifted by 44 bits, and the offset. A part's number is this
database's own, and in no digest. Keys of what comes later are larger, so indexes grow at their end: a run's id begins
with the time of its event for that (`ids.run_id`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text, text

FORMAT = "3"
"""Of the tables; a database of another format is rebuilt."""
OFFSET_BITS = 44

SECONDS_PER_MINUTE = 60
SECONDS_PER_HOUR = 3_600
STEPS_SECONDS = (SECONDS_PER_MINUTE, SECONDS_PER_HOUR)
"""What sums are kept over."""

METADATA = MetaData()

TEXT = Text().with_variant(Text(collation="C"), "postgresql")
"""In the order of its bytes everywhere: a stretch of an index is then that of a prefix, whatever language a PostgreSQL
was made for."""


def _table(name: str, *columns: Column[object] | Index, clustered: bool = False) -> Table:
    """A table; `clustered` where SQLite keeps its rows in the order of the primary key."""
    return Table(name, METADATA, *columns, sqlite_with_rowid=not clustered)


META = _table("meta", Column("name", TEXT, primary_key=True), Column("value", TEXT, nullable=False))

PART = _table(
    "part",
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("topic", TEXT, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("next", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
    Column("topic_id", TEXT, nullable=False),
    Column("stopped", TEXT),
    Index("part_place", "topic", "partition", unique=True),
)
"""`next` is the next offset to read. `lost` counts the offsets that retention took before they were read. `topic_id` is
the broker's, another one where a topic of this name was made anew. `stopped` says why the partition is not read, and is
null where it is."""

EVENT = _table(
    "event",
    Column("place", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("id", TEXT, nullable=False),
    Column("key", TEXT),
    Column("source", TEXT, nullable=False),
    Column("cause", TEXT),
    Column("correlation", TEXT),
    Column("run_id", TEXT),
    Column("headers", LargeBinary, nullable=False),
    Column("payload", LargeBinary),
    Index("event_at", "at_ms", "place"),
    Index("event_name", "name", "at_ms", "place"),
    Index("event_id", "id"),
)


def _partial(name: str, first: Column[Any], *more: Column[Any]) -> None:
    """An index of the rows in which the first column is not null."""
    Index(name, first, *more, sqlite_where=first.is_not(None), postgresql_where=first.is_not(None))


_partial("event_key", EVENT.c.key, EVENT.c.at_ms)
_partial("event_cause", EVENT.c.cause)
_partial("event_correlation", EVENT.c.correlation)
"""`at_ms` is the log's time. `key` is null where it is the event's id, `cause` where nothing caused it, `correlation`
where it begins a chain, `run_id` where no run sent it. `headers` is JSON: pairs of those that are in no column."""

RUN = _table(
    "run",
    Column("id", TEXT, primary_key=True),
    Column("job_id", TEXT, nullable=False),
    Column("job_version", TEXT, nullable=False),
    Column("event_id", TEXT, nullable=False),
    Column("event_name", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("began_ms", BigInteger, nullable=False),
    Column("told_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("duration_ms", Float, nullable=False),
    Column("error", TEXT),
    Index("run_began", "began_ms", "id"),
    Index("run_job", "job_id", "began_ms", "id"),
    Index("run_event_id", "event_id"),
    clustered=True,
)
Index(
    "run_not_succeeded",
    RUN.c.state,
    RUN.c.began_ms,
    RUN.c.id,
    sqlite_where=RUN.c.state != text("'succeeded'"),
    postgresql_where=RUN.c.state != text("'succeeded'"),
)
_partial("run_ended", RUN.c.ended_ms)
"""`began_ms` is the start of its first attempt that was told of (where a run that had ended is told of again, of the
first since then); `told_ms` and `ended_ms` are the log's time; `duration_ms` and `error` (type, message) are the last
attempt's."""

RUN_EVENT = _table(
    "run_event",
    Column("run_id", TEXT, primary_key=True),
    Column("place", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("body", LargeBinary, nullable=False),
    clustered=True,
)
"""`body` is the event's payload as it is in the log."""

LETTER = _table(
    "letter",
    Column("place", BigInteger, primary_key=True, autoincrement=False),
    Column("id", TEXT, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("job_id", TEXT, nullable=False),
    Column("reason", TEXT, nullable=False),
    Column("run_id", TEXT),
    Column("event_id", TEXT),
    Column("event_name", TEXT),
    Column("state", TEXT, nullable=False),
    Column("settled_ms", BigInteger),
    Column("body", LargeBinary, nullable=False),
    Index("letter_id", "id"),
    Index("letter_at", "at_ms", "place"),
    Index("letter_state", "state", "at_ms", "place"),
    Index("letter_job", "job_id", "at_ms", "place"),
)
_partial("letter_run", LETTER.c.run_id)
_partial("letter_event", LETTER.c.event_id)
"""`state` is open, retried or discarded: retried where any of its settlements says so;
`settled_ms` is the first one's of these, by the log's time."""

SETTLEMENT = _table(
    "settlement",
    Column("letter_id", TEXT, primary_key=True),
    Column("place", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("state", TEXT, nullable=False),
    clustered=True,
)
"""That a letter was retried or discarded may be read before the letter itself: they may be in different partitions."""

EVENT_COUNT = _table(
    "event_count",
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("name", TEXT, primary_key=True),
    Column("count", BigInteger, nullable=False),
    clustered=True,
)
RUN_COUNT = _table(
    "run_count",
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("job_id", TEXT, primary_key=True),
    Column("state", TEXT, primary_key=True),
    Column("count", BigInteger, nullable=False),
    clustered=True,
)
DURATION = _table(
    "duration",
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("job_id", TEXT, primary_key=True),
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
    clustered=True,
)
"""Sums: `at` is the beginning of the minute or hour, seconds since the epoch, by the log's time. `run_count` counts
what was told (succeeded, failed, retrying); `duration` has the ends alone, in `projection.duration_bucket`s."""
