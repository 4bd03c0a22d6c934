"""What a test can do to the broker in memory, on a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from playhead.broker.contract import (
    Appended,
    Commit,
    Committed,
    Epoch,
    Fenced,
    Mark,
    Partition,
    Record,
    Refused,
    Unknown,
)
from playhead.broker.memory import MemoryBroker, MemoryMembership
from playhead.errors import BrokerUnavailable
from playhead.testing.virtual_clock import VirtualClock, drain
from playhead.topics import TopicSpec
from tests.broker.provider import Owner, record, values

TOPIC = "user"
FIRST, SECOND = Partition(TOPIC, 0), Partition(TOPIC, 1)


class World(NamedTuple):
    """A broker with one topic of two partitions, on a virtual clock."""

    clock: VirtualClock
    broker: MemoryBroker

    async def join(self, group: str = "group") -> tuple[MemoryMembership, Owner]:
        owner = Owner()
        membership = await self.broker.join(group, [TOPIC], owner)
        await drain()
        return membership, owner

    def seen(self) -> list[str | None]:
        return values(self.broker.stored(TOPIC))

    def stable_end(self, partition: Partition) -> int:
        return self.broker.log(partition).last_stable_offset


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = VirtualClock()
    broker = MemoryBroker(clock)
    await broker.start()
    await broker.create_topics([TopicSpec(TOPIC, 2)])
    yield World(clock, broker)
    await broker.stop()


def commit_in(owner: Owner, *records: Record, offset: int = 1) -> Commit:
    """A commit of the first of the owner's tasks."""
    assert owner.epoch is not None
    return Commit(owner.epoch, {Partition(TOPIC, min(owner.epoch.tasks)): Mark(offset)}, records)


class TestHangingCommits:
    """A transaction whose writer has died is open until somebody ends it."""

    async def test_it_holds_readers_until_its_writer_is_freed(self, world: World) -> None:
        dead, owner = await world.join()
        other, _ = await world.join("other")
        world.broker.faults.next_commit = "hang"
        committing = asyncio.create_task(dead.commit(commit_in(owner, record(TOPIC, 0, "open"))))
        await world.clock.advance(10)
        await world.broker.append([record(TOPIC, 0, "behind")])
        assert world.seen() == []
        await other.free_writers([dead.writer])
        await drain()
        assert committing.done()
        assert isinstance(await committing, Fenced)
        assert world.seen() == ["behind"]

    async def test_it_is_aborted_after_the_transaction_timeout(self, world: World) -> None:
        membership, owner = await world.join()
        old_writer = membership.writer
        world.broker.faults.next_commit = "hang"
        committing = asyncio.create_task(membership.commit(commit_in(owner, record(TOPIC, 0, "open"))))
        await world.clock.advance(14.9)
        assert not committing.done()
        await world.clock.advance(0.1)
        assert committing.done()
        assert isinstance(await committing, Unknown)
        assert world.seen() == []
        assert world.stable_end(FIRST) == 2
        await drain()
        assert membership.writer != old_writer
        assert await membership.commit(commit_in(owner)) == Committed()

    async def test_it_stays_open_when_the_one_who_waited_is_cancelled(self, world: World) -> None:
        membership, owner = await world.join()
        world.broker.faults.next_commit = "hang"
        committing = asyncio.create_task(membership.commit(commit_in(owner, record(TOPIC, 0, "open"))))
        await drain()
        committing.cancel()
        await world.clock.advance(14.9)
        assert world.stable_end(FIRST) == 0
        await world.clock.advance(0.1)
        assert world.stable_end(FIRST) == 2

    async def test_only_the_next_commit_hangs(self, world: World) -> None:
        first, first_owner = await world.join()
        second, second_owner = await world.join("other")
        world.broker.faults.next_commit = "hang"
        hanging = asyncio.create_task(first.commit(commit_in(first_owner)))
        await drain()
        assert await second.commit(commit_in(second_owner)) == Committed()
        assert not hanging.done()
        hanging.cancel()


