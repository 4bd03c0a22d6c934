"""When jobs that wait for no event are due, whatever is done to the clocks on the walls."""

from __future__ import annotations

import pickle
import time
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.errors import InvalidSchedule
from playhead.schedule import (
    MAX_DUE_MS,
    MAX_INTERVAL_MS,
    MAX_JITTER_MS,
    MAX_PASSED_OVER,
    CatchUp,
    CronSchedule,
    IntervalSchedule,
    Schedule,
    check_jitter_ms,
    due_times,
    jittered,
    schedule_from_wire,
)

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


def at(text: str) -> int:
    """Milliseconds of an ISO time; UTC unless it says otherwise."""
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


def between(schedule: Schedule, after: str, until: str) -> list[str]:
    """What is due in (after, until], as the schedule's own clock shows it."""
    zone = ZoneInfo(schedule.zone) if isinstance(schedule, CronSchedule) else UTC
    found, ms = [], at(after)
    while (due := schedule.next_after(ms)) is not None and due <= at(until):
        found.append(datetime.fromtimestamp(due / 1_000, zone).isoformat(timespec="minutes"))
        ms = due
    return found


class TestZones:
    @pytest.mark.parametrize(
        ("name", "suggestion"),
        [("Europe/Berln", "Europe/Berlin"), ("new york", "America/New_York"), ("Tokyo", "Asia/Tokyo"), ("utc", "UTC")],
    )
    def test_unknown_zone_suggests_the_nearest(self, name: str, suggestion: str) -> None:
        if name == "utc" and _exists(name):
            pytest.skip("file names have no case here")
        with pytest.raises(InvalidSchedule, match=f"time zone {name!r} is unknown.*Did you mean {suggestion!r}"):
            CronSchedule("@daily", name)

    @pytest.mark.parametrize("name", ["", "Europe", "../etc/passwd", "/etc/localtime", "a\0b", "☃" * 20, None, 3])
    def test_what_is_no_name_is_unknown_too(self, name: str) -> None:
        with pytest.raises(InvalidSchedule, match="is unknown"):
            CronSchedule("@daily", name)

    @pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Asia/Tokyo", "America/Phoenix"])
    def test_zone_that_sets_no_clocks_fires_every_24_hours(self, zone: str) -> None:
        dues = list(islice(CronSchedule("30 2 * * *", zone).times_after(at("2026-01-01")), 365))
        assert {later - earlier for earlier, later in pairwise(dues)} == {DAY_MS}
        assert datetime.fromtimestamp(dues[0] / 1_000, ZoneInfo(zone)).strftime("%H:%M") == "02:30"


def _exists(name: str) -> bool:
    try:
        return bool(ZoneInfo(name))
    except KeyError:
        return False


class TestClockSetForward:
    """What the wall clock skips."""

    @pytest.mark.parametrize(
        ("zone", "expression", "fires"),
        [
            ("Europe/Berlin", "30 2 * * *", "2026-03-29T03:00+02:00"),
            ("America/New_York", "15 2 * * *", "2026-03-08T03:00-04:00"),
            ("Australia/Lord_Howe", "15 2 * * *", "2026-10-04T02:30+11:00"),
            ("America/Santiago", "@daily", "2025-09-07T01:00-03:00"),
        ],
    )
    def test_fixed_time_fires_at_the_end_of_the_gap(self, zone: str, expression: str, fires: str) -> None:
        schedule = CronSchedule(expression, zone)
        assert schedule.next_after(at(fires) - 2 * HOUR_MS) == at(fires)
        assert next(schedule.times_until(at(fires) + HOUR_MS)) == at(fires)

    def test_it_fires_once_however_many_times_are_skipped(self) -> None:
        found = between(CronSchedule("0,15,30 2,3 * * *", "Europe/Berlin"), "2026-03-28T23:00", "2026-03-29T12:00")
        assert found == ["2026-03-29T03:00+02:00", "2026-03-29T03:15+02:00", "2026-03-29T03:30+02:00"]

    def test_every_ten_minutes_goes_on(self) -> None:
        dues = list(islice(CronSchedule("*/10 * * * *", "Europe/Berlin").times_after(at("2026-03-28T20:00")), 60))
        assert {later - earlier for earlier, later in pairwise(dues)} == {10 * MINUTE_MS}

    def test_wildcard_is_not_made_up_for(self) -> None:
        found = between(CronSchedule("*/20 2 * * *", "Europe/Berlin"), "2026-03-28T12:00", "2026-03-30T12:00")
        assert found == [f"2026-03-30T02:{minute}+02:00" for minute in ("00", "20", "40")]


