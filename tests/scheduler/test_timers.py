"""Timers fire once, never early, or are canceled: on the in-memory broker, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from playhead import interval_trigger
from playhead.broker.contract import Partition, Record, TopicInfo
from playhead.errors import BrokerUnavailable, InvalidDelay, SchedulerSilent, TimerKept, TooLate
from playhead.events import outgoing
from playhead.serde import DUE, PARTITION_KEY, SCHEDULE, to_json
from playhead.timer import new_request, parse_rfc3339, schedule_record, timer_record
from playhead.topics import DELAY
from tests.scheduler.place import Place

IDS = st.sampled_from(["a", "b", "01997f3e-5b7a-7000-9c1d-6a8f5a0c1b2d", "", "x/y"])
KEYS = st.one_of(
    st.builds(
        lambda kind, mark, id_: f"{kind}/{mark}/{id_}".encode(),
        st.sampled_from(["timer", "cancel", "schedule", "other"]),
        st.sampled_from(["-", "m", ""]),
        IDS,
    ),
    st.builds(lambda id_: f"schedule/{id_}".encode(), IDS),
    st.binary(min_size=1, max_size=20),
)
WHEN = st.sampled_from(["2026-01-01T00:00:03Z", "0001-01-01T00:00:00", "9999-12-31T23:59:59+14:00", "soon", ""])
TOLD = st.fixed_dictionaries(
    {},
    optional={
        "id": IDS | st.integers(-(1 << 63), (1 << 63) - 1),  # what JSON takes here
        "newId": IDS | st.none(),
        "dueMs": st.sampled_from([0, -1, 1 << 62, 1_767_225_603_000, "x", None]),
        "dueAt": WHEN,
        "previousDueAt": WHEN | st.none(),
        "schedule": st.sampled_from(
            [
                {},
                {"kind": "interval", "everyMs": 1000, "anchorMs": 0},
                {"kind": "cron", "expression": "x", "zone": "UTC"},
                7,
            ]
        ),
        "catchUp": st.sampled_from(["one", "all", "none", 3]),
        "jitterMs": st.sampled_from([0, -5, "x", 1.5, 100]),
    },
)
VALUES = st.one_of(st.none(), st.binary(max_size=10), TOLD.map(to_json))
HEADERS = st.lists(
    st.one_of(
        st.tuples(st.just("ce_type"), st.sampled_from([b"timer.cancel", b"timer.answer", b"thing.made", b"\xff", b""])),
        st.tuples(st.just(DUE), WHEN.map(str.encode)),
        st.tuples(st.just(SCHEDULE), st.sampled_from([b"a", b"", b"\xff"])),
        st.tuples(st.just(PARTITION_KEY), st.binary(max_size=3)),
    ),
    max_size=4,
)
"""Records as nobody should write them."""


class TestFiring:
    async def test_event_is_sent_when_it_is_due_and_not_before(self, place: Place) -> None:
        await place.start()
        await place.send(1, delay={"hours": 24})
        await place.clock.advance(24 * 3600 - 1)
        assert place.fired() == []
        await place.clock.advance(1.5)
        assert place.fired() == [1]
        (event,) = place.events()
        assert event.record.timestamp >= parse_rfc3339(event.headers[DUE].decode())
        assert place.pending() == 0

    async def test_commit_is_written_before_the_timer_is_due_and_seen_from_then_on(self, place: Place) -> None:
        await place.start()
        await place.send(1, delay={"seconds": 60})
        (due,) = (parse_rfc3339(dict(record.headers)[DUE].decode()) for record in place.broker.stored(DELAY))
        await place.clock.advance(due / 1000 - place.clock.time() - 0.001)
        assert len(place.broker.stored("thing", committed=False)) == 1
        assert place.fired() == []
        await place.clock.advance(0.001)
        assert place.fired() == [1]

    async def test_event_is_what_was_sent_with_its_key_cause_and_id(self, place: Place) -> None:
        await place.start()
        sent = await place.client.send_event("thing.made", {"n": 1}, key="k", delay=timedelta(seconds=5))
        assert (sent.topic, sent.due_at) == (DELAY, datetime(2026, 1, 1, 0, 0, 6, tzinfo=UTC))
        await place.clock.advance(6)
        (event,) = place.events()
        assert (event.id, event.name, event.key, event.payload()) == (sent.id, "thing.made", "k", {"n": 1})
        assert event.correlation_id == sent.id
        assert event.minted
        assert event.source == "/playhead/place"

    async def test_many_fire_in_the_order_of_their_due_times(self, place: Place) -> None:
        await place.start()
        for n in (5, 1, 4, 2, 3):
            await place.send(n, delay=timedelta(seconds=n))
        await place.clock.advance(10)
        assert place.fired() == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize(
        "when",
        [
            {"delay": timedelta(0)},
            {"delay": {"seconds": 0}},
            {"at": "2025-12-31T23:59:00Z"},
            {"at": "1999-01-01T00:00:00+02:00"},
            {"at": "1912-06-23T00:00:00Z"},
        ],
    )
    async def test_what_is_due_already_is_sent_at_once(self, place: Place, when: dict[str, object]) -> None:
        await place.start()
        await place.send(1, **when)
        await place.clock.advance(0.1)
        assert place.fired() == [1]

    async def test_burst_is_sent_once_each(self, place: Place) -> None:
        await place.start()
        events = [outgoing("thing.made", {"n": n}, delay={"seconds": 30}) for n in range(10_000)]
        await place.client.send_all(events)
        await place.clock.advance(40)
        assert sorted(place.fired()) == list(range(10_000))
        assert place.pending() == 0

    async def test_topic_that_is_gone_makes_a_dead_letter_and_holds_nothing_up(self, place: Place) -> None:
        await place.start()
        info = await place.broker.topic(DELAY)
        lost = outgoing("lost.thing", {"n": 0}, delay={"seconds": 1}).sent_at(int(place.clock.time() * 1000))
        await place.broker.append([timer_record(lost, DELAY, info.partitions, "/x", int(place.clock.time() * 1000))])
        await place.send(1, delay={"seconds": 1})
        await place.clock.advance(3)
        assert place.fired() == [1]
        (letter,) = place.dead_letters()
        assert "lost" in letter["reason"]
        assert place.pending() == 0

    async def test_record_that_is_no_timer_is_ended(self, place: Place) -> None:
        await place.start()
        now_ms = int(place.clock.time() * 1000)
        await place.broker.append([Record(DELAY, 0, b"timer/-/x", b"{}", [("ce_dueat", b"soon")], now_ms)])
        await place.clock.advance(2)
        assert place.pending() == 0
        assert place.fired() == []


class TestHuge:
    """Whoever may write to the topic may write what the scheduler can't: it goes on, and so does the next one."""

    async def test_timer_whose_dead_letter_would_be_too_large_leaves_its_headers_out(self, place: Place) -> None:
        running = await place.start()
        now_ms = int(place.clock.time() * 1000)
        headers = [("ce_type", b"lost.thing"), (DUE, b"2026-01-01T00:00:03Z"), *[("a", b"b")] * 170_000]
        (written,) = await place.broker.append([Record(DELAY, 0, b"timer/m/x", b"{}", headers, now_ms)])
        assert not isinstance(written, Exception)
        await place.clock.advance(5)
        (letter,) = place.dead_letters()
        assert (letter["headers"], place.pending()) == ([], 0)
        assert "the headers" in letter["reason"]
        assert not running.task.done()

    @pytest.mark.parametrize("where", ["newId", "job"])
    async def test_id_beyond_any_is_none(self, place: Place, where: str) -> None:
        running = await place.start()
        timer = await place.send(1, delay={"seconds": 60})
        now_ms, huge = int(place.clock.time() * 1000), "x" * 600_000
        told = {"id": timer, "newId": huge, "dueMs": now_ms}
        asked = new_request(timer).record(DELAY, 2, now_ms)._replace(value=to_json(told))
        if where == "job":
            asked = schedule_record(huge, interval_trigger(60).to_wire(), DELAY, 2, now_ms)
        (written,) = await place.broker.append([asked])
        assert not isinstance(written, Exception)
        await place.clock.advance(61)
        assert place.fired() == [1]
        assert not running.task.done()

    @pytest.mark.parametrize("timer_id", ["", "x" * 300, "\udcff"])
    async def test_nobody_is_asked_about_what_can_be_no_timer(self, place: Place, timer_id: str) -> None:
        assert await place.while_time_passes(place.client.cancel_event(timer_id), 0.1) is False
        with pytest.raises(TooLate):
            await place.while_time_passes(place.client.reschedule_event(timer_id, delay={"seconds": 1}), 0.1)
        assert await place.pending_timers().find(timer_id) is None