class TestCancelledCommits:
    """A commit that is cancelled leaves nothing open, unless its process is dead."""

    async def test_nothing_is_left_open(self, world: World) -> None:
        membership, owner = await world.join()
        world.broker.commit_latency_seconds = 1.0
        committing = asyncio.create_task(membership.commit(commit_in(owner, record(TOPIC, 0, "cut off"))))
        await world.clock.advance(0.5)
        committing.cancel()
        await drain()
        assert world.stable_end(FIRST) == 2
        assert world.seen() == []
        assert await membership.checkpoints([FIRST]) == {FIRST: None}

    async def test_frozen_member_leaves_its_transaction_open(self, world: World) -> None:
        membership, owner = await world.join()
        world.broker.commit_latency_seconds = 1.0
        committing = asyncio.create_task(membership.commit(commit_in(owner, record(TOPIC, 0, "cut off"))))
        await world.clock.advance(0.5)
        world.broker.freeze(membership)
        committing.cancel()
        await drain()
        assert world.stable_end(FIRST) == 0


class TestLatencies:
    """A commit takes as long as the test wants, on the test's clock."""

    async def test_commit_ends_after_its_latency(self, world: World) -> None:
        membership, owner = await world.join()
        world.broker.commit_latency_seconds = 0.05
        committing = asyncio.create_task(membership.commit(commit_in(owner, record(TOPIC, 0, "a"))))
        await world.clock.advance(0.049)
        assert not committing.done()
        assert world.seen() == []
        await world.clock.advance(0.001)
        assert await committing == Committed()
        assert world.seen() == ["a"]

    async def test_commit_takes_a_turn_of_the_loop_even_so(self, world: World) -> None:
        membership, owner = await world.join()
        committing = asyncio.create_task(membership.commit(commit_in(owner)))
        await asyncio.sleep(0)
        assert not committing.done()
        assert await committing == Committed()

    async def test_markers_come_later_than_the_outcome(self, world: World) -> None:
        membership, owner = await world.join()
        world.broker.marker_latency_seconds = 0.05
        assert await membership.commit(commit_in(owner, record(TOPIC, 0, "a"))) == Committed()
        fetching = asyncio.create_task(membership.checkpoints([FIRST]))
        await world.clock.advance(0.049)
        assert world.seen() == []
        assert not fetching.done()
        await world.clock.advance(0.001)
        assert world.seen() == ["a"]
        assert await fetching == {FIRST: Mark(1)}

    async def test_freeing_a_writer_completes_what_was_decided(self, world: World) -> None:
        membership, owner = await world.join()
        other, _ = await world.join("other")
        world.broker.marker_latency_seconds = 60.0
        assert await membership.commit(commit_in(owner, record(TOPIC, 0, "a"))) == Committed()
        await other.free_writers([membership.writer])
        assert world.seen() == ["a"]

    async def test_of_two_checkpoints_whose_markers_cross_the_later_one_stays(self, world: World) -> None:
        membership, owner = await world.join()
        world.broker.marker_latency_seconds = 60.0
        assert await membership.commit(commit_in(owner, offset=1)) == Committed()
        world.broker.marker_latency_seconds = 0.0
        assert await membership.commit(commit_in(owner, offset=2)) == Committed()
        await world.clock.advance(60)
        assert await membership.checkpoints([FIRST]) == {FIRST: Mark(2)}


