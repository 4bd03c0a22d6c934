"""The broker contract: what a member fetches, from where, and when."""

from __future__ import annotations

import asyncio

import pytest

from playhead.broker.contract import Broker, Partition
from playhead.errors import CheckpointLost, Fenced
from tests.broker.provider import (
    Provider,
    append,
    join,
    new_topic,
    record,
    settled,
    sole_member,
    still_waits,
    two_members,
    values,
)


class TestRule7PartitionsAreHandedOverPaused:
    """Nothing is fetched before the engine has sought and resumed it."""

    async def test_nothing_comes_before_seek_and_resume(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, record(topic, 0, "a"))
        member = await sole_member(provider, topic, tasks=1)
        fetching = asyncio.create_task(member.fetch_all(1))
        assert await still_waits(fetching, client, partition)
        member.membership.seek(partition, 0)
        assert await still_waits(fetching, client, partition)
        member.membership.resume([partition])
        assert values(await fetching) == ["a"]

    async def test_partition_that_comes_back_is_paused_again(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 2)
        member = await sole_member(provider, topic, tasks=2)
        partitions = [Partition(topic, 0), Partition(topic, 1)]
        for partition in partitions:
            member.membership.seek(partition, 0)
        member.membership.resume(partitions)
        other = await join(provider, member.group, topic)
        await settled(member, other, tasks=2)
        await append(client, record(topic, 0, "a"), record(topic, 1, "b"))
        fetching = asyncio.create_task(member.fetch_all(1))
        assert await still_waits(fetching, client, partitions[0])
        (task,) = member.tasks
        member.membership.resume([partitions[task]])
        assert await still_waits(fetching, client, partitions[0])
        member.membership.seek(partitions[task], 0)
        assert values(await fetching) == ["ab"[task]]


