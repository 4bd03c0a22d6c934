"""A connection that breaks around the end of a transaction: all or nothing, and never twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from playhead.broker.contract import Committed, Mark, Partition, Unknown
from playhead.broker.kafka import writer
from playhead.broker.kafka.wire import EndTxnRequest
from tests.broker.kafka.wiretap import Send, link_of, sending
from tests.broker.kafka_provider import UNANSWERED_SECONDS, KafkaProvider
from tests.broker.provider import Member, new_topic, read_all, record, sole_member, values

pytestmark = pytest.mark.kafka


class Cutter:
    """Breaks the connection of an EndTxn, before it is written or while its answer is awaited; the first `times`."""

    def __init__(self, member: Member, *, after_writing: bool, times: int) -> None:
        self._client = link_of(member)._client
        self._after_writing = after_writing
        self._times = times
        self.cuts = 0

    async def send(self, original: Send, node: int, request: Any, lane: Any) -> Any:
        if not isinstance(request, EndTxnRequest) or self.cuts == self._times:
            return await original(node, request, *lane)
        self.cuts += 1
        await self._client.ready(node, group=lane[0])
        connection = self._client._conns[node, lane[0]]
        write = connection.send

        def write_and_cut(*args: Any, **options: Any) -> Any:
            if not self._after_writing:
                connection._writer.transport.abort()
            waiting = write(*args, **options)
            connection.close()  # what is written is still flushed; no answer is read any more
            return waiting

        connection.send = write_and_cut
        return await original(node, request, *lane)


class TestLostAnswer:
    """The end of a transaction is asked for again; without any answer the log tells what became of it."""

    @pytest.mark.parametrize("after_writing", [True, False])
    async def test_one_cut_is_bridged_and_written_once(self, provider: KafkaProvider, after_writing: bool) -> None:
        topic = await new_topic(provider.broker, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        cutter = Cutter(member, after_writing=after_writing, times=1)
        with sending(member, cutter.send):
            commit = member.commit_of({partition: 1}, [record(topic, 0, "a")])
            assert await member.membership.commit(commit) == Committed()
        assert cutter.cuts == 1
        assert await member.membership.commit(member.commit_of({partition: 2}, [record(topic, 0, "b")])) == Committed()
        assert values(await read_all(provider.broker, partition)) == ["a", "b"]
        assert await member.membership.checkpoints([partition]) == {partition: Mark(2)}

    @pytest.mark.parametrize("after_writing", [True, False])
    async def test_connection_that_keeps_breaking_leaves_all_or_nothing(
        self, provider: KafkaProvider, after_writing: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        topic, other = await new_topic(provider.broker, 1), await new_topic(provider.broker, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        monkeypatch.setattr(writer, "COMMIT_LIMIT_SECONDS", UNANSWERED_SECONDS)
        cutter = Cutter(member, after_writing=after_writing, times=1_000_000)
        with sending(member, cutter.send):
            commit = member.commit_of({partition: 6}, [record(topic, 0, "a"), record(other, 0, "b")])
            assert isinstance(await member.membership.commit(commit), Unknown)
        assert cutter.cuts > 1
        async with asyncio.timeout(10):
            checkpoint = (await member.membership.checkpoints([partition]))[partition]
        assert checkpoint in (Mark(6), None)
        assert values(await read_all(provider.broker, partition)) == (["a"] if checkpoint else [])
        assert values(await read_all(provider.broker, Partition(other, 0))) == (["b"] if checkpoint else [])
        assert await member.membership.commit(member.commit_of({partition: 7})) == Committed()