class TestUnavailableBroker:
    """Nothing is answered while the broker is away."""

    async def test_appends_and_commits_write_nothing(self, world: World) -> None:
        membership, owner = await world.join()
        world.broker.faults.unavailable = True
        (result,) = await world.broker.append([record(TOPIC, 0, "a")])
        assert isinstance(result, BrokerUnavailable)
        assert isinstance(await membership.commit(commit_in(owner, record(TOPIC, 0, "b"))), Unknown)
        world.broker.faults.unavailable = False
        assert world.broker.stored(TOPIC, committed=False) == []
        assert await world.broker.append([record(TOPIC, 0, "c")]) == [Appended(TOPIC, 0, 0)]

    async def test_fetch_that_waits_is_told(self, world: World) -> None:
        membership, _ = await world.join()
        fetching = asyncio.create_task(membership.fetch(10))
        await drain()
        world.broker.faults.unavailable = True
        with pytest.raises(BrokerUnavailable):
            await fetching

    async def test_questions_are_not_answered(self, world: World) -> None:
        membership, _ = await world.join()
        world.broker.faults.unavailable = True
        for question in (
            membership.checkpoints([FIRST]),
            membership.unstable_checkpoints([FIRST]),
            membership.free_writers(["writer"]),
            world.broker.bounds([FIRST]),
            world.broker.topic(TOPIC),
            world.broker.topics(),
            world.broker.describe_group("group"),
            world.broker.start(),
        ):
            with pytest.raises(BrokerUnavailable):
                await question

    async def test_heartbeats_stop_and_begin_again(self, world: World) -> None:
        membership, _ = await world.join()
        await world.clock.advance(5)
        assert membership.last_heartbeat == 4
        world.broker.faults.unavailable = True
        await world.clock.advance(60)
        assert membership.last_heartbeat == 4
        world.broker.faults.unavailable = False
        assert membership.last_heartbeat == 64

    async def test_silence_is_told_when_it_has_lasted_that_long_and_nobody_looks_before_it_begins(
        self, world: World
    ) -> None:
        membership, _ = await world.join()
        telling = asyncio.create_task(membership.silent(6))
        await world.clock.advance(0)
        assert world.clock.next_due is None
        await world.clock.advance(101)
        world.broker.faults.unavailable = True
        await world.clock.advance(4.9)  # the last heartbeat was at 100
        assert not telling.done()
        world.broker.faults.unavailable = False
        await world.clock.advance(100)
        assert not telling.done()
        world.broker.faults.unavailable = True
        await world.clock.advance(6)
        assert telling.done()
        await asyncio.wait_for(membership.silent(6), 1)  # at once


class TestRefusedRecords:
    """A test says which records the broker refuses."""

    async def test_commit_names_them_all(self, world: World) -> None:
        membership, owner = await world.join()
        world.broker.faults.refuse = lambda refused: refused.value in {b"b", b"d"}
        commit = commit_in(owner, *(record(TOPIC, 0, value) for value in "abcd"))
        outcome = await membership.commit(commit)
        assert isinstance(outcome, Refused)
        assert outcome.suspects == (1, 3)
        assert world.broker.stored(TOPIC, committed=False) == []

    async def test_append_writes_the_others(self, world: World) -> None:
        world.broker.faults.refuse = lambda refused: refused.value == b"b"
        results = await world.broker.append([record(TOPIC, 0, value) for value in "abc"])
        assert [isinstance(result, Appended) for result in results] == [True, False, True]
        assert world.seen() == ["a", "c"]


