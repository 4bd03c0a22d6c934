from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial

import pytest

from playhead.broker.contract import TopicInfo
from playhead.broker.memory import MemoryBroker
from playhead.cli.following import follow
from playhead.cli.output import words
from playhead.cli.tail import _ranges, made_later
from playhead.errors import BrokerUnavailable, InvalidInput, NotAuthorized
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


async def test_partition_that_is_made_later_is_read_from_its_first_record_on(broker: MemoryBroker) -> None:
    made: asyncio.Queue[Partition] = asyncio.Queue()

    async def later() -> AsyncIterator[Partition]:
        while True:
            yield await made.get()

    async with aclosing(follow(broker, await broker.bounds(BOTH), live=True, later=later())) as records:
        await broker.create_topics([TopicSpec("order", 1)])
        await broker.append([Record("order", 0, None, b"x", [], 7)])
        made.put_nowait(Partition("order", 0))
        await append(broker, 0, 8)
        async with asyncio.timeout(10):
            seen = {(await anext(records)).topic, (await anext(records)).topic}
    assert seen == {"order", "user"}


async def test_error_of_who_looks_for_partitions_is_the_readers_error(broker: MemoryBroker) -> None:
    async def later() -> AsyncIterator[Partition]:
        raise NotAuthorized("no.")
        yield BOTH[0]

    with pytest.raises(NotAuthorized):
        async for _ in follow(broker, await broker.bounds(BOTH), live=True, later=later()):
            pass


class TestNoTopicYet:
    async def test_is_waited_for_and_said(self, broker: MemoryBroker, capsys: pytest.CaptureFixture[str]) -> None:
        words.cache_clear()  # a console keeps the stderr that it first had
        assert await _ranges(broker, "", "parcel.*", "now", wait=True) == {}
        assert "No topic matches 'parcel.*' yet; waiting for one. There are: user." in capsys.readouterr().err

    async def test_is_an_error_where_nobody_waits(self, broker: MemoryBroker) -> None:
        with pytest.raises(InvalidInput, match=r"no topic matches 'order\.\*'"):
            await _ranges(broker, "", "order.*", "now", wait=False)


class TestMadeLater:
    async def looks(
        self, broker: MemoryBroker, pattern: str, *between: Callable[[], Awaitable[object]]
    ) -> list[Partition]:
        """What is found by one look after each of `between`."""
        steps = iter(between)

        async def pause() -> None:
            step = next(steps, None)
            if step is None:
                raise asyncio.CancelledError
            await step()

        found = []
        with suppress(asyncio.CancelledError):
            async for partition in made_later(broker, "t.", pattern, [Partition("t.user", 0)], pause):
                found.append(partition)
        return found

    async def test_topic_is_told_once_at_the_second_look(self, broker: MemoryBroker) -> None:
        make = partial(broker.create_topics, [TopicSpec("t.user", 1), TopicSpec("t.order", 2)])
        assert await self.looks(broker, "*", make) == []
        both = [Partition("t.order", 0), Partition("t.order", 1)]
        assert await self.looks(broker, "*", make, make, make) == both

    @pytest.mark.parametrize("name", ["t.parcel", "t.run", "t.delay", "t.order.inbox", "other.order"])
    async def test_topic_that_has_no_matching_events_is_not_told(self, broker: MemoryBroker, name: str) -> None:
        make = partial(broker.create_topics, [TopicSpec(name, 1)])
        assert await self.looks(broker, "o*.placed", make, make) == []

    async def test_broker_that_is_away_is_asked_again(
        self, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        topics, away = broker.topics, [True, False, False]

        async def sometimes() -> list[TopicInfo]:
            if away.pop(0):
                raise BrokerUnavailable("away.")
            return await topics()

        monkeypatch.setattr(broker, "topics", sometimes)
        make = partial(broker.create_topics, [TopicSpec("t.order", 1)])
        assert await self.looks(broker, "*", make, make, make) == [Partition("t.order", 0)]


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
