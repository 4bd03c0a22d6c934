"""The pending timers of one partition of topic `delay`, on disk: a cache of the topic, up to an offset.

A store is the fold of its partition's records below `position`; both change in one SQLite transaction, so whatever ends
the process leaves a store that is true of some offset. It is thrown away and rebuilt where it is of another topic, of
another format, or so old that a tombstone may have been compacted away since.

    records ──▶ apply ──▶ timer     pending timers, by offset; indexed by due time and by id
                          asked     requests that are not answered, and records that have to be tombstoned
                          schedule  what jobs declared
"""

from __future__ import annotations

import marshal
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from playhead.records import StoredRecord
from playhead.serde import from_json
from playhead.timer import (
    CANCEL,
    SCHEDULED,
    TIMER,
    Key,
    Request,
    Timer,
    is_declaration,
    read_answer,
    read_key,
    read_request,
)

FORMAT = f"1 {sys.version_info.major}.{sys.version_info.minor}"
"""Of the file; rows are marshalled, which is the interpreter version's own."""
CACHE_KIB = 64 * 1024

_SCHEMA = """
CREATE TABLE IF NOT EXISTS timer(
    at INTEGER PRIMARY KEY, due INTEGER NOT NULL, id TEXT NOT NULL, mark TEXT NOT NULL,
    schedule TEXT, record BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS timer_id ON timer(id);
CREATE INDEX IF NOT EXISTS timer_due ON timer(due);
CREATE INDEX IF NOT EXISTS timer_schedule ON timer(schedule) WHERE schedule IS NOT NULL;
CREATE TABLE IF NOT EXISTS asked(key BLOB PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS schedule(job TEXT PRIMARY KEY, told BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value NOT NULL);
"""


class Place(NamedTuple):
    """Where a timer is in the order of firing: by due time, and by offset where that is the same."""

    due_ms: int
    at: int


class Unwanted(NamedTuple):
    """A record that has to be tombstoned: a second timer of an id that is pending, or what can't be read."""

    key: bytes
    reason: str


class TimerStore:
    """One partition's pending timers.

    Args:
        path: of the file; None keeps it in memory.
        topic_id: of the topic that it is a cache of.
        oldest_ms: a store that was last written before this moment is rebuilt.
    """

    def __init__(self, path: Path | None, topic_id: str = "", oldest_ms: int = 0) -> None:
        self._path = path
        self._db = self._open()
        kept = dict(self._db.execute("SELECT name, value FROM meta"))
        if kept.get("format") != FORMAT or kept.get("topic") != topic_id or kept.get("written_ms", 0) < oldest_ms:
            self._db.close()
            if path is not None:
                delete_store(path)
            self._db = self._open()
            kept = {}
            rows = [("format", FORMAT), ("topic", topic_id), ("position", 0), ("written_ms", 0)]
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", rows)
        self.position: int = kept.get("position", 0)
        """The next offset to apply."""

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError:  # no database, or a broken one: it is only a cache
            if self._path is not None:
                delete_store(self._path)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path or ":memory:", isolation_level=None, check_same_thread=False)
        # NORMAL: a power cut may lose the last transactions, position included, and never leaves it torn.
        db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL")
        db.executescript(f"PRAGMA cache_size=-{CACHE_KIB}; {_SCHEMA}")
        return db

    def close(self) -> None:
        self._db.close()

    # ── folding ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, records: Iterable[StoredRecord], position: int, now_ms: int) -> list[Place]:
        """Take in the records up to `position`, in their order. Returns the places of the timers that are new."""
        batch = _Batch(self._db)
        for record in records:
            key = read_key(record.key)
            if key is None:
                continue
            if key.kind == TIMER:
                batch.timer(key, record)
            elif key.kind == CANCEL:
                batch.asking(record)
            elif key.kind == SCHEDULED:
                batch.declaration(key, record)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            batch.write()
            rows = [("position", position), ("written_ms", now_ms)]
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", rows)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self.position = position
        return [Place(row[1], row[0]) for row in batch.puts.values()]

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def due(self, until_ms: int, after: Place, limit: int) -> list[tuple[Place, Timer]]:
        """Timers due at `until_ms` or before, behind `after` in the order of firing."""
        rows = self._db.execute(
            "SELECT due, at, id, record FROM timer WHERE (due, at) > (?, ?) AND due <= ? ORDER BY due, at LIMIT ?",
            (*after, until_ms, limit),
        )
        return [(Place(due, at), _timer(due, id_, data)) for due, at, id_, data in rows]

    def next_due_ms(self, after: Place) -> int | None:
        """When the first timer behind `after` is due."""
        sql = "SELECT due FROM timer WHERE (due, at) > (?, ?) ORDER BY due, at LIMIT 1"
        row = self._db.execute(sql, after).fetchone()
        return None if row is None else row[0]

    def at(self, place: Place) -> Timer | None:
        row = self._db.execute("SELECT due, id, record FROM timer WHERE at = ?", (place.at,)).fetchone()
        return None if row is None else _timer(*row)

    def find(self, timer_id: str) -> Timer | None:
        row = self._db.execute("SELECT due, id, record FROM timer WHERE id = ?", (timer_id,)).fetchone()
        return None if row is None else _timer(*row)

    def armed(self, job_id: str) -> list[Timer]:
        """The timers of this job's schedule: one, but for the moment in which it changes."""
        rows = self._db.execute("SELECT due, id, record FROM timer WHERE schedule = ?", (job_id,))
        return [_timer(*row) for row in rows]

    def asked(self) -> list[Request | Unwanted]:
        """What waits for the scheduler: requests without an answer, and records that it has to tombstone."""
        rows = self._db.execute("SELECT key, record FROM asked ORDER BY rowid")
        return [Request(key, *told[1:]) if told[0] else Unwanted(key, told[1]) for key, told in _unpacked(rows)]

    def schedule(self, job_id: str) -> dict[str, Any] | None:
        """What the job has declared."""
        row = self._db.execute("SELECT told FROM schedule WHERE job = ?", (job_id,)).fetchone()
        return None if row is None else from_json(row[0])

    def schedules(self) -> dict[str, dict[str, Any]]:
        """What each job has declared."""
        return {job: from_json(told) for job, told in self._db.execute("SELECT job, told FROM schedule ORDER BY job")}

    def scheduled_jobs(self) -> set[str]:
        """The jobs that have a timer armed."""
        rows = self._db.execute("SELECT DISTINCT schedule FROM timer WHERE schedule IS NOT NULL")
        return {job for (job,) in rows}

    def page(self, after: tuple[int, str], limit: int, until_ms: int | None = None) -> list[Timer]:
        """The next timers by due time and id, behind `after`: (due_ms, id)."""
        rows = self._db.execute(
            "SELECT due, id, record FROM timer WHERE (due, id) > (?, ?) AND due <= ? ORDER BY due, id LIMIT ?",
            (*after, 1 << 62 if until_ms is None else until_ms, limit),
        )
        return [_timer(*row) for row in rows]

    def count(self) -> int:
        (count,) = self._db.execute("SELECT count(*) FROM timer").fetchone()
        return int(count)


