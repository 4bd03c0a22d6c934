"""From a fetch's bytes to records: aiokafka's way, and a way around what stops it.

    bytes ──▶ batches ──▶ aiokafka's decoder ──▶ records
                             └─ failed ──▶ one in Python that takes header names of any bytes ──▶ records
                                              └─ failed ──▶ UnreadableRecords, with the place

aiokafka decodes the name of a header as strict UTF-8. The broker takes any bytes for one, so a record of a foreign
producer could end every worker that came upon it, again and again. aiokafka makes its decoders itself, in the consumer
as well; so its classes are replaced, once, when this package is imported.
"""

# pyright: reportIncompatibleMethodOverride=false
# aiokafka's methods are not annotated.

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

from playhead.broker.kafka import faults

_LENGTH_AT, _LENGTH_END = 8, 12
"""Where in a batch the length of what follows it is."""


class Batches:
    """The batches of one partition in a fetch's answer, as aiokafka's MemoryRecords; it keeps their bytes."""

    __slots__ = ("data", "has_next", "next_batch", "size_in_bytes")

    def __init__(self, data: bytes | None) -> None:
        self.data = data or b""
        inner = MemoryRecords(self.data)
        self.has_next = inner.has_next
        self.next_batch = inner.next_batch
        self.size_in_bytes = inner.size_in_bytes


class Records(PartitionRecords):  # type: ignore[misc]
    """An iterator over the records of one partition in a fetch's answer; `next_fetch_offset` is where to go on."""

    def __init__(self, tp: Any, batches: Batches, aborted: Any, *others: Any) -> None:
        super().__init__(tp, batches, aborted, *others)
        self._data = batches.data
        self._aborted = aborted

    def _unpack_records(self) -> Iterator[Any]:
        try:
            yield from super()._unpack_records()
        except (UnicodeDecodeError, CorruptRecordException):
            # From the first batch on, as at first; what lies below `next_fetch_offset` has been handed out.
            self._records = _LenientBatches(self._data)
            self._aborted_transactions = sorted(self._aborted or [], key=lambda one: one[1])
            self._aborted_producers: set[int] = set()
        except Exception as error:
            raise self._unreadable(error) from error
        else:
            return
        try:
            yield from super()._unpack_records()
        except Exception as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> Exception:
        """Of the batch that holds the next record, whatever its decoder or decompressor raised."""
        return faults.unreadable(error, f"{self._tp.topic}[{self._tp.partition}]", self.next_fetch_offset)


class _LenientBatches:
    """The same as `Batches`, with the decoder that takes header names of any bytes."""

    def __init__(self, data: bytes) -> None:
        self._batches: list[memoryview] = []
        view, at = memoryview(data), 0
        while at + _LENGTH_END <= len(data):
            (length,) = struct.unpack_from(">i", data, at + _LENGTH_AT)
            end = at + _LENGTH_END + length
            if length <= 0 or end > len(data):
                break  # a fetch may end within a batch
            self._batches.append(view[at:end])
            at = end
        self._batches.reverse()

    def has_next(self) -> bool:
        return bool(self._batches)

    def next_batch(self) -> _LenientBatch:
        return _LenientBatch(self._batches.pop())


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """A batch whose header names may be any bytes: what is not UTF-8 in them is replaced."""

    _pos: int
    _buffer: bytearray

    def _read_msg(self, *others: Any) -> Any:
        length, start = decode_varint(self._buffer, self._pos)
        at = decode_varint(self._buffer, start)[1]  # past the attributes: there are none
        delta_ms, at = decode_varint(self._buffer, at)
        appended = self.timestamp_type == self.LOG_APPEND_TIME
        timestamp = self.max_timestamp if appended else self.first_timestamp + delta_ms
        offset_delta, at = decode_varint(self._buffer, at)
        key, at = self._read_bytes(at)
        value, at = self._read_bytes(at)
        count, at = decode_varint(self._buffer, at)
        headers = []
        for _ in range(count):
            name, at = self._read_bytes(at)
            content, at = self._read_bytes(at)
            headers.append(((name or b"").decode(errors="replace"), content))
        if at - start != length:
            raise CorruptRecordException(f"a record of {length} bytes took {at - start}")
        self._pos = at
        return _DefaultRecordPy(self.base_offset + offset_delta, timestamp, self.timestamp_type, key, value, headers)

    def _read_bytes(self, at: int) -> tuple[bytes | None, int]:
        size, at = decode_varint(self._buffer, at)
        if size < 0:
            return None, at
        if at + size > len(self._buffer):
            raise CorruptRecordException("a record ends beyond its batch")
        return bytes(self._buffer[at : at + size]), at + size


def install() -> None:
    """Replace aiokafka's classes; once is enough."""
    fetcher.MemoryRecords = Batches
    fetcher.PartitionRecords = Records
