"""What is pending, as anybody can read it from topic `delay`: a store in memory, folded from the topic's beginning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from typing import Any

from playhead.broker.contract import Broker, Partition
from playhead.records import StoredRecord
from playhead.timer import Timer
from playhead.timers.store import TimerStore

PAGE_TIMERS = 500


class Pending:
    """The timers that were pending when the topic was read."""

    def __init__(self, stores: Sequence[TimerStore]) -> None:
        self._stores = stores

    def timers(self) -> Iterator[Timer]:
        """All of them, by due time."""
        return merge(*(_all(store) for store in self._stores), key=lambda timer: (timer.due_ms, timer.id))

    def find(self, timer_id: str) -> Timer | None:
        found = (store.find(timer_id) for store in self._stores)
        return next((timer for timer in found if timer is not None), None)

    def schedules(self) -> dict[str, tuple[dict[str, Any], Timer | None]]:
        """For each job that runs by the clock what it declared, and the occurrence that is armed."""
        return {
            job_id: (declared, next(iter(store.armed(job_id)), None))
            for store in self._stores
            for job_id, declared in store.schedules().items()
        }

    def close(self) -> None:
        for store in self._stores:
            store.close()


async def read_pending(broker: Broker, topic: str) -> Pending:
    """Read the topic up to its end.

    Raises:
        UnknownTopic, NotAuthorized, BrokerUnavailable.
    """
    info = await broker.topic(topic)
    partitions = [Partition(topic, number) for number in range(info.partitions)]
    stores = []
    for partition, (start, end) in (await broker.bounds(partitions)).items():
        store = TimerStore(None)

        async def fold(records: Sequence[StoredRecord], store: TimerStore = store) -> None:
            store.apply(records, records[-1].offset + 1, 0)

        await broker.read(partition, start, end, fold)
        stores.append(store)
    return Pending(stores)


def _all(store: TimerStore) -> Iterator[Timer]:
    after = (-1, "")
    while page := store.page(after, PAGE_TIMERS):
        yield from page
        after = page[-1].due_ms, page[-1].id
