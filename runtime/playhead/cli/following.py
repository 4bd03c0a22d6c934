"""Reading many partitions as one stream, without a group: what is there in the order of time, then what comes.

partition 0   ──a────c──┊──f──▶        up to the end as it was when reading began (┊): merged by time, a b c d
partition 1   ────b────d┊─e───▶        after it: as they arrive, e f g
later         ──────────┊───g─▶        made meanwhile: from its first record on
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import TypeAlias

from playhead.broker.contract import Broker
from playhead.errors import PlayheadError
from playhead.records import Partition, StoredRecord

_NO_END = 2**63 - 1
_BATCHES_AHEAD_MAX = 2

_Queue: TypeAlias = "asyncio.Queue[Sequence[StoredRecord] | PlayheadError | None]"


async def follow(
    broker: Broker,
    ranges: Mapping[Partition, tuple[int, int]],
    *,
    live: bool,
    later: AsyncIterator[Partition] | None = None,
) -> AsyncGenerator[StoredRecord]:
    """Every committed record from each partition's range, in the order of time; with `live`, then what comes after.

    Close the iterator (`contextlib.aclosing`) when it is left early.

    Args:
        later: with `live`, partitions that are made meanwhile; it is asked from the end of the past on.

    Raises:
        BrokerUnavailable, NotAuthorized: as `Broker.read`.
    """
    tasks: list[asyncio.Task[None]] = []

    def pump(partition: Partition, start: int, end: int, queue: _Queue) -> _Queue:
        tasks.append(asyncio.create_task(_pump(broker, partition, start, end, queue)))
        return queue

    try:
        past = [
            pump(partition, start, end, asyncio.Queue(_BATCHES_AHEAD_MAX))
            for partition, (start, end) in ranges.items()
            if start < end
        ]
        async for record in _merge(past):
            yield record
        if live:
            shared: _Queue = asyncio.Queue(_BATCHES_AHEAD_MAX)
            for partition, (start, end) in ranges.items():
                pump(partition, max(start, end), _NO_END, shared)
            if later is not None:
                tasks.append(asyncio.create_task(_take_up(later, pump, shared)))
            while True:
                for record in await _next(shared) or ():
                    yield record
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _take_up(
    later: AsyncIterator[Partition], pump: Callable[[Partition, int, int, _Queue], _Queue], queue: _Queue
) -> None:
    try:
        async for partition in later:
            pump(partition, 0, _NO_END, queue)
    except PlayheadError as error:
        await queue.put(error)


async def _pump(broker: Broker, partition: Partition, start: int, end: int, queue: _Queue) -> None:
    try:
        await broker.read(partition, start, end, queue.put)
    except PlayheadError as error:
        await queue.put(error)
    else:
        await queue.put(None)


async def _next(queue: _Queue) -> Sequence[StoredRecord] | None:
    item = await queue.get()
    if isinstance(item, PlayheadError):
        raise item
    return item


async def _records(queue: _Queue) -> AsyncIterator[StoredRecord]:
    while (batch := await _next(queue)) is not None:
        for record in batch:
            yield record


async def _merge(queues: Sequence[_Queue]) -> AsyncIterator[StoredRecord]:
    """Merge by time; within a partition the order of offsets stays, whatever its times say."""
    streams = [_records(queue) for queue in queues]
    heads: list[tuple[int, int, StoredRecord]] = []
    for number, stream in enumerate(streams):
        if (record := await anext(stream, None)) is not None:
            heads.append((record.timestamp, number, record))
    heapq.heapify(heads)
    while heads:
        _, number, record = heads[0]
        yield record
        if (record := await anext(streams[number], None)) is not None:
            heapq.heapreplace(heads, (record.timestamp, number, record))
        else:
            heapq.heappop(heads)