class TestTroubles:
    async def test_broker_that_is_away_when_a_timer_is_due_is_waited_for(self, place: Place) -> None:
        await place.start()
        await place.send(1, delay={"seconds": 60})
        known, asked = place.broker.known_topic, place.broker.topic
        away = True

        async def topic(name: str, *, fresh: bool = False) -> TopicInfo:
            if away and name == "thing":
                raise BrokerUnavailable("not now")
            return await asked(name, fresh=fresh)

        place.broker.known_topic = lambda name: None if name == "thing" else known(name)  # type: ignore[method-assign]
        place.broker.topic = topic  # type: ignore[method-assign]
        await place.clock.advance(70)
        assert place.fired() == []
        away = False
        await place.clock.advance(1)
        assert place.fired() == [1]

    async def test_partition_that_is_taken_away_while_topics_are_looked_up_ends_nobody(self, place: Place) -> None:
        running = await place.start()
        for n in range(20):  # in both partitions
            await place.send(n, delay={"seconds": 60})
        far = [await place.send(n, delay={"hours": 9}) for n in range(8)]
        known, asked = place.broker.known_topic, place.broker.topic

        async def slow(name: str, *, fresh: bool = False) -> TopicInfo:
            await place.clock.sleep(1)
            return await asked(name, fresh=fresh)

        place.broker.known_topic = lambda name: None if name == "thing" else known(name)  # type: ignore[method-assign]
        place.broker.topic = slow  # type: ignore[method-assign]
        await place.clock.advance(60.2)
        asked_meanwhile = [asyncio.create_task(place.client.cancel_event(timer)) for timer in far]
        await place.clock.advance(0.3)
        running.scheduler._work.member.unknown("for this test")
        await place.clock.advance(10)
        assert sorted(place.fired()) == list(range(20))
        assert await asyncio.gather(*asked_meanwhile) == [True] * len(far)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(KEYS, VALUES, HEADERS), min_size=1, max_size=12))
    def test_whatever_anybody_writes_to_the_topic_holds_no_timer_up(
        self, written: list[tuple[bytes, bytes | None, list[tuple[str, bytes]]]]
    ) -> None:
        async def try_out() -> None:
            place = Place()
            await place.open()
            await place.start()
            now_ms = int(place.clock.time() * 1000)
            await place.broker.append([Record(DELAY, n % 2, *one, now_ms) for n, one in enumerate(written)])
            await place.send(1, delay={"seconds": 5})
            await place.clock.advance(10)
            await place.start()  # and it can be restored
            await place.send(2, delay={"seconds": 5})
            await place.clock.advance(10)
            assert [n for n in place.numbers() if n in (1, 2)] == [1, 2]
            for running in place.running:
                assert not running.task.done(), running.task.exception()
            await place.close()

        asyncio.run(try_out())