class TestFrozenMembers:
    """A stopped process keeps its tasks until its session ends, and then has lost them without knowing."""

    async def test_its_tasks_move_when_its_session_ends(self, world: World) -> None:
        frozen, frozen_owner = await world.join()
        _, other_owner = await world.join()
        world.broker.freeze(frozen)
        await world.clock.advance(9.9)
        assert other_owner.epoch is not None
        assert len(other_owner.epoch.tasks) == 1
        await world.clock.advance(0.1)
        assert other_owner.epoch.tasks == {0, 1}
        assert frozen.last_heartbeat == 0
        assert frozen_owner.epoch is not None

    async def test_its_commit_is_fenced(self, world: World) -> None:
        frozen, owner = await world.join()
        await world.join()
        commit = commit_in(owner, record(TOPIC, 0, "zombie"))
        world.broker.freeze(frozen)
        await world.clock.advance(10)
        assert isinstance(await frozen.commit(commit), Fenced)
        assert world.seen() == []

    async def test_it_comes_back_under_another_name_when_it_thaws(self, world: World) -> None:
        frozen, owner = await world.join()
        _, other_owner = await world.join()
        old, old_writer = owner.epoch, frozen.writer
        assert old is not None
        world.broker.freeze(frozen)
        await world.clock.advance(60)
        assert owner.epoch is old
        world.broker.thaw(frozen)
        await world.clock.advance(2)
        assert ("revoked", old) in owner.told
        assert owner.epoch is not None
        assert other_owner.epoch is not None
        assert owner.epoch.tasks | other_owner.epoch.tasks == {0, 1}
        assert owner.epoch.member_id != old.member_id
        assert frozen.writer != old_writer
        assert await frozen.commit(commit_in(owner)) == Committed()

    async def test_short_freeze_costs_nothing(self, world: World) -> None:
        membership, owner = await world.join()
        await world.clock.advance(1)
        world.broker.freeze(membership)
        await world.clock.advance(5)
        world.broker.thaw(membership)
        await world.clock.advance(60)
        assert [word for word, _ in owner.told] == ["assigned"]
        assert membership.last_heartbeat == 66

    async def test_second_freeze_has_a_session_of_its_own(self, world: World) -> None:
        membership, owner = await world.join()
        world.broker.freeze(membership)
        await world.clock.advance(6)
        world.broker.thaw(membership)
        world.broker.freeze(membership)
        await world.clock.advance(6)
        assert membership._member.id in world.broker.group("group").members
        await world.clock.advance(4)
        assert membership._member.id not in world.broker.group("group").members
        assert owner.epoch is not None

    async def test_rebalance_waits_for_it_until_its_session_ends(self, world: World) -> None:
        frozen, _ = await world.join()
        world.broker.freeze(frozen)
        _, newcomer = await world.join()
        await world.clock.advance(9.9)
        assert newcomer.epoch is None
        await world.clock.advance(0.1)
        assert newcomer.epoch is not None
        assert newcomer.epoch.tasks == {0, 1}


class TestSlowOwners:
    """Who does not let go within the rebalance timeout is out of the group."""

    async def test_group_goes_on_without_it(self, world: World) -> None:
        _, slow = await world.join()
        never = asyncio.Event()

        async def take_for_ever(epoch: Epoch) -> None:
            await never.wait()

        slow.before_release = take_for_ever
        _, newcomer = await world.join()
        await world.clock.advance(19.9)
        assert newcomer.epoch is None
        await world.clock.advance(0.1)
        assert newcomer.epoch is not None
        assert newcomer.epoch.tasks == {0, 1}
        never.set()

    async def test_it_comes_back_once_it_has_let_go(self, world: World) -> None:
        _, slow = await world.join()
        let_go = asyncio.Event()

        async def take_long(epoch: Epoch) -> None:
            await let_go.wait()

        slow.before_release = take_long
        _, newcomer = await world.join()
        await world.clock.advance(30)
        let_go.set()
        await world.clock.advance(5)
        assert slow.epoch is not None
        assert newcomer.epoch is not None
        assert slow.epoch.tasks | newcomer.epoch.tasks == {0, 1}
        assert slow.epoch.generation == newcomer.epoch.generation


class TestOneLogForAll:
    """Every client is the same object, and the log outlives them."""

    async def test_log_stays_when_one_client_stops(self, world: World) -> None:
        await world.broker.start()
        await world.broker.append([record(TOPIC, 0, "a")])
        await world.broker.stop()
        _, owner = await world.join()
        assert owner.epoch is not None
        assert world.seen() == ["a"]

    async def test_dropped_tombstones_leave_gaps(self, world: World) -> None:
        await world.broker.append(
            [record(TOPIC, 0, "a", key="k"), record(TOPIC, 0, None, key="k"), record(TOPIC, 0, "b", key="l")]
        )
        world.broker.compact(TOPIC, drop_tombstones=True)
        assert [r.offset for r in world.broker.stored(TOPIC)] == [2]
        assert (await world.broker.bounds([FIRST, SECOND])) == {FIRST: (0, 3), SECOND: (0, 0)}
