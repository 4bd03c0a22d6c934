"""Verify finds whatever is not as the log says, and nothing where all is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Column, LargeBinary, Table, Text

from playhead.history.pruning import prune
from playhead.history.schema import EVENT, METADATA, PART, SETTLEMENT
from playhead.history.verify import Verdict, verify
from playhead.records import Partition
from tests.history.logs import event, letter, run_event
from tests.history.place import Place, Running

HOUR_MS = 3_600_000
COMPARED: list[Table] = [table for table in METADATA.sorted_tables if table.name not in ("meta", "part")]


@pytest.fixture
async def running(place: Place, tmp_path: Path) -> Running:
    """A history that has some rows in each table."""
    running = await place.start_ready(f"sqlite:///{tmp_path}/history.db")
    for n in range(3):
        at_ms = n * HOUR_MS
        await place.send(
            event("user", n % 2, f"e{n}", at_ms=at_ms),
            run_event(f"r{n}-0", "run.retrying", at_ms=at_ms + 1_000),
            run_event(f"r{n}-0", "run.failed", at_ms=at_ms + 2_000, attempt=2),
            letter(f"l{n}", at_ms=at_ms + 3_000),
            letter(f"l{n}", "retried", at_ms=at_ms + 4_000),
        )
    await place.written(running)
    return running


async def check(place: Place, running: Running) -> Verdict:
    return await verify(place.broker, running.store, "")


def other_than(column: Column[Any], value: Any) -> Any:
    if isinstance(column.type, LargeBinary):
        return (value or b"") + b"!"
    if isinstance(column.type, Text):
        return f"{value or ''}!"
    return (value or 0) + 1


def run_it(running: Running, statement: Any) -> None:
    with running.store.transaction() as db:
        assert db.execute(statement).rowcount == 1


@pytest.mark.parametrize("table", COMPARED, ids=lambda table: table.name)
class TestOfEveryTable:
    async def test_changed_column_is_found(self, place: Place, running: Running, table: Table) -> None:
        with running.store.reading() as db:
            row = db.execute(table.select().order_by(*table.primary_key)).mappings().all()[-1]
        here = sa.and_(*(column == row[column.name] for column in table.primary_key))
        for column in table.columns:
            changed = {column.name: other_than(column, row[column.name])}
            moved = {**row, **changed}
            run_it(running, table.update().where(here).values(**changed))
            verdict = await check(place, running)
            assert not verdict.equal, column
            assert verdict.differences, column
            there = sa.and_(*(column == moved[column.name] for column in table.primary_key))
            run_it(running, table.update().where(there).values(**{column.name: row[column.name]}))
        assert (await check(place, running)).equal

    async def test_missing_row_and_extra_row_are_found(self, place: Place, running: Running, table: Table) -> None:
        with running.store.reading() as db:
            row = db.execute(table.select().order_by(*table.primary_key)).mappings().all()[0]
        here = sa.and_(*(column == row[column.name] for column in table.primary_key))
        run_it(running, table.delete().where(here))
        verdict = await check(place, running)
        assert [one.kind for one in verdict.differences] == ["missing"]
        extra = dict(row)
        last = list(table.primary_key)[-1]
        extra[last.name] = other_than(last, 77 if isinstance(row[last.name], int) else row[last.name])
        run_it(running, table.insert().values(**row))
        run_it(running, table.insert().values(**extra))
        verdict = await check(place, running)
        assert "extra" in [one.kind for one in verdict.differences]


@pytest.mark.parametrize("step", [-1, 1])
async def test_shifted_position_is_found(place: Place, running: Running, step: int) -> None:
    await place.stop(running)
    here = (PART.c.topic == "user") & (PART.c.partition == 0)
    await place.send(event("user", 0, "later"))
    run_it(running, sa.update(PART).where(here).values(next=PART.c.next + step))
    verdict = await check(place, running)
    assert [one.kind for one in verdict.differences if one.place[0] == "event"] == ["extra" if step < 0 else "missing"]


async def test_rows_of_a_partition_that_was_never_read_are_extra(place: Place, running: Running) -> None:
    row = {"place": 99 << 44, "at_ms": 1, "name": "", "id": "", "source": "", "headers": b"[]"}
    run_it(running, sa.insert(EVENT).values(**row))
    verdict = await check(place, running)
    assert [str(one) for one in verdict.differences] == ["event part 99[0] offset 0: extra"]


async def test_records_of_before_1970_are_compared_too(place: Place, running: Running) -> None:
    await place.send(event("user", 0, "old", at_ms=-5 * HOUR_MS), run_event("old", at_ms=-4 * HOUR_MS))
    await place.written(running)
    assert (await check(place, running)).equal
    run_it(running, sa.update(EVENT).where(EVENT.c.id == "old").values(payload=b"x"))
    assert not (await check(place, running)).equal


class TestSettlements:
    """They are pruned with their letters; what of them is left must be the same on both sides."""

    async def test_of_a_pruned_letter_are_not_compared(self, place: Place, running: Running) -> None:
        await place.send(letter("l0", "discarded", at_ms=9 * HOUR_MS))
        await place.written(running)
        await prune(running.store, 2 * HOUR_MS)
        assert (await check(place, running)).equal
        await place.send(letter("l0", "retried", at_ms=10 * HOUR_MS), letter("nobody", "retried", at_ms=9 * HOUR_MS))
        await place.written(running)
        assert (await check(place, running)).equal

    async def test_of_a_letter_that_the_log_has_not_any_more_are_not_compared(
        self, place: Place, running: Running
    ) -> None:
        place.broker.trim(Partition("dead-letter", 0), 1)  # the letter, and not its settlement
        verdict = await check(place, running)
        assert verdict.equal, verdict.differences
        run_it(running, sa.delete(SETTLEMENT).where(SETTLEMENT.c.letter_id == "l1"))
        assert not (await check(place, running)).equal
