"""Whether the history is what the log says: the log is read again, up to the same offsets, and both are compared."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from sqlalchemy import Connection

from playhead.broker.contract import Broker
from playhead.errors import HistoryStopped
from playhead.history.digest import (
    MAX_SUSPECTS,
    NO_HORIZON,
    TABLES,
    Difference,
    Digest,
    Excluded,
    Place,
    buckets,
    differences,
    digest,
    excluded,
    rows_of,
)
from playhead.history.filling import Progress, fill, in_the_log, no_progress
from playhead.history.positions import look
from playhead.history.schema import META
from playhead.history.store import HORIZON, HistoryStore, Part, Span, parts_of
from playhead.records import Partition

MAX_DIFFERENCES = 100


@dataclass(slots=True)
class Verdict:
    """Attributes:
    offsets: up to which the two were compared, by partition: the vector.
    excluded: offsets that the log has not any more.
    """

    offsets: Mapping[Partition, int]
    excluded: int
    mine: Mapping[Place, Digest]
    rebuilt: Mapping[Place, Digest]
    differences: list[Difference] = field(default_factory=list)
    """The first of them, where the digests are not equal."""

    @property
    def equal(self) -> bool:
        return self.mine == self.rebuilt

    @property
    def rows(self) -> int:
        return sum(one.rows for one in self.mine.values())

    @property
    def digest(self) -> str:
        """Of all of it."""
        return f"{sum(one.sum for one in self.mine.values()) % (1 << 128):032x}"


async def verify(broker: Broker, store: HistoryStore, prefix: str, progress: Progress = no_progress) -> Verdict:
    """Compare the history with what the log says.

    Raises:
        HistoryStopped: a partition of the history is not what the log has: there is nothing to compare it with.
        HistoryMisfit: it is another installation's.
    """
    parts = await asyncio.to_thread(_parts, store, prefix)
    seen = await look(broker, list(parts), parts)
    for why in seen.stopped.values():
        raise HistoryStopped(why.message, remedy=why.remedy)
    with tempfile.TemporaryDirectory(prefix="playhead-verify-") as folder:
        again = HistoryStore(f"sqlite:///{folder}/history.db")
        try:
            bounds = await in_the_log(broker, prefix)
            starts = {partition: start for partition, (start, _) in bounds.items()}
            await _read_on(broker, again, prefix, starts, {p: part.next for p, part in parts.items()}, progress)
            # Only now, and for a short time: what is being read keeps a database from tidying up.
            with store.reading() as mine:
                vector = {p: part.next for p, part in (await asyncio.to_thread(parts_of, mine)).items()}
                await _read_on(broker, again, prefix, starts, vector, progress)
                with again.reading() as other:
                    return await asyncio.to_thread(_compare, mine, other, vector, starts, progress)
        finally:
            again.close()


def _parts(store: HistoryStore, prefix: str) -> dict[Partition, Part]:
    with store.reading() as db:
        store.is_of(prefix, db)
        return parts_of(db)


async def _read_on(
    broker: Broker,
    again: HistoryStore,
    prefix: str,
    starts: Mapping[Partition, int],
    vector: Mapping[Partition, int],
    progress: Progress,
) -> None:
    """Read from where it is, or from the log's start, up to this vector of offsets."""
    here = await asyncio.to_thread(again.positions)
    spans = {p: Span(here.get(p, starts.get(p, end)), end) for p, end in vector.items()}
    await fill(broker, again, prefix, spans, progress)


def _compare(
    mine: Connection,
    other: Connection,
    vector: Mapping[Partition, int],
    starts: Mapping[Partition, int],
    progress: Progress,
) -> Verdict:
    horizon = mine.execute(META.select().where(META.c.name == HORIZON)).one_or_none()
    without = excluded(mine, starts, int(horizon.value) if horizon is not None else NO_HORIZON)
    progress("comparing", 0, 2)
    here = digest(mine, without, subtract=True)
    progress("comparing", 1, 2)
    there = digest(other, without, subtract=False)
    progress("comparing", 2, 2)
    verdict = Verdict(vector, without.offsets, here, there)
    if not verdict.equal:
        verdict.differences.extend(islice(_differences(mine, other, without, verdict), MAX_DIFFERENCES))
    return verdict


def _differences(mine: Connection, other: Connection, without: Excluded, verdict: Verdict) -> Iterator[Difference]:
    unequal = {
        p[0] for p in verdict.mine.keys() | verdict.rebuilt.keys() if verdict.mine.get(p) != verdict.rebuilt.get(p)
    }
    for table in TABLES:
        if table.name in unequal:
            here = buckets(mine, table, without, subtract=True)
            there = buckets(other, table, without, subtract=False)
            suspects = [number for number, (a, b) in enumerate(zip(here, there, strict=True)) if a != b]
            yield from differences(
                table,
                partial(rows_of, mine, without=without, subtract=True),
                partial(rows_of, other, without=without, subtract=False),
                set(suspects[:MAX_SUSPECTS]),
            )
