"""Whatever happens to a commit, a process that lives leaves no transaction open."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from playhead.broker.contract import Committed, Fenced, Partition
from playhead.broker.kafka.wire import EndTxnRequest, ProduceRequest, TxnOffsetCommitRequest
from tests.broker.kafka_provider import KafkaProvider
from tests.broker.provider import Member, new_topic, read, read_all, record, sole_member, two_members, values
from tests.waiting import wait_until

pytestmark = pytest.mark.kafka

FREED_SECONDS = 3.0
"""Far below the 15 s after which the coordinator aborts by itself."""


class Interrupted(BaseException):
    """Nothing that anybody expects."""


def link_of(member: Member) -> Any:
    return member.membership._link  # type: ignore[attr-defined]


async def is_free(provider: KafkaProvider, partition: Partition) -> bool:
    """Whether a committed reader reaches the end."""
    bounds = await asyncio.gather(
        provider.broker.bounds([partition]), provider.broker.bounds([partition], committed=False)
    )
    return bounds[0] == bounds[1]


class TestNothingStaysOpen:
    """Cancelled, interrupted, fenced, left: readers go on."""

    @pytest.mark.parametrize("stage", [ProduceRequest, TxnOffsetCommitRequest, EndTxnRequest])
    async def test_cancelled_commit_is_aborted_or_completed(self, provider: KafkaProvider, stage: type) -> None:
        topic = await new_topic(provider.broker, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        link, sent = link_of(member), asyncio.Event()
        send = link.send

        async def answer_late(node: int, request: Any, *lane: Any) -> Any:
            answer = await send(node, request, *lane)
            if isinstance(request, stage):
                sent.set()
                await asyncio.Event().wait()
            return answer

        link.send = answer_late
        committing = asyncio.create_task(
            member.membership.commit(member.commit_of({partition: 1}, [record(topic, 0, "a")]))
        )
        await sent.wait()
        link.send = send
        committing.cancel()
        await asyncio.wait({committing})
        assert committing.cancelled()
        await wait_until(lambda: is_free(provider, partition), seconds=FREED_SECONDS)
        checkpoint = (await member.membership.checkpoints([partition]))[partition]
        ended_well = stage is EndTxnRequest
        assert values(await read_all(provider.broker, partition)) == (["a"] if ended_well else [])
        assert (checkpoint is not None) == ended_well
        assert await member.membership.commit(member.commit_of({partition: 2}, [record(topic, 0, "b")])) == Committed()

    @pytest.mark.parametrize("stage", [ProduceRequest, TxnOffsetCommitRequest, EndTxnRequest])
    async def test_interrupted_commit_is_aborted(self, provider: KafkaProvider, stage: type) -> None:
        topic = await new_topic(provider.broker, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        link = link_of(member)
        send = link.send

        async def interrupt(node: int, request: Any, *lane: Any) -> Any:
            if isinstance(request, stage):
                raise Interrupted
            return await send(node, request, *lane)

        link.send = interrupt
        with pytest.raises(Interrupted):
            await member.membership.commit(member.commit_of({partition: 1}, [record(topic, 0, "a")]))
        link.send = send
        await wait_until(lambda: is_free(provider, partition), seconds=FREED_SECONDS)
        assert values(await read_all(provider.broker, partition)) == []
        assert await member.membership.commit(member.commit_of({partition: 2}, [record(topic, 0, "b")])) == Committed()

    async def test_fenced_commit_is_aborted(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 2)
        partition = Partition(topic, 0)
        first, second = await two_members(provider, topic, tasks=2)
        zombie = first if 0 in first.tasks else second
        commit = zombie.commit_of({partition: 1}, [record(topic, 0, "zombie")])
        await provider.expel(zombie)
        assert isinstance(await zombie.membership.commit(commit), Fenced)
        await wait_until(lambda: is_free(provider, partition), seconds=FREED_SECONDS)
        end = (await provider.broker.bounds([partition], committed=False))[partition][1]
        assert end > 0  # it had begun: the group fenced it, not the writer
        assert values(await read(provider.broker, partition, 0, end)) == []

    async def test_leaving_waits_for_what_failed_to_be_aborted(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        link = link_of(member)
        send = link.send

        async def interrupt(node: int, request: Any, *lane: Any) -> Any:
            if isinstance(request, EndTxnRequest):
                raise Interrupted
            return await send(node, request, *lane)

        link.send = interrupt
        with pytest.raises(Interrupted):
            await member.membership.commit(member.commit_of({partition: 1}, [record(topic, 0, "a")]))
        link.send = send
        await member.membership.leave()
        assert await is_free(provider, partition)
