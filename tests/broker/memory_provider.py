"""How to provoke things in the broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from playhead.broker.contract import Broker, Commit, Mark, Outcome, Partition, Record
from playhead.broker.memory import MemoryBroker, MemoryMembership
from playhead.broker.memory.transaction import Transaction
from tests.broker.provider import Member, StuckCommit, unique
from tests.waiting import wait_until


class MemoryTransaction:
    """An open transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def commit(self) -> None:
        self._transaction.decide()
        self._transaction.complete()

    async def abort(self) -> None:
        self._transaction.abort()


class MemoryProvider:
    """Every client is the same object: it is the log."""

    def __init__(self, *, marker_latency_seconds: float = 0.0) -> None:
        self.memory = MemoryBroker()
        self.memory.marker_latency_seconds = marker_latency_seconds
        self.memory.heartbeat_seconds = 0.02  # on the machine's clock: an expelled member learns of it this much later
        self.broker: Broker = self.memory
        self.members: list[Member] = []

    async def another_client(self) -> Broker:
        await self.memory.start()
        return self.memory

    async def expel(self, member: Member) -> None:
        self.memory.expel(_in_memory(member))

    async def open_transaction(
        self, records: Sequence[Record], group: str = "", checkpoints: Mapping[Partition, Mark] | None = None
    ) -> MemoryTransaction:
        transaction = self.memory.writers.begin(unique("foreign"))
        assert transaction is not None
        for record in records:
            transaction.write(self.memory.log(Partition(record.topic, record.partition)), [record])
        if checkpoints:
            transaction.hold(self.memory.group(group), checkpoints)
        return MemoryTransaction(transaction)

    async def commit_without_end(self, member: Member, commit: Commit) -> StuckCommit:
        self.memory.faults.next_commit = "hang"
        task = asyncio.create_task(member.membership.commit(commit))
        writer, group = member.membership.writer, self.memory.group(member.group)
        await wait_until(lambda: any(transaction.writer == writer for transaction in group._held))
        return StuckCommit(task, asyncio.Event())  # it ends by itself when its writer is freed

    async def commit_losing_the_answer(self, member: Member, commit: Commit, *, written: bool) -> Outcome:
        self.memory.faults.next_commit = "unknown_committed" if written else "unknown_aborted"
        return await member.membership.commit(commit)

    async def compact(self, topic: str, gone: Sequence[int]) -> None:
        self.memory.compact(topic)

    async def trim(self, partition: Partition, new_start: int) -> None:
        self.memory.trim(partition, new_start)

    async def delete_topic(self, topic: str) -> None:
        self.memory.delete_topic(topic)

    async def add_partitions(self, topic: str, partitions: int) -> None:
        self.memory.add_partitions(topic, partitions)

    async def close(self) -> None:
        for member in self.members:
            await member.membership.leave()
        await self.memory.end_background_work()


def _in_memory(member: Member) -> MemoryMembership:
    assert isinstance(member.membership, MemoryMembership)
    return member.membership
