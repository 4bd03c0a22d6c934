"""What a scheduler counts of its timers."""

from __future__ import annotations

import pytest

from playhead.scheduler import work
from tests.exposition import Exposition, exposed
from tests.scheduler.place import Place, Running


def seen(running: Running) -> Exposition:
    return exposed(running.scheduler.samples)


async def test_timers_are_pending_until_they_fire_and_then_have_their_lateness(place: Place) -> None:
    running = await place.start()
    for n in (1, 2):
        await place.send(n, delay={"seconds": 10})
    await place.clock.advance(1)
    before = seen(running)
    assert before.value("playhead_timers_pending") == 2
    assert before.value("playhead_timer_lateness_seconds_count") == 0
    await place.clock.advance(20)
    after = seen(running)
    assert sorted(place.fired()) == [1, 2]  # they are due at once, in partitions of their own
    assert after.value("playhead_timers_pending") == 0
    assert after.value("playhead_timer_lateness_seconds_count") == 2
    assert after.value("playhead_timer_lateness_seconds_bucket", le="1.0") == 2
    assert after.value("playhead_group_ready", group="playhead.scheduler") == 1
    assert after.value("playhead_commits_total", outcome="committed") > 0


async def test_what_an_outage_held_back_is_late(place: Place) -> None:
    running = await place.start()
    await place.send(1, delay={"seconds": 10})
    await place.stop(running)
    await place.clock.advance(100)
    running = await place.start()
    await place.clock.advance(1)
    assert seen(running).value("playhead_timer_lateness_seconds_sum") == pytest.approx(90, abs=5)


async def test_timer_that_is_set_for_a_moment_long_past_is_not_late_by_that(place: Place) -> None:
    running = await place.start()
    await place.send(1, at="2001-01-01T00:00:00Z")
    await place.clock.advance(2)
    assert seen(running).value("playhead_timer_lateness_seconds_count") == 1
    assert seen(running).value("playhead_timer_lateness_seconds_sum") < 2


async def test_timer_that_is_due_and_not_taken_up_is_overdue(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "MAX_GATHERED", 1)
    running = await place.start()
    for n in (1, 2, 3):
        await place.send(n, delay={"seconds": 10}, key="k")
    await place.clock.advance(1)
    assert seen(running).value("playhead_timers_overdue_seconds") == 0
    place.broker.commit_latency_seconds = 5.0
    await place.clock.advance(12)
    now = seen(running)
    assert now.value("playhead_timers_overdue_seconds") == pytest.approx(3, abs=0.1)
    assert now.value("playhead_commit_open_seconds") == pytest.approx(3, abs=0.1)
    await place.clock.advance(60)
    assert sorted(place.fired()) == [1, 2, 3]
    assert seen(running).value("playhead_timers_overdue_seconds") == 0


async def test_timer_that_can_not_be_sent_is_a_dead_letter(place: Place) -> None:
    running = await place.start()
    await place.send(1, delay={"seconds": 10})
    await place.clock.advance(1)
    place.broker.faults.refuse = lambda record: record.topic == "thing"
    await place.clock.advance(20)
    assert seen(running).value("playhead_dead_letters_total", job_id="playhead.scheduler") == 1
    assert len(place.dead_letters()) == 1


async def test_lag_is_known_after_a_look(place: Place) -> None:
    running = await place.start()
    await running.scheduler.look()
    assert seen(running).value("playhead_lag_records", partition="0", topic="delay") == 0
