"""The broker contract: groups, their members and generations."""

from __future__ import annotations

import asyncio

import pytest

from playhead.broker.contract import Broker, Committed, Epoch, Mark, Outcome, Partition
from playhead.errors import InvalidInput, UnknownTopic
from playhead.topics import TopicSpec
from tests.broker.provider import (
    Provider,
    append,
    join,
    new_topic,
    read_all,
    record,
    settled,
    sole_member,
    two_members,
    unique,
    values,
)
from tests.waiting import wait_until


class TestDividingTasks:
    """Every task has exactly one owner; shares are even; few tasks move."""

    async def test_sole_member_holds_every_task(self, provider: Provider, client: Broker) -> None:
        member = await sole_member(provider, await new_topic(client, 4), tasks=4)
        assert member.tasks == {0, 1, 2, 3}

    async def test_two_members_hold_half_each(self, provider: Provider, client: Broker) -> None:
        first, second = await two_members(provider, await new_topic(client, 4), tasks=4)
        assert (len(first.tasks), len(second.tasks)) == (2, 2)

    async def test_third_member_gets_its_share(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 6)
        first, second = await two_members(provider, topic, tasks=6)
        third = await join(provider, first.group, topic)
        await settled(first, second, third, tasks=6)
        assert [len(member.tasks) for member in (first, second, third)] == [2, 2, 2]

    async def test_member_that_no_task_is_left_for_holds_none(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        first, second = await two_members(provider, topic, tasks=1)
        assert sorted([first.tasks, second.tasks], key=len) == [frozenset(), {0}]

    async def test_task_is_the_same_partition_of_every_topic(self, provider: Provider, client: Broker) -> None:
        small, large = await new_topic(client, 2), await new_topic(client, 4)
        first, second = await two_members(provider, small, large, tasks=4)
        members = (await client.describe_group(first.group)).members
        for member in (first, second):
            assert members[member.epoch.member_id] == {
                Partition(topic, task)
                for task in member.tasks
                for topic in (small, large)
                if topic == large or task < 2
            }

    async def test_members_on_different_clients_divide_the_tasks(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 4)
        first = await sole_member(provider, topic, tasks=4)
        second = await join(provider, first.group, topic, broker=await provider.another_client())
        await settled(first, second, tasks=4)
        assert (len(first.tasks), len(second.tasks)) == (2, 2)

    async def test_groups_do_not_divide_with_each_other(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 4)
        first, second = await sole_member(provider, topic, tasks=4), await sole_member(provider, topic, tasks=4)
        assert first.tasks == second.tasks == {0, 1, 2, 3}

    async def test_members_that_stay_keep_their_tasks(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 6)
        first, second = await two_members(provider, topic, tasks=6)
        held = [first.tasks, second.tasks]
        third = await join(provider, first.group, topic)
        await settled(first, second, third, tasks=6)
        assert first.tasks <= held[0]
        assert second.tasks <= held[1]
        held = [first.tasks, second.tasks]
        await third.membership.leave()
        await settled(first, second, tasks=6)
        assert first.tasks >= held[0]
        assert second.tasks >= held[1]

    async def test_added_partitions_come_as_new_tasks_without_checkpoint(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 2)
        member = await sole_member(provider, topic, tasks=2)
        await member.membership.commit(member.commit_of({Partition(topic, task): 0 for task in range(2)}))
        await provider.add_partitions(topic, 3)
        await settled(member, tasks=3)
        checkpoints = await member.membership.checkpoints(Partition(topic, task) for task in range(3))
        assert checkpoints == {Partition(topic, 0): Mark(0), Partition(topic, 1): Mark(0), Partition(topic, 2): None}


class TestDeletedTopics:
    """A topic that is deleted leaves its members in the group, with nothing."""

    async def test_members_of_a_deleted_topic_hold_no_task_until_it_is_made_again(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 2)
        before = (await client.topic(topic)).id
        member = await sole_member(provider, topic, tasks=2)
        await member.membership.commit(member.commit_of({Partition(topic, 0): 0}))
        await member.membership.checkpoints([Partition(topic, 0)])  # stable
        await provider.delete_topic(topic)
        await settled(member, tasks=0)
        with pytest.raises(UnknownTopic):
            await client.topic(topic, fresh=True)
        await client.create_topics([TopicSpec(topic, 2)])
        await settled(member, tasks=2)
        assert (await client.topic(topic, fresh=True)).id != before
        assert await member.membership.checkpoints([Partition(topic, 0)]) == {Partition(topic, 0): None}


class TestGenerations:
    """Nobody is given a task before everybody has let go."""

    async def test_next_generation_waits_until_everybody_has_let_go(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 4)
        first = await sole_member(provider, topic, tasks=4)
        asked, may_go = asyncio.Event(), asyncio.Event()

        async def take_time(epoch: Epoch) -> None:
            asked.set()
            await may_go.wait()

        first.owner.before_release = take_time
        old = first.epoch
        second = await join(provider, first.group, topic)
        try:
            async with asyncio.timeout(15):
                await asked.wait()
            for _ in range(10):
                await client.describe_group(first.group)
            assert second.owner.told == []
            assert first.epoch == old
        finally:
            may_go.set()
        await settled(first, second, tasks=4)
        assert first.owner.told[-2:] == [("revoked", old), ("assigned", first.epoch)]

    async def test_commit_can_be_finished_while_letting_go(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 4)
        first = await sole_member(provider, topic, tasks=4)
        partition = Partition(topic, 0)
        outcomes: list[Outcome] = []

        async def finish(epoch: Epoch) -> None:
            first.owner.before_release = None
            commit = first.commit_of({partition: 1}, [record(topic, 0, "a")])
            outcomes.append(await first.membership.commit(commit))

        first.owner.before_release = finish
        second = await join(provider, first.group, topic)
        await settled(first, second, tasks=4)
        assert outcomes == [Committed()]
        assert values(await read_all(client, partition)) == ["a"]
        assert await second.membership.checkpoints([partition]) == {partition: Mark(1)}

    async def test_generations_rise_and_are_told_one_after_the_other(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 4)
        first, second = await two_members(provider, topic, tasks=4)
        await second.membership.leave()
        await settled(first, tasks=4)
        told = first.owner.told
        assert [word for word, _ in told] == ["assigned", "revoked"] * (len(told) // 2) + ["assigned"]
        generations = [epoch.generation for word, epoch in told if word == "assigned"]
        assert generations == sorted(set(generations))
        for (_, given), (_, taken) in zip(told[::2], told[1::2], strict=False):
            assert given is taken or given == taken

    async def test_epoch_names_the_writers_of_all_members(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 4)
        first, second = await two_members(provider, topic, tasks=4)
        writers = {first.membership.writer, second.membership.writer}
        assert len(writers) == 2
        assert first.epoch.writers == second.epoch.writers == writers
        await second.membership.leave()
        await settled(first, tasks=4)
        assert first.epoch.writers == {first.membership.writer}

    async def test_writer_has_a_name_of_its_own_after_the_group_was_empty(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 1)
        first = await sole_member(provider, topic, tasks=1)
        await first.membership.leave()
        second = await sole_member(provider, topic, tasks=1, group=first.group)
        assert first.membership.writer != second.membership.writer

    async def test_leaving_member_is_told_and_the_others_take_over_at_once(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 4)
        first, second = await two_members(provider, topic, tasks=4)
        epoch = second.epoch
        await second.membership.leave()
        assert second.owner.told[-1] == ("revoked", epoch)
        # A session lasts 10 s: less than that shows that nobody waited for one to end.
        await wait_until(lambda: first.tasks == {0, 1, 2, 3}, seconds=7)

    async def test_leaving_twice_is_leaving_once(self, provider: Provider, client: Broker) -> None:
        member = await sole_member(provider, await new_topic(client, 1), tasks=1)
        await member.membership.leave()
        await member.membership.leave()
        assert [word for word, _ in member.owner.told] == ["assigned", "revoked"]

    async def test_expelled_member_learns_of_it_and_joins_again(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 4)
        first, second = await two_members(provider, topic, tasks=4)
        old = second.epoch
        await provider.expel(second)
        await wait_until(lambda: ("revoked", old) in second.owner.told)
        await settled(first, second, tasks=4)
        assert second.epoch.generation > old.generation
        partition = Partition(topic, min(second.tasks))
        assert await second.membership.commit(second.commit_of({partition: 0})) == Committed()

    async def test_heartbeats_are_answered(self, provider: Provider, client: Broker) -> None:
        member = await sole_member(provider, await new_topic(client, 1), tasks=1)
        first = member.membership.last_heartbeat
        silent = asyncio.create_task(member.membership.silent(member.membership.session_seconds))
        await wait_until(lambda: member.membership.last_heartbeat > first)
        assert not silent.done()
        silent.cancel()


class TestDescribingGroups:
    """A group is described as it is."""

    async def test_group_is_described_with_members_and_checkpoints(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 4)
        first, second = await two_members(provider, topic, tasks=4)
        task = min(first.tasks)
        await first.membership.commit(first.commit_of({Partition(topic, task): Mark(7, "text")}))
        await first.membership.checkpoints([Partition(topic, task)])  # once it is stable
        info = await client.describe_group(first.group)
        assert (info.name, info.state) == (first.group, "stable")
        assert info.members == {
            member.epoch.member_id: {Partition(topic, task) for task in member.tasks} for member in (first, second)
        }
        assert info.checkpoints == {Partition(topic, task): Mark(7, "text")}

    async def test_checkpoints_outlive_the_members(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        member = await sole_member(provider, topic, tasks=1)
        await member.membership.commit(member.commit_of({Partition(topic, 0): 3}))
        await member.membership.checkpoints([Partition(topic, 0)])  # once it is stable
        await member.membership.leave()
        info = await client.describe_group(member.group)
        assert (info.state, info.members) == ("empty", {})
        assert info.checkpoints == {Partition(topic, 0): Mark(3)}

    async def test_group_that_never_was_has_nothing(self, client: Broker) -> None:
        info = await client.describe_group(unique("group"))
        assert (info.members, info.checkpoints) == ({}, {})
        assert info.state in {"empty", "dead"}


class TestResettingGroups:
    """An operator sets a group's checkpoints while nobody works on it."""

    async def test_next_member_starts_from_what_was_set(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 2)
        group = unique("group")
        marks = {Partition(topic, 0): Mark(2, "set"), Partition(topic, 1): Mark(0)}
        await append(client, *(record(topic, 0, f"{i}") for i in range(3)))
        await client.reset_group(group, marks)
        member = await sole_member(provider, topic, tasks=2, group=group)
        assert await member.membership.checkpoints(marks) == marks

    async def test_group_with_members_is_not_reset(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        member = await sole_member(provider, topic, tasks=1)
        with pytest.raises(InvalidInput):
            await client.reset_group(member.group, {Partition(topic, 0): Mark(2)})
        assert await member.membership.checkpoints([Partition(topic, 0)]) == {Partition(topic, 0): None}

    async def test_group_is_reset_again_after_its_members_left(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        await member.membership.commit(member.commit_of({partition: Mark(9, "nine")}))
        await member.membership.leave()
        await client.reset_group(member.group, {partition: Mark(1)})
        later = await sole_member(provider, topic, tasks=1, group=member.group)
        assert await later.membership.checkpoints([partition]) == {partition: Mark(1)}