class TestClock:
    async def test_set_forward_fires_what_it_says_is_due(self, place: Place) -> None:
        await place.start()
        await place.send(1, delay={"hours": 1})
        place.clock.jump(3600)
        await place.clock.advance(1)
        assert place.fired() == [1]

    async def test_set_back_fires_nothing_early_by_the_new_time(self, place: Place) -> None:
        await place.start()
        await place.send(1, delay={"seconds": 60})
        place.clock.jump(-3600)
        await place.clock.advance(120)
        assert place.fired() == []
        await place.clock.advance(3600)
        assert place.fired() == [1]

    async def test_set_back_while_a_timer_is_taken_up_holds_no_transaction_open(self, place: Place) -> None:
        await place.start()
        await place.send(1, delay={"seconds": 60})
        known, asked = place.broker.known_topic, place.broker.topic

        async def slow(name: str) -> TopicInfo:
            place.clock.jump(-3600)
            return await asked(name)

        place.broker.known_topic = lambda name: None if name == "thing" else known(name)  # type: ignore[method-assign]
        place.broker.topic = slow  # type: ignore[method-assign]
        await place.clock.advance(61)
        assert place.fired() == [1]

    async def test_delay_of_years_is_kept(self, place: Place) -> None:
        await place.start()
        sent = await place.client.send_event("thing.made", {"n": 1}, delay={"days": 3653})
        assert sent.due_at is not None
        assert sent.due_at.year == 2036
        place.clock.jump(3653 * 86_400)
        await place.clock.advance(1)
        assert place.fired() == [1]