class TestClockSetBack:
    """What the wall clock shows twice."""

    @pytest.mark.parametrize(
        ("zone", "expression", "fires", "again"),
        [
            ("Europe/Berlin", "30 2 * * *", "2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"),
            ("America/New_York", "30 1 * * *", "2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"),
            ("Australia/Lord_Howe", "45 1 * * *", "2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"),
        ],
    )
    def test_fixed_time_fires_the_first_time_only(self, zone: str, expression: str, fires: str, again: str) -> None:
        schedule = CronSchedule(expression, zone)
        assert schedule.next_after(at(fires) - HOUR_MS) == at(fires)
        assert schedule.next_after(at(fires)) == at(again)
        assert schedule.next_after(at(fires) + HOUR_MS - 1) == at(again)  # asked while the hour is shown again

    @pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"])
    def test_every_ten_minutes_goes_on(self, zone: str) -> None:
        schedule = CronSchedule("*/10 * * * *", zone)
        dues = list(islice(schedule.times_after(at("2026-01-01")), 365 * 144))
        assert {later - earlier for earlier, later in pairwise(dues)} == {10 * MINUTE_MS}

    def test_hourly_fires_in_both_hours(self) -> None:
        found = between(CronSchedule("@hourly", "Europe/Berlin"), "2026-10-25T00:59+02:00", "2026-10-25T03:00+01:00")
        assert [text[11:] for text in found] == ["01:00+02:00", "02:00+02:00", "02:00+01:00", "03:00+01:00"]


CHANGES = [
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),  # half an hour
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("Antarctica/Troll", date(2025, 3, 30)),  # two hours
    ("Antarctica/Troll", date(2025, 10, 26)),
    ("America/Santiago", date(2025, 9, 7)),  # no midnight
    ("Africa/Cairo", date(2024, 10, 31)),  # two midnights
    ("America/St_Johns", date(2006, 10, 29)),  # from 00:01 back into the day before
    ("America/St_Johns", date(2006, 4, 2)),
    ("Pacific/Apia", date(2011, 12, 30)),  # a whole day is skipped
    ("Asia/Kolkata", date(2026, 3, 29)),  # none
]


@lru_cache
def minutes_around(zone: str, day: date) -> list[tuple[int, datetime]]:
    """Every minute of four days that really passes, with what the wall clock then shows."""
    start = at(day.isoformat()) - 2 * DAY_MS
    passing = range(start, start + 4 * DAY_MS, MINUTE_MS)
    return [(ms, datetime.fromtimestamp(ms / 1_000, ZoneInfo(zone)).replace(tzinfo=None)) for ms in passing]


def fields(low: int, high: int) -> st.SearchStrategy[tuple[str, set[int]]]:
    """A field, and the numbers it stands for."""
    everything = range(low, high + 1)
    numbers = st.sets(st.integers(low, high), min_size=1, max_size=4)
    steps = st.integers(1, high)
    return st.one_of(
        numbers.map(lambda chosen: (",".join(map(str, chosen)), chosen)),
        steps.map(lambda step: (f"*/{step}", set(everything[::step]))),
        st.tuples(st.integers(low, high), st.integers(low, high)).map(
            lambda ends: (f"{min(ends)}-{max(ends)}", set(range(min(ends), max(ends) + 1)))
        ),
        st.just(("*", set(everything))),
    )


