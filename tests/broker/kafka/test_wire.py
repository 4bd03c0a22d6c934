"""What commits put on the wire, and what they do not: the rules of the broker contract that only Kafka shows."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from playhead.broker.contract import Committed, Fenced, Mark, Partition
from playhead.broker.kafka.transactional_id import TRANSACTION_TIMEOUT_SECONDS
from playhead.broker.kafka.wire import EndTxnRequest, ProduceRequest, TxnOffsetCommitRequest
from tests.broker.kafka.wiretap import Send, sending, tapped
from tests.broker.kafka_provider import KafkaProvider
from tests.broker.provider import (
    append,
    join,
    new_topic,
    read,
    read_all,
    record,
    settled,
    sole_member,
    still_waits,
    two_members,
    values,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.kafka


def offset_commits(seen: list[Any]) -> list[TxnOffsetCommitRequest]:
    """The requests that set a group's offsets."""
    return [request for request in seen if isinstance(request, TxnOffsetCommitRequest)]


class TestCapturedEpoch:
    """A commit carries what was captured at assignment, whatever aiokafka holds by now."""

    async def test_thrown_out_member_sends_nothing(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 2)
        first, second = await two_members(provider, topic, tasks=2)
        (task,) = second.tasks
        commit = second.commit_of({Partition(topic, task): 9}, [record(topic, task, "zombie")])
        old = second.epoch
        await provider.expel(second)
        await wait_until(lambda: ("revoked", old) in second.owner.told)
        with tapped(second) as seen:
            assert isinstance(await second.membership.commit(commit), Fenced)
            await settled(first, second, tasks=2)
            assert isinstance(await second.membership.commit(commit), Fenced)
        assert seen == []
        assert await provider.broker.bounds([Partition(topic, task)], committed=False) == {
            Partition(topic, task): (0, 0)
        }

    async def test_reset_member_id_and_generation_never_reach_the_broker(
        self, provider: KafkaProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        topic = await new_topic(provider.broker, 1)
        member = await sole_member(provider, topic, tasks=1)
        epoch = member.epoch
        coordinator = member.membership._consumer._coordinator  # type: ignore[attr-defined]
        with tapped(member) as seen, monkeypatch.context() as reset:
            reset.setattr(coordinator, "member_id", "")  # as aiokafka does where the group has thrown it out,
            reset.setattr(coordinator, "generation", -1)  # and as the broker takes for a commit without a group
            await member.membership.commit(member.commit_of({Partition(topic, 0): 1}))
        (request,) = offset_commits(seen)
        assert request._fields[4:6] == (epoch.generation, epoch.member_id)

    async def test_fenced_epoch_is_not_tried_again(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 2)
        first, second = await two_members(provider, topic, tasks=2)
        (task,) = second.tasks
        commit = second.commit_of({Partition(topic, task): 9}, [record(topic, task, "freed")])
        await first.membership.free_writers([second.membership.writer])
        assert isinstance(await second.membership.commit(commit), Fenced)
        with tapped(second) as seen:
            assert isinstance(await second.membership.commit(commit), Fenced)
        assert seen == []


class TestOrder:
    """Produce, then TxnOffsetCommit, then EndTxn, in two transactional ids by turns."""

    async def test_three_hundred_commits_back_to_back_take_turns_and_read_as_written(
        self, provider: KafkaProvider
    ) -> None:
        topic = await new_topic(provider.broker, 2)
        member = await sole_member(provider, topic, tasks=2)
        partitions = [Partition(topic, 0), Partition(topic, 1)]
        with tapped(member) as seen:
            for i in range(300):
                marks: dict[Partition, int | Mark] = dict.fromkeys(partitions, i + 1)
                commit = member.commit_of(marks, [record(topic, p, f"{i}.{j}") for p in (0, 1) for j in (0, 1)])
                assert await member.membership.commit(commit) == Committed()
        for partition in partitions:
            found = values(await read_all(provider.broker, partition))
            assert found == [f"{i}.{j}" for i in range(300) for j in (0, 1)]
        assert await member.membership.checkpoints(partitions) == dict.fromkeys(partitions, Mark(300))
        ends = [request._fields[0] for request in seen if isinstance(request, EndTxnRequest)]
        assert len(set(ends)) == 2
        assert all(one != other for one, other in itertools.pairwise(ends))

    async def test_each_request_waits_for_the_answer_of_the_one_before(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 1)
        member = await sole_member(provider, topic, tasks=1)
        log: list[tuple[str, type]] = []

        async def note(original: Send, node: int, request: Any, lane: Any) -> Any:
            log.append(("sent", type(request)))
            answer = await original(node, request, *lane)
            log.append(("answered", type(request)))
            return answer

        with sending(member, note):
            commit = member.commit_of({Partition(topic, 0): 1}, [record(topic, 0, "a")])
            assert await member.membership.commit(commit) == Committed()
        own = [entry for entry in log if entry[1] in (ProduceRequest, TxnOffsetCommitRequest, EndTxnRequest)]
        assert own == [
            (what, each)
            for each in (ProduceRequest, TxnOffsetCommitRequest, EndTxnRequest)
            for what in ("sent", "answered")
        ]

    async def test_unmoved_checkpoint_of_every_task_is_sent_each_time(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 2)
        member = await sole_member(provider, topic, tasks=2)
        commit = member.commit_of({Partition(topic, 0): 4, Partition(topic, 1): Mark(0, "text")})
        with tapped(member) as seen:
            for _ in range(3):
                assert await member.membership.commit(commit) == Committed()
        sent = [
            {(name, p, offset, text) for name, entries, _ in request._fields[7] for p, offset, _, text, _ in entries}
            for request in offset_commits(seen)
        ]
        assert sent == [{(topic, 0, 4, ""), (topic, 1, 0, "text")}] * 3

    async def test_commit_of_more_than_a_batch_holds_goes_in_rounds(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 1)
        member = await sole_member(provider, topic, tasks=1)
        texts = [f"{i:05}" + "x" * 2_000 for i in range(1_300)]  # 2.6 MB; a batch may have 1 MiB
        commit = member.commit_of({Partition(topic, 0): 1}, [record(topic, 0, text) for text in texts])
        with tapped(member) as seen:
            assert await member.membership.commit(commit) == Committed()
        assert len([request for request in seen if isinstance(request, ProduceRequest)]) >= 3
        assert values(await read_all(provider.broker, Partition(topic, 0))) == texts


class TestFreedWriter:
    """A dead member's open transaction holds readers back only until somebody frees its writer."""

    async def test_held_reader_goes_on_long_before_the_transaction_times_out(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 2)
        first = await sole_member(provider, topic, tasks=2)
        second = await join(provider, first.group, topic, broker=await provider.another_client())
        await settled(first, second, tasks=2)
        partition = Partition(topic, min(second.tasks))
        commit = second.commit_of({partition: 9}, [record(topic, partition.partition, "open")])
        stuck = await provider.commit_without_end(second, commit)
        await append(provider.broker, record(topic, partition.partition, "behind"))
        _, end = (await provider.broker.bounds([partition], committed=False))[partition]
        reader = asyncio.create_task(read(provider.broker, partition, 0, end))
        assert await still_waits(reader, provider.broker, partition)
        async with asyncio.timeout(TRANSACTION_TIMEOUT_SECONDS / 5):
            await first.membership.free_writers([second.membership.writer])
            assert values(await reader) == ["behind"]
        await stuck.give_up()
