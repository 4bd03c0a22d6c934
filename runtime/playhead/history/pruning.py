"""What is older than the horizon goes, in small steps, rows and sums alike.

The horizon is a full hour, in the database's META, and only moves forward. What goes is decided by the row alone, so
that two histories which have gone through the same log are equal in all that does not lie before it:

    event, run_event   told before it (a run's events stay as long as the run does)
    run                ended before it
    letter             told before it, and settled
    sums               begun before it
"""

from __future__ import annotations

import asyncio

import sqlalchemy as sa
from sqlalchemy import Connection, Table, exc

from playhead.clock import Clock
from playhead.history.schema import (
    DURATION,
    EVENT,
    EVENT_COUNT,
    LETTER,
    META,
    RUN,
    RUN_COUNT,
    RUN_EVENT,
    SECONDS_PER_HOUR,
    SETTLEMENT,
    STEPS_SECONDS,
)
from playhead.history.store import HORIZON, HistoryStore, Moved

INTERVAL_SECONDS = 60.0
STEP_ROWS = 1_000
"""What one transaction deletes: writing waits for it."""
_HOUR_MS = SECONDS_PER_HOUR * 1000


def horizon_ms(store: HistoryStore) -> int:
    """Before when everything is deleted, epoch milliseconds; 0 where nothing is."""
    return int(store.meta(HORIZON) or 0)


async def prune_from_time_to_time(store: HistoryStore, days: float, clock: Clock, pen: asyncio.Lock) -> None:
    """Move the horizon, and delete what is before it, until cancelled. A database that is away is waited for."""
    while True:
        try:
            now_ms = int(clock.time() * 1000)
            await prune(store, now_ms - int(days * 86_400_000), pen)
        except (exc.OperationalError, Moved):
            pass  # the database is away, busy for long, or a rebuilt one: the next round does it
        await clock.sleep(INTERVAL_SECONDS)


async def prune(store: HistoryStore, before_ms: int, pen: asyncio.Lock | None = None) -> int:
    """Delete what is older, to the full hour; how many rows that were."""
    horizon = max(before_ms // _HOUR_MS * _HOUR_MS, await asyncio.to_thread(horizon_ms, store))
    deleted = 0
    pen = pen or asyncio.Lock()
    while True:
        async with pen:
            step = await asyncio.to_thread(_step, store, horizon)
        deleted += step
        if not step:
            return deleted


def _step(store: HistoryStore, horizon: int) -> int:
    """One small transaction; how many rows it has deleted."""
    with store.transaction() as db:
        if not store.place.only_one_prunes(db):
            return 0
        found = int(db.scalar(sa.select(META.c.value).where(META.c.name == HORIZON)) or 0)
        if horizon > found:
            db.execute(sa.delete(META).where(META.c.name == HORIZON))
            db.execute(sa.insert(META).values(name=HORIZON, value=str(horizon)))
        return _events(db, horizon) or _runs(db, horizon) or _letters(db, horizon) or _sums(db, horizon // 1000)


def _events(db: Connection, horizon: int) -> int:
    old = sa.select(EVENT.c.place).where(EVENT.c.at_ms < horizon).order_by(EVENT.c.at_ms).limit(STEP_ROWS)
    return db.execute(sa.delete(EVENT).where(EVENT.c.place.in_(old))).rowcount


def _runs(db: Connection, horizon: int) -> int:
    old = sa.select(RUN.c.id).where(RUN.c.ended_ms < horizon).order_by(RUN.c.ended_ms).limit(STEP_ROWS // 2)
    ids = db.scalars(old).all()
    if not ids:
        return 0
    told = (RUN_EVENT.c.run_id.in_(ids)) & (RUN_EVENT.c.at_ms < horizon)
    return (
        db.execute(sa.delete(RUN_EVENT).where(told)).rowcount
        + db.execute(sa.delete(RUN).where(RUN.c.id.in_(ids))).rowcount
    )


def _letters(db: Connection, horizon: int) -> int:
    old = sa.select(LETTER.c.place, LETTER.c.id).where((LETTER.c.at_ms < horizon) & (LETTER.c.state != "open"))
    found = db.execute(old.order_by(LETTER.c.at_ms).limit(STEP_ROWS // 2)).all()
    if found:
        db.execute(sa.delete(LETTER).where(LETTER.c.place.in_([row.place for row in found])))
        another = sa.exists().where(LETTER.c.id == SETTLEMENT.c.letter_id)
        of_these = SETTLEMENT.c.letter_id.in_([row.id for row in found])
        db.execute(sa.delete(SETTLEMENT).where(of_these & ~another))
    return len(found)


def _sums(db: Connection, horizon_seconds: int) -> int:
    """A few hours of one table at once: an hour has as many rows as there are names and minutes."""
    for table in (EVENT_COUNT, RUN_COUNT, DURATION):
        for step in STEPS_SECONDS:
            if (deleted := _oldest_hour(db, table, step, horizon_seconds)) > 0:
                return deleted
    return 0


def _oldest_hour(db: Connection, table: Table, step: int, horizon_seconds: int) -> int:
    mine = table.c.step == step
    first = db.scalar(sa.select(sa.func.min(table.c.at)).where(mine))
    if first is None or first >= horizon_seconds:
        return 0
    end = min(first // SECONDS_PER_HOUR * SECONDS_PER_HOUR + SECONDS_PER_HOUR, horizon_seconds)
    return db.execute(sa.delete(table).where(mine & (table.c.at < end))).rowcount
