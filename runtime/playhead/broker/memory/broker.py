"""A broker in memory: one process, one event loop, the semantics of the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from playhead.broker.contract import (
    Appended,
    GroupInfo,
    Mark,
    Ownership,
    Partition,
    Record,
    StoredRecord,
    TopicInfo,
)
from playhead.broker.memory.cluster import Cluster
from playhead.broker.memory.membership import MemoryMembership
from playhead.broker.memory.topic import MemoryTopic
from playhead.clock import SYSTEM_CLOCK, Clock
from playhead.errors import BrokerUnavailable, InvalidInput
from playhead.topics import TopicSpec

READ_BATCH_RECORDS = 1_000


class MemoryBroker(Cluster):
    """A `Broker` for tests and for the simulator: every client of one log shares one object.

    It moves when the event loop does, and waits on `clock` alone. What the contract has no word for is here for tests:
    `faults`, the latencies of `Cluster`, `stored`, `compact`, `trim`, `delete_topic`, `add_partitions`, `expel`,
    `freeze` and `thaw`.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(clock)
        self.on_blocked: Callable[[float], None] | None = None
        """Never called: in memory nobody is thrown out for blocking the loop."""
        self._known: set[str] = set()
        self._clients = 0

    async def start(self) -> None:
        """See `Broker.start`."""
        self.faults.check()
        self._clients += 1
        self._ended = False

    async def stop(self) -> None:
        """See `Broker.stop`. The log stays; the last client to stop ends what runs in the background."""
        self._clients -= 1
        if self._clients <= 0:
            await self.end_background_work()

    # Records ----------------------------------------------------------------------------------------------------

    async def append(self, records: Sequence[Record]) -> list[Appended | Exception]:
        """See `Broker.append`."""
        await asyncio.sleep(0)
        if self.faults.unavailable:
            return [BrokerUnavailable("the broker did not answer.") for _ in records]
        results: list[Appended | Exception] = []
        for record in records:
            if (refusal := self.refusal(record)) is not None:
                results.append(refusal)
            else:
                offset = self.log(Partition(record.topic, record.partition)).append((record,))
                results.append(Appended(record.topic, record.partition, offset))
        return results

    async def read(
        self,
        partition: Partition,
        start: int,
        end: int,
        sink: Callable[[Sequence[StoredRecord]], Awaitable[None]],
        *,
        committed: bool = True,
    ) -> None:
        """See `Broker.read`.

        Raises:
            CheckpointLost: `start` is outside the log.
        """
        log = self.log(partition)
        changed = asyncio.Event()
        self.waiting.add(changed.set)
        log.listeners.add(changed.set)
        try:
            while start < end:
                self.faults.check()
                changed.clear()
                records, position = log.read(start, READ_BATCH_RECORDS, committed=committed)
                wanted = [record for record in records if record.offset < end]
                if wanted:
                    await sink(wanted)
                if position == start:
                    await changed.wait()
                start = position
        finally:
            self.waiting.discard(changed.set)
            log.listeners.discard(changed.set)

    async def bounds(
        self, partitions: Iterable[Partition], *, committed: bool = True
    ) -> dict[Partition, tuple[int, int]]:
        """See `Broker.bounds`."""
        self.faults.check()
        await asyncio.sleep(0)
        logs = {partition: self.log(partition) for partition in partitions}
        return {p: (log.start, log.last_stable_offset if committed else log.end) for p, log in logs.items()}

    async def ends_of_epochs(self, leader_epochs: Mapping[Partition, int]) -> dict[Partition, int]:
        """See `Broker.ends_of_epochs`."""
        self.faults.check()
        await asyncio.sleep(0)
        return {partition: self.log(partition).end_of_epoch(epoch) for partition, epoch in leader_epochs.items()}

    async def offsets_at(self, partitions: Iterable[Partition], timestamp_ms: int) -> dict[Partition, int]:
        """See `Broker.offsets_at`."""
        self.faults.check()
        await asyncio.sleep(0)
        return {partition: self.log(partition).offset_at(timestamp_ms) for partition in partitions}

    # Topics -----------------------------------------------------------------------------------------------------

    async def topic(self, name: str, *, fresh: bool = False) -> TopicInfo:
        """See `Broker.topic`."""
        self.faults.check()
        await asyncio.sleep(0)
        info = self.existing_topic(name).info()
        self._known.add(name)
        return info

    def known_topic(self, name: str) -> TopicInfo | None:
        """See `Broker.known_topic`."""
        return self.all_topics[name].info() if name in self._known & self.all_topics.keys() else None

    async def topics(self) -> list[TopicInfo]:
        """See `Broker.topics`."""
        self.faults.check()
        await asyncio.sleep(0)
        return [topic.info() for topic in self.all_topics.values()]

    async def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """See `Broker.create_topics`."""
        self.faults.check()
        await asyncio.sleep(0)
        created = {spec.name: MemoryTopic(spec) for spec in specs if spec.name not in self.all_topics}
        self.all_topics.update(created)
        for group in self.groups.values():
            if any(group.reads(topic) for topic in created):  # that had been deleted
                group.rebalance()
        return list(created)

    # Groups -----------------------------------------------------------------------------------------------------

    async def join(self, group: str, topics: Sequence[str], ownership: Ownership) -> MemoryMembership:
        """See `Broker.join`. The first assignment comes in a later turn of the event loop."""
        self.faults.check()
        for topic in topics:
            self.existing_topic(topic)
        return MemoryMembership(self, self.group(group), topics, ownership)

    async def reset_group(self, group: str, checkpoints: Mapping[Partition, Mark]) -> None:
        """See `Broker.reset_group`."""
        self.faults.check()
        await asyncio.sleep(0)
        if self.group(group).members:
            raise InvalidInput(f"group {group!r} has members.", remedy="Stop its workers first.")
        self.group(group).reset(checkpoints)

    async def describe_group(self, group: str) -> GroupInfo:
        """See `Broker.describe_group`."""
        self.faults.check()
        await asyncio.sleep(0)
        return self.groups[group].describe() if group in self.groups else GroupInfo(group, "dead", {}, {})

    # For tests --------------------------------------------------------------------------------------------------

    def stored(self, topic: str, *, committed: bool = True) -> list[StoredRecord]:
        """Every record of a topic that a reader sees now, partition after partition."""
        return [r for log in self.logs_of(topic) for r in log.read(log.start, log.end + 1, committed=committed)[0]]

    def compact(self, topic: str, *, drop_tombstones: bool = False) -> None:
        """Compact every partition of a topic, whatever its cleanup.policy."""
        for log in self.logs_of(topic):
            log.compact(drop_tombstones=drop_tombstones)

    def trim(self, partition: Partition, new_start: int) -> None:
        """Take everything below `new_start` away, as retention does."""
        self.log(partition).trim(new_start)

    def delete_topic(self, topic: str) -> None:
        """Delete a topic with its records, and the checkpoints that groups have of it."""
        del self.all_topics[topic]
        for group in self.groups.values():
            group.forget(topic)
            if group.reads(topic):
                group.rebalance()

    def add_partitions(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions, `partitions` in all; the groups that read it begin a new generation."""
        self.existing_topic(topic).grow(partitions)
        for group in self.groups.values():
            if group.reads(topic):
                group.rebalance()

    def expel(self, membership: MemoryMembership) -> None:
        """Let the group go on without this member. It learns of it with its next heartbeat, and joins again."""
        membership.expel()

    def freeze(self, membership: MemoryMembership) -> None:
        """Stop a member's heartbeats and its answers to rebalances; after the session timeout the group goes on."""
        membership.freeze()

    def thaw(self, membership: MemoryMembership) -> None:
        """Undo `freeze`."""
        membership.thaw()
