"""What two histories of one log have in common: everything but what is excluded on both sides.

A digest is the sum of the hashes of rows, modulo 2^128, for each table and partition: the order of rows does not
matter, nor does anything that is a database's own (the numbers of its partitions, its META). Where two digests differ,
the rows are divided into buckets by their keys, the buckets are compared in the same way, and only the rows of those
that differ are looked at one by one.

Excluded is what lies before the horizon (`pruning`), and what the log no longer has: of rows by their offsets, of runs
and letters where anything was told of them in those offsets; sums are compared less what those rows had added.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import Connection, Table

from playhead.history.projection import Rows, project
from playhead.history.schema import (
    DURATION,
    EVENT,
    EVENT_COUNT,
    LETTER,
    OFFSET_BITS,
    PART,
    RUN,
    RUN_COUNT,
    RUN_EVENT,
    SETTLEMENT,
)
from playhead.records import Partition
from playhead.serde import CE_ID, CE_TYPE

TABLES = (EVENT, RUN_EVENT, LETTER, SETTLEMENT, RUN, EVENT_COUNT, RUN_COUNT, DURATION)
_PLACED = (EVENT, RUN_EVENT, LETTER, SETTLEMENT)
BUCKETS = 4_096
NO_HORIZON = -(2**63)
"""Nothing is before it."""
_FETCH_ROWS = 5_000
_OFFSET_MASK = (1 << OFFSET_BITS) - 1
_MODULUS = 1 << 128

Values: TypeAlias = tuple[Any, ...]
Place: TypeAlias = tuple[str, str, int]
"""Table, topic and partition; runs and sums are of no partition: `("run", "", -1)`."""


class Row(NamedTuple):
    """`key` tells it from the table's others, in every history of the log."""

    place: Place
    key: Values
    values: Values

    def hash(self) -> int:
        # repr: of numbers, text, bytes and None it is exact, and the same in every process.
        return int.from_bytes(blake2b(repr((self.key, self.values)).encode(), digest_size=16).digest())

    def bucket(self) -> int:
        return int.from_bytes(blake2b(repr(self.key).encode(), digest_size=4).digest()) % BUCKETS


@dataclass(slots=True)
class Excluded:
    """What is not compared.

    Attributes:
        starts: of the partitions in the log.
        runs, letters: ids of those of which something was told before these.
        sums: what these rows had added to sums.
    """

    starts: Mapping[Partition, int]
    horizon_ms: int = NO_HORIZON
    runs: set[str] = field(default_factory=set)
    letters: set[str] = field(default_factory=set)
    sums: Rows = field(default_factory=Rows)

    @property
    def offsets(self) -> int:
        """How many offsets the log has not any more."""
        return sum(self.starts.values())


class Digest(NamedTuple):
    rows: int
    sum: int


class _Told(NamedTuple):
    """A run's event as it is in the database, as if it were read from the log."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def excluded(db: Connection, starts: Mapping[Partition, int], horizon_ms: int) -> Excluded:
    """What this database has that a log with these starts has not."""
    found = Excluded(starts, horizon_ms)
    for number, partition in _partitions(db).items():
        start = starts.get(partition, 0)
        if not start:
            continue
        base = number << OFFSET_BITS
        where = f"place >= {base} AND place < {base + start}"
        lost = [
            _Told(*partition, 0, at_ms, None, None, [(CE_TYPE, name.encode())])
            for at_ms, name in _stream(db, f"SELECT at_ms, name FROM event WHERE {where}")
        ]
        project(lost, "", 0, found.sums)
        for run_id, at_ms, name, body in _stream(db, f"SELECT run_id, at_ms, name, body FROM run_event WHERE {where}"):
            found.runs.add(run_id)
            headers = [(CE_TYPE, name.encode()), (CE_ID, b"")]
            project([_Told(*partition, 0, at_ms, None, body, headers)], "run", 0, found.sums)
        for ids in (f"SELECT id FROM letter WHERE {where}", f"SELECT letter_id FROM settlement WHERE {where}"):
            found.letters.update(id_ for (id_,) in _stream(db, ids))
    return found


def digest(db: Connection, without: Excluded, *, subtract: bool) -> dict[Place, Digest]:
    """The digests of what this connection sees.

    Args:
        subtract: what the log no longer has is in this database's sums.
    """
    sums: dict[Place, list[int]] = defaultdict(lambda: [0, 0])
    for table in TABLES:
        for row in rows_of(db, table, without, subtract=subtract):
            here = sums[row.place]
            here[0] += 1
            here[1] += row.hash()
    return {place: Digest(rows, total % _MODULUS) for place, (rows, total) in sums.items()}


def buckets(db: Connection, table: Table, without: Excluded, *, subtract: bool) -> list[int]:
    """The digest of each bucket of a table's rows."""
    sums = [0] * BUCKETS
    for row in rows_of(db, table, without, subtract=subtract):
        sums[row.bucket()] += row.hash()
    return [total % _MODULUS for total in sums]


