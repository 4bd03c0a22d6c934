"""Crons and intervals: armed by the scheduler alone, one occurrence at a time, through outages and changes of mind."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from playhead import IO, Client, Occurrence, cron_trigger, interval_trigger
from playhead.broker.contract import TopicInfo
from playhead.errors import InvalidSchedule, UnknownSchedule
from playhead.job import ScheduleTrigger
from playhead.records import Record
from playhead.schedule import MAX_DUE_MS
from playhead.scheduler.arming import fire_schedule, occurrence_id, rearm
from playhead.serde import rfc3339
from playhead.testing import JobHarness
from playhead.timer import Timer, armed_record, parse_rfc3339, read_key, schedule_record
from playhead.timers.listing import START
from playhead.timers.schedules import listed, run_now, take_back
from playhead.topics import DELAY, SCHEDULE, unknown_topic
from tests.scheduler.place import Place

DELAY_TOPIC = TopicInfo(DELAY, 2, 1, 1_000_000)
SCHEDULE_TOPIC = TopicInfo(SCHEDULE, 2, 1, 1_000_000)


async def declare(place: Place, job_id: str, trigger: ScheduleTrigger | None) -> None:
    told = None if trigger is None else trigger.to_wire()
    await place.broker.append([schedule_record(job_id, told, DELAY, 2, int(place.clock.time() * 1000))])
    await place.clock.advance(0.1)


def dues(place: Place) -> list[str]:
    return sorted(told["dueAt"] for told in place.occurrences())


class TestJobs:
    async def test_job_runs_whenever_its_cron_is_due(self) -> None:
        client, seen = Client("t"), list[Occurrence]()

        @client.job(id="tick", name="Tick", version="1", trigger=cron_trigger("*/10 * * * *"))
        async def tick(payload: Occurrence, io: IO) -> None:
            seen.append(payload)

        async with JobHarness(client) as jobs:
            await jobs.advance(25 * 60)
            assert [occurrence.due_at.minute for occurrence in seen] == [10, 20]
            assert seen[1].previous_due_at == seen[0].due_at
            assert seen[0].job_id == "tick"
            assert [run.state for run in await jobs.runs("tick")] == ["succeeded", "succeeded"]

    async def test_year_of_a_daily_cron_runs_in_seconds(self) -> None:
        """The real engine and scheduler, arming, firing, running and committing: nobody looks while nothing happens."""
        client, seen = Client("t"), list[datetime]()
        zone = ZoneInfo("Europe/Berlin")

        @client.job(id="tick", name="Tick", version="1", trigger=cron_trigger("0 9 * * *", timezone="Europe/Berlin"))
        async def tick(payload: Occurrence, io: IO) -> None:
            seen.append(payload.due_at.astimezone(zone))

        started = time.process_time()
        async with JobHarness(client) as jobs:
            await jobs.advance(365 * 86_400)
            assert [run.state for run in await jobs.runs("tick")] == ["succeeded"] * 365
        assert time.process_time() - started < 5
        assert {(due.hour, due.minute) for due in seen} == {(9, 0)}
        assert len({due.date() for due in seen}) == 365

    def test_trigger_that_can_never_be_due_is_refused_where_it_is_written(self) -> None:
        with pytest.raises(InvalidSchedule):
            cron_trigger("0 0 31 2 *")
        with pytest.raises(InvalidSchedule):
            cron_trigger("0 9 * * *", timezone="Europe/Berlen")
        with pytest.raises(InvalidSchedule):
            interval_trigger(timedelta(milliseconds=10))
        with pytest.raises(InvalidSchedule):
            interval_trigger(60, jitter=float("nan"))


class TestArming:
    async def test_occurrences_are_sent_one_after_the_other(self, place: Place) -> None:
        await place.start()
        await declare(place, "j", interval_trigger(60))
        await place.clock.advance(185)
        assert [due[11:19] for due in dues(place)] == ["00:01:00", "00:02:00", "00:03:00"]
        assert place.pending() == 2  # what was declared, and the next occurrence

    async def test_occurrence_that_can_not_be_sent_ends_no_schedule(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A broker that has just started may not know of a topic yet; or somebody makes the topic again."""
        await place.start()
        await declare(place, "j", interval_trigger(60))
        known, asked = place.broker.known_topic, place.broker.topic

        async def missing(name: str, *, fresh: bool = False) -> TopicInfo:
            if name == SCHEDULE:
                raise unknown_topic(name)
            return await asked(name, fresh=fresh)

        with monkeypatch.context() as patched:
            patched.setattr(place.broker, "known_topic", lambda name: None if name == SCHEDULE else known(name))
            patched.setattr(place.broker, "topic", missing)
            await place.clock.advance(90)
        await place.clock.advance(60)
        assert [due[11:19] for due in dues(place)] == ["00:02:00"]
        assert len(place.dead_letters()) == 1
        assert place.pending() == 2

    async def test_occurrence_that_is_canceled_is_the_only_one_that_is_not_sent(self, place: Place) -> None:
        await place.start()
        await declare(place, "j", interval_trigger(60))
        await place.clock.advance(61)
        (armed,) = (await place.pending_timers().page(START, 10)).timers
        assert await place.while_time_passes(place.client.cancel_event(armed.id))
        await place.clock.advance(180)
        assert [due[11:19] for due in dues(place)] == ["00:01:00", "00:03:00", "00:04:00"]
        assert place.pending() == 2

    async def test_every_occurrence_is_found_and_canceled_by_its_id_alone(self, place: Place) -> None:
        """Occurrences are in their job's partition; who has only an id knows of no job."""
        await place.start()
        jobs = [f"j{n}" for n in range(8)]
        for job_id in jobs:
            await declare(place, job_id, interval_trigger(60))
        looking = place.pending_timers()
        armed = (await looking.page(START, 100)).timers
        assert sorted(timer.schedule for timer in armed) == jobs
        for timer in armed:
            assert await looking.find(timer.id) == timer
            assert await place.while_time_passes(place.client.cancel_event(timer.id))

    async def test_occurrence_that_is_moved_comes_then_and_its_schedule_goes_on(self, place: Place) -> None:
        await place.start()
        jobs = [f"j{n}" for n in range(8)]
        for job_id in jobs:
            await declare(place, job_id, interval_trigger(60))
        armed = (await place.pending_timers().page(START, 100)).timers
        for timer in armed:
            await place.while_time_passes(place.client.reschedule_event(timer.id, delay={"seconds": 150}))
        await place.clock.advance(130)
        assert {due[11:19] for due in dues(place)} == {"00:02:00"}
        await place.clock.advance(70)
        assert [due[11:19] for due in dues(place)] == ["00:01:00"] * 8 + ["00:02:00"] * 8 + ["00:03:00"] * 8

    async def test_changed_schedule_takes_the_place_of_the_old_one(self, place: Place) -> None:
        await place.start()
        await declare(place, "j", interval_trigger(3600))
        await declare(place, "j", interval_trigger(60))
        await place.clock.advance(70)
        assert [due[11:19] for due in dues(place)] == ["00:01:00"]
        assert place.pending() == 2

    async def test_changed_schedule_on_a_clock_that_was_set_back_goes_on_after_what_fired(self, place: Place) -> None:
        await place.start()
        await declare(place, "j", interval_trigger(60))
        await place.clock.advance(190)
        place.clock.jump(-150)
        await declare(place, "j", interval_trigger(30))
        await place.clock.advance(200)
        assert [due[11:19] for due in dues(place)] == [
            *("00:01:00", "00:02:00", "00:03:00"),  # those of the old one, and nothing of the time that comes again
            *("00:03:30", "00:04:00"),
        ]

    def test_occurrence_has_the_same_id_whoever_arms_it_and_no_other_has_it(self) -> None:
        made = [occurrence_id(job_id, due_ms, 4) for job_id in ("a", "b") for due_ms in (60_000, 120_000)]
        assert len(set(made)) == 4
        assert made == [occurrence_id(job_id, due_ms, 4) for job_id in ("a", "b") for due_ms in (60_000, 120_000)]

    async def test_declared_again_unchanged_changes_nothing(self, place: Place) -> None:
        await place.start()
        for _ in range(3):
            await declare(place, "j", interval_trigger(60))
        await place.clock.advance(70)
        assert len(dues(place)) == 1

    async def test_schedule_that_is_taken_back_fires_no_more(self, place: Place) -> None:
        await place.start()
        await declare(place, "j", interval_trigger(60))
        await place.clock.advance(70)
        await declare(place, "j", None)
        await place.clock.advance(300)
        assert len(dues(place)) == 1
        assert place.pending() == 0

    async def test_jitter_is_added_and_never_taken_off(self, place: Place) -> None:
        await place.start()
        await declare(place, "j", interval_trigger(60, jitter=20))
        await place.clock.advance(600)
        for event in place.events(SCHEDULE):
            late_ms = event.record.timestamp - parse_rfc3339(event.payload()["dueAt"])
            assert 0 <= late_ms <= 20_300

    async def test_what_is_declared_and_when_it_is_due_can_be_listed(self, place: Place) -> None:
        await place.start()
        await declare(place, "j", cron_trigger("0 9 * * *", timezone="Europe/Berlin"))
        (row,) = await listed(place.pending_timers(), int(place.clock.time() * 1000), 3)
        assert row == {
            "job": "j",
            "schedule": "cron 0 9 * * * in Europe/Berlin",
            "zone": "Europe/Berlin",
            "catchUp": "one",
            "jitterMs": 0,
            "armed": True,
            "next": [f"2026-01-0{day}T08:00:00.000Z" for day in (1, 2, 3)],
        }

    async def test_schedule_that_nobody_has_armed_yet_is_listed_by_the_time_of_asking(self, place: Place) -> None:
        await declare(place, "j", interval_trigger(3600, jitter=600))
        (row,) = await listed(place.pending_timers(), int(place.clock.time() * 1000), 2)
        assert row["armed"] is False
        assert row["next"] == ["2026-01-01T01:00:00.000Z", "2026-01-01T02:00:00.000Z"]
        await place.start()
        assert (await listed(place.pending_timers(), 0, 2))[0]["next"] == row["next"]  # and without its jitter

    async def test_run_now_sends_an_occurrence_beside_the_schedule(self, place: Place) -> None:
        await place.start()
        await declare(place, "j", interval_trigger(3600))
        await run_now(place.broker, "", place.pending_timers(), "j", int(place.clock.time() * 1000))
        assert len(dues(place)) == 1
        await place.clock.advance(3600)
        assert len(dues(place)) == 2
        with pytest.raises(UnknownSchedule, match="Jobs that have: j"):
            await run_now(place.broker, "", place.pending_timers(), "k", 0)

    async def test_taken_back_schedule_is_gone_until_it_is_declared_again(self, place: Place) -> None:
        await place.start()
        pending = place.pending_timers()
        await declare(place, "j", interval_trigger(60))
        await place.clock.advance(70)
        await take_back(place.broker, "", pending, "j", int(place.clock.time() * 1000))
        await place.clock.advance(300)
        assert len(dues(place)) == 1
        assert place.pending() == 0
        assert await pending.schedules() == {}
        with pytest.raises(UnknownSchedule):
            await take_back(place.broker, "", pending, "j", 0)
        await declare(place, "j", interval_trigger(60))  # as a worker does when it starts
        await place.clock.advance(60)
        assert len(dues(place)) == 2
        assert [told["previousDueAt"] for told in place.occurrences()] == [None, None]

    async def test_what_was_due_while_a_schedule_was_taken_back_is_not_caught_up(self, place: Place) -> None:
        running = await place.start()
        await declare(place, "j", interval_trigger(60, catch_up="all"))
        await place.stop(running)
        await take_back(place.broker, "", place.pending_timers(), "j", int(place.clock.time() * 1000))
        place.clock.jump(3600)
        await place.start()
        await place.clock.advance(1)
        await declare(place, "j", interval_trigger(60, catch_up="all"))
        await place.clock.advance(60)
        assert len(dues(place)) == 1


