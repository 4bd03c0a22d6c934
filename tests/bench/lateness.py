"""How late timers are: from the moment they are due to their events in the hands of a committed reader."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from signal import Signals

from aiokafka import AIOKafkaConsumer

from playhead import outgoing
from playhead.errors import PlayheadError
from playhead.scheduler import Scheduler
from playhead.serde import DUE
from playhead.timer import parse_rfc3339
from tests.bench.measures import Bench
from tests.survive.fleet import SchedulerProcess
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
    rate = await _set(b, dues)
    await wait_until(lambda: len(took) >= len(dues), seconds=max(dues) / 1000 - time.time() + 60)
    stop.set()
    await reading
    scheduler.stop()
    await running
    if len(took) != len(dues):
        raise AssertionError(f"{len(dues):,} timers were set, {len(took):,} events came")
    return took, rate


async def kill(b: Bench, folder: Path, seconds: int, rate: int) -> tuple[float, int]:
    """One of two schedulers is killed with -9 while `rate` timers/s are due for `seconds`.

    Returns:
        The latest event, in seconds after it was due, which is how long the takeover took; and how many more or fewer
        events came than timers were set.
    """
    folders = [Path(tempfile.mkdtemp(dir=folder)) for _ in range(2)]
    schedulers = [await SchedulerProcess.start(b.settings, one) for one in folders]
    await wait_until(lambda: all(one.running for one in schedulers), seconds=60)
    took: list[float] = []
    stop = asyncio.Event()
    now_ms = time.time() * 1000
    dues = [now_ms + 6_000 + n * 1000 / rate for n in range(seconds * rate)]
    reading = asyncio.create_task(_read(b, took, stop))
    await _set(b, dues)
    await wait_until(lambda: len(took) > len(dues) / 4, seconds=seconds + 30)
    await schedulers[0].end()
    await wait_until(lambda: len(took) >= len(dues), seconds=seconds + 60)
    await asyncio.sleep(2)  # time for what comes twice
    stop.set()
    await reading
    await schedulers[1].end(Signals.SIGTERM)
    return max(took) / 1000, len(took) - len(dues)


async def _set(b: Bench, dues: Sequence[float]) -> float:
    """Send the events. Returns how many a second."""
    started = time.perf_counter()
    for first in range(0, len(dues), BATCH):
        moments = (datetime.fromtimestamp(due / 1000, UTC) for due in dues[first : first + BATCH])
        events = [outgoing("thing.made", {"email": "a", "userId": "1", "name": "A"}, at=at) for at in moments]
        for result in await b.client.send_all(events):
            if isinstance(result, PlayheadError):
                raise result
    return len(dues) / (time.perf_counter() - started)


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
