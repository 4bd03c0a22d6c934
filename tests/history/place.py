"""A log in memory, a virtual clock, and histories that write it down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Table

from playhead.broker.memory import MemoryBroker
from playhead.config import Settings
from playhead.history.consumer import History
from playhead.history.store import HistoryStore
from playhead.records import Partition, Record
from playhead.testing import VirtualClock
from playhead.topics import entity_topic, system_topics
from tests.waiting import wait_until


@dataclass
class Running:
    """A history, its database, and the task that it runs in."""

    history: History
    store: HistoryStore
    task: asyncio.Task[None]

    def positions(self) -> dict[Partition, int]:
        return {partition: position for partition, position in self.store.positions().items() if position}


class Place:
    """Topics of Playhead's and `user`, and as many histories as a test starts."""

    def __init__(self, prefix: str = "") -> None:
        self.clock = VirtualClock()
        self.broker = MemoryBroker(self.clock)
        self.settings = Settings(topic_prefix=prefix)
        self.running: list[Running] = []

    async def open(self, partitions: int = 2) -> None:
        await self.broker.start()
        prefix = self.settings.topic_prefix
        specs = [
            *system_topics(prefix=prefix, partitions=partitions),
            entity_topic(f"{prefix}user", partitions=partitions),
        ]
        await self.broker.create_topics(specs)

    async def close(self) -> None:
        for running in self.running:
            running.task.cancel()
        await asyncio.gather(*(running.task for running in self.running), return_exceptions=True)
        for running in self.running:
            running.store.close()
        await self.broker.stop()

    async def start(self, url: str, *, retention_days: float | None = None) -> Running:
        """Start a history; it may not be ready yet."""
        store = HistoryStore(url)
        history = History(self.broker, store, settings=self.settings, clock=self.clock, retention_days=retention_days)
        running = Running(history, store, asyncio.create_task(history.run()))
        self.running.append(running)
        return running

    async def start_ready(self, url: str, *, retention_days: float | None = None) -> Running:
        running = await self.start(url, retention_days=retention_days)
        await self.until(lambda: running.history.ready or running.task.done())
        if running.task.done():
            running.task.result()
        return running

    async def stop(self, running: Running) -> None:
        """Let it end gracefully."""
        self.running.remove(running)
        running.history.stop()
        await running.task
        running.store.close()

    async def until(self, condition, *, passing: float = 0.05, seconds: float = 20.0) -> None:  # type: ignore[no-untyped-def]
        """Let time pass, on the test's clock as well, until this holds."""

        async def holds() -> bool:
            if condition():
                return True
            await self.clock.advance(passing)
            return bool(condition())

        await wait_until(holds, seconds=seconds)

    async def send(self, *records: Record) -> None:
        for result in await self.broker.append(records):
            assert not isinstance(result, Exception), result

    async def written(self, running: Running) -> None:
        """Wait until the database has what is in the log now."""
        await self.until(lambda: running.positions() == self.ends())

    def ends(self) -> dict[Partition, int]:
        read = [name for name in self.broker.all_topics if not name.endswith(("delay", "playhead.jobs"))]
        logs = {Partition(name, log.partition): log for name in read for log in self.broker.logs_of(name)}
        return {partition: log.end for partition, log in logs.items() if log.end}


def rows(store: HistoryStore, table: Table) -> Sequence[sa.Row[tuple[object, ...]]]:
    with store.reading() as db:
        return db.execute(sa.select(table).order_by(*table.primary_key)).all()
