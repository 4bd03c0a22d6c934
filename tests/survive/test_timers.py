"""Timers on a real Kafka: two schedulers share them, one is killed in the middle of a burst, and none fires twice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from signal import Signals

import pytest

from playhead import Client, Settings, outgoing
from playhead.broker.kafka import KafkaBroker
from playhead.events import Event
from playhead.scheduler import Scheduler
from playhead.serde import DUE
from playhead.timer import parse_rfc3339
from playhead.topics import DELAY
from tests.survive.fleet import SchedulerProcess, committed_events
from tests.waiting import wait_until

pytestmark = pytest.mark.kafka


async def fired(log: KafkaBroker, settings: Settings) -> list[Event]:
    """Every event of topic `thing` that a committed reader finds."""
    return await committed_events(log, f"{settings.topic_prefix}thing")


async def test_event_is_sent_when_due_canceled_or_moved(
    log: KafkaBroker, client: Client, settings: Settings, tmp_path: Path
) -> None:
    scheduler = Scheduler(log, settings=settings, folder=tmp_path)
    running = asyncio.create_task(scheduler.run())
    await wait_until(lambda: scheduler.ready, seconds=20)
    soon = await client.send_event("thing.made", {"n": 1}, delay={"milliseconds": 200}, key="k")
    canceled = await client.send_event("thing.made", {"n": 2}, delay={"hours": 1})
    moved = await client.send_event("thing.made", {"n": 3}, delay={"hours": 1})
    assert (await log.topic(f"{settings.topic_prefix}{DELAY}")).id
    assert await client.cancel_event(canceled.id) is True
    assert await client.cancel_event(canceled.id) is False
    new_id, _ = await client.reschedule_event(moved.id, delay={"milliseconds": 1})
    await wait_until(lambda: scheduler.lateness.count == 2, seconds=20)
    events = {event.id: event for event in await fired(log, settings)}
    assert events.keys() == {soon.id, new_id}
    due = events[soon.id].headers[DUE].decode()
    assert events[soon.id].record.timestamp >= parse_rfc3339(due)
    assert (events[soon.id].key, events[new_id].payload()) == ("k", {"n": 3})
    scheduler.stop()
    await running


@pytest.mark.slow
async def test_kill_9_of_a_scheduler_in_a_burst_loses_and_doubles_no_timer(
    log: KafkaBroker, client: Client, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    timers = 6_000
    folders = [tmp_path_factory.mktemp("scheduler") for _ in range(2)]
    schedulers = [await SchedulerProcess.start(settings, folder) for folder in folders]
    await wait_until(lambda: all(one.running for one in schedulers), seconds=60)
    due = datetime.fromtimestamp(time.time() + 6, UTC)
    events = [outgoing("thing.made", {"n": n}, at=due) for n in range(timers)]
    results = await client.send_all(events)
    assert not [result for result in results if isinstance(result, Exception)]

    async def some_have_fired() -> bool:
        return len(await fired(log, settings)) > 0

    await wait_until(some_have_fired, seconds=30)
    await schedulers[0].end()

    async def all_have_fired() -> bool:
        return len(await fired(log, settings)) >= timers

    await wait_until(all_have_fired, seconds=60)
    await schedulers[1].end(Signals.SIGTERM)
    count = Counter(event.id for event in await fired(log, settings))
    assert count == Counter(event.id for event in events)