def rows_of(db: Connection, table: Table, without: Excluded, *, subtract: bool) -> Iterator[Row]:
    """The rows of a table that are compared."""
    if table in _PLACED:
        return _placed(db, table, without)
    if table is RUN:
        return _runs(db, without)
    return _sums(db, table, without, subtract=subtract)


def _placed(db: Connection, table: Table, without: Excluded) -> Iterator[Row]:
    names = [column.name for column in table.c if column.name != "place"]
    condition = f"at_ms >= {without.horizon_ms}"
    if table is LETTER:
        condition += " OR state = 'open'"
    elif table is SETTLEMENT and without.horizon_ms != NO_HORIZON:  # it goes with its letter
        condition = f"EXISTS (SELECT 1 FROM letter WHERE id = letter_id AND letter.at_ms >= {without.horizon_ms})"
    partitions, starts = _partitions(db), without.starts
    letter_id_at = names.index("id" if table is LETTER else "letter_id") if table in (LETTER, SETTLEMENT) else None
    keyed = [names.index(column.name) for column in table.primary_key if column.name != "place"]
    for place, *rest in _stream(db, f"SELECT place, {', '.join(names)} FROM {table.name} WHERE {condition}"):
        number = place >> OFFSET_BITS
        topic, number = partition = partitions.get(number) or Partition(f"part {number}", 0)
        offset = place & _OFFSET_MASK
        if offset < starts.get(partition, 0) or (letter_id_at is not None and rest[letter_id_at] in without.letters):
            continue
        yield Row((table.name, topic, number), (topic, number, offset, *(rest[at] for at in keyed)), tuple(rest))


def _runs(db: Connection, without: Excluded) -> Iterator[Row]:
    names = [column.name for column in RUN.c if column.name != "id"]
    condition = f"ended_ms IS NULL OR ended_ms >= {without.horizon_ms}"
    for id_, *rest in _stream(db, f"SELECT id, {', '.join(names)} FROM run WHERE {condition}"):
        if id_ not in without.runs:
            yield Row(("run", "", -1), (id_,), tuple(rest))


def _sums(db: Connection, table: Table, without: Excluded, *, subtract: bool) -> Iterator[Row]:
    sums = without.sums
    added: Mapping[Table, Mapping[Any, int]] = {
        EVENT_COUNT: sums.event_counts,
        RUN_COUNT: sums.run_counts,
        DURATION: sums.durations,
    }
    lost = added[table] if subtract else {}
    keys = [column.name for column in table.primary_key]
    horizon = without.horizon_ms // 1000
    for *key, count in _stream(db, f"SELECT {', '.join(keys)}, count FROM {table.name} WHERE at >= {horizon}"):
        left = count - lost.get(tuple(key), 0) if lost else count
        if left:
            yield Row((table.name, "", -1), tuple(key), (left,))


def _partitions(db: Connection) -> dict[int, Partition]:
    return {row.number: Partition(row.topic, row.partition) for row in db.execute(PART.select())}


def _stream(db: Connection, sql: str) -> Iterator[Any]:
    options = {"stream_results": True, "max_row_buffer": _FETCH_ROWS, "yield_per": _FETCH_ROWS}
    yield from db.exec_driver_sql(sql, execution_options=options)


# ── what differs ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Difference(NamedTuple):
    """A row that is not the same on both sides. `columns` has (name, here, rebuilt) of those that differ."""

    kind: str
    """changed, missing (of the history), or extra"""
    place: Place
    key: Values
    columns: tuple[tuple[str, Any, Any], ...] = ()

    def __str__(self) -> str:
        table, topic, number = self.place
        where = f"{topic}[{number}] offset {self.key[2]}" if topic else ", ".join(str(part) for part in self.key)
        told = "; ".join(f"{name} is {_short(here)}, should be {_short(there)}" for name, here, there in self.columns)
        return f"{table} {where}: {self.kind}" + (f": {told}" if told else "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


MAX_SUSPECTS = 64
"""How many buckets are looked into. Where all differ, a few rows say what is the matter."""


def differences(
    table: Table, mine: Callable[[Table], Iterator[Row]], other: Callable[[Table], Iterator[Row]], suspects: set[int]
) -> Iterator[Difference]:
    """The rows of these buckets that differ, of the table's rows on either side."""
    sides = []
    for rows in (mine, other):
        sides.append({(row.place, row.key): row.values for row in rows(table) if row.bucket() in suspects})
    here, there = sides
    names = _value_names(table)
    for place, key in sorted(here.keys() | there.keys(), key=repr):
        a, b = here.get((place, key)), there.get((place, key))
        if a is None:
            yield Difference("missing", place, key)
        elif b is None:
            yield Difference("extra", place, key)
        elif a != b:
            changed = [(name, x, y) for name, x, y in zip(names, a, b, strict=True) if x != y]
            yield Difference("changed", place, key, tuple(changed))


def _value_names(table: Table) -> list[str]:
    if table in _PLACED:
        return [column.name for column in table.c if column.name != "place"]
    return [column.name for column in table.c if column.name != "id" and not column.primary_key]