def oracle(zone: str, day: date, minute: set[int], hour: set[int], weekday: set[int], wildcard: bool) -> list[int]:
    """A cron daemon: it wakes up every minute, and compares the wall clock with the time it has come to."""

    def named(wall: datetime) -> bool:
        return wall.minute in minute and wall.hour in hour and wall.isoweekday() % 7 in weekday

    passing = minutes_around(zone, day)
    if wildcard:
        return [ms for ms, wall in passing if named(wall)]
    fired = []
    reached = passing[0][1] - timedelta(minutes=1)
    for ms, wall in passing:
        passed = range(1, (wall - reached) // timedelta(minutes=1) + 1)
        if any(named(reached + timedelta(minutes=number)) for number in passed):
            fired.append(ms)
        reached = max(reached, wall)
    return fired


class TestAgainstDaemon:
    @given(st.sampled_from(CHANGES), fields(0, 59), fields(0, 23), fields(0, 6), st.data())
    def test_fires_when_a_daemon_that_watches_the_wall_clock_does(
        self,
        change: tuple[str, date],
        minute: tuple[str, set[int]],
        hour: tuple[str, set[int]],
        weekday: tuple[str, set[int]],
        data: st.DataObject,
    ) -> None:
        zone, day = change
        schedule = CronSchedule(f"{minute[0]} {hour[0]} * * {weekday[0]}", zone)
        wildcard = minute[0].startswith("*") or hour[0].startswith("*")
        expected = oracle(zone, day, minute[1], hour[1], weekday[1], wildcard)
        first, last = minutes_around(zone, day)[0][0], minutes_around(zone, day)[-1][0]

        assert list(takewhile(lambda due: due <= last, schedule.times_after(first - 1))) == expected
        assert list(takewhile(lambda due: due >= first, schedule.times_until(last))) == expected[::-1]
        for ms in data.draw(st.lists(st.integers(first, last), max_size=20)):
            due = schedule.next_after(ms)
            assert due is not None
            assert due > ms
            assert (due if due <= last else None) == next((known for known in expected if known > ms), None)
            before = next(schedule.times_until(ms))
            assert (before if before >= first else None) == next((k for k in expected[::-1] if k <= ms), None)


class TestYear:
    def test_of_every_ten_minutes_takes_well_under_a_second(self) -> None:
        schedule = CronSchedule("*/10 * * * *", "Europe/Berlin")
        begun = time.process_time()
        dues = list(takewhile(lambda due: due <= at("2027-01-01"), schedule.times_after(at("2026-01-01"))))
        assert time.process_time() - begun < 1
        assert dues == list(range(at("2026-01-01T00:10"), at("2027-01-01") + 1, 10 * MINUTE_MS))

    def test_of_weekdays_at_nine_asked_one_by_one(self) -> None:
        schedule = CronSchedule("0 9 * * 1-5", "Europe/Berlin")
        begun = time.process_time()
        found = between(schedule, "2026-01-01", "2027-01-01")
        assert time.process_time() - begun < 0.5
        weekdays = [date(2026, 1, 1) + timedelta(number) for number in range(365)]
        assert [text[:16] for text in found] == [f"{day}T09:00" for day in weekdays if day.isoweekday() <= 5]


class TestBounds:
    @pytest.mark.parametrize("schedule", [CronSchedule("* * * * *", "Asia/Tokyo"), IntervalSchedule(1_000, 500)])
    def test_nothing_is_due_before_1970_or_after_9998(self, schedule: Schedule) -> None:
        first = schedule.next_after(-(10**18))
        assert first is not None
        assert 0 <= first <= MINUTE_MS
        assert list(schedule.times_until(-1)) == []
        assert list(schedule.times_until(first)) == [first]
        assert schedule.next_after(MAX_DUE_MS) is None
        assert schedule.next_after(10**18) is None
        assert MAX_DUE_MS - next(schedule.times_until(10**18)) < MINUTE_MS
        assert len(list(schedule.times_after(MAX_DUE_MS - 2 * MINUTE_MS))) in (2, 120)

    @given(st.integers(-1, MAX_DUE_MS), st.sampled_from(["Europe/Berlin", "Pacific/Apia", "America/St_Johns", "UTC"]))
    def test_next_is_strictly_after_wherever_one_asks(self, ms: int, zone: str) -> None:
        for schedule in (CronSchedule("30 2 1 * *", zone), CronSchedule("*/7 * * * *", zone)):
            due = schedule.next_after(ms)
            assert due is None or (due > ms and next(schedule.times_until(due)) == due)
            assert all(before <= ms for before in islice(schedule.times_until(ms), 1))


class TestIntervals:
    def test_are_aligned_with_the_epoch(self) -> None:
        assert between(IntervalSchedule.of(timedelta(hours=6)), "2026-01-01", "2026-01-02") == [
            "2026-01-01T06:00+00:00",
            "2026-01-01T12:00+00:00",
            "2026-01-01T18:00+00:00",
            "2026-01-02T00:00+00:00",
        ]

    @given(st.integers(1_000, 10**12), st.integers(0, 10**13), st.integers(0, 10**13))
    def test_next_is_the_first_in_step_with_the_anchor(self, every_ms: int, anchor_ms: int, ms: int) -> None:
        schedule = IntervalSchedule(every_ms, anchor_ms)
        due = schedule.next_after(ms)
        assert due is not None
        assert ms < due <= ms + every_ms
        assert (due - anchor_ms) % every_ms == 0
        assert next(schedule.times_until(due)) == due

    def test_anchor_is_a_time_with_a_zone(self) -> None:
        anchor = datetime(2026, 1, 1, 0, 30, tzinfo=ZoneInfo("Europe/Berlin"))
        assert IntervalSchedule.of(90.5, anchor) == IntervalSchedule(90_500, at("2025-12-31T23:30"))
        with pytest.raises(InvalidSchedule, match="no time zone"):
            IntervalSchedule.of(60, datetime(2026, 1, 1))  # noqa: DTZ001 (that is what is refused)

    @pytest.mark.parametrize(
        "every",
        [0, -5, 0.9999, float("nan"), float("inf"), timedelta(0), timedelta(days=36_526), timedelta.max, "60", None],
    )
    def test_of_less_than_a_second_or_more_than_a_century_are_refused(self, every: float) -> None:
        with pytest.raises(InvalidSchedule, match="from 1 second to 100 years"):
            IntervalSchedule.of(every)

    @pytest.mark.parametrize("every_ms", [0, -1, 999, 1000.0, float("nan"), MAX_INTERVAL_MS + 1, True, "1000"])
    def test_milliseconds_are_checked_as_well(self, every_ms: int) -> None:
        with pytest.raises(InvalidSchedule, match="from 1 second to 100 years"):
            IntervalSchedule(every_ms)

    @pytest.mark.parametrize("anchor_ms", [-1, 0.5, MAX_DUE_MS + 1, None])
    def test_anchor_is_checked(self, anchor_ms: int) -> None:
        with pytest.raises(InvalidSchedule, match="an anchor of"):
            IntervalSchedule(1_000, anchor_ms)


SCHEDULES: list[tuple[Schedule, str]] = [
    (CronSchedule("0  9 * * 1-5", "Europe/Berlin"), "cron 0 9 * * 1-5 in Europe/Berlin"),
    (CronSchedule("@daily"), "cron @daily in UTC"),
    (IntervalSchedule(300_000), "every 5 minutes"),
    (IntervalSchedule(3_600_000), "every hour"),
    (IntervalSchedule(5_400_000), "every 90 minutes"),
    (IntervalSchedule(1_500), "every 1.5 seconds"),
    (IntervalSchedule(2 * DAY_MS, HOUR_MS), "every 2 days in step with 1970-01-01T01:00:00+00:00"),
]


class TestWire:
    @pytest.mark.parametrize(("schedule", "text"), SCHEDULES)
    def test_comes_back_equal_and_says_what_it_is(self, schedule: Schedule, text: str) -> None:
        back = schedule_from_wire({**schedule.to_wire(), "later": 1})
        assert back == schedule == pickle.loads(pickle.dumps(schedule))
        assert hash(back) == hash(schedule)
        assert back.next_after(at("2026-01-01")) == schedule.next_after(at("2026-01-01"))
        assert schedule.describe() == text

    @pytest.mark.parametrize(
        "wire",
        [
            {},
            {"kind": "sundial"},
            {"kind": "cron", "expression": "@daily"},
            {"kind": "cron", "expression": None, "zone": "UTC"},
            {"kind": "interval", "everyMs": "1000", "anchorMs": 0},
        ],
    )
    def test_what_is_no_schedule_is_refused(self, wire: dict[str, object]) -> None:
        with pytest.raises(InvalidSchedule):
            schedule_from_wire(wire)


EVERY_MINUTE = CronSchedule("* * * * *", "Europe/Berlin")
NOON = at("2026-06-01T12:00")


class TestDueTimes:
    @pytest.mark.parametrize("policy", ["skip", "one", "all"])
    def test_those_on_time_fire_whatever_the_policy(self, policy: CatchUp) -> None:
        assert due_times(EVERY_MINUTE, NOON - MINUTE_MS, NOON + 5, policy) == ([NOON], 0)
        assert due_times(EVERY_MINUTE, NOON - 2 * MINUTE_MS, NOON, policy) == ([NOON - MINUTE_MS, NOON], 0)
        assert due_times(EVERY_MINUTE, NOON, NOON + 5, policy) == ([], 0)

    @pytest.mark.parametrize(
        ("policy", "fired", "passed_over"), [("skip", [], 3), ("one", [3], 2), ("all", [5, 4, 3], 0)]
    )
    def test_of_the_missed_fire_none_the_newest_or_all(
        self, policy: CatchUp, fired: list[int], passed_over: int
    ) -> None:
        """At 12:00, with two minutes' grace, having fired 11:54: missed are 11:55 to 11:57."""
        due = due_times(EVERY_MINUTE, NOON - 6 * MINUTE_MS, NOON, policy, missed_after_ms=2 * MINUTE_MS)
        assert due == ([NOON - back * MINUTE_MS for back in [*fired, 2, 1, 0]], passed_over)

    def test_all_fires_the_newest_up_to_the_limit(self) -> None:
        fired, passed_over = due_times(EVERY_MINUTE, NOON - DAY_MS, NOON, "all", limit=10)
        assert fired == [NOON - back * MINUTE_MS for back in range(11, -1, -1)]
        assert passed_over == 1440 - 12

    @pytest.mark.parametrize(("policy", "missed"), [("skip", 0), ("one", 1), ("all", 1_000)])
    @pytest.mark.parametrize("schedule", [EVERY_MINUTE, IntervalSchedule(MINUTE_MS)])
    def test_year_of_outage_is_bounded_work(self, schedule: Schedule, policy: CatchUp, missed: int) -> None:
        begun = time.process_time()
        fired, passed_over = due_times(schedule, NOON - 365 * DAY_MS, NOON, policy)
        assert time.process_time() - begun < 0.5
        assert fired == [NOON - back * MINUTE_MS for back in range(missed + 1, -1, -1)]
        assert passed_over == MAX_PASSED_OVER

    @pytest.mark.parametrize("policy", ["skip", "one", "all"])
    def test_clock_that_was_set_back_has_nothing_due(self, policy: CatchUp) -> None:
        assert due_times(EVERY_MINUTE, NOON, NOON - 1, policy) == ([], 0)
        assert due_times(EVERY_MINUTE, NOON, NOON - 365 * DAY_MS, policy) == ([], 0)

    @given(st.integers(0, 3 * DAY_MS), st.sampled_from(["skip", "one", "all"]), st.integers(0, DAY_MS))
    def test_nothing_is_lost_or_told_twice(self, away_ms: int, policy: CatchUp, grace_ms: int) -> None:
        schedule = CronSchedule("*/20 1-4,12 * * *", "Europe/Berlin")
        now = at("2026-10-26T12:00")
        occurred = list(takewhile(lambda due: due <= now, schedule.times_after(now - away_ms)))
        fired, passed_over = due_times(schedule, now - away_ms, now, policy, missed_after_ms=grace_ms)
        assert len(fired) + passed_over == len(occurred)
        assert fired == occurred[len(occurred) - len(fired) :]
        assert {due for due in occurred if now - due <= grace_ms} <= set(fired)

    def test_unknown_policy_is_refused(self) -> None:
        with pytest.raises(InvalidSchedule, match="catch_up is 'skip', 'one' or 'all', not 'some'"):
            due_times(EVERY_MINUTE, 0, NOON, "some")  # type: ignore[arg-type]


class TestJitter:
    def test_is_the_same_everywhere(self) -> None:
        assert [jittered("nightly", NOON + n, 60_000) - NOON - n for n in range(3)] == [39_398, 6_526, 52_421]

    @given(st.text(max_size=20), st.integers(0, MAX_DUE_MS), st.integers(0, MAX_JITTER_MS))
    def test_stays_within_its_bound(self, job_id: str, due_ms: int, jitter_ms: int) -> None:
        assert 0 <= jittered(job_id, due_ms, jitter_ms) - due_ms <= jitter_ms

    def test_spreads_jobs_that_are_due_together(self) -> None:
        parts = [jittered(f"job-{number}", NOON, 9) - NOON for number in range(1_000)]
        assert all(70 <= parts.count(part) <= 130 for part in range(10))

    @pytest.mark.parametrize("jitter_ms", [-1, MAX_JITTER_MS + 1, 0.5, float("nan"), True])
    def test_below_zero_or_above_a_day_is_refused(self, jitter_ms: int) -> None:
        with pytest.raises(InvalidSchedule, match="a jitter of"):
            check_jitter_ms(jitter_ms)
