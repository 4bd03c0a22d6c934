"""What waits to be appended to one partition, and the batch of it that is on its way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from playhead.broker.contract import Appended, Partition, Record
from playhead.broker.kafka.batches import BATCH_LIMIT_BYTES, MAGIC, UNCOMPRESSED
from playhead.broker.kafka.transactional_id import Producer

Result = Appended | Exception

_PLAIN = 0
"""Not transactional."""


class Call:
    """One `append`: a result for each record, and how many are still to come."""

    __slots__ = ("_missing", "done", "results")

    def __init__(self, size: int) -> None:
        self.results: list[Result | None] = [None] * size
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._missing = size

    def settle(self, places: Iterable[int], results: Iterable[Result]) -> None:
        """The results of the records at these places; the first result of a record counts."""
        for place, result in zip(places, results, strict=True):
            if self.results[place] is None:
                self.results[place] = result
                self._missing -= 1
        if not self._missing and not self.done.done():
            self.done.set_result(None)


class Parcel:
    """The records of one call for one partition, in order; those before `taken` are in a batch, or settled."""

    __slots__ = ("call", "places", "records", "taken")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.places: list[int] = []
        self.records: list[Record] = []
        self.taken = 0


class Queue:
    """One partition's parcels, first come, first out.

    parcels   [a a a a a] [b b b] [c]
               └ batch ─────┘
    data: that batch, encoded, under `sequence`, until the broker has answered for it
    """

    __slots__ = ("_alone", "_producer", "_shares", "data", "flying", "parcels", "partition", "sequence")

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.parcels: deque[Parcel] = deque()
        self.data: bytes | bytearray | None = None
        self.flying = False
        self.sequence = 0
        self._producer: Producer | None = None
        self._shares: list[tuple[Parcel, int, int]] = []
        self._alone = 0  # how many of the next records are each sent alone, to find the one that is refused

    def fill(self, producer: Producer, topic_limit_bytes: int | None) -> None:
        """Encode the next batch: as many records as the topic's limit allows."""
        if self._producer is None:
            self._producer, self.sequence = producer, 0
        limit = BATCH_LIMIT_BYTES if topic_limit_bytes is None else min(BATCH_LIMIT_BYTES, topic_limit_bytes)
        if self._alone:
            limit = 1  # a batch takes its first record whatever its size
        builder = DefaultRecordBatchBuilder(MAGIC, UNCOMPRESSED, _PLAIN, *self._producer, self.sequence, limit)
        append: Any = builder.append  # its headers may hold None, ours do not; and lists are invariant
        count = 0
        self._shares = []
        while self.parcels:
            parcel = self.parcels[0]
            first = parcel.taken
            for record in parcel.records[first:] if first else parcel.records:
                if append(count, record[5], record[2], record[3], record[4]) is None:
                    break
                count += 1
                parcel.taken += 1
            if parcel.taken > first:
                self._shares.append((parcel, first, parcel.taken))
            if parcel.taken < len(parcel.records):
                break
            self.parcels.popleft()
        self.data = builder.build() if count else None

    def acknowledge(self, base_offset: int) -> None:
        """The batch is in the log, from `base_offset` on (-1 where the broker has forgotten where a duplicate is)."""
        topic, number = self.partition
        for parcel, first, end in self._shares:
            count = end - first
            offsets = range(base_offset, base_offset + count) if base_offset >= 0 else [-1] * count
            parcel.call.settle(parcel.places[first:end], [Appended(topic, number, offset) for offset in offsets])
            base_offset += count if base_offset >= 0 else 0
            self.sequence += count
            self._alone = max(0, self._alone - count)
        self._shares, self.data = [], None

    def refuse(self, places: Sequence[int], error: Callable[[Record], Exception]) -> None:
        """The batch is not in the log, because of the records at these places in it (none named: send each alone)."""
        count = sum(end - first for _, first, end in self._shares)
        if count == 1:
            places = [0]
        elif not places:
            self._alone = count
        refused = set(places)
        place = 0
        kept: list[Parcel] = []
        for parcel, first, end in self._shares:
            rest = Parcel(parcel.call)
            for number in range(first, end):
                if place in refused:
                    parcel.call.settle([parcel.places[number]], [error(parcel.records[number])])
                else:
                    rest.places.append(parcel.places[number])
                    rest.records.append(parcel.records[number])
                place += 1
            if rest.records:
                kept.append(rest)
        self._alone = max(0, self._alone - len(refused))
        self.parcels.extendleft(reversed(kept))
        self._shares, self.data = [], None

    def begin_anew(self, producer: Producer) -> None:
        """The broker does not know this sequence any more: the same records again, as the first of a new producer."""
        alone = self._alone
        self.refuse((-1,), lambda _: AssertionError())  # refuses none, and puts all of them back
        self._alone = alone
        self._producer, self.sequence = producer, 0

    def settle_all(self, error: Exception) -> None:
        """Nothing of what waits here will be in the log."""
        for parcel, first, end in self._shares:
            parcel.call.settle(parcel.places[first:end], [error] * (end - first))
        for parcel in self.parcels:
            parcel.call.settle(parcel.places, [error] * len(parcel.places))
        self.parcels.clear()
        self._shares, self.data, self._alone = [], None, 0

    def forget(self, call: Call) -> None:
        """This call waits no longer: what is not on its way is not sent."""
        for parcel in self.parcels:
            if parcel.call is call:
                del parcel.places[parcel.taken :], parcel.records[parcel.taken :]
