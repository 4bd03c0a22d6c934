"""Offsets: of partitions (ListOffsets, OffsetForLeaderEpoch), and of groups (OffsetFetch)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from aiokafka.protocol.offset import OffsetRequest

from playhead.broker.contract import Mark, Partition
from playhead.broker.kafka import faults, wire
from playhead.broker.kafka.epoch_ends import EpochEndRequest
from playhead.broker.kafka.faults import Next
from playhead.broker.kafka.link import GROUP, ORDINARY, Link, LostError, Patience
from playhead.clock import Clock
from playhead.errors import BrokerUnavailable, UnknownTopic

T = TypeVar("T")
_Answers: TypeAlias = list[tuple[Partition, int, int]]
"""(partition, code, offset) of each."""

EARLIEST, LATEST = -2, -1
"""ListOffsets' special timestamps."""
READ_UNCOMMITTED, READ_COMMITTED = 0, 1
"""Isolation levels."""
STABLE_LIMIT_SECONDS = 60.0
"""How long a stable checkpoint is waited for; any transaction has ended or timed out well before."""
_UNHEARD_OF_SECONDS = 2.0
_UNHEARD_OF = 75
"""UNKNOWN_LEADER_EPOCH: the node has not heard of it yet."""


def by_topic(entries: Iterable[tuple[str, T]]) -> list[tuple[str, list[T]]]:
    """[(topic, [entry])] as most requests want it."""
    topics: dict[str, list[T]] = {}
    for topic, entry in entries:
        topics.setdefault(topic, []).append(entry)
    return list(topics.items())


class Offsets:
    """Asks leaders and group coordinators for offsets, until they know."""

    def __init__(self, link: Link, clock: Clock, limit_seconds: float) -> None:
        self._link = link
        self._clock = clock
        self._limit_seconds = limit_seconds

    async def at(self, partitions: Iterable[Partition], timestamp_ms: int, isolation: int) -> dict[Partition, int]:
        """The offset at a timestamp (or EARLIEST, LATEST) of each partition; -1 where no record is that young.

        Raises:
            UnknownTopic, NotAuthorized, BrokerUnavailable.
        """

        async def ask(node: int, asked: Sequence[Partition], patience: Patience) -> _Answers:
            marks = by_topic((p.topic, (p.partition, timestamp_ms)) for p in asked)
            answer = await self._link.send(node, OffsetRequest(-1, isolation, marks), ORDINARY, patience)
            return [
                (Partition(topic, partition), code, offset)
                for topic, entries in answer.topics
                for partition, code, _timestamp, offset in entries
            ]

        return await self._of_leaders(partitions, ask, "listing offsets")

    async def ends_of_epochs(self, leader_epochs: Mapping[Partition, int]) -> dict[Partition, int]:
        """Where the records of each partition's leader epoch, and of those before it, end; 0 where it knows none such.

        A node that has been replaced as leader, and does not know it yet, has not heard of the epoch either: so that
        is believed only where it does not change for a while.

        Raises:
            UnknownTopic, NotAuthorized, BrokerUnavailable.
        """
        believed_from = self._clock.monotonic() + _UNHEARD_OF_SECONDS

        async def ask(node: int, asked: Sequence[Partition], patience: Patience) -> _Answers:
            wanted = by_topic((p.topic, (p.partition, leader_epochs[p])) for p in asked)
            answer = await self._link.send(node, EpochEndRequest(wanted), ORDINARY, patience)
            believed = self._clock.monotonic() >= believed_from
            return [
                (Partition(topic, p), _UNHEARD_OF if end < 0 and not code and not believed else code, max(0, end))
                for topic, entries, _ in answer.topics
                for code, p, _epoch, end, _ in entries
            ]

        return await self._of_leaders(leader_epochs, ask, "asking for the ends of leader epochs")

    async def _of_leaders(
        self,
        partitions: Iterable[Partition],
        ask: Callable[[int, Sequence[Partition], Patience], Awaitable[_Answers]],
        doing: str,
    ) -> dict[Partition, int]:
        """What each partition's leader answers, asked until it does."""
        patience = Patience(self._clock, self._limit_seconds)
        waiting = set(partitions)
        found: dict[Partition, int] = {}

        async def asked(node: int, wanted: Sequence[Partition]) -> _Answers:
            try:
                return await ask(node, wanted, patience)
            except LostError:
                return [(partition, faults.LEADER_NOT_AVAILABLE, -1) for partition in wanted]

        while waiting:
            nodes: dict[int, list[Partition]] = {}
            for partition in waiting:
                node = self._link.leader(partition)
                if node is not None:
                    nodes.setdefault(node, []).append(partition)
            answers = await asyncio.gather(*(asked(node, wanted) for node, wanted in nodes.items()))
            code = faults.LEADER_NOT_AVAILABLE
            for partition, answer, offset in (entry for entries in answers for entry in entries):
                if answer == faults.NONE:
                    found[partition] = offset
                    waiting.discard(partition)
                elif faults.next_after(answer) is Next.AGAIN:
                    code = answer
                else:
                    raise faults.raised(answer, f"{doing} of {partition.topic}[{partition.partition}]")
            if not waiting:
                break
            answered = await self._link.relocate({partition.topic for partition in waiting})
            for partition in sorted(waiting):
                if answered and not self._link.has(partition):
                    raise UnknownTopic(f"{partition.topic}[{partition.partition}]")
            if not await patience.pause():
                raise faults.raised(code, f"{doing} of {', '.join(f'{t}[{p}]' for t, p in sorted(waiting))}")
        return found

    async def of_group(
        self, group: str, partitions: Iterable[Partition] | None, *, stable: bool, limit_seconds: float | None = None
    ) -> dict[Partition, Mark | None]:
        """The group's offsets: of these partitions (None where it has none), or of all that it has.

        `stable` waits while a transaction holds one of them open (KIP-447); not longer than `limit_seconds`, if given.

        Raises:
            NotAuthorized, BrokerUnavailable: also when one stays unstable for longer than any transaction can.
        """
        usual_seconds = STABLE_LIMIT_SECONDS if stable else self._limit_seconds
        patience = Patience(self._clock, usual_seconds if limit_seconds is None else limit_seconds)
        asked = None if partitions is None else by_topic(partitions)
        request = wire.OffsetFetchRequest(group, asked, stable=stable)
        while True:
            node = await self._link.coordinator(GROUP, group, patience)
            try:
                answer = await self._link.send(node, request, ORDINARY, patience)
            except LostError as lost:
                reason = str(lost)
                self._link.forget_coordinator(GROUP, group)
            else:
                codes = _codes(answer)
                if not codes:
                    return _marks(answer)
                for code in codes:
                    if faults.next_after(code) is not Next.AGAIN:
                        raise faults.raised(code, f"fetching the checkpoints of group {group!r}")
                    if faults.moved(code):
                        self._link.forget_coordinator(GROUP, group)
                reason = ", ".join(faults.name(code) for code in codes)
            if not await patience.pause():
                raise BrokerUnavailable(f"the checkpoints of group {group!r} can't be read: {reason}.")


def _codes(answer: Any) -> set[int]:
    codes = {code for _, entries, _ in answer.topics for _, _, _, _, code, _ in entries}
    return (codes | {answer.error_code}) - {faults.NONE}


def _marks(answer: Any) -> dict[Partition, Mark | None]:
    return {
        Partition(topic, partition): Mark(offset, metadata or "", leader_epoch) if offset >= 0 else None
        for topic, entries, _ in answer.topics
        for partition, offset, leader_epoch, metadata, _, _ in entries
    }
