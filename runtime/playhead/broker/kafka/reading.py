"""Reading a partition from an offset to an end, outside any group."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from playhead.broker.contract import Partition, StoredRecord
from playhead.broker.kafka import faults
from playhead.broker.kafka.faults import Next
from playhead.broker.kafka.link import Link, LostError, Patience
from playhead.broker.kafka.offsets import READ_COMMITTED, READ_UNCOMMITTED
from playhead.broker.kafka.unpacking import Batches, Records
from playhead.clock import Clock
from playhead.errors import CheckpointLost

FETCH_WAIT_MS = 500
"""How long a fetch stays at the broker where the end is not reached and nothing is there yet."""
FETCH_BYTES = 1_048_576
"""About what one batch for the sink takes; a batch of the log that is larger comes whole."""


class Reading:
    """Reads of partitions; each has a connection of its own while it lasts, because it may wait at the broker."""

    def __init__(self, link: Link, clock: Clock, limit_seconds: float) -> None:
        self._link = link
        self._clock = clock
        self._limit_seconds = limit_seconds
        self._idle_lanes: list[tuple[str, int]] = []
        self._lane_count = 0

    async def read(
        self,
        partition: Partition,
        start: int,
        end: int,
        sink: Callable[[Sequence[StoredRecord]], Awaitable[None]],
        *,
        committed: bool,
    ) -> None:
        """Hand every record with start <= offset < end to `sink`. Markers and gaps count for reaching the end.

        Raises:
            UnknownTopic, NotAuthorized.
            BrokerUnavailable: nobody has answered for `limit_seconds`.
            CheckpointLost: the log does not reach back to `start`, or ends before it.
            UnreadableRecords: a batch can't be decompressed or decoded.
        """
        lane = self._idle_lanes.pop() if self._idle_lanes else self._new_lane()
        isolation = READ_COMMITTED if committed else READ_UNCOMMITTED
        try:
            position = start
            while position < end:
                unpacked = await self._fetch(partition, position, isolation, lane)
                records = []
                for record in unpacked:
                    if record.offset >= end:
                        break
                    records.append(record)
                position = unpacked.next_fetch_offset
                if records:
                    await sink(records)
        finally:
            self._idle_lanes.append(lane)

    def _new_lane(self) -> tuple[str, int]:
        self._lane_count += 1
        return "read", self._lane_count

    async def _fetch(self, partition: Partition, position: int, isolation: int, lane: object) -> Any:
        """What follows `position`: an iterator over records whose `next_fetch_offset` is then where to go on."""
        patience = Patience(self._clock, self._limit_seconds)
        wanted = [(partition.topic, [(partition.partition, position, FETCH_BYTES)])]
        request = FetchRequest(FETCH_WAIT_MS, 1, FETCH_BYTES, isolation, wanted)
        while True:
            code = faults.LEADER_NOT_AVAILABLE
            node = self._link.leader(partition)
            if node is not None:
                try:
                    answer = await self._link.send(node, request, lane)
                except LostError:
                    pass
                else:
                    _, code, _, _, *others, data = answer.topics[0][1][0]
                    if code == faults.NONE:
                        place = TopicPartition(*partition)
                        return Records(place, Batches(data), _aborted(others), position, None, None, True, isolation)
            where = f"{partition.topic}[{partition.partition}]"
            if code == faults.OFFSET_OUT_OF_RANGE:
                raise CheckpointLost(f"offset {position} of {where} is not in the log any more.")
            if code in faults.UNREADABLE:
                raise faults.unreadable(faults.name(code), where, position)
            if faults.next_after(code) is not Next.AGAIN:
                raise faults.raised(code, f"reading {where}")
            if await self._link.relocate({partition.topic}) and not self._link.has(partition):
                raise self._link.unknown(*partition)
            if not await patience.pause():
                raise faults.raised(code, f"reading {where}")


def _aborted(fields: Sequence[Any]) -> Any:
    """The aborted transactions of a fetched partition; the fields before the data differ between versions."""
    return next((field for field in fields if isinstance(field, list)), None)
