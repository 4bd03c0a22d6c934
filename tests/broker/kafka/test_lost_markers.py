"""A transaction that is complete and has markers missing is ended as it was decided.

Kafka loses markers in a crash (KAFKA-20734), and not each time. Here a commit's checkpoint and one of its records are
written without the coordinator's knowing of their partitions, which comes to the same: it writes no markers there. A
broker accepts that when it does not verify transactions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.conn import CloseReason  # noqa: TID251 - the other side of the wire
from aiokafka.protocol.metadata import MetadataRequest  # noqa: TID251 - the other side of the wire
from aiokafka.protocol.produce import ProduceRequest  # noqa: TID251 - the other side of the wire
from aiokafka.protocol.transaction import (  # noqa: TID251 - the other side of the wire
    AddPartitionsToTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)

from playhead.broker.contract import Committed, Partition, Record
from playhead.broker.kafka import batches, membership, wire
from playhead.broker.kafka.link import TRANSACTION, LostError, Patience
from playhead.broker.kafka.membership import KafkaMembership
from tests.broker.kafka_provider import KafkaProvider
from tests.broker.provider import Member, new_topic, read_all, record, sole_member, values
from tests.broker_fixture import NewLocalKafka
from tests.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
async def provider(own_broker: NewLocalKafka) -> AsyncIterator[KafkaProvider]:
    """A client of a broker that takes what a producer writes without asking the coordinator."""
    unverified = {"transaction.partition.verification.enable": "false"}
    kafka = await asyncio.to_thread(own_broker, properties=unverified)
    under_test = KafkaProvider(kafka.bootstrap_servers)
    await under_test.broker.start()
    try:
        yield under_test
    finally:
        await under_test.close()


class Interrupted(Exception):
    """What aborts a commit."""


def membership_of(member: Member) -> KafkaMembership:
    assert isinstance(member.membership, KafkaMembership)
    return member.membership


async def lose_markers(member: Member, topic: str, *, committed: bool) -> None:
    """A commit of record "whole" (partition 0), with record "torn" (partition 1) and the checkpoint left out."""
    link: Any = membership_of(member)._link
    send = link.send

    async def behind_the_coordinator(node: int, request: Any, *lane: Any) -> Any:
        if isinstance(request, wire.TxnOffsetCommitRequest):
            name, group, id_, epoch, _, _, _, marks, _ = request._fields
            torn: Record = record(topic, 1, "torn")
            ((_, (batch,)),) = batches.encode([torn], (id_, epoch), lambda _: 1000).items()
            answer = await send(node, ProduceRequest(name, -1, 1000, [(topic, [(1, bytes(batch.data))])]), *lane)
            assert answer.topics[0][1][0][1] == 0
            told = [(of, [(p, offset, text) for p, offset, _, text, _ in entries]) for of, entries, _ in marks]
            answer = await send(node, TxnOffsetCommitRequest(name, group, id_, epoch, told), *lane)
            assert not any(code for _, entries in answer.errors for _, code in entries)
            return SimpleNamespace(topics=[])
        if isinstance(request, wire.EndTxnRequest) and not committed:
            name, id_, epoch, _, _ = request._fields
            return await send(node, wire.EndTxnRequest(name, (id_, epoch), committed=False), *lane)
        return await send(node, request, *lane)

    link.send = behind_the_coordinator
    try:
        commit = member.commit_of({Partition(topic, 0): 1, Partition(topic, 1): 1}, [record(topic, 0, "whole")])
        assert await member.membership.commit(commit) == Committed()
    finally:
        link.send = send


async def seen(provider: KafkaProvider, topic: str) -> list[list[str]]:
    """What a committed reader finds in each partition, when it reaches the end of both."""
    partitions = [Partition(topic, 0), Partition(topic, 1)]

    async def nothing_is_open() -> bool:
        ends = await provider.broker.bounds(partitions, committed=False)
        return await provider.broker.bounds(partitions) == ends

    await wait_until(nothing_is_open)
    return [values(await read_all(provider.broker, partition)) for partition in partitions]


class TestEnded:
    """By the writer's own member, and by whoever takes its ids over."""

    @pytest.mark.parametrize("committed", [True, False])
    async def test_checkpoints_do_not_stay_pending(
        self, provider: KafkaProvider, monkeypatch: pytest.MonkeyPatch, *, committed: bool
    ) -> None:
        monkeypatch.setattr(membership, "_PENDING_SECONDS", 0.5)
        topic = await new_topic(provider.broker, 2)
        member = await sole_member(provider, topic, tasks=2)
        await lose_markers(member, topic, committed=committed)
        first = Partition(topic, 0)
        async with asyncio.timeout(10):
            marks = await member.membership.checkpoints([first, Partition(topic, 1)])
        assert {mark.offset if mark else None for mark in marks.values()} == {1 if committed else None}
        assert await seen(provider, topic) == ([["whole"], ["torn"]] if committed else [[], []])
        for offset in (2, 3):  # with each of the writer's two ids
            next_one = member.commit_of({first: offset}, [record(topic, 0, f"{offset}")])
            assert await member.membership.commit(next_one) == Committed()

    @pytest.mark.parametrize("takers", [1, 5])
    @pytest.mark.parametrize("committed", [True, False])
    async def test_successors_end_it_as_it_was_decided(
        self, provider: KafkaProvider, *, committed: bool, takers: int
    ) -> None:
        topic = await new_topic(provider.broker, 2)
        member = await sole_member(provider, topic, tasks=2)
        await lose_markers(member, topic, committed=committed)
        own = membership_of(member)._writer
        await asyncio.gather(*(own.free([own.name]) for _ in range(takers)))
        async with asyncio.timeout(2):
            marks = await member.membership.checkpoints([Partition(topic, 0), Partition(topic, 1)])
        assert {mark.offset if mark else None for mark in marks.values()} == {1 if committed else None}
        assert await seen(provider, topic) == ([["whole"], ["torn"]] if committed else [[], []])

    async def test_writer_ends_it_before_it_goes_on_after_a_lost_answer(self, provider: KafkaProvider) -> None:
        """Also where the next transaction of the same id has other partitions, and is aborted."""
        topic = await new_topic(provider.broker, 2)
        member = await sole_member(provider, topic, tasks=2)
        await lose_markers(member, topic, committed=True)
        link: Any = membership_of(member)._link
        link._lost_answers += 1
        send = link.send

        async def refuse(node: int, request: Any, *lane: Any) -> Any:
            if isinstance(request, wire.TxnOffsetCommitRequest):
                raise Interrupted
            return await send(node, request, *lane)

        link.send = refuse
        first = Partition(topic, 0)
        for _ in range(2):  # with each of the writer's two ids
            with pytest.raises(Interrupted):
                await member.membership.commit(member.commit_of({first: 2}, [record(topic, 0, "aborted")]))
        link.send = send
        marks = await member.membership.checkpoints([first, Partition(topic, 1)])
        assert [mark.offset if mark else None for mark in marks.values()] == [1, 1]
        assert await seen(provider, topic) == [["whole"], ["torn"]]

    async def test_writer_ends_it_before_it_goes_on_after_a_connection_that_broke_while_idle(
        self, provider: KafkaProvider
    ) -> None:
        """Nothing was asked, so no answer is lost; what comes next writes to another partition, and is committed."""
        topic = await new_topic(provider.broker, 2)
        member = await sole_member(provider, topic, tasks=2)
        await lose_markers(member, topic, committed=True)
        link: Any = membership_of(member)._link
        for connection in list(link._client._conns.values()):
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
        for offset in (2, 3):  # with each of the writer's two ids
            next_one = member.commit_of({Partition(topic, 0): offset}, [record(topic, 0, f"{offset}")])
            assert await member.membership.commit(next_one) == Committed()
        assert await seen(provider, topic) == [["whole", "2", "3"], ["torn"]]

    async def test_member_with_nothing_to_commit_ends_it_after_a_connection_broke(
        self, provider: KafkaProvider
    ) -> None:
        """Whoever waits for what it has committed would wait for its next commit."""
        topic = await new_topic(provider.broker, 2)
        member = await sole_member(provider, topic, tasks=2)
        await lose_markers(member, topic, committed=True)
        link: Any = membership_of(member)._link
        for connection in list(link._client._conns.values()):
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
        assert await seen(provider, topic) == [["whole"], ["torn"]]

    async def test_writer_begins_afresh_where_a_connection_breaks_before_anything_is_written(
        self, provider: KafkaProvider
    ) -> None:
        """Written into what the last transaction left open, it would abort that one, too."""
        topic = await new_topic(provider.broker, 2)
        member = await sole_member(provider, topic, tasks=2)
        first = Partition(topic, 0)
        for _ in range(2):  # so that the next commit is by the id whose markers are lost
            await lose_markers(member, topic, committed=True)
        link: Any = membership_of(member)._link
        send, broken = link.send, False

        async def break_then_refuse(node: int, request: Any, *lane: Any) -> Any:
            nonlocal broken
            if isinstance(request, wire.ProduceRequest) and not broken:
                broken = True
                link._client._conns[node, lane[0]].close(reason=CloseReason.CONNECTION_BROKEN)
                raise LostError("the test broke the connection", sent=False)
            if isinstance(request, wire.TxnOffsetCommitRequest):
                raise Interrupted
            return await send(node, request, *lane)

        link.send = break_then_refuse
        with pytest.raises(Interrupted):
            await member.membership.commit(member.commit_of({first: 2}, [record(topic, 0, "aborted")]))
        link.send = send
        marks = await member.membership.checkpoints([first, Partition(topic, 1)])
        assert [mark.offset if mark else None for mark in marks.values()] == [1, 1]
        assert await seen(provider, topic) == [["whole", "whole"], ["torn", "torn"]]

    async def test_what_ends_it_can_lose_its_markers_too(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 2)
        member = await sole_member(provider, topic, tasks=2)
        await lose_markers(member, topic, committed=True)
        link: Any = membership_of(member)._link
        send, told = link.send, []

        async def lose_again(node: int, request: Any, *lane: Any) -> Any:
            told.append(type(request))
            if isinstance(request, AddPartitionsToTxnRequest) and told.count(AddPartitionsToTxnRequest) == 1:
                return SimpleNamespace(errors=[])
            return await send(node, request, *lane)

        link.send = lose_again
        await membership_of(member)._writer.free([membership_of(member).writer])
        assert told.count(AddPartitionsToTxnRequest) == 2
        assert await seen(provider, topic) == [["whole"], ["torn"]]

    async def test_partition_without_a_leader_is_waited_for(self, provider: KafkaProvider) -> None:
        """Nobody can tell what is open there, and after InitProducerId nobody could tell how it ended."""
        topic = await new_topic(provider.broker, 2)
        member = await sole_member(provider, topic, tasks=2)
        await lose_markers(member, topic, committed=True)
        link: Any = membership_of(member)._link
        send, leaderless = link.send, 0

        async def without_leaders(node: int, request: Any, *lane: Any) -> Any:
            nonlocal leaderless
            answer = await send(node, request, *lane)
            if isinstance(request, MetadataRequest) and leaderless < 5:
                leaderless += 1
                for at, (code, name, internal, partitions) in enumerate(answer.topics):
                    nobody = [(error, number, -1, *rest) for error, number, _, *rest in partitions]
                    answer.topics[at] = (code, name, internal, nobody)
            return answer

        link.send = without_leaders
        own = membership_of(member)._writer
        await own.free([own.name])
        assert await seen(provider, topic) == [["whole"], ["torn"]]

    async def test_what_it_can_not_know_it_leaves_alone(self, provider: KafkaProvider) -> None:
        """An InitProducerId of somebody else's has made the coordinator forget how the transaction ended."""
        topic = await new_topic(provider.broker, 2)
        member = await sole_member(provider, topic, tasks=2)
        await lose_markers(member, topic, committed=True)
        link: Any = membership_of(member)._link
        own = membership_of(member)._writer
        patience = Patience(membership_of(member)._clock, 10)
        (name, _) = (id_.name for id_ in own._ids)
        node = await link.coordinator(TRANSACTION, name, patience)

        async def forgotten() -> bool:
            return bool((await link.send(node, InitProducerIdRequest(name, 15_000))).error_code == 0)

        await wait_until(forgotten)
        await own.free([own.name])
        torn = [Partition(topic, 1)]
        assert await provider.broker.bounds(torn) != await provider.broker.bounds(torn, committed=False)
