"""What a broker in memory consists of: topics, groups, writers, time, and what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from itertools import count

from playhead.broker.contract import Partition, Record
from playhead.broker.memory.faults import Faults
from playhead.broker.memory.group import Group
from playhead.broker.memory.log import PartitionLog
from playhead.broker.memory.topic import MemoryTopic
from playhead.broker.memory.transaction import Writers
from playhead.clock import Clock
from playhead.errors import InvalidInput, PlayheadError
from playhead.topics import unknown_topic


class Cluster:
    """The state of a `MemoryBroker`, as the other modules of this package use it.

    Attributes:
        clock: what timeouts and latencies are measured on.
        faults: switches for what goes wrong.
        commit_latency_seconds: how long each commit takes; 0 still takes turns of the event loop.
        marker_latency_seconds: how long after its outcome a commit becomes visible. Kafka writes a transaction's
            markers after it has answered; until then readers and checkpoints wait for it.
        breath_seconds: see `Membership.breath_seconds`; nothing in memory is quicker for it.
    """

    session_seconds = 10.0
    heartbeat_seconds = 2.0
    rebalance_timeout_seconds = 20.0
    transaction_timeout_seconds = 15.0

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.waiting: set[Callable[[], None]] = set()
        """Called when the broker becomes unavailable or available: whoever waits for something looks again."""
        self.faults = Faults(clock, self._wake_everyone)
        self.commit_latency_seconds = 0.0
        self.marker_latency_seconds = 0.0
        self.breath_seconds = 0.0
        self.writers = Writers()
        self.all_topics: dict[str, MemoryTopic] = {}
        self.groups: dict[str, Group] = {}
        self._numbers = count(1)
        self._background: set[asyncio.Task[object]] = set()
        self._ended = False

    def existing_topic(self, name: str) -> MemoryTopic:
        """One topic.

        Raises:
            UnknownTopic
        """
        if name not in self.all_topics:
            raise unknown_topic(name)
        return self.all_topics[name]

    def logs_of(self, topic: str) -> Sequence[PartitionLog]:
        """The logs of a topic's partitions, in order."""
        return self.existing_topic(topic).logs

    def log(self, partition: Partition) -> PartitionLog:
        """One partition's log.

        Raises:
            UnknownTopic: there is no such topic or partition.
        """
        logs = self.logs_of(partition.topic)
        if not 0 <= partition.partition < len(logs):
            raise unknown_topic(partition.topic, partition=partition.partition)
        return logs[partition.partition]

    def group(self, name: str) -> Group:
        """The group of this name, which begins to exist when it is first asked for."""
        if name not in self.groups:
            self.groups[name] = Group(
                name,
                self.clock,
                lambda topic: len(self.logs_of(topic)) if topic in self.all_topics else 0,
                rebalance_timeout_seconds=self.rebalance_timeout_seconds,
            )
        return self.groups[name]

    def refusal(self, record: Record) -> PlayheadError | None:
        """Why the broker does not take a record, or None if it does."""
        if record.topic not in self.all_topics:
            return unknown_topic(record.topic)
        if self.faults.refuse is not None and self.faults.refuse(record):
            return InvalidInput(f"the broker refused a record of {record.topic!r} (a test told it to).")
        return self.all_topics[record.topic].refusal(record)

    def next_number(self) -> int:
        """A number that nobody got before."""
        return next(self._numbers)

    def spawn(self, work: Coroutine[None, None, object]) -> None:
        """Let `work` go on in the background until the last client stops; after that nothing begins any more."""
        if self._ended:
            work.close()
            return
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def end_background_work(self) -> None:
        """Cancel whatever was spawned, here and in the groups, and return when it has ended."""
        tasks = {*self._background, *(task for group in self.groups.values() for task in group.background)}
        self._ended = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wake_everyone(self) -> None:
        for wake in tuple(self.waiting):
            wake()
