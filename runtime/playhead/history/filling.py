"""Reading what is in the log into a database, all partitions at once: for a rebuild, and to verify."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from playhead.broker.contract import Broker
from playhead.history.positions import partitions_of
from playhead.history.scribe import Scribe
from playhead.history.store import HistoryStore, Span
from playhead.records import Partition, StoredRecord

MAX_READERS = 16
Progress: TypeAlias = Callable[[str, int, int], None]
"""What is being done, how many offsets of it are, of how many."""


def no_progress(doing: str, done: int, total: int) -> None:
    """For whoever does not look."""


async def in_the_log(broker: Broker, prefix: str) -> dict[Partition, tuple[int, int]]:
    """(start, end) of every partition that history reads; the end is where committed readers get to now."""
    topics = await partitions_of(broker, prefix)
    partitions = [Partition(topic, number) for topic, count in topics.items() for number in range(count)]
    return await broker.bounds(partitions) if partitions else {}


async def fill(
    broker: Broker,
    store: HistoryStore,
    prefix: str,
    spans: Mapping[Partition, Span],
    progress: Progress = no_progress,
    doing: str = "reading the log",
    numbers: Mapping[Partition, int] | None = None,
) -> None:
    """Read these spans and write them. A partition that is new in the database begins at its span's first offset.

    Args:
        numbers: as `HistoryStore.begin` has them.

    Raises:
        CheckpointLost: retention takes what is being read.
        BrokerUnavailable, UnknownTopic, NotAuthorized: from the broker.
    """
    ids = {topic: (await broker.topic(topic)).id for topic in {partition.topic for partition in spans}}
    await asyncio.to_thread(store.begin, {partition: span.first for partition, span in spans.items()}, ids, numbers)
    await asyncio.to_thread(store.parts)
    scribe = Scribe(store, prefix)
    done, total = 0, sum(span.next - span.first for span in spans.values())
    readers = asyncio.Semaphore(MAX_READERS)

    async def read(partition: Partition, span: Span) -> None:
        position = span.first

        def take(records: Sequence[StoredRecord], until: int) -> None:
            nonlocal position, done
            scribe.add(partition, records, Span(position, until))
            done += until - position
            position = until
            progress(doing, done, total)

        async def sink(records: Sequence[StoredRecord]) -> None:
            take(records, records[-1].offset + 1)
            await scribe.room()

        async with readers:
            await broker.read(partition, span.first, span.next, sink)
            if position < span.next:
                take((), span.next)

    try:
        async with asyncio.TaskGroup() as group:
            for partition, span in spans.items():
                group.create_task(read(partition, span))
        await scribe.finish()
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from several
    finally:
        await scribe.drop()
