from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import pytest

from playhead.broker.memory import MemoryBroker
from playhead.cli.following import follow
from playhead.errors import BrokerUnavailable
from playhead.records import Partition, Record, StoredRecord
from playhead.testing import VirtualClock
from playhead.topics import TopicSpec
from tests.waiting import wait_until

BOTH = [Partition("user", 0), Partition("user", 1)]


@pytest.fixture
async def broker() -> AsyncIterator[MemoryBroker]:
    broker = MemoryBroker(VirtualClock())
    await broker.start()
    await broker.create_topics([TopicSpec("user", 2)])
    yield broker
    await broker.stop()


async def append(broker: MemoryBroker, partition: int, *times: int) -> None:
    await broker.append([Record("user", partition, None, str(time).encode(), [], time) for time in times])


def times_of(records: Sequence[StoredRecord]) -> list[int]:
    return [record.timestamp for record in records]


async def test_what_is_there_comes_in_the_order_of_time(broker: MemoryBroker) -> None:
    await append(broker, 0, 1, 4, 5, 9)
    await append(broker, 1, 2, 3, 7)
    seen = [record async for record in follow(broker, await broker.bounds(BOTH), live=False)]
    assert times_of(seen) == [1, 2, 3, 4, 5, 7, 9]


async def test_partition_keeps_its_own_order_whatever_its_times_say(broker: MemoryBroker) -> None:
    await append(broker, 0, 5, 1)
    await append(broker, 1, 3)
    seen = [record async for record in follow(broker, await broker.bounds(BOTH), live=False)]
    assert times_of([record for record in seen if record.partition == 0]) == [5, 1]


async def test_then_what_comes_is_followed(broker: MemoryBroker) -> None:
    await append(broker, 0, 1)
    seen: list[StoredRecord] = []

    async def watch() -> None:
        async with aclosing(follow(broker, await broker.bounds(BOTH), live=True)) as records:
            async for record in records:
                seen.append(record)

    watching = asyncio.create_task(watch())
    await wait_until(lambda: times_of(seen) == [1])
    await append(broker, 1, 2)
    await wait_until(lambda: times_of(seen) == [1, 2])
    await append(broker, 0, 3)
    await wait_until(lambda: times_of(seen) == [1, 2, 3])
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_reading_ends_when_the_iterator_is_closed(broker: MemoryBroker) -> None:
    before = asyncio.all_tasks()
    records = follow(broker, await broker.bounds(BOTH), live=True)
    waiting = asyncio.ensure_future(anext(records))
    await wait_until(lambda: len(asyncio.all_tasks() - before) == 3)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await records.aclose()
    assert asyncio.all_tasks() == before


async def test_error_of_a_reader_is_the_readers_error() -> None:
    class Away(MemoryBroker):
        async def read(self, *_: object, **__: object) -> None:
            raise BrokerUnavailable("away.")

    with pytest.raises(BrokerUnavailable):
        async for _ in follow(Away(VirtualClock()), {BOTH[0]: (0, 1)}, live=False):
            pass
