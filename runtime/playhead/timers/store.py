"""The pending timers of one partition of topic `delay`, on disk: a cache of the topic, up to an offset.

A store is the fold of its partition's records below `position`; both change in one SQLite transaction, so whatever ends
the process leaves a store that is true of some offset. It is thrown away and rebuilt where it is of another topic, of
another format, so old that a tombstone may have been compacted away since, or broken: also in the middle of its use.

    records ──▶ apply ──▶ timer     pending timers, by offset; indexed by due time and by id
                          asked     requests that are not answered, and records that have to be tombstoned
                          schedule  what jobs declared
"""

from __future__ import annotations

import marshal
import math
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from playhead.broker.contract import TopicInfo
from playhead.errors import StoreUnusable
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

FORMAT = f"3 {sys.version_info.major}.{sys.version_info.minor}"
"""Of the file; rows are marshalled, which is the interpreter version's own."""
CACHE_KIB = 256 * 1024
"""Of memory, for all partitions of a topic together."""
MIN_CACHE_KIB = 2 * 1024
COMMIT_RECORDS = 20_000
"""In one transaction, where many are read."""
DEFAULT_DELETE_RETENTION_MS = 86_400_000
_UNUSABLE = ("SQLITE_FULL", "SQLITE_BUSY", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")
"""Beginnings of SQLite's names for what a new file would not mend."""
_BROKEN = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR", "SQLITE_ERROR", "SQLITE_CONSTRAINT")
"""And for what it does: a file that is damaged, or is not what it was. It is only a cache."""

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


class StoreBroken(Exception):
    """SQLite can't use the store any more. Its file is gone; what is opened next is new, and filled from the log."""


class TimerStore:
    """One partition's pending timers.

    Every method raises StoreBroken, and StoreUnusable where a new file would not help: the disk is full.

    Args:
        path: of the file; None keeps it in memory.
        topic_id: of the topic that it is a cache of.
        written_ms: a store that was last written outside of these two moments is rebuilt.
        cache_kib: of memory, for SQLite.
    """

    def __init__(
        self,
        path: Path | None,
        topic_id: str = "",
        written_ms: tuple[float, float] = (0, math.inf),
        *,
        cache_kib: int = MIN_CACHE_KIB,
    ) -> None:
        self._path = path
        self._cache_kib = cache_kib
        self._db, kept = self._open()
        known = kept.get("format") == FORMAT and kept.get("topic") == topic_id
        if not known or not written_ms[0] <= kept["written_ms"] <= written_ms[1]:
            self._throw_away()
            self._db, _ = self._open()
            kept = {"format": FORMAT, "topic": topic_id, "position": 0, "written_ms": 0, "timers": 0}
            try:
                self._db.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", kept.items())
            except sqlite3.DatabaseError as error:
                raise self._failed(error) from error
        self.position: int = kept["position"]
        """The next offset to apply."""
        self._timers: int = kept["timers"]
        self._before = self.position, self._timers
        """Of the last commit."""

    def _open(self) -> tuple[sqlite3.Connection, dict[str, Any]]:
        """The database, and what it says of itself. One that can't be read makes place for a new one."""
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            failed = self._failed(error)
            if isinstance(failed, StoreUnusable):
                raise failed from error
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            raise _unusable(self._path, error) from error

    def _connect(self) -> tuple[sqlite3.Connection, dict[str, Any]]:
        try:
            db = sqlite3.connect(self._path or ":memory:", isolation_level=None, check_same_thread=False)
        except sqlite3.DatabaseError as error:
            raise _unusable(self._path, error) from error
        self._db = db
        # EXCLUSIVE: the index of the log is then in memory, no mapped file whose loss would end the process (SIGBUS).
        # NORMAL: a power cut may lose the last transactions, position included, and never leaves it torn.
        db.executescript("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL")
        db.executescript(f"PRAGMA cache_size=-{self._cache_kib}; {_SCHEMA}")
        return db, dict(db.execute("SELECT name, value FROM meta"))

    def close(self) -> None:
        self._db.close()

    def _throw_away(self) -> None:
        self._db.close()
        if self._path is not None:
            delete_store(self._path)

    def _failed(self, error: sqlite3.DatabaseError) -> Exception:
        """What SQLite's error means here. What is neither of the two is a mistake of ours, and stays as it is."""
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(_UNUSABLE):
            self._db.close()
            return _unusable(self._path, error)
        # Without a name it is Python's own: a text is no UTF-8.
        if name.startswith(_BROKEN) or (not name and isinstance(error, sqlite3.OperationalError)):
            self._throw_away()
            return StoreBroken(f"{self._path}: {error} ({name})")
        return error

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._failed(error) from error

    def _unpacked(self, data: bytes, *of: object) -> Any:
        """What `_packed` was given."""
        if not isinstance(data, bytes) or data[:4] != _checksum(data[4:], of):
            self._throw_away()
            raise StoreBroken(f"{self._path}: a row is not what was written")
        return marshal.loads(data[4:])

    def _timer(self, due_ms: int, id_: str, data: bytes) -> Timer:
        return Timer(id_, due_ms, *self._unpacked(data, due_ms, id_))

    # ── folding ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, records: Iterable[StoredRecord], position: int, now_ms: int, *, commit: bool = True) -> list[Place]:
        """Take in the records up to `position`, in their order. Returns the places of the timers that are new.

        Args:
            commit: False where more follows at once: due times are at random, so each transaction writes pages all over
                the file, and a few large ones write far less than many small ones. What fails, or is closed, before the
                next commit has taken in nothing of it.
        """
        try:
            batch = self._batch(records)
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
                self._before = self.position, self._timers
            try:
                timers = self._timers + batch.write()
                if commit:
                    rows = [("position", position), ("written_ms", now_ms), ("timers", timers)]
                    self._db.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", rows)
                    self._db.execute("COMMIT")
            except BaseException:
                self.position, self._timers = self._before
                if self._db.in_transaction:  # some errors have ended it already
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.DatabaseError as error:
            raise self._failed(error) from error
        self.position, self._timers = position, timers
        return [Place(row[1], row[0]) for row in batch.puts.values()]

    def _batch(self, records: Iterable[StoredRecord]) -> _Batch:
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
        return batch

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def due(self, until_ms: int, after: Place, limit: int) -> list[tuple[Place, Timer]]:
        """Timers due at `until_ms` or before, behind `after` in the order of firing."""
        rows = self._rows(
            "SELECT due, at, id, record FROM timer WHERE (due, at) > (?, ?) AND due <= ? ORDER BY due, at LIMIT ?",
            (*after, until_ms, limit),
        )
        return [(Place(due, at), self._timer(due, id_, data)) for due, at, id_, data in rows]

    def next_due_ms(self, after: Place) -> int | None:
        """When the first timer behind `after` is due."""
        rows = self._rows("SELECT due FROM timer WHERE (due, at) > (?, ?) ORDER BY due, at LIMIT 1", after)
        return rows[0][0] if rows else None

    def find(self, timer_id: str) -> Timer | None:
        rows = self._rows("SELECT due, id, record FROM timer WHERE id = ?", (timer_id,))
        return self._timer(*rows[0]) if rows else None

    def armed(self, job_id: str) -> list[Timer]:
        """The timers of this job's schedule: one, but for the moment in which it changes."""
        rows = self._rows("SELECT due, id, record FROM timer WHERE schedule = ?", (job_id,))
        return [self._timer(*row) for row in rows]

    def asked(self) -> list[Request | Unwanted]:
        """What waits for the scheduler: requests without an answer, and records that it has to tombstone."""
        rows = self._rows("SELECT key, record FROM asked ORDER BY rowid")
        read = [(key, self._unpacked(data, key)) for key, data in rows]
        return [Request(key, *told[1:]) if told[0] else Unwanted(key, told[1]) for key, told in read]

    def schedule(self, job_id: str) -> dict[str, Any] | None:
        """What the job has declared."""
        rows = self._rows("SELECT told FROM schedule WHERE job = ?", (job_id,))
        return from_json(self._unpacked(rows[0][0], job_id)) if rows else None

    def schedules(self) -> dict[str, dict[str, Any]]:
        """What each job has declared."""
        rows = self._rows("SELECT job, told FROM schedule ORDER BY job")
        return {job: from_json(self._unpacked(data, job)) for job, data in rows}

    def scheduled_jobs(self) -> set[str]:
        """The jobs that have a timer armed."""
        return {job for (job,) in self._rows("SELECT DISTINCT schedule FROM timer WHERE schedule IS NOT NULL")}

    def count(self) -> int:
        """How many timers are pending. It is kept with each batch, so asking costs nothing."""
        return self._timers


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
            self._ask(record.key, False, "its due time can't be read")
        elif key.mark != "-" and self._is_pending(key):
            self._ask(record.key, False, f"timer {key.id!r} is pending already")
        else:
            data = _packed((timer.key, timer.value, tuple(timer.headers)), timer.due_ms, key.id)
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
            self._ask(record.key, True, request.id, request.new_id, request.due_ms)
        else:
            self._ask(record.key, False, "it asks for nothing that can be read")

    def _ask(self, key: bytes, *told: object) -> None:
        self._asked[key] = _packed(told, key)

    def declaration(self, key: Key, record: StoredRecord) -> None:
        assert record.key is not None
        self._asked[record.key] = None
        if record.value is None or is_declaration(record.value):
            self.schedules[key.id] = record.value
        else:  # what was declared before stays, until the record's tombstone takes both away
            self._ask(record.key, False, "it declares no schedule that can be read")

    def write(self) -> int:
        """By how many timers there are more now."""
        db = self._db
        ended = db.executemany("DELETE FROM timer WHERE id = ? AND mark = ?", self._ends).rowcount
        # An occurrence that is armed anew keeps its id. (REPLACE would not tell how many rows it takes the place of.)
        ended += db.executemany("DELETE FROM timer WHERE id = ?", [(id_,) for id_ in self.puts]).rowcount
        db.executemany("INSERT INTO timer VALUES(?, ?, ?, ?, ?, ?)", self.puts.values())
        db.executemany("DELETE FROM asked WHERE key = ?", [(key,) for key in self._asked])
        news = [(key, data) for key, data in self._asked.items() if data is not None]
        db.executemany("INSERT INTO asked VALUES(?, ?)", news)
        db.executemany("DELETE FROM schedule WHERE job = ?", [(job,) for job in self.schedules])
        told = [(job, _packed(value, job)) for job, value in self.schedules.items() if value is not None]
        db.executemany("INSERT INTO schedule VALUES(?, ?)", told)
        return len(self.puts) - ended


def _packed(told: Any, *of: object) -> bytes:
    """For a row; `of` is what its other columns say."""
    data = marshal.dumps(told)
    return _checksum(data, of) + data


def _checksum(data: bytes, of: tuple[object, ...]) -> bytes:
    return crc32(data, crc32(repr(of).encode(errors="surrogatepass"))).to_bytes(4, "big")


def delete_store(path: Path) -> None:
    """Remove the file of a store, and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def open_store(
    folder: Path | None, topic: TopicInfo, number: int, now_ms: int, *, anew: bool = False, cache_kib: int = CACHE_KIB
) -> TimerStore:
    """The store of a partition of topic `delay`.

    Args:
        folder: where it is; None keeps it in memory.
        anew: throw away what is there.
        cache_kib: of memory, for all partitions of the topic together.

    Raises:
        StoreUnusable: the folder can't be written.
    """
    share_kib = max(MIN_CACHE_KIB, cache_kib // topic.partitions)
    if folder is None:
        return TimerStore(None, topic.id, cache_kib=share_kib)
    path = folder / f"{topic.name}-{number}.db"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if anew:
            delete_store(path)
    except OSError as error:
        raise _unusable(path, error) from error
    # What is older may have missed a tombstone that was compacted away. So may what comes from the future: a clock was
    # wrong, so nobody knows how old it is.
    reach_ms = delete_retention_ms(topic) // 2
    return TimerStore(path, topic.id, (now_ms - reach_ms, now_ms + reach_ms), cache_kib=share_kib)


def delete_retention_ms(topic: TopicInfo) -> int:
    """For how long tombstones stay, at least."""
    return int(topic.config.get("delete.retention.ms", DEFAULT_DELETE_RETENTION_MS))


def _unusable(path: Path | None, error: Exception) -> StoreUnusable:
    return StoreUnusable(f"the store of timers {path} can't be written: {error}.")
