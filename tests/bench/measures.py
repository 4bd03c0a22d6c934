"""What is measured of Playhead. Each function has topics of its own and leaves nothing running."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from playhead import IO, Client, Settings, event_trigger
from playhead.broker.kafka import KafkaBroker
from playhead.engine import Worker
from playhead.engine.consumer import JobConsumer
from playhead.errors import PlayheadError
from playhead.group.committer import Committer
from playhead.group.work import Ending
from playhead.job import Job
from playhead.topics import entity_topic, system_topics
from tests.bench.catalog import LinkMade, ThingMade

WARM_UP_SECONDS = 2
"""Of a latency's measurement, not counted: neither interpreter has seen the code yet, nor has the broker's JVM."""


@dataclass
class Bench:
    """A connection, a client and a prefix of its own."""

    broker: KafkaBroker
    client: Client
    settings: Settings

    @contextlib.asynccontextmanager
    async def working(self, *jobs: str) -> AsyncIterator[Worker]:
        """A worker with these jobs, ready; stopped at the end."""
        chosen: Sequence[Job] = [self.client.jobs[name] for name in jobs]
        worker = Worker(chosen, self.broker, settings=self.settings)
        running = asyncio.create_task(worker.run())
        while not worker.ready:
            if running.done():
                running.result()
            await asyncio.sleep(0.005)
        try:
            yield worker
        finally:
            worker.stop()
            await running


@contextlib.asynccontextmanager
async def bench(bootstrap: str, name: str) -> AsyncIterator[Bench]:
    prefix = f"bench-{name}-{time.time_ns() // 1_000_000}."
    settings = Settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    broker = KafkaBroker(settings)
    await broker.start()
    entities = (entity_topic(entity, prefix=prefix) for entity in ("thing", "link"))
    await broker.create_topics([*system_topics(prefix=prefix), *entities])
    async with Client("bench", broker=broker, settings=settings) as client:
        yield Bench(broker, client, settings)
    await broker.stop()


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def fill(client: Client, events: int) -> float:
    """Send this many; events/s."""
    started = time.perf_counter()
    for first in range(0, events, 5000):
        numbers = range(first, min(events, first + 5000))
        batch = [ThingMade(email=f"user{n}@example.com", user_id=str(n), name="Ada Lovelace") for n in numbers]
        for result in await client.send_events(batch):
            if isinstance(result, PlayheadError):
                raise result
    return events / (time.perf_counter() - started)


async def no_op_runs(b: Bench, events: int) -> float:
    """Runs/s of a typed job that does nothing, from the start of the first to the last commit."""
    done, all_done, started = 0, asyncio.Event(), 0.0

    @b.client.job(
        id=f"noop-{events}",
        name="No-op",
        version="1",
        trigger=event_trigger(ThingMade),
        start="earliest",
        concurrency=1000,
    )
    async def noop(payload: ThingMade, io: IO) -> None:
        nonlocal done, started
        started = started or time.perf_counter()
        done += 1
        if done == events:
            all_done.set()

    async with b.working(f"noop-{events}"):
        await all_done.wait()
    return events / (time.perf_counter() - started)


async def start_latency(b: Bench, seconds: float, rate: int) -> list[float]:
    """Milliseconds from the call of send_event to the function's first line, at `rate` events/s."""
    took: list[float] = []

    @b.client.job(id="latency", name="Latency", version="1", trigger=event_trigger(ThingMade))
    async def latency(payload: ThingMade, io: IO) -> None:
        took.append((time.perf_counter() - payload.sent_at) * 1000)

    async with b.working("latency"):
        await send_at_rate(b.client, seconds, rate)
        await _settled(took)
    return took[rate * WARM_UP_SECONDS :]


async def send_at_rate(client: Client, seconds: float, rate: int) -> None:
    """Send typed events at a steady rate, each carrying when it was sent."""
    begin = time.perf_counter()
    sends = []
    for number in range(int(seconds * rate)):
        due = begin + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        event = ThingMade(email="a@example.com", user_id=str(number), name="Ada", sent_at=time.perf_counter())
        sends.append(asyncio.create_task(client.send_event(event)))
    await asyncio.gather(*sends)


async def _settled(took: Sequence[float]) -> None:
    seen = -1
    while seen != len(took):
        seen = len(took)
        await asyncio.sleep(0.3)


CHAIN_HOPS = 50
"""Of one chain; the engine refuses a causation depth above 64."""


async def chain_hops(b: Bench, chains: int) -> list[float]:
    """Milliseconds from one run's start to the start of the run that its event triggers, one after the other."""
    took: list[float] = []
    chain_done = asyncio.Event()

    @b.client.job(id="hop", name="Hop", version="1", trigger=event_trigger(LinkMade))
    async def hop(payload: LinkMade, io: IO) -> None:
        now = time.perf_counter()
        if payload.n > 0:
            took.append((now - payload.sent_at) * 1000)
        if payload.n < CHAIN_HOPS:
            await io.send_event(LinkMade(n=payload.n + 1, sent_at=now))
        else:
            chain_done.set()

    async with b.working("hop"):
        for _ in range(chains):
            chain_done.clear()
            await b.client.send_event(LinkMade(n=0, sent_at=time.perf_counter()))
            await chain_done.wait()
    return took[20:]


async def waits_for_commit(b: Bench, seconds: float, rate: int) -> list[float]:
    """Milliseconds that a finished run waits until it is committed: jobs of 80 ms at `rate` events/s in all."""
    ended: dict[int, float] = {}
    took: list[float] = []
    add, committed = Committer.add, JobConsumer.committed

    def noting_add(self: Committer, ending: Ending) -> None:
        ended[id(ending.item)] = time.perf_counter()
        add(self, ending)

    def noting_committed(self: JobConsumer, endings: Sequence[Ending]) -> None:
        now = time.perf_counter()
        took.extend((now - ended.pop(id(ending.item))) * 1000 for ending in endings)
        committed(self, endings)

    @b.client.job(id="slow", name="Slow", version="1", trigger=event_trigger(ThingMade), concurrency=1000)
    async def slow(payload: ThingMade, io: IO) -> None:
        await asyncio.sleep(0.08)

    Committer.add, JobConsumer.committed = noting_add, noting_committed  # type: ignore[method-assign]
    try:
        async with b.working("slow"):
            await send_at_rate(b.client, seconds, rate)
            await _settled(took)
    finally:
        Committer.add, JobConsumer.committed = add, committed  # type: ignore[method-assign]
    return took[rate * WARM_UP_SECONDS :]
