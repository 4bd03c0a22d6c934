"""Records as Kafka's record batches (magic 2), in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from playhead.broker.contract import Record

BATCH_LIMIT_BYTES = 900 * 1024
"""A batch's size if its topic takes that much: below the default max.message.bytes and the default fetch size."""

MAGIC, UNCOMPRESSED = 2, 0


@dataclass(slots=True)
class Batch:
    """One whole batch of one partition, ready to be sent.

    `indices` are the places of its records in what was encoded; `sequence` is the number of its first record in its
    producer's epoch.
    """

    topic: str
    partition: int
    sequence: int
    indices: list[int]
    data: bytes


class _Open:
    """A partition's batch that is being filled, and the batches before it that are full."""

    __slots__ = ("append", "builder", "full", "indices", "sequence")

    def __init__(self) -> None:
        self.full: list[Batch] = []
        self.sequence = 0
        self.indices: list[int] = []
        self.builder: Any = None
        self.append: Callable[..., Any] = _never


def _never(*_: object) -> Any:
    raise AssertionError("a batch is opened before it is filled")


def encode(
    records: Iterable[Record], producer: tuple[int, int], limit_bytes: Callable[[str], int]
) -> dict[tuple[str, int], list[Batch]]:
    """Batches of a transaction that this producer id and epoch has just begun, in order, for each partition.

    `limit_bytes` is the largest batch that a topic takes. A record that is larger gets a batch alone: the broker
    refuses it then, and it only.
    """
    partitions: dict[tuple[str, int], _Open] = {}
    for index, (topic, partition, key, value, headers, timestamp_ms) in enumerate(records):
        place = (topic, partition)
        batch = partitions.get(place)
        if batch is None:
            batch = partitions[place] = _Open()
            _begin(batch, producer, limit_bytes(topic))
        if batch.append(len(batch.indices), timestamp_ms, key, value, headers) is None:
            _finish(batch, place)
            _begin(batch, producer, limit_bytes(topic))
            batch.append(0, timestamp_ms, key, value, headers)
        batch.indices.append(index)
    for place, batch in partitions.items():
        _finish(batch, place)
    return {place: batch.full for place, batch in partitions.items()}


def _begin(batch: _Open, producer: tuple[int, int], limit_bytes: int) -> None:
    batch.builder = DefaultRecordBatchBuilder(MAGIC, UNCOMPRESSED, 1, *producer, batch.sequence, limit_bytes)
    batch.append = batch.builder.append
    batch.indices = []


def _finish(batch: _Open, place: tuple[str, int]) -> None:
    batch.full.append(Batch(*place, batch.sequence, batch.indices, batch.builder.build()))
    batch.sequence += len(batch.indices)