class TestCanceling:
    async def test_canceled_timer_never_fires(self, place: Place) -> None:
        await place.start()
        timer = await place.send(1, delay={"seconds": 10})
        assert await place.while_time_passes(place.client.cancel_event(timer)) is True
        await place.clock.advance(20)
        assert place.fired() == []
        assert place.pending() == 0

    async def test_timer_that_has_fired_can_not_be_canceled(self, place: Place) -> None:
        await place.start()
        timer = await place.send(1, delay={"seconds": 1})
        await place.clock.advance(5)
        assert await place.while_time_passes(place.client.cancel_event(timer)) is False
        assert place.fired() == [1]

    async def test_one_of_firing_and_canceling_wins_and_the_caller_learns_which(self, place: Place) -> None:
        await place.start()
        place.broker.commit_latency_seconds = 0.003
        timers = [await place.send(n, delay={"milliseconds": 300 + 20 * n}) for n in range(40)]
        await place.clock.advance(0.5)
        asked = [place.while_time_passes(place.client.cancel_event(timer), 0.2) for timer in timers]
        canceled = [n for n, asking in enumerate(asked) if await asking]
        await place.clock.advance(5)
        assert sorted(canceled + place.fired()) == list(range(40))
        assert canceled

    async def test_canceling_twice_is_too_late_the_second_time(self, place: Place) -> None:
        await place.start()
        timer = await place.send(1, delay={"seconds": 10})
        assert await place.while_time_passes(place.client.cancel_event(timer)) is True
        assert await place.while_time_passes(place.client.cancel_event(timer)) is False

    async def test_without_a_scheduler_the_caller_is_told_and_the_next_one_answers(self, place: Place) -> None:
        timer = await place.send(1, delay={"seconds": 60})
        with pytest.raises(SchedulerSilent):
            await place.while_time_passes(place.client.cancel_event(timer), 12)
        await place.start()
        await place.clock.advance(100)
        assert place.fired() == []

    async def test_timer_is_moved_to_a_new_id(self, place: Place) -> None:
        await place.start()
        timer = await place.send(1, delay={"seconds": 10}, key="k")
        new, due_at = await place.while_time_passes(place.client.reschedule_event(timer, delay={"seconds": 60}))
        assert due_at.tzinfo is UTC
        await place.clock.advance(30)
        assert place.fired() == []
        await place.clock.advance(40)
        (event,) = place.events()
        assert (event.id, event.key, event.payload()) == (new, "k", {"n": 1})
        with pytest.raises(TooLate):
            await place.while_time_passes(place.client.reschedule_event(new, delay={"seconds": 60}))

    async def test_timer_that_the_broker_refuses_in_its_new_place_is_due_when_it_was(self, place: Place) -> None:
        """A foreign one may be so near the limit that its new id makes it too large."""
        running = await place.start()
        timer = await place.send(1, delay={"seconds": 10})
        await place.send(2, delay={"seconds": 20})
        place.broker.faults.refuse = lambda record: record.topic == DELAY and record.value == b'{"n":1}'
        with pytest.raises(TimerKept):
            await place.while_time_passes(place.client.reschedule_event(timer, delay={"seconds": 60}))
        await place.clock.advance(30)
        assert place.fired() == [1, 2]
        assert place.pending() == 0
        assert not running.task.done()


class TestIds:
    async def test_second_timer_of_a_pending_id_changes_nothing(self, place: Place) -> None:
        """Neither its time nor its payload; also where nothing but the second is left after compaction."""
        await place.send(1, id="chosen", delay={"seconds": 10})
        await place.send(2, id="chosen", delay={"seconds": 5})
        await place.start()
        await place.send(3, id="chosen", delay={"seconds": 1})
        await place.clock.advance(8)
        assert place.fired() == []
        await place.clock.advance(10)
        assert place.fired() == [1]
        assert place.pending() == 0


