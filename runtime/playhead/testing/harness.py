"""Runs a client's jobs in memory, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any

from playhead.broker.contract import Partition
from playhead.broker.memory import MemoryBroker
from playhead.client import Client
from playhead.config import Settings
from playhead.delay import Delay
from playhead.engine import Worker
from playhead.errors import PlayheadError
from playhead.events import Event, TypedEvent, catalog, entity_of, outgoing
from playhead.job import Job
from playhead.records import StoredRecord
from playhead.run import RunEvent, RunState, RunView
from playhead.scheduler import Scheduler
from playhead.sending import SentEvent
from playhead.testing.virtual_clock import VirtualClock, drain
from playhead.topics import DEFAULT_PARTITIONS, RESERVED_ENTITIES, RUN, entity_topic, system_topics

SETTLE_SECONDS = 10.0
"""Of real time: after it a run that is still going is taken to hang."""


class JobHarness:
    """The real engine on the in-memory broker, from `async with` on.

    Args:
        clients: whose jobs run.
        jobs: ids of those to run; all where not given.
        entities: topics to make beside those of the jobs' triggers and of the imported catalog.
    """

    def __init__(self, *clients: Client, jobs: Iterable[str] | None = None, entities: Iterable[str] = ()) -> None:
        self.clock = VirtualClock()
        self.broker = MemoryBroker(self.clock)
        wanted = None if jobs is None else set(jobs)
        self._jobs: Sequence[Job] = [
            job for client in clients for job in client.jobs.values() if wanted is None or job.id in wanted
        ]
        names = [job.trigger.name for job in self._jobs] + list(catalog())
        self._entities = ({entity_of(name) for name in names} | set(entities)) - RESERVED_ENTITIES
        settings = Settings()
        self._client = Client("test", settings=settings, broker=self.broker, clock=self.clock)
        self.scheduler = Scheduler(self.broker, settings=settings, clock=self.clock)
        self.worker = Worker(self._jobs, self.broker, settings=settings, clock=self.clock, grace_seconds=0.0, seed=1)
        self._running: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> JobHarness:
        await self.broker.start()
        await self.broker.create_topics([*system_topics(), *(entity_topic(e) for e in sorted(self._entities))])
        self._running = [asyncio.create_task(part.run()) for part in (self.worker, self.scheduler)]
        await drain()
        while not (self.worker.ready and self.scheduler.ready):
            for part in self._running:
                if part.done():
                    part.result()
            await self.clock.advance(0.05)  # a group's founding waits in small steps
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.worker.stop()
        self.scheduler.stop()
        await asyncio.gather(*self._running)
        await self._client.close()
        await self.broker.stop()

    # ── doing ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def send(
        self,
        event: str | TypedEvent,
        payload: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        key: str | None = None,
        delay: Delay | None = None,
        at: datetime | str | None = None,
        settle: bool = True,
    ) -> SentEvent:
        """Send an event as a service does, and let the jobs work until nothing is left to do at this moment.

        Args:
            settle: False where a run waits for the test's clock (its deadline, for example): `clock.advance` next.
        """
        (sent,) = await self._client.send_all([outgoing(event, payload, id=id, key=key, delay=delay, at=at)])
        if isinstance(sent, PlayheadError):
            raise sent
        if settle:
            await self.settle()
        return sent

    async def settle(self) -> None:
        """Return when no run is going; what waits for a later moment (a retry) is not waited for.

        Raises:
            TimeoutError: a run did not end within ten seconds of real time.
        """
        async with asyncio.timeout(SETTLE_SECONDS):
            await drain()
            while any(consumer.running for consumer in self.worker.consumers):
                await asyncio.sleep(0.001)  # a thread, or a wait that is not on the test's clock
                await drain()

    async def advance(self, seconds: float) -> None:
        """Let time pass for the jobs, then settle."""
        await self.clock.advance(seconds)
        await self.settle()

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def events(self, name: str) -> list[Event]:
        """Every committed event of this name, partition by partition, in order."""
        found: list[Event] = []

        async def keep(records: Sequence[StoredRecord]) -> None:
            for record in records:
                event = Event(record, dict(record.headers))
                if event.name == name:
                    found.append(event)

        topic = entity_of(name)
        partitions = [Partition(topic, number) for number in range(DEFAULT_PARTITIONS)]
        for partition, (start, end) in (await self.broker.bounds(partitions)).items():
            await self.broker.read(partition, start, end, keep)
        return found

    async def payloads(self, name: str) -> list[Any]:
        """The payloads of every committed event of this name."""
        return [event.payload() for event in await self.events(name)]

    async def runs(self, job_id: str | None = None) -> list[RunView]:
        """What the `run.*` events tell: one entry for each run, of one job or of all."""
        views: dict[str, RunView] = {}
        for name, model in catalog().items():
            if entity_of(name) != RUN:
                continue
            for event in await self.events(name):
                told = event.typed_payload(model)
                assert isinstance(told, RunEvent)
                if job_id is None or told.job_id == job_id:
                    view = views.get(told.run_id, RunView(told.run_id))
                    final = view.state in (RunState.SUCCEEDED, RunState.FAILED)
                    views[told.run_id] = view if final else view.apply(told)
        return list(views.values())

    async def run_of(self, job_id: str) -> RunView:
        """The only run of a job.

        Raises:
            AssertionError: there is none, or there are several.
        """
        runs = await self.runs(job_id)
        assert len(runs) == 1, f"job {job_id!r} has {len(runs)} runs"
        return runs[0]
