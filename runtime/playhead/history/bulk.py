"""Many rows at once, into SQLite and into PostgreSQL, on the drivers themselves: SQLAlchemy's part costs more.

Rows that have a place are written once, ever: the position of their partition moved in the same transaction. Runs and
sums may be there already. SQLite gets a statement for each row; PostgreSQL gets rows by COPY, and what may be there
already through a temporary table, in the order of its keys: so writers of other partitions never wait in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import BigInteger, Connection, Engine, Float, Integer, LargeBinary, Table
from sqlalchemy.dialects import sqlite

from playhead.history.databases import SETTLING_LOCK, told_by_sqlalchemy
from playhead.history.projection import Rows
from playhead.history.schema import DURATION, EVENT, EVENT_COUNT, LETTER, RUN, RUN_COUNT, RUN_EVENT, SETTLEMENT

Row = tuple[Any, ...]

_SUMS = (EVENT_COUNT, RUN_COUNT, DURATION)
_RUN_COLUMNS = [column.name for column in RUN.c]
_ID, _BEGAN, _ENDED = (_RUN_COLUMNS.index(name) for name in ("id", "began_ms", "ended_ms"))
_TOLD = [name for name in _RUN_COLUMNS if name not in ("id", "began_ms")]
"""All that a run's last event says."""
_BEGAN_STILL = "CASE WHEN run.ended_ms IS NULL THEN run.began_ms ELSE excluded.began_ms END"
"""When a run began, the first event tells of it; the first since its end, where it had one."""


class Bulk(Protocol):
    """Writes rows within a transaction."""

    def write(self, db: Connection, rows: Rows) -> None: ...


def bulk_of(engine: Engine) -> Bulk:
    return PostgresBulk() if engine.dialect.name == "postgresql" else SqliteBulk()


def _plain(rows: Rows) -> list[tuple[Table, Sequence[Row]]]:
    """Rows that have a place."""
    return [
        (EVENT, rows.events),
        (RUN_EVENT, rows.run_events),
        (LETTER, rows.letters),
        (SETTLEMENT, rows.settlements),
    ]


def _sums(rows: Rows) -> list[tuple[Table, list[Row]]]:
    """Rows to be added to what is there, in the order of their keys."""
    counters: Iterable[Mapping[Any, int]] = (rows.event_counts, rows.run_counts, rows.durations)
    return [
        (table, [(*key, count) for key, count in sorted(counts.items())])
        for table, counts in zip(_SUMS, counters, strict=True)
    ]


def _settle(db: Connection, rows: Rows) -> None:
    """Let the letters that were written or settled just now be what the first of their settlements says.

    Retried before discarded, whenever: two people may settle one letter, and what was run must not look otherwise.
    """
    ids = sorted({row[0] for row in rows.settlements} | {row[1] for row in rows.letters})
    for first in range(0, len(ids), 500):
        some = ids[first : first + 500]
        found = sa.select(SETTLEMENT.c.letter_id, SETTLEMENT.c.at_ms, SETTLEMENT.c.state)
        found = found.where(SETTLEMENT.c.letter_id.in_(some)).order_by(SETTLEMENT.c.state, SETTLEMENT.c.at_ms.desc())
        # "discarded" is before "retried": the last of each is the one that counts.
        deciding = {row.letter_id: (row.state, row.at_ms) for row in db.execute(found)}
        for id_, (state, at_ms) in sorted(deciding.items()):
            db.execute(sa.update(LETTER).where(LETTER.c.id == id_).values(state=state, settled_ms=at_ms))


class SqliteBulk:
    """One statement for each row."""

    def __init__(self) -> None:
        run = [f"{name} = excluded.{name}" for name in _TOLD]
        self._sql = {table: _insert(table) for table, _ in _plain(Rows())}
        self._sql[RUN] = f"{_insert(RUN)} ON CONFLICT (id) DO UPDATE SET {', '.join(run)}, began_ms = {_BEGAN_STILL}"
        for table in _SUMS:
            keys = ", ".join(column.name for column in table.primary_key)
            self._sql[table] = f"{_insert(table)} ON CONFLICT ({keys}) DO UPDATE SET count = count + excluded.count"

    def write(self, db: Connection, rows: Rows) -> None:
        for table, some in [*_plain(rows), (RUN, rows.runs), *_sums(rows)]:
            if some:
                db.exec_driver_sql(self._sql[table], list(some))
        _settle(db, rows)


def _insert(table: Table) -> str:
    insert = sa.insert(table).compile(dialect=sqlite.dialect(paramstyle="qmark"))
    return str(insert)


class PostgresBulk:
    """COPY, and a temporary table for runs."""

    def __init__(self) -> None:
        run = [f"{name} = excluded.{name}" for name in _TOLD]
        columns = ", ".join(_RUN_COLUMNS)
        self._upsert = (
            f"INSERT INTO run ({columns}) SELECT {columns} FROM run_in ORDER BY id "
            f"ON CONFLICT (id) DO UPDATE SET {', '.join(run)}, began_ms = "
        )
        self._add = {}
        for table in _SUMS:
            keys = [column.name for column in table.primary_key]
            values = ", ".join(["%s"] * (len(keys) + 1))
            self._add[table] = (
                f"INSERT INTO {table.name} ({', '.join(keys)}, count) VALUES ({values}) "
                f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET count = {table.name}.count + excluded.count"
            )

    def write(self, db: Connection, rows: Rows) -> None:
        raw: Any = db.connection.driver_connection
        with told_by_sqlalchemy(db), raw.cursor() as cursor:
            for table, some in _plain(rows):
                _copy(cursor, table, table.name, some)
            for some, began in zip(folded(rows.runs), (_BEGAN_STILL, "excluded.began_ms"), strict=True):
                if some:
                    cursor.execute("CREATE TEMP TABLE IF NOT EXISTS run_in (LIKE run) ON COMMIT DELETE ROWS")
                    cursor.execute("TRUNCATE run_in")
                    _copy(cursor, RUN, "run_in", some)
                    cursor.execute(self._upsert + began)
            for table, sums in _sums(rows):
                if sums:
                    cursor.executemany(self._add[table], sums)
        if rows.letters or rows.settlements:
            # A letter and what settles it may be written by two at once, in two partitions. The second one sees, after
            # the first one's end, what that has written, and settles both.
            db.execute(sa.select(sa.func.pg_advisory_xact_lock(SETTLING_LOCK)))
            _settle(db, rows)


def folded(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """One row for each run: those that go on from what is in the database, and those that began anew among these."""
    last: dict[str, tuple[Row, bool]] = {}
    for row in rows:
        before = last.get(row[_ID])
        if before is None:
            last[row[_ID]] = row, False
        elif before[0][_ENDED] is not None:
            last[row[_ID]] = row, True
        else:
            last[row[_ID]] = (*row[:_BEGAN], before[0][_BEGAN], *row[_BEGAN + 1 :]), before[1]
    return [row for row, anew in last.values() if not anew], [row for row, anew in last.values() if anew]


def _copy(cursor: Any, table: Table, into: str, rows: Sequence[Row]) -> None:
    if not rows:
        return
    columns = ", ".join(column.name for column in table.c)
    with cursor.copy(f"COPY {into} ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types([_type_name(column.type) for column in table.c])
        for row in rows:
            copy.write_row(row)


def _type_name(of: Any) -> str:
    """PostgreSQL's name of a column's type."""
    for kind, name in ((BigInteger, "int8"), (Integer, "int4"), (Float, "float8"), (LargeBinary, "bytea")):
        if isinstance(of, kind):
            return name
    return "text"
