"""The broker contract: commits. All or nothing, and fenced."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from playhead.broker.contract import (
    Broker,
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
from tests.broker.provider import (
    NOW_MS,
    Provider,
    append,
    join,
    new_topic,
    read_all,
    readable_now,
    record,
    settled,
    sole_member,
    two_members,
    unique,
    values,
)
from tests.waiting import wait_until


async def uncommitted_end(client: Broker, partition: Partition) -> int:
    """Where the next record goes: shows whether anything at all was sent."""
    return (await client.bounds([partition], committed=False))[partition][1]


class TestAllOrNothing:
    """A commit is seen whole or not at all."""

    async def test_records_of_several_topics_and_checkpoints_are_there_together(
        self, provider: Provider, client: Broker
    ) -> None:
        topic, other = await new_topic(client, 2), await new_topic(client, 3)
        member = await sole_member(provider, topic, tasks=2)
        partitions = {Partition(topic, 0): Mark(5, "five"), Partition(topic, 1): Mark(0)}
        records = [record(topic, 1, "a"), *(record(other, i, f"{i}") for i in range(3)), record(topic, 1, "b")]
        assert await member.membership.commit(member.commit_of(partitions, records)) == Committed()
        assert await member.membership.checkpoints(partitions) == partitions
        assert values(await read_all(client, Partition(topic, 1))) == ["a", "b"]
        for i in range(3):
            assert values(await read_all(client, Partition(other, i))) == [f"{i}"]

    async def test_nothing_is_seen_before_the_end(self, provider: Provider, client: Broker) -> None:
        topic, other = await new_topic(client, 1), await new_topic(client, 1)
        member = await sole_member(provider, topic, tasks=1)
        commit = member.commit_of({Partition(topic, 0): 1}, [record(topic, 0, "a"), record(other, 0, "b")])
        stuck = await provider.commit_without_end(member, commit)
        for partition in (Partition(topic, 0), Partition(other, 0)):
            assert await readable_now(client, partition) == []
            assert values(await read_all(client, partition, committed=False)) in (["a"], ["b"])
        assert await member.membership.unstable_checkpoints([Partition(topic, 0)]) == {Partition(topic, 0): None}
        await stuck.give_up()

    async def test_content_comes_back_as_it_was(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        member = await sole_member(provider, topic, tasks=1)
        headers = [("ce_id", b"1"), ("again", b"a"), ("again", b"b"), ("empty", b"")]
        contents: list[tuple[bytes | None, bytes | None]] = [(b"k", b"v"), (None, b"v"), (b"k", None), (b"", b"")]
        records = [Record(topic, 0, key, value, headers, NOW_MS + 7) for key, value in contents]
        assert await member.membership.commit(member.commit_of({Partition(topic, 0): 0}, records)) == Committed()
        found = await read_all(client, Partition(topic, 0))
        assert [(r.key, r.value) for r in found] == contents
        assert [list(r.headers) for r in found] == [headers] * 4
        assert {r.timestamp for r in found} == {NOW_MS + 7}

    async def test_commits_follow_one_another(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 2)
        member = await sole_member(provider, topic, tasks=2)
        partition = Partition(topic, 0)
        for i in range(30):
            commit = member.commit_of({partition: i}, [record(topic, 0, f"{i}"), record(topic, 1, f"{i}")])
            assert await member.membership.commit(commit) == Committed()
        for each in (partition, Partition(topic, 1)):
            assert values(await read_all(client, each)) == [f"{i}" for i in range(30)]

    async def test_commit_of_thousands_is_one_commit(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 4)
        member = await sole_member(provider, topic, tasks=4)
        records = [record(topic, i % 4, f"{i}") for i in range(8_000)]
        marks = {Partition(topic, task): task for task in range(4)}
        assert await member.membership.commit(member.commit_of(marks, records)) == Committed()
        for task in range(4):
            found = values(await read_all(client, Partition(topic, task)))
            assert found == [f"{i}" for i in range(task, 8_000, 4)]

    async def test_commits_of_two_groups_to_one_topic_interleave(self, provider: Provider, client: Broker) -> None:
        topic, runs = await new_topic(client, 1), await new_topic(client, 1)
        members = [await sole_member(provider, topic, tasks=1) for _ in range(2)]

        async def commit_ten(name: str) -> None:
            member = members["ab".index(name)]
            for i in range(10):
                records = [record(runs, 0, f"{name}{i}.{j}") for j in range(3)]
                commit = member.commit_of({Partition(topic, 0): i + 1}, records)
                assert await member.membership.commit(commit) == Committed()

        await asyncio.gather(commit_ten("a"), commit_ten("b"))
        found = [text or "" for text in values(await read_all(client, Partition(runs, 0)))]
        for name in "ab":
            expected = [f"{name}{i}.{j}" for i in range(10) for j in range(3)]
            assert [text for text in found if text.startswith(name)] == expected
        for member in members:
            assert await member.membership.checkpoints([Partition(topic, 0)]) == {Partition(topic, 0): Mark(10)}

    async def test_commit_of_a_later_moment_is_written_before_it_and_seen_after_it(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        moment = time.monotonic() + 1.0
        commit = replace(member.commit_of({partition: 1}, [record(topic, 0, "a")]), not_before=moment)
        committing = asyncio.ensure_future(member.membership.commit(commit))

        async def is_written() -> bool:
            return await uncommitted_end(client, partition) > 0

        await wait_until(is_written)
        seen = await readable_now(client, partition)
        assert time.monotonic() < moment, "this machine was too slow to look before the moment had come"
        assert seen == []
        assert await committing == Committed()
        assert time.monotonic() >= moment
        assert values(await read_all(client, partition)) == ["a"]

    async def test_appends_go_on_beside_commits(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        member = await sole_member(provider, topic, tasks=1)
        commit = member.commit_of({Partition(topic, 0): 0}, [record(topic, 0, f"c{i}") for i in range(100)])
        appended = append(client, *(record(topic, 0, f"a{i}") for i in range(100)))
        assert (await asyncio.gather(member.membership.commit(commit), appended))[0] == Committed()
        found = values(await read_all(client, Partition(topic, 0)))
        assert [text for text in found if text and text[0] == "c"] == [f"c{i}" for i in range(100)]
        assert [text for text in found if text and text[0] == "a"] == [f"a{i}" for i in range(100)]


class TestRule1CommitBelongsToOneEpoch:
    """A commit carries one epoch's values and only its tasks; if the group has moved on, nothing is sent."""

    def test_commit_without_generation_or_member_is_a_mistake(self) -> None:
        nobody = frozenset[str]()
        marks = {Partition("topic", 0): Mark(0)}
        with pytest.raises(ValueError, match="generation"):
            Commit(Epoch("member", -1, frozenset({0}), nobody), marks)
        with pytest.raises(ValueError, match="generation"):
            Commit(Epoch("", 1, frozenset({0}), nobody), marks)

    async def test_commit_of_a_task_that_is_not_held_is_a_mistake(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 2)
        first, second = await two_members(provider, topic, tasks=2)
        with pytest.raises(ValueError, match="not this epoch's"):
            first.commit_of({Partition(topic, task): 1 for task in first.tasks | second.tasks})

    async def test_commit_of_a_stale_epoch_is_fenced_and_sends_nothing(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 4)
        first = await sole_member(provider, topic, tasks=4)
        stale = first.commit_of({Partition(topic, task): 9 for task in range(4)}, [record(topic, 0, "stale")])
        second = await join(provider, first.group, topic)
        await settled(first, second, tasks=4)
        assert isinstance(await first.membership.commit(stale), Fenced)
        assert await uncommitted_end(client, Partition(topic, 0)) == 0
        assert set((await second.membership.checkpoints(stale.checkpoints)).values()) == {None}

    async def test_commit_of_a_stale_epoch_is_fenced_when_its_tasks_came_back(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 2)
        first = await sole_member(provider, topic, tasks=2)
        kept_stale = {task: first.commit_of({Partition(topic, task): 9}) for task in range(2)}
        second = await join(provider, first.group, topic)
        await settled(first, second, tasks=2)
        (task,) = first.tasks
        assert isinstance(await first.membership.commit(kept_stale[task]), Fenced)
        current = first.commit_of({Partition(topic, task): 1})
        assert await first.membership.commit(current) == Committed()

    async def test_commit_of_an_expelled_member_is_fenced_before_it_knows(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 4)
        first, second = await two_members(provider, topic, tasks=4)
        task = min(second.tasks)
        partition = Partition(topic, task)
        commit = second.commit_of({partition: 9}, [record(topic, task, "zombie")])
        await provider.expel(second)
        assert isinstance(await second.membership.commit(commit), Fenced)
        assert await first.membership.checkpoints([partition]) == {partition: None}
        assert await read_all(client, partition) == []

    async def test_commit_after_leaving_is_fenced(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        member = await sole_member(provider, topic, tasks=1)
        commit = member.commit_of({Partition(topic, 0): 9}, [record(topic, 0, "late")])
        await member.membership.leave()
        assert isinstance(await member.membership.commit(commit), Fenced)
        assert await uncommitted_end(client, Partition(topic, 0)) == 0


class TestRule2EveryCommitIsFencedByACheckpoint:
    """Every commit commits its tasks' checkpoints, moved or not."""

    def test_commit_without_a_checkpoint_is_a_mistake(self) -> None:
        with pytest.raises(ValueError, match="fence"):
            Commit(Epoch("member", 1, frozenset({0}), frozenset()), {})

    async def test_checkpoint_that_does_not_move_is_committed(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        member = await sole_member(provider, topic, tasks=1)
        for i in range(3):
            commit = member.commit_of({Partition(topic, 0): Mark(4, "same")}, [record(topic, 0, f"{i}")])
            assert await member.membership.commit(commit) == Committed()
        assert values(await read_all(client, Partition(topic, 0))) == ["0", "1", "2"]

    async def test_checkpoint_that_does_not_move_fences_nevertheless(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 2)
        _, second = await two_members(provider, topic, tasks=2)
        (task,) = second.tasks
        commit = second.commit_of({Partition(topic, task): 4}, [record(topic, task, "once")])
        assert await second.membership.commit(commit) == Committed()
        await provider.expel(second)
        assert isinstance(await second.membership.commit(commit), Fenced)
        assert values(await read_all(client, Partition(topic, task))) == ["once"]

    async def test_checkpoints_alone_make_a_commit(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        member = await sole_member(provider, topic, tasks=1)
        assert await member.membership.commit(member.commit_of({Partition(topic, 0): 2})) == Committed()
        assert await member.membership.checkpoints([Partition(topic, 0)]) == {Partition(topic, 0): Mark(2)}


class TestRule3OneCommitAtATime:
    """The next commit is sealed only after the outcome of the last one is known."""

    async def test_second_commit_beside_one_in_flight_is_a_mistake(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        member = await sole_member(provider, topic, tasks=1)
        first = asyncio.create_task(
            member.membership.commit(member.commit_of({Partition(topic, 0): 1}, [record(topic, 0, "first")]))
        )
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="in flight"):
            await member.membership.commit(member.commit_of({Partition(topic, 0): 2}, [record(topic, 0, "second")]))
        assert await first == Committed()
        assert values(await read_all(client, Partition(topic, 0))) == ["first"]
        assert await member.membership.checkpoints([Partition(topic, 0)]) == {Partition(topic, 0): Mark(1)}


class TestRule6FreedWriters:
    """Nothing that a freed writer had open, or begins later, is ever committed."""

    async def test_readers_and_checkpoints_are_freed(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 2)
        first, second = await two_members(provider, topic, tasks=2)
        (task,) = second.tasks
        partition = Partition(topic, task)
        commit = second.commit_of({partition: 9}, [record(topic, task, "open")])
        stuck = await provider.commit_without_end(second, commit)
        await append(client, record(topic, task, "behind"))
        assert await readable_now(client, partition) == []
        await first.membership.free_writers([second.membership.writer])
        async with asyncio.timeout(10):
            assert await first.membership.checkpoints([partition]) == {partition: None}
        assert values(await read_all(client, partition)) == ["behind"]
        await stuck.give_up()

    async def test_commit_that_was_open_is_not_committed(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 2)
        first, second = await two_members(provider, topic, tasks=2)
        (task,) = second.tasks
        commit = second.commit_of({Partition(topic, task): 9}, [record(topic, task, "open")])
        stuck = await provider.commit_without_end(second, commit)
        await first.membership.free_writers([second.membership.writer])
        async with asyncio.timeout(30):
            stuck.may_end.set()
            assert isinstance(await stuck.outcome, Fenced | Unknown)
        assert await read_all(client, Partition(topic, task)) == []

    async def test_freed_writer_never_commits_again_in_an_epoch_that_is_not_over(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 2)
        first, second = await two_members(provider, topic, tasks=2)
        (task,) = second.tasks
        partition = Partition(topic, task)
        assert await second.membership.commit(second.commit_of({partition: 1})) == Committed()
        commit = second.commit_of({partition: 9}, [record(topic, task, "freed")])
        await first.membership.free_writers([second.membership.writer])
        for _ in range(3):
            assert isinstance(await second.membership.commit(commit), Fenced)
        assert await read_all(client, partition) == []
        assert await first.membership.checkpoints([partition]) == {partition: Mark(1)}

    async def test_member_whose_writer_was_freed_comes_back_with_another(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 2)
        first, second = await two_members(provider, topic, tasks=2)
        old, freed = second.epoch, second.membership.writer
        commit = second.commit_of({Partition(topic, task): 9 for task in second.tasks})
        await first.membership.free_writers([freed])
        assert isinstance(await second.membership.commit(commit), Fenced)
        await wait_until(lambda: second.owner.told[-1][0] == "assigned" and second.epoch != old)
        await settled(first, second, tasks=2)
        assert freed not in second.epoch.writers
        assert second.membership.writer in second.epoch.writers
        commit = second.commit_of({Partition(topic, task): 1 for task in second.tasks})
        assert await second.membership.commit(commit) == Committed()

    async def test_what_a_freed_writer_had_committed_stays(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 2)
        first, second = await two_members(provider, topic, tasks=2)
        (task,) = second.tasks
        partition = Partition(topic, task)
        await second.membership.commit(second.commit_of({partition: 5}, [record(topic, task, "a")]))
        await second.membership.leave()
        await first.membership.free_writers([second.membership.writer, second.membership.writer])
        assert values(await read_all(client, partition)) == ["a"]
        assert await first.membership.checkpoints([partition]) == {partition: Mark(5)}

    async def test_freeing_a_writer_that_never_wrote_does_no_harm(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        member = await sole_member(provider, topic, tasks=1)
        await member.membership.free_writers([unique("never")])
        assert await member.membership.commit(member.commit_of({Partition(topic, 0): 1})) == Committed()


class TestUnknownOutcome:
    """Without a definite answer all or nothing is written, and the log tells which."""

    @pytest.mark.parametrize("written", [True, False])
    async def test_all_or_nothing_is_there_when_the_answer_is_lost(
        self, provider: Provider, client: Broker, written: bool
    ) -> None:
        topic, other = await new_topic(client, 1), await new_topic(client, 1)
        member = await sole_member(provider, topic, tasks=1)
        commit = member.commit_of({Partition(topic, 0): 6}, [record(topic, 0, "a"), record(other, 0, "b")])
        outcome = await provider.commit_losing_the_answer(member, commit, written=written)
        assert isinstance(outcome, Unknown)
        async with asyncio.timeout(30):
            checkpoints = await member.membership.checkpoints([Partition(topic, 0)])
        assert checkpoints == {Partition(topic, 0): Mark(6) if written else None}
        assert values(await read_all(client, Partition(topic, 0))) == (["a"] if written else [])
        assert values(await read_all(client, Partition(other, 0))) == (["b"] if written else [])

    @pytest.mark.parametrize("written", [True, False])
    async def test_member_goes_on_committing_afterwards(
        self, provider: Provider, client: Broker, written: bool
    ) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        commit = member.commit_of({partition: 1}, [record(topic, 0, "a")])
        await provider.commit_losing_the_answer(member, commit, written=written)
        await member.membership.checkpoints([partition])
        for i in range(3):
            next_commit = member.commit_of({partition: i + 2}, [record(topic, 0, f"{i}")])
            assert await member.membership.commit(next_commit) == Committed()
        assert values(await read_all(client, partition)) == (["a"] if written else []) + ["0", "1", "2"]
        assert await member.membership.checkpoints([partition]) == {partition: Mark(4)}


class TestRefusedRecords:
    """A record that the broker refuses is named, and the others can be committed without it."""

    async def test_record_too_large_is_among_the_suspects_and_nothing_is_written(
        self, provider: Provider, client: Broker
    ) -> None:
        topic, small = await new_topic(client, 1), await new_topic(client, 1, max_message_bytes="2000")
        member = await sole_member(provider, topic, tasks=1)
        records = [record(topic, 0, "a"), record(small, 0, "b"), record(small, 0, "c" * 3_000)]
        outcome = await member.membership.commit(member.commit_of({Partition(topic, 0): 1}, records))
        assert isinstance(outcome, Refused)
        assert 2 in outcome.suspects
        assert 0 not in outcome.suspects
        for partition in (Partition(topic, 0), Partition(small, 0)):
            assert await read_all(client, partition) == []
        assert await member.membership.checkpoints([Partition(topic, 0)]) == {Partition(topic, 0): None}

    async def test_others_are_committed_without_it(self, provider: Provider, client: Broker) -> None:
        topic, small = await new_topic(client, 1), await new_topic(client, 1, max_message_bytes="2000")
        member = await sole_member(provider, topic, tasks=1)
        records = [record(small, 0, f"{i}") for i in range(3)] + [record(small, 0, "c" * 3_000)]
        outcome = await member.membership.commit(member.commit_of({Partition(topic, 0): 1}, records))
        assert isinstance(outcome, Refused)
        left = [one for i, one in enumerate(records) if i not in outcome.suspects]
        alone = []
        for i in outcome.suspects:
            commit = member.commit_of({Partition(topic, 0): 1}, [records[i]])
            alone.append(await member.membership.commit(commit))
        assert [type(each) for each in alone].count(Refused) == 1
        assert await member.membership.commit(member.commit_of({Partition(topic, 0): 1}, left)) == Committed()
        assert sorted(values(await read_all(client, Partition(small, 0))), key=str) == ["0", "1", "2"]

    async def test_topic_that_is_not_there_is_refused(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        member = await sole_member(provider, topic, tasks=1)
        records = [record(topic, 0, "a"), record(unique("absent"), 0, "b")]
        outcome = await member.membership.commit(member.commit_of({Partition(topic, 0): 1}, records))
        assert isinstance(outcome, Refused)
        assert outcome.suspects == (1,)
        assert await read_all(client, Partition(topic, 0)) == []


class TestFounding:
    """A group's first commit sets the checkpoint of every partition, whoever holds it."""

    async def test_owner_of_task_0_sets_every_checkpoint(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 4)
        members = await two_members(provider, topic, tasks=4)
        (founder,) = [member for member in members if 0 in member.tasks]
        marks = {Partition(topic, task): Mark(task) for task in range(4)}
        founding = Commit(founder.epoch, marks, [record(topic, 0, "founded")], founding=True)
        assert await founder.membership.commit(founding) == Committed()
        for member in members:
            assert await member.membership.checkpoints(marks) == marks

    async def test_nobody_else_founds_a_group(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 4)
        members = await two_members(provider, topic, tasks=4)
        (other,) = [member for member in members if 0 not in member.tasks]
        with pytest.raises(ValueError, match="task 0"):
            Commit(other.epoch, {Partition(topic, 0): Mark(0)}, founding=True)

    async def test_founding_of_an_expelled_member_is_fenced(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 4)
        members = await two_members(provider, topic, tasks=4)
        (founder,) = [member for member in members if 0 in member.tasks]
        (other,) = [member for member in members if 0 not in member.tasks]
        marks = {Partition(topic, task): Mark(task) for task in range(4)}
        founding = Commit(founder.epoch, marks, founding=True)
        await provider.expel(founder)
        assert isinstance(await founder.membership.commit(founding), Fenced)
        assert set((await other.membership.checkpoints(marks)).values()) == {None}