class TestForeign:
    async def test_occurrence_before_which_all_of_time_has_passed_ends_no_schedule(self, place: Place) -> None:
        """Whoever may write to the topic may have armed it."""
        await place.start()
        await declare(place, "j", interval_trigger(60))
        payload = {"jobId": "j", "dueAt": rfc3339(MAX_DUE_MS), "previousDueAt": rfc3339(MAX_DUE_MS)}
        now_ms = int(place.clock.time() * 1000)
        junk = armed_record("j", "junk", "schedule.j", payload, now_ms + 86_400_000, DELAY, 2, now_ms)
        await place.broker.append([junk])
        await declare(place, "j", interval_trigger(120))
        before = len(dues(place))
        await place.clock.advance(500)
        assert len(dues(place)) - before in (3, 4)


class TestOutages:
    @pytest.mark.parametrize(("catch_up", "sent"), [("skip", 0), ("one", 1), ("all", 59)])
    async def test_what_was_missed_is_sent_as_the_job_says(self, place: Place, catch_up: Any, sent: int) -> None:
        first = await place.start()
        await declare(place, "j", interval_trigger(60, catch_up=catch_up))
        await place.stop(first)
        place.clock.jump(3605 - place.clock.time() % 60)
        await place.start()
        await place.clock.advance(5)
        assert sum(due[11:16] < "01:00" for due in dues(place)) == sent
        before = len(dues(place))
        await place.clock.advance(180)
        assert len(dues(place)) == before + 3
        assert len(set(dues(place))) == len(dues(place))

    async def test_scheduler_that_is_restored_arms_nothing_twice(self, place: Place) -> None:
        running = await place.start()
        await declare(place, "j", interval_trigger(60))
        for _ in range(5):
            running.scheduler._work.member.unknown("for this test")
            await place.clock.advance(61)
        assert len(dues(place)) == len(set(dues(place))) == 5