class TestFetching:
    """A member gets the committed records of what it holds, in order."""

    async def test_records_come_in_order_from_where_it_sought(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, *(record(topic, 0, f"{i}") for i in range(10)))
        member = await sole_member(provider, topic, tasks=1)
        member.membership.seek(partition, 4)
        member.membership.resume([partition])
        assert values(await member.fetch_all(6)) == ["4", "5", "6", "7", "8", "9"]

    async def test_no_more_come_at_once_than_were_asked_for(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 2)
        await append(client, *(record(topic, i % 2, f"{i}") for i in range(40)))
        member = await sole_member(provider, topic, tasks=2)
        partitions = [Partition(topic, 0), Partition(topic, 1)]
        for partition in partitions:
            member.membership.seek(partition, 0)
        member.membership.resume(partitions)
        seen = 0
        async with asyncio.timeout(15):
            while seen < 40:
                batch = sum(len(records) for records in (await member.membership.fetch(7)).values())
                assert batch <= 7
                seen += batch

    async def test_busy_partition_does_not_starve_another(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 2)
        # More than a client reads ahead of one partition (1 MiB): within that much, it may serve one after the other.
        await append(client, *(record(topic, 0, "x" * 1_000) for _ in range(5_000)))
        await append(client, record(topic, 1, "other"))
        member = await sole_member(provider, topic, tasks=2)
        partitions = [Partition(topic, 0), Partition(topic, 1)]
        for partition in partitions:
            member.membership.seek(partition, 0)
        member.membership.resume(partitions)
        assert "other" in values(await member.fetch_all(4_000))

    async def test_fetch_waits_for_a_record_that_comes_later(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        member.membership.seek(partition, 0)
        member.membership.resume([partition])
        fetching = asyncio.create_task(member.fetch_all(1))
        assert await still_waits(fetching, client, partition)
        await append(client, record(topic, 0, "a"))
        assert values(await fetching) == ["a"]

    async def test_fetch_stops_before_an_open_transaction_and_skips_an_aborted_one(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, record(topic, 0, "a"))
        transaction = await provider.open_transaction([record(topic, 0, "aborted")])
        await append(client, record(topic, 0, "b"))
        member = await sole_member(provider, topic, tasks=1)
        member.membership.seek(partition, 0)
        member.membership.resume([partition])
        assert values(await member.fetch_all(1)) == ["a"]
        fetching = asyncio.create_task(member.fetch_all(1))
        assert await still_waits(fetching, client, partition)
        await transaction.abort()
        assert values(await fetching) == ["b"]

    async def test_paused_partition_gives_nothing_until_it_is_resumed(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 2)
        first, second = Partition(topic, 0), Partition(topic, 1)
        member = await sole_member(provider, topic, tasks=2)
        for partition in (first, second):
            member.membership.seek(partition, 0)
        member.membership.resume([first, second])
        await append(client, record(topic, 0, "a"))
        assert values(await member.fetch_all(1)) == ["a"]
        member.membership.pause([first])
        await append(client, record(topic, 0, "b"), record(topic, 1, "c"))
        assert values(await member.fetch_all(1)) == ["c"]
        fetching = asyncio.create_task(member.fetch_all(1))
        assert await still_waits(fetching, client, first)
        member.membership.resume([first])
        assert values(await fetching) == ["b"]

    async def test_pause_loses_and_repeats_nothing(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, *(record(topic, 0, f"{i}") for i in range(100)))
        member = await sole_member(provider, topic, tasks=1)
        member.membership.seek(partition, 0)
        fetched: list[str | None] = []
        async with asyncio.timeout(15):
            while len(fetched) < 100:
                member.membership.resume([partition])
                fetched += values((await member.membership.fetch(9)).get(partition, ()))
                member.membership.pause([partition])
        assert fetched == [f"{i}" for i in range(100)]

    async def test_seek_back_fetches_again(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, *(record(topic, 0, f"{i}") for i in range(3)))
        member = await sole_member(provider, topic, tasks=1)
        member.membership.seek(partition, 0)
        member.membership.resume([partition])
        assert values(await member.fetch_all(3)) == ["0", "1", "2"]
        member.membership.seek(partition, 1)
        assert values(await member.fetch_all(2)) == ["1", "2"]

    async def test_partitions_that_it_does_not_hold_are_passed_over(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 2)
        first, second = await two_members(provider, topic, tasks=2)
        await append(client, record(topic, 0, "0"), record(topic, 1, "1"))
        both = [Partition(topic, 0), Partition(topic, 1)]
        for partition in both:
            first.membership.seek(partition, 0)
        first.membership.pause(both)
        first.membership.resume(both)
        (task,) = first.tasks
        assert values(await first.fetch_all(1)) == [f"{task}"]
        first.membership.pause([Partition(topic, task) for task in second.tasks])

    async def test_leaving_ends_a_fetch_that_waits(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        member = await sole_member(provider, topic, tasks=1)
        fetching = asyncio.create_task(member.membership.fetch(10))
        assert await still_waits(fetching, client, Partition(topic, 0))
        await member.membership.leave()
        async with asyncio.timeout(10):
            (ended,) = await asyncio.gather(fetching, return_exceptions=True)
        assert ended == {} or isinstance(ended, Fenced)

    async def test_member_that_has_left_fetches_nothing_more(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        member = await sole_member(provider, topic, tasks=1)
        await append(client, record(topic, 0, "a"))
        await member.membership.leave()
        with pytest.raises(Fenced):
            await member.membership.fetch(10)


class TestLostPositions:
    """A position that is outside the log is an error; it is never moved into it (rule 5)."""

    async def test_position_before_the_log_is_a_lost_checkpoint(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, *(record(topic, 0, f"{i}") for i in range(10)))
        await provider.trim(partition, 5)
        member = await sole_member(provider, topic, tasks=1)
        member.membership.seek(partition, 4)
        member.membership.resume([partition])
        with pytest.raises(CheckpointLost):
            await member.fetch_all(1)

    async def test_position_after_the_log_is_a_lost_checkpoint(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, record(topic, 0, "a"))
        member = await sole_member(provider, topic, tasks=1)
        member.membership.seek(partition, 2)
        member.membership.resume([partition])
        with pytest.raises(CheckpointLost):
            await member.fetch_all(1)

    async def test_seek_into_the_log_mends_it(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, *(record(topic, 0, f"{i}") for i in range(10)))
        await provider.trim(partition, 5)
        member = await sole_member(provider, topic, tasks=1)
        member.membership.seek(partition, 0)
        member.membership.resume([partition])
        with pytest.raises(CheckpointLost):
            await member.fetch_all(1)
        member.membership.seek(partition, 8)
        assert values(await member.fetch_all(2)) == ["8", "9"]