class _Batch:
    """What some records change, gathered in memory and written in one go. The last word of each key counts."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.puts: dict[str, tuple[int, int, str, str, str | None, bytes]] = {}
        self._ends: list[tuple[str, str]] = []
        self._asked: dict[bytes, bytes | None] = {}
        self.schedules: dict[str, bytes | None] = {}

    def timer(self, key: Key, record: StoredRecord) -> None:
        assert record.key is not None
        if record.value is None:
            self._asked[record.key] = None
            put = self.puts.get(key.id)
            if put is not None and put[3] == key.mark:
                del self.puts[key.id]
            self._ends.append((key.id, key.mark))
            return
        timer = Timer.of(record, key)
        if timer is None:
            self._asked[record.key] = marshal.dumps((False, "its due time can't be read"))
        elif key.mark != "-" and self._is_pending(key):
            self._asked[record.key] = marshal.dumps((False, f"timer {key.id!r} is pending already"))
        else:
            data = marshal.dumps((timer.key, timer.value, tuple(timer.headers)))
            schedule = timer.schedule or None
            self.puts[key.id] = (record.offset, timer.due_ms, key.id, key.mark, schedule, data)

    def _is_pending(self, key: Key) -> bool:
        if key.id in self.puts:
            return True
        rows = self._db.execute("SELECT mark FROM timer WHERE id = ?", (key.id,)).fetchall()
        return any((key.id, mark) not in self._ends for (mark,) in rows)

    def asking(self, record: StoredRecord) -> None:
        assert record.key is not None
        if record.value is None:
            self._asked[record.key] = None
        elif read_answer(record) is not None:
            pass  # its tombstone follows
        elif (request := read_request(record)) is not None:
            self._asked[record.key] = marshal.dumps((True, request.id, request.new_id, request.due_ms))
        else:
            self._asked[record.key] = marshal.dumps((False, "it asks for nothing that can be read"))

    def declaration(self, key: Key, record: StoredRecord) -> None:
        assert record.key is not None
        self._asked[record.key] = None
        if record.value is None or is_declaration(record.value):
            self.schedules[key.id] = record.value
        else:  # what was declared before stays, until the record's tombstone takes both away
            self._asked[record.key] = marshal.dumps((False, "it declares no schedule that can be read"))

    def write(self) -> None:
        db = self._db
        db.executemany("DELETE FROM timer WHERE id = ? AND mark = ?", self._ends)
        # REPLACE: the same record again, after a restore that began before it.
        db.executemany("INSERT OR REPLACE INTO timer VALUES(?, ?, ?, ?, ?, ?)", self.puts.values())
        db.executemany("DELETE FROM asked WHERE key = ?", [(key,) for key in self._asked])
        news = [(key, data) for key, data in self._asked.items() if data is not None]
        db.executemany("INSERT INTO asked VALUES(?, ?)", news)
        db.executemany("DELETE FROM schedule WHERE job = ?", [(job,) for job in self.schedules])
        told = [(job, value) for job, value in self.schedules.items() if value is not None]
        db.executemany("INSERT INTO schedule VALUES(?, ?)", told)


def _timer(due_ms: int, id_: str, data: bytes) -> Timer:
    key, value, headers = marshal.loads(data)
    return Timer(id_, due_ms, key, value, headers)


def _unpacked(rows: Iterable[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, Any]]:
    return [(key, marshal.loads(data)) for key, data in rows]


def delete_store(path: Path) -> None:
    """Remove the file of a store, and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