class TestSeveral:
    async def test_share_the_partitions_and_fire_each_timer_once(self, place: Place) -> None:
        first = await place.start()
        for n in range(50):
            await place.send(n, delay={"seconds": 10 + n})
        second = await place.start()
        await place.clock.advance(10)
        assert sorted([place.tasks(first), place.tasks(second)]) == [[0], [1]]
        await place.clock.advance(20)
        await place.stop(first)
        await place.clock.advance(60)
        assert place.fired() == list(range(50))

    async def test_what_was_due_while_nobody_ran_is_sent_by_the_next(self, place: Place) -> None:
        first = await place.start()
        await place.send(1, delay={"seconds": 10})
        await place.send(2, delay={"seconds": 100})
        await place.stop(first)
        await place.clock.advance(50)
        assert place.fired() == []
        await place.start()
        assert place.fired() == [1]
        await place.clock.advance(60)
        assert place.fired() == [1, 2]

    async def test_unknown_outcome_is_looked_up_in_the_log(self, place: Place) -> None:
        running = await place.start()
        await place.send(1, delay={"seconds": 1})
        await place.clock.advance(0.5)
        running.scheduler._work.member.unknown("for this test")
        await place.clock.advance(5)
        assert place.fired() == [1]
        running.scheduler._work.member.unknown("for this test")
        await place.clock.advance(5)
        assert place.fired() == [1]


class TestStore:
    async def test_is_taken_up_where_it_was_left(self, place: Place, tmp_path: Path) -> None:
        first = await place.start(tmp_path)
        for n in range(20):
            await place.send(n, delay={"seconds": 100 + n})
        await place.clock.advance(5)
        await place.stop(first)
        assert place.stores(tmp_path)
        second = await place.start(tmp_path)
        assert second.scheduler.pending() == 20
        await place.clock.advance(200)
        assert place.fired() == list(range(20))

    @pytest.mark.parametrize("damage", ["deleted", "garbage", "too old", "of the future", "of another topic"])
    async def test_that_can_not_be_trusted_is_rebuilt(
        self, place: Place, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = await place.start(tmp_path)
        await place.send(1, delay={"hours": 48})
        await place.clock.advance(5)
        await place.stop(first)
        starts: list[int] = []
        read = place.broker.read

        async def noted(partition: Partition, start: int, end: int, *args: Any, **options: Any) -> None:
            starts.append(start)
            await read(partition, start, end, *args, **options)

        monkeypatch.setattr(place.broker, "read", noted)
        for path in place.stores(tmp_path):
            if damage == "deleted":
                path.unlink()
            elif damage == "garbage":
                path.write_bytes(b"no database")
        if damage == "too old":
            place.clock.jump(13 * 3600)
        elif damage == "of the future":
            place.clock.jump(-365 * 86_400)
        elif damage == "of another topic":
            place.broker.existing_topic(DELAY).id = "another"
        second = await place.start(tmp_path)
        assert starts == [0, 0]  # not from where the store was
        assert second.scheduler.pending() == 1
        place.clock.jump((365 + 2) * 86_400)
        await place.clock.advance(2)
        assert place.fired() == [1]


class TestWords:
    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ({"delay": {"hours": -1}}, "delay.hours"),
            ({"delay": timedelta(seconds=-1)}, "delay"),
            ({"delay": {"hours": float("nan")}}, "delay.hours"),
            ({"delay": {"hours": float("inf")}}, "delay.hours"),
            ({"delay": {"fortnights": 1}}, "delay.fortnights"),
            ({"delay": {"hours": True}}, "delay.hours"),
            ({"delay": {"hours": "1"}}, "delay.hours"),
            ({"delay": {}}, "delay"),
            ({"delay": 5}, "delay"),
            ({"delay": {"weeks": 1e300}}, "delay"),
            ({"delay": {"hours": 10**400}}, "delay"),
            ({"delay": {"days": 40_000}}, "delay"),
            ({"at": "2026-03-01T09:00:00"}, "at"),
            ({"at": datetime(2026, 3, 1)}, "at"),  # noqa: DTZ001 -- it is the point
            ({"at": "tomorrow"}, "at"),
            ({"at": "2200-01-01T00:00:00Z"}, "at"),
            ({"at": 5}, "at"),
            ({"delay": {"hours": 1}, "at": "2026-03-01T09:00:00Z"}, "delay"),
        ],
    )
    async def test_that_can_not_be_used_are_refused_by_name(
        self, place: Place, options: dict[str, object], field: str
    ) -> None:
        with pytest.raises(InvalidDelay) as refused:
            await place.send(1, **options)
        assert refused.value.field == field
        assert place.pending() == 0
