"""A log, a clock, and schedulers that can be killed. Time passes by `clock.advance` alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from playhead.broker.memory import MemoryBroker
from playhead.client import Client
from playhead.config import Settings
from playhead.events import Event
from playhead.scheduler import Scheduler
from playhead.serde import from_json
from playhead.testing import VirtualClock
from playhead.timers.listing import PendingTimers
from playhead.topics import DEAD_LETTER, DELAY, SCHEDULE, TopicSpec, entity_topic, system_topics

T = TypeVar("T")


@dataclass
class Running:
    """A scheduler, and the task that it runs in."""

    scheduler: Scheduler
    task: asyncio.Task[None]


class Place:
    """Topic `thing`, one client, and as many schedulers as a test starts."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.broker = MemoryBroker(self.clock)
        self.client = Client("place", settings=Settings(), broker=self.broker, clock=self.clock)
        self.running: list[Running] = []
        self._looking: list[PendingTimers] = []

    async def open(self, partitions: int = 2) -> None:
        await self.broker.start()
        specs: list[TopicSpec] = [*system_topics(partitions=partitions), entity_topic("thing", partitions=partitions)]
        await self.broker.create_topics(specs)

    async def close(self) -> None:
        self.broker.commit_latency_seconds = 0.0
        for running in self.running:
            running.task.cancel()
        await asyncio.gather(*(running.task for running in self.running), return_exceptions=True)
        await asyncio.gather(*(one.close() for one in self._looking))
        await self.client.close()
        await self.broker.stop()

    # ── schedulers ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self, folder: Path | None = None) -> Running:
        """Start a scheduler, and wait until its partitions are restored."""
        scheduler = Scheduler(self.broker, settings=Settings(), clock=self.clock, folder=folder)
        running = Running(scheduler, asyncio.create_task(scheduler.run()))
        self.running.append(running)
        await self.clock.advance(1)
        if running.task.done():
            running.task.result()
        return running

    @staticmethod
    def tasks(running: Running) -> list[int]:
        tasks: list[int] = running.scheduler.status()["scheduler"]["tasks"]
        return tasks

    async def stop(self, running: Running) -> None:
        """Let it end gracefully."""
        self.running.remove(running)
        running.scheduler.stop()
        await self.clock.advance(2)
        await running.task

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def while_time_passes(self, work: Awaitable[T], seconds: float = 1.0) -> T:
        """What `work` gives, letting time pass for it: in steps of a thousandth of `seconds`, and no longer."""
        task = asyncio.ensure_future(work)
        await self.clock.advance(0)
        for _ in range(1000):
            if task.done():
                break
            await self.clock.advance(seconds / 1000)
        assert task.done(), f"nothing came of it within {seconds} s"
        return await task

    async def send(self, n: int, **options: Any) -> str:
        """Send `thing.made` later; the timer's id."""
        return (await self.client.send_event("thing.made", {"n": n}, **options)).id

    def pending_timers(self, folder: Path | None = None, wait_seconds: float | None = None) -> PendingTimers:
        """What somebody sees who looks; closed with the place."""

        async def broker() -> MemoryBroker:
            return self.broker

        made = PendingTimers(broker, DELAY, folder=folder, wait_seconds=wait_seconds, clock=self.clock)
        self._looking.append(made)
        return made

    # ── what is in the log ───────────────────────────────────────────────────────────────────────────────────────────

    def events(self, topic: str = "thing") -> list[Event]:
        return [Event(record, dict(record.headers)) for record in self.broker.stored(topic)]

    def fired(self) -> list[int]:
        """The numbers of the events that were sent, in the order of their time."""
        events = sorted(self.events(), key=lambda event: (event.record.timestamp, event.record.offset))
        return [event.payload()["n"] for event in events]

    def numbers(self) -> list[int]:
        """Those of the events that have one, in the order of their time: others may write to the topic as well."""
        events = sorted(self.events(), key=lambda event: (event.record.timestamp, event.record.offset))
        told = [from_json(value) for event in events if (value := event.record.value) and value.startswith(b'{"n"')]
        return [one["n"] for one in told]

    @staticmethod
    def stores(folder: Path) -> list[Path]:
        """The files of the stores in a folder."""
        return sorted(folder.glob("delay-*.db*"))

    def occurrences(self) -> list[Any]:
        return [event.payload() for event in self.events(SCHEDULE)]

    def dead_letters(self) -> list[Any]:
        return [event.payload() for event in self.events(DEAD_LETTER)]

    def pending(self) -> int:
        """Keys of topic `delay` whose last record is no tombstone."""
        last = {record.key: record.value for record in self.broker.stored(DELAY)}
        return sum(value is not None for value in last.values())
