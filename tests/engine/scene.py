"""A log, a clock, and workers of a test's jobs: each worker a process of its own that can be killed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playhead.broker.contract import Mark
from playhead.broker.memory import MemoryBroker
from playhead.client import Client
from playhead.config import Settings
from playhead.engine.consumer import JobConsumer
from playhead.errors import Poison
from playhead.events import Event, outgoing
from playhead.job import Job, event_trigger
from playhead.records import Partition, Record
from playhead.testing import VirtualClock
from playhead.topics import DEAD_LETTER, RUN, entity_topic, system_topics
from tests.simulator.process import Process

Function = Callable[..., Any]


class Scene:
    """Topic `thing`, and jobs on `thing.made` unless a test says otherwise. Time passes by `clock.advance` alone."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.broker = MemoryBroker(self.clock)
        self.client = Client("scene", settings=Settings(), broker=self.broker, clock=self.clock)
        self.processes: list[Process] = []

    async def open(self, *, partitions: int = 1, **max_message_bytes: int) -> None:
        """Make the topics; `run=5_000` gives topic `run` that limit."""
        await self.broker.start()
        specs = [*system_topics(), entity_topic("thing", partitions=partitions), entity_topic("echo", partitions=1)]
        await self.broker.create_topics(specs)
        for topic, limit in max_message_bytes.items():
            self.broker.existing_topic(topic).max_message_bytes = limit

    async def close(self) -> None:
        for process in self.processes:
            await process.bury()
        await self.client.close()
        await self.broker.stop()

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @staticmethod
    def job(run: Function, *, id: str = "j", on: object = "thing.made", **options: Any) -> Job:
        trigger: Any = event_trigger(on) if isinstance(on, str) else on
        options = {"start": "earliest", **options}
        return Client("t").define_job(id=id, name=id, version="1", trigger=trigger, run=run, **options)

    def launch(self, *jobs: Job, grace_seconds: float = 2.0) -> Process:
        """Start a worker, and let no time pass."""
        process = Process(jobs, self.broker, self.clock, seed=1, grace_seconds=grace_seconds)
        self.processes.append(process)
        return process

    async def work(self, run: Function, *, grace_seconds: float = 2.0, **options: Any) -> Process:
        """Start a worker with one job, and wait until it has its tasks or has given up."""
        process = self.launch(self.job(run, **options), grace_seconds=grace_seconds)
        await self.clock.advance(1)
        return process

    async def stop(self, process: Process) -> None:
        """Let it end gracefully."""
        process.stop()
        await self.clock.advance(5)
        assert process.ended
        process.check()

    async def kill(self, process: Process) -> None:
        """Kill it, and wait until its group has noticed."""
        process.kill()
        await self.clock.advance(self.broker.session_seconds + 1)

    @staticmethod
    def consumer(process: Process) -> JobConsumer:
        """The consumer of a worker's first job."""
        return process.worker.consumers[0]

    # ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def send(self, *numbers: int, name: str = "thing.made", **payload: Any) -> list[str]:
        """Send an event per number, each with a key of its own, and let the workers do what needs no time."""
        events = [outgoing(name, {"n": n, **payload}, key=str(n)) for n in numbers]
        for result in await self.client.send_all(events):
            assert not isinstance(result, Exception), result
        await self.clock.advance(0)
        return [event.id for event in events]

    async def put(
        self, value: bytes | None, headers: list[tuple[str, Any]], *, key: bytes | None = b"k", partition: int = 0
    ) -> None:
        """Append a record to topic `thing` as a foreign producer does."""
        now_ms = int(self.clock.time() * 1000)
        # Into the log itself: a foreign producer may write headers without a value, Playhead never does.
        self.broker.log(Partition("thing", partition)).append([Record("thing", partition, key, value, headers, now_ms)])
        await self.clock.advance(0)

    # ── what is in the log ───────────────────────────────────────────────────────────────────────────────────────────

    def events(self, topic: str) -> list[Event]:
        """Every committed event of a topic."""
        return [Event(record, dict(record.headers)) for record in self.broker.stored(topic)]

    def told(self, name: str) -> list[dict[str, Any]]:
        """The payloads of the committed `run.*` events of this name."""
        return [event.payload() for event in self.events(RUN) if event.name == name]

    def ends(self) -> list[tuple[int, str]]:
        """(number of the event, how its run ended) of every run that has ended, sorted."""
        numbers = {event.id: _number(event) for event in self.events("thing")}
        finals = [event for event in self.events(RUN) if event.name in ("run.succeeded", "run.failed")]
        return sorted((numbers[e.payload()["eventId"]], e.name.removeprefix("run.")) for e in finals)

    def dead_letters(self) -> list[dict[str, Any]]:
        return [event.payload() for event in self.events(DEAD_LETTER)]

    def marks(self, group: str = "j") -> dict[int, Mark]:
        """The group's checkpoints, by task."""
        found = self.broker.group(group).describe().checkpoints
        return {partition.partition: mark for partition, mark in found.items()}

    def log_end(self, partition: int = 0) -> int:
        return self.broker.log(Partition("thing", partition)).end


def _number(event: Event) -> int:
    """The number in its payload; -1 where that is none of this scene's."""
    try:
        payload = event.payload()
    except Poison:
        return -1
    number = payload.get("n", -1) if isinstance(payload, dict) else -1
    return number if isinstance(number, int) else -1
