"""One partition in memory: offsets with gaps, open transactions, the last stable offset, compaction and retention.

A record takes an offset, and so does the marker that ends a transaction on this partition. Only records are stored, in
offset order; a marker is a gap, as is whatever compaction removed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from playhead.broker.contract import Record
from playhead.errors import CheckpointLost


class MemoryRecord(NamedTuple):
    """A record as it is stored and handed out."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class PartitionLog:
    """The records of one partition.

    A transaction is a number that the caller chooses; it is open here from its first record to `end_transaction`.
    """

    __slots__ = (
        "_aborted",
        "_epoch_starts",
        "_offsets",
        "_open",
        "_records",
        "end",
        "listeners",
        "partition",
        "start",
        "topic",
    )

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.start = 0
        """The oldest offset that can be asked for."""
        self.end = 0
        """The offset that the next record takes."""
        self.listeners: set[Callable[[], None]] = set()
        """Called after every change; they look for themselves whether it concerns them."""
        self._records: list[MemoryRecord] = []
        self._offsets: list[int] = []  # of _records, for bisection
        self._open: dict[int, list[int]] = {}  # transaction -> offsets of its records
        self._aborted: set[int] = set()
        self._epoch_starts = [0]  # of each leader epoch the first offset

    @property
    def leader_epoch(self) -> int:
        """Of the records that come next."""
        return len(self._epoch_starts) - 1

    def end_of_epoch(self, leader_epoch: int) -> int:
        """Where the records of this leader epoch, and of those before it, end; 0 where there was no such epoch."""
        if leader_epoch > self.leader_epoch:
            return 0
        return self.end if leader_epoch == self.leader_epoch else self._epoch_starts[leader_epoch + 1]

    @property
    def last_stable_offset(self) -> int:
        """Where committed readers stop: before the first record of the first open transaction, else at the end."""
        if not self._open:
            return self.end
        return max(self.start, min(offsets[0] for offsets in self._open.values()))

    def append(self, records: Iterable[Record], transaction: int | None = None) -> int:
        """Store records in their order; inside `transaction`, they stay unstable until it ends.

        Returns:
            The offset of the first.
        """
        first = offset = self.end
        topic, partition = self.topic, self.partition
        for record in records:
            stored = MemoryRecord(
                topic, partition, offset, record.timestamp_ms, record.key, record.value, tuple(record.headers)
            )
            self._records.append(stored)
            offset += 1
        added = range(first, offset)
        self._offsets.extend(added)
        self.end = offset
        if transaction is not None and added:
            self._open.setdefault(transaction, []).extend(added)
        self._notify()
        return first

    def end_transaction(self, transaction: int, *, commit: bool) -> None:
        """Write the marker that shows a transaction's records to committed readers, or hides them for good."""
        offsets = self._open.pop(transaction, None)
        if offsets is None:
            return
        if not commit:
            self._aborted.update(offset for offset in offsets if offset >= self.start)
        self.end += 1
        self._notify()

    def read(self, position: int, limit: int, *, committed: bool = True) -> tuple[Sequence[MemoryRecord], int]:
        """Up to `limit` records from `position` on, and the position to go on from (which steps over gaps).

        Raises:
            CheckpointLost: `position` is outside the log.
        """
        if not self.start <= position <= self.end:
            raise CheckpointLost(
                f"offset {position} of {self.topic}/{self.partition} is outside the log ({self.start} to {self.end}).",
                remedy="Retention took it, or the topic was made anew: set the group's offsets before you go on.",
            )
        visible = self.last_stable_offset if committed else self.end
        first = bisect_left(self._offsets, position)
        last = len(self._offsets) if visible == self.end else bisect_left(self._offsets, visible)
        if not committed or not self._aborted:
            found = self._records[first : min(last, first + limit)]
        else:
            found = []
            for index in range(first, last):
                if self._offsets[index] not in self._aborted:
                    found.append(self._records[index])
                    if len(found) == limit:
                        break
        if len(found) == limit:
            return found, found[-1].offset + 1
        return found, max(position, visible)

    def offset_at(self, timestamp_ms: int) -> int:
        """The first offset whose record is not older than `timestamp_ms`, or the end."""
        return next((record.offset for record in self._records if record.timestamp >= timestamp_ms), self.end)

    def compact(self, *, drop_tombstones: bool = False) -> None:
        """Keep the newest record of each key below the last stable offset. What is kept keeps its offset.

        Aborted records go, as Kafka's cleaner drops them. Records without a key stay.
        """
        stable = self.last_stable_offset
        newest = {r.key: r.offset for r in self._records if r.offset < stable and r.offset not in self._aborted}

        def stays(record: MemoryRecord) -> bool:
            if record.offset >= stable:
                return True
            if record.offset in self._aborted:
                return False
            if record.key is None:
                return True
            return newest[record.key] == record.offset and not (drop_tombstones and record.value is None)

        self._keep(stays)
        self._aborted = {offset for offset in self._aborted if offset >= stable}

    def trim(self, new_start: int) -> None:
        """Forget everything below `new_start`, as retention does.

        Raises:
            ValueError: `new_start` is outside the log.
        """
        if not self.start <= new_start <= self.end:
            raise ValueError(f"{new_start} is outside {self.topic}/{self.partition} ({self.start} to {self.end})")
        self.start = new_start
        self._keep(lambda record: record.offset >= new_start)
        self._aborted = {offset for offset in self._aborted if offset >= new_start}
        self._notify()

    def lose_tail(self, new_end: int) -> None:
        """Forget everything from `new_end` on, as a broker whose disk had not got it when it died; it leads anew."""
        self.end = new_end
        self._epoch_starts = [min(start, new_end) for start in self._epoch_starts]
        self._epoch_starts.append(new_end)
        self._keep(lambda record: record.offset < new_end)
        self._aborted = {offset for offset in self._aborted if offset < new_end}
        self._notify()

    def _keep(self, stays: Callable[[MemoryRecord], bool]) -> None:
        self._records = [record for record in self._records if stays(record)]
        self._offsets = [record.offset for record in self._records]

    def _notify(self) -> None:
        for listener in tuple(self.listeners):
            listener()