def occurrences(trigger: ScheduleTrigger, since: datetime, until: datetime) -> list[datetime]:
    """What fires between the two, arming one after the other as the scheduler does, with no time between."""
    declared, fired = trigger.to_wire(), []
    now_ms, end_ms = int(since.timestamp() * 1000), int(until.timestamp() * 1000)
    _, (armed,) = rearm("j", declared, [], DELAY_TOPIC, now_ms)
    while True:
        timer = stored(armed)
        if timer.due_ms > end_ms:
            return fired
        (event, armed), _ = fire_schedule(timer, declared, SCHEDULE_TOPIC, DELAY_TOPIC, timer.due_ms)
        headers = dict(event.headers)
        fired.append(datetime.fromisoformat(headers["ce_dueat"].decode()))


def stored(record: Record) -> Timer:
    key = read_key(record.key)
    assert key is not None
    return Timer(
        key.id,
        parse_rfc3339(dict(record.headers)["ce_dueat"].decode()),
        record.key or b"",
        record.value,
        record.headers,
    )


class TestCalendar:
    def test_year_of_a_daily_cron_is_armed_and_fired_in_a_second(self) -> None:
        zone = ZoneInfo("Europe/Berlin")
        started = time.process_time()
        trigger = cron_trigger("0 9 * * *", timezone="Europe/Berlin")
        fired = occurrences(trigger, datetime(2026, 1, 1, tzinfo=zone), datetime(2027, 1, 1, tzinfo=zone))
        assert time.process_time() - started < 1
        assert len(fired) == 365
        assert {due.astimezone(zone).hour for due in fired} == {9}

    def test_time_that_spring_skips_fires_once_and_time_that_autumn_repeats_fires_once(self) -> None:
        zone = ZoneInfo("Europe/Berlin")
        trigger = cron_trigger("30 2 * * *", timezone="Europe/Berlin")
        spring = occurrences(trigger, datetime(2026, 3, 28, 12, tzinfo=zone), datetime(2026, 3, 29, 12, tzinfo=zone))
        assert [due.astimezone(zone).strftime("%d %H:%M") for due in spring] == ["29 03:00"]
        autumn = occurrences(trigger, datetime(2026, 10, 24, 12, tzinfo=zone), datetime(2026, 10, 25, 12, tzinfo=zone))
        assert [due.strftime("%d %H:%M") for due in autumn] == ["25 00:30"]

    def test_leap_day_comes_every_four_years(self) -> None:
        utc = ZoneInfo("UTC")
        fired = occurrences(
            cron_trigger("0 0 29 2 *"), datetime(2026, 1, 1, tzinfo=utc), datetime(2040, 1, 1, tzinfo=utc)
        )
        assert [due.year for due in fired] == [2028, 2032, 2036]
