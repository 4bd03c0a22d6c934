"""How late timers are: from the moment they are due to their events in the hands of a committed reader."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from playhead import outgoing
from playhead.errors import PlayheadError
from playhead.scheduler import Scheduler
from playhead.serde import DUE
from playhead.timer import parse_rfc3339
from tests.bench.measures import Bench
from tests.waiting import wait_until

BATCH = 5_000


async def lateness(b: Bench, folder: Path, dues_ms: Callable[[float], Sequence[float]]) -> tuple[list[float], float]:
    """Milliseconds late of each timer, as a reader sees them; and how many timers were set a second.

    Args:
        dues_ms: when they are due, epoch milliseconds, given the moment from which on all of them can be.
    """
    scheduler = Scheduler(b.broker, settings=b.settings, folder=folder)
    running = asyncio.create_task(scheduler.run())
    await wait_until(lambda: scheduler.ready, seconds=30)
    took: list[float] = []
    stop = asyncio.Event()
    dues = dues_ms(time.time() * 1000)
    reading = asyncio.create_task(_read(b, took, stop))
    started = time.perf_counter()
    for first in range(0, len(dues), BATCH):
        moments = (datetime.fromtimestamp(due / 1000, UTC) for due in dues[first : first + BATCH])
        events = [outgoing("thing.made", {"email": "a", "userId": "1", "name": "A"}, at=at) for at in moments]
        for result in await b.client.send_all(events):
            if isinstance(result, PlayheadError):
                raise result
    rate = len(dues) / (time.perf_counter() - started)
    await wait_until(lambda: len(took) >= len(dues), seconds=max(dues) / 1000 - time.time() + 60)
    stop.set()
    await reading
    scheduler.stop()
    await running
    if len(took) != len(dues):
        raise AssertionError(f"{len(dues):,} timers were set, {len(took):,} events came")
    return took, rate


async def _read(b: Bench, took: list[float], stop: asyncio.Event) -> None:
    topic = f"{b.settings.topic_prefix}thing"
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=b.settings.bootstrap_servers, isolation_level="read_committed")
    await consumer.start()
    await consumer.seek_to_end()
    try:
        while not stop.is_set():
            for records in (await consumer.getmany(timeout_ms=100)).values():
                now = time.time() * 1000
                for record in records:
                    took.append(now - parse_rfc3339(dict(record.headers)[DUE].decode()))
    finally:
        await consumer.stop()
