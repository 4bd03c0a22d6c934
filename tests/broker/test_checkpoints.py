"""The broker contract: checkpoints."""

from __future__ import annotations

import asyncio

import pytest

from playhead.broker.contract import METADATA_LIMIT_BYTES, Broker, Committed, Mark, Partition
from tests.broker.provider import (
    Provider,
    append,
    new_topic,
    record,
    sole_member,
    still_waits,
    two_members,
)


class TestCheckpoints:
    """What was committed is what is answered."""

    async def test_every_later_fetch_shows_a_commit(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        for i in range(30):
            commit = member.commit_of({partition: Mark(i, f"text {i}")}, [record(topic, 0, f"{i}")])
            assert await member.membership.commit(commit) == Committed()
            assert await member.membership.checkpoints([partition]) == {partition: Mark(i, f"text {i}")}

    async def test_metadata_as_long_as_it_may_be_comes_back(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        mark = Mark(1, "0123456789" * (METADATA_LIMIT_BYTES // 10))
        assert len(mark.metadata) == METADATA_LIMIT_BYTES
        assert await member.membership.commit(member.commit_of({partition: mark})) == Committed()
        assert await member.membership.checkpoints([partition]) == {partition: mark}

    async def test_metadata_that_is_longer_is_a_mistake(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        with pytest.raises(ValueError, match="metadata"):
            await member.membership.commit(member.commit_of({partition: Mark(1, "x" * (METADATA_LIMIT_BYTES + 1))}))
        assert await member.membership.checkpoints([partition]) == {partition: None}

    async def test_member_reads_the_checkpoints_of_tasks_that_it_does_not_hold(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 2)
        first, second = await two_members(provider, topic, tasks=2)
        (task,) = second.tasks
        await second.membership.commit(second.commit_of({Partition(topic, task): 3}))
        assert await first.membership.checkpoints([Partition(topic, task)]) == {Partition(topic, task): Mark(3)}

    async def test_groups_have_checkpoints_of_their_own(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        first, second = [await sole_member(provider, topic, tasks=1) for _ in range(2)]
        await first.membership.commit(first.commit_of({partition: 3}))
        assert await second.membership.checkpoints([partition]) == {partition: None}


class TestRule4OnlyStableCheckpointsAreAnswered:
    """A fetch waits while a transaction holds a checkpoint of the partition open."""

    async def test_fetch_waits_for_the_end_of_the_transaction(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        await member.membership.commit(member.commit_of({partition: 1}))
        transaction = await provider.open_transaction([record(topic, 0, "a")], member.group, {partition: Mark(2)})
        fetching = asyncio.create_task(member.membership.checkpoints([partition]))
        assert await still_waits(fetching, client, partition)
        await transaction.commit()
        assert await fetching == {partition: Mark(2)}

    async def test_fetch_answers_the_last_stable_one_after_an_abort(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        await member.membership.commit(member.commit_of({partition: Mark(1, "stable")}))
        transaction = await provider.open_transaction([record(topic, 0, "a")], member.group, {partition: Mark(2)})
        fetching = asyncio.create_task(member.membership.checkpoints([partition]))
        assert await still_waits(fetching, client, partition)
        await transaction.abort()
        assert await fetching == {partition: Mark(1, "stable")}

    async def test_unstable_checkpoints_do_not_wait(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        await member.membership.commit(member.commit_of({partition: Mark(1, "stable")}))
        assert await member.membership.checkpoints([partition]) == {partition: Mark(1, "stable")}
        await provider.open_transaction([record(topic, 0, "a")], member.group, {partition: Mark(2)})
        async with asyncio.timeout(10):
            answer = await member.membership.unstable_checkpoints([partition])
        assert answer == {partition: Mark(1, "stable")}

    async def test_other_partitions_are_not_held_up(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 2)
        member = await sole_member(provider, topic, tasks=2)
        held, free = Partition(topic, 0), Partition(topic, 1)
        await provider.open_transaction([record(topic, 0, "a")], member.group, {held: Mark(2)})
        async with asyncio.timeout(10):
            assert await member.membership.checkpoints([free]) == {free: None}


class TestRule8CheckpointsCarryLeaderEpochs:
    """The epoch of what was fetched is committed, and says where the log's records of that epoch end."""

    async def test_commit_carries_the_epoch_of_what_was_fetched(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, *(record(topic, 0, f"{i}") for i in range(3)))
        member = await sole_member(provider, topic, tasks=1)
        member.membership.seek(partition, 0)
        member.membership.resume([partition])
        await member.fetch_all(3)
        await member.membership.commit(member.commit_of({partition: Mark(2, "text")}))
        mark = (await member.membership.checkpoints([partition]))[partition]
        assert mark is not None
        assert mark[:2] == (2, "text")
        assert mark.leader_epoch >= 0
        assert await client.ends_of_epochs({partition: mark.leader_epoch}) == {partition: 3}

    async def test_successor_that_fetches_nothing_keeps_the_epoch(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, record(topic, 0, "a"))
        first = await sole_member(provider, topic, tasks=1)
        first.membership.seek(partition, 0)
        first.membership.resume([partition])
        await first.fetch_all(1)
        await first.membership.commit(first.commit_of({partition: 1}))
        await first.membership.leave()
        second = await sole_member(provider, topic, tasks=1, group=first.group)
        before = await second.membership.checkpoints([partition])
        await second.membership.commit(second.commit_of({partition: Mark(1, "second")}))
        after = await second.membership.checkpoints([partition])
        assert before[partition] is not None
        assert after == {partition: Mark(1, "second", before[partition].leader_epoch)}
        assert before[partition].leader_epoch >= 0

    async def test_epoch_that_the_log_has_not_had_ends_at_0(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, record(topic, 0, "a"))
        assert await client.ends_of_epochs({partition: 1_000}) == {partition: 0}

    async def test_mark_that_nothing_was_fetched_for_has_no_epoch(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        await member.membership.commit(member.commit_of({partition: 0}))
        assert await member.membership.checkpoints([partition]) == {partition: Mark(0, "", -1)}


class TestRule5NoAutomaticReset:
    """Nobody but the engine decides where a group begins."""

    async def test_partition_without_checkpoint_answers_none(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 2)
        await append(client, *(record(topic, 0, f"{i}") for i in range(3)))
        member = await sole_member(provider, topic, tasks=2)
        partitions = [Partition(topic, 0), Partition(topic, 1)]
        assert await member.membership.checkpoints(partitions) == dict.fromkeys(partitions)
        assert await member.membership.unstable_checkpoints(partitions) == dict.fromkeys(partitions)

    async def test_partition_that_was_never_sought_is_not_fetched(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, record(topic, 0, "a"))
        member = await sole_member(provider, topic, tasks=1)
        member.membership.resume([partition])
        fetching = asyncio.create_task(member.fetch_all(1))
        assert await still_waits(fetching, client, partition)
        fetching.cancel()
