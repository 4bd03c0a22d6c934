"""What is pending, read by somebody who is no scheduler: from a cache that follows the topic."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog

from playhead.errors import BrokerUnavailable, InvalidInput
from playhead.events import outgoing
from playhead.records import Partition
from playhead.timers.listing import START, PendingTimers, Position, read_cursor
from playhead.topics import DELAY
from tests.scheduler.place import Place
from tests.scheduler.test_store import BROKEN, overwrite, spoil


async def numbers(pending: PendingTimers) -> list[int]:
    """The numbers of all that is pending, by due time."""
    found: list[int] = []
    after: Position | None = START
    while after is not None and len(found) < 5_000:
        page = await pending.page(after, 7)
        found += [timer.payload()["n"] for timer in page.timers]
        after = page.after
    return found


class Reads:
    """Counts the offsets that are read from the log."""

    def __init__(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offsets = 0
        read = place.broker.read

        async def counted(partition: Partition, start: int, end: int, *args: Any, **options: Any) -> None:
            self.offsets += end - start
            await read(partition, start, end, *args, **options)

        monkeypatch.setattr(place.broker, "read", counted)


async def set_many(place: Place, count: int, since: int = 0) -> None:
    events = [outgoing("thing.made", {"n": n}, delay={"hours": 1 + n}) for n in range(since, since + count)]
    await place.client.send_all(events)


class TestFollowing:
    async def test_each_question_reads_only_what_is_new(
        self, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reads = Reads(place, monkeypatch)
        await set_many(place, 500)
        pending = place.pending_timers(tmp_path)
        assert await numbers(pending) == list(range(500))
        assert reads.offsets == 500
        await set_many(place, 3, since=500)
        assert len((await pending.page(limit=1000)).timers) == 503
        assert reads.offsets == 503

    async def test_next_process_goes_on_where_the_last_one_ended(
        self, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reads = Reads(place, monkeypatch)
        await set_many(place, 100)
        first = place.pending_timers(tmp_path)
        await first.page()
        await first.close()
        await set_many(place, 5, since=100)
        assert await numbers(place.pending_timers(tmp_path)) == list(range(105))
        assert reads.offsets == 105

    @pytest.mark.parametrize("seconds", [13 * 3600, -365 * 86_400])
    async def test_who_was_not_asked_for_long_reads_all_again(
        self, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
    ) -> None:
        """A tombstone may have been compacted away meanwhile; nobody knows for how long where a clock was wrong."""
        reads = Reads(place, monkeypatch)
        await set_many(place, 100)
        pending = place.pending_timers(tmp_path)
        await pending.page()
        place.clock.jump(seconds)
        await pending.page()
        assert reads.offsets == 200

    async def test_topic_that_was_made_again_is_read_anew(self, place: Place, tmp_path: Path) -> None:
        await set_many(place, 10)
        pending = place.pending_timers(tmp_path)
        await pending.page()
        place.broker.existing_topic(DELAY).id = "another"
        assert await numbers(pending) == list(range(10))

    async def test_what_fired_or_was_canceled_is_gone(self, place: Place, tmp_path: Path) -> None:
        await place.start()
        pending = place.pending_timers(tmp_path)
        first = await place.send(1, delay={"hours": 1})
        await place.send(2, delay={"seconds": 5})
        await place.send(3, delay={"hours": 2})
        assert await numbers(pending) == [2, 1, 3]
        await place.clock.advance(6)
        await place.while_time_passes(place.client.cancel_event(first))
        assert await numbers(pending) == [3]

    async def test_questions_at_once_share_what_is_read(
        self, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reads = Reads(place, monkeypatch)
        await set_many(place, 50)
        pending = place.pending_timers(tmp_path)
        answers = await asyncio.gather(*(pending.page() for _ in range(20)))
        assert {len(page.timers) for page in answers} == {50}
        assert reads.offsets == 50

    async def test_question_sees_what_was_written_before_it_whatever_is_being_read_already(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await set_many(place, 10)
        pending = place.pending_timers()
        read, may_read = place.broker.read, asyncio.Event()

        async def held(*args: Any, **options: Any) -> None:
            await may_read.wait()
            await read(*args, **options)

        monkeypatch.setattr(place.broker, "read", held)
        first = asyncio.create_task(pending.page())
        await place.clock.advance(0)
        await set_many(place, 1, since=10)
        second = asyncio.create_task(pending.page())
        await place.clock.advance(0)
        may_read.set()
        assert len((await first).timers) >= 10
        assert len((await second).timers) == 11

    async def test_broken_store_is_read_again(self, place: Place, tmp_path: Path) -> None:
        await set_many(place, 2_000)
        pending = place.pending_timers(tmp_path)
        await pending.page()
        with structlog.testing.capture_logs() as lines:
            spoil(tmp_path, pending._stores.values(), overwrite)
            assert len((await pending.page(limit=1_000)).timers) == 1_000
        assert [line["event"] for line in lines] == [BROKEN]
        assert await numbers(pending) == list(range(2_000))

    async def test_stores_that_were_begun_anew_and_not_read_answer_nothing(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first question's turn comes after the second one's round, which the broker leaves in the middle."""
        await set_many(place, 10)
        pending = place.pending_timers()
        read, bounds, may_read = place.broker.read, place.broker.bounds, asyncio.Event()

        async def held(*args: Any, **options: Any) -> None:
            await may_read.wait()
            await read(*args, **options)

        async def away_once(*_: Any, **__: Any) -> Any:
            monkeypatch.setattr(place.broker, "bounds", bounds)
            raise BrokerUnavailable("not now")

        monkeypatch.setattr(place.broker, "read", held)
        first = asyncio.create_task(pending.page())
        await place.clock.advance(0)
        second = asyncio.create_task(pending.page())
        await place.clock.advance(0)
        place.broker.existing_topic(DELAY).id = "another"
        monkeypatch.setattr(place.broker, "bounds", away_once)
        may_read.set()
        assert len((await first).timers) == 10
        with pytest.raises(BrokerUnavailable):
            await second


class TestCursors:
    def test_cursor_is_read_as_it_was_written(self) -> None:
        position = Position(4_102_444_800_000, 11, 1 << 40)
        assert read_cursor(position.cursor()) == position

    @pytest.mark.parametrize("text", ["", "x", "====", "MQ", "LTEtMS0x", "é", "\x00"])
    def test_what_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidInput):
            read_cursor(text)
