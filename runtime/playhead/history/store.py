"""The database of history: rows and the offsets that they come from change in one transaction.

    positions ──▶ read on from there ──▶ write(rows, spans) ──▶ committed, or Moved: somebody else was here

A span says from which offset to which a partition was read. It is written only where the partition's position is still
the span's first: so two writers, or one that was thought dead, never write an offset twice.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Table, event
from sqlalchemy.dialects import postgresql, sqlite

from playhead.history.projection import Rows
from playhead.history.schema import (
    DURATION,
    EVENT,
    EVENT_COUNT,
    FORMAT,
    LETTER,
    META,
    METADATA,
    OFFSET_BITS,
    PART,
    RUN,
    RUN_COUNT,
    RUN_EVENT,
)
from playhead.records import Partition

SQLITE_CACHE_KIB = 128 * 1024
SQLITE_BUSY_SECONDS = 30.0


class Span(NamedTuple):
    """Offsets that were read of a partition: first <= offset < next. Fewer records may have come of them."""

    first: int
    next: int


class Moved(Exception):
    """A partition's position is not where the span begins: another writer was here. Nothing was written."""


class HistoryStore:
    """One history database, for writing and reading; its methods block, and can be called from any thread.

    Args:
        url: SQLAlchemy's: `sqlite:////path/history.db`, `postgresql+psycopg://…`.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._parts: dict[Partition, int] = {}
        self._parts_lock = threading.Lock()
        self._sql = {
            table: _insert(table, self.engine)
            for table in (EVENT, RUN, RUN_EVENT, LETTER, EVENT_COUNT, RUN_COUNT, DURATION)
        }
        METADATA.create_all(self.engine)
        with self.engine.begin() as db:
            if db.scalar(sa.select(META.c.value).where(META.c.name == "format")) is None:
                db.execute(sa.insert(META).values(name="format", value=FORMAT))

    def close(self) -> None:
        self.engine.dispose()

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection whose queries all see the same state."""
        return self.engine.connect()

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def positions(self) -> dict[Partition, int]:
        """The next offset to read of every partition that was ever read."""
        with self.engine.connect() as db:
            return {Partition(row.topic, row.partition): row.next for row in db.execute(sa.select(PART))}

    def begin(self, starts: Mapping[Partition, int]) -> None:
        """Take up partitions that were not read before: they are read from these offsets on."""
        with self.engine.begin() as db:
            known = {Partition(row.topic, row.partition) for row in db.execute(sa.select(PART))}
            number = db.scalar(sa.select(sa.func.coalesce(sa.func.max(PART.c.number), 0))) or 0
            for partition in sorted(starts.keys() - known):
                number += 1
                topic, at, start = *partition, starts[partition]
                db.execute(sa.insert(PART).values(number=number, topic=topic, partition=at, next=start, lost=start))

    def base(self, partition: Partition) -> int:
        """The place of offset 0 of a partition that was begun."""
        with self._parts_lock:
            number = self._parts.get(partition)
            if number is None:
                with self.engine.connect() as db:
                    for row in db.execute(sa.select(PART)):
                        self._parts[Partition(row.topic, row.partition)] = row.number
                number = self._parts[partition]
        return number << OFFSET_BITS

    def write(self, rows: Rows, spans: Mapping[Partition, Span]) -> None:
        """Write what was read of these spans, and move the positions.

        Raises:
            Moved: nothing was written.
        """
        with self.engine.begin() as db:
            for partition, span in spans.items():
                number = self.base(partition) >> OFFSET_BITS
                here = (PART.c.number == number) & (PART.c.next == span.first)
                if db.execute(sa.update(PART).where(here).values(next=span.next)).rowcount != 1:
                    raise Moved(f"{partition.topic}[{partition.partition}] is not at {span.first} any more")
            self._many(db, EVENT, rows.events)
            self._many(db, RUN_EVENT, rows.run_events)
            self._many(db, RUN, rows.runs)
            self._many(db, LETTER, rows.letters)
            if rows.settled:
                settle = sa.update(LETTER).where(LETTER.c.id == sa.bindparam("i"))
                settle = settle.values(state=sa.bindparam("s"), settled_ms=sa.bindparam("w"))
                db.execute(settle, [{"s": state, "w": when, "i": id_} for state, when, id_ in rows.settled])
            self._many(db, EVENT_COUNT, _counted(rows.event_counts))
            self._many(db, RUN_COUNT, _counted(rows.run_counts))
            self._many(db, DURATION, _counted(rows.durations))

    def _many(self, db: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            db.exec_driver_sql(self._sql[table], list(rows))


def _counted(counts: Mapping[tuple[Any, ...], int]) -> list[tuple[Any, ...]]:
    return [(*key, count) for key, count in sorted(counts.items())]


# ── two databases ────────────────────────────────────────────────────────────────────────────────────────────────────

_ON_CONFLICT: Mapping[Table, Iterable[str]] = {
    # When a run began, its first event tells; all else, its last.
    RUN: [column.name for column in RUN.c if column.name not in ("id", "began_ms")],
}
_ADDED = (EVENT_COUNT, RUN_COUNT, DURATION)


def _insert(table: Table, engine: Engine) -> str:
    """The statement for many rows, with the driver's own placeholders: SQLAlchemy's cost more than the database."""
    insert = (postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert)(table)
    keys = [column.name for column in table.primary_key]
    if table in _ADDED:
        insert = insert.on_conflict_do_update(
            index_elements=keys, set_={"count": table.c.count + insert.excluded.count}
        )
    elif table in _ON_CONFLICT:
        changed = {name: insert.excluded[name] for name in _ON_CONFLICT[table]}
        insert = insert.on_conflict_do_update(index_elements=keys, set_=changed)
    sql = str(insert.compile(dialect=type(engine.dialect)(paramstyle="format")))  # type: ignore[call-arg]
    return sql if engine.dialect.name == "postgresql" else sql.replace("%s", "?")


def _engine(url: str) -> Engine:
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def connected(connection: Any, record: object) -> None:
            connection.isolation_level = None  # sqlite3 begins no transaction by itself
            connection.executescript(
                f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-{SQLITE_CACHE_KIB};"
                f"PRAGMA busy_timeout={int(SQLITE_BUSY_SECONDS * 1000)}; PRAGMA wal_autocheckpoint=10000"
            )

        @event.listens_for(engine, "begin")
        def begun(db: Connection) -> None:
            db.exec_driver_sql("BEGIN")

    return engine
