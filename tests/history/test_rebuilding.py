"""The history is what the log says: it can be built again, and whether it is can be seen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from playhead.errors import AlreadyRunning, HistoryStopped, InvalidInput
from playhead.history.pruning import horizon_ms, prune
from playhead.history.rebuild import rebuild
from playhead.history.schema import EVENT, EVENT_COUNT, LETTER, PART, RUN, RUN_EVENT, SETTLEMENT
from playhead.history.store import HistoryStore
from playhead.history.verify import Verdict, verify
from playhead.records import Partition
from tests.history.logs import event, letter, run_event
from tests.history.place import Place, Running, rows

HOUR_MS = 3_600_000
USERS, RUNS = Partition("user", 0), Partition("run", 0)


@pytest.fixture
async def running(place: Place, url: str) -> Running:
    """A history of some events, runs and letters of four hours."""
    running = await place.start_ready(url)
    await send_hours(place, 4)
    await place.written(running)
    return running


async def send_hours(place: Place, hours: int, *, since: int = 0, per_hour: int = 5) -> None:
    for hour in range(since, since + hours):
        for n in range(per_hour):
            at_ms, number = hour * HOUR_MS + n * 60_000, n % 2
            run_id = f"r{hour}.{n}-{number}"
            await place.send(
                event("user", number, f"e{hour}.{n}", at_ms=at_ms, value=b'{"n": 1}'),
                run_event(run_id, "run.retrying", partition=number, at_ms=at_ms + 1_000, durationMs=1.5 * n),
                run_event(run_id, "run.failed", partition=number, at_ms=at_ms + 2_000, attempt=2, durationMs=7.0),
                letter(f"l{hour}.{n}", partition=number, at_ms=at_ms + 3_000),
            )
        await place.send(letter(f"l{hour}.0", "retried", partition=1, at_ms=hour * HOUR_MS + HOUR_MS // 2))


class Killed(Exception):
    """What ends a rebuild on its way."""


async def check(place: Place, running: Running) -> Verdict:
    return await verify(place.broker, running.store, "")


def change(running: Running, statement: Any) -> None:
    with running.store.transaction() as db:
        assert db.execute(statement).rowcount != 0


class TestVerify:
    async def test_equal_where_nothing_was_touched(self, place: Place, running: Running) -> None:
        verdict = await check(place, running)
        assert verdict.equal
        assert verdict.offsets == running.store.positions()
        assert verdict.rows > 100

    @pytest.mark.parametrize(
        ("planted", "told"),
        [
            (
                sa.update(EVENT).where(EVENT.c.id == "e1.2").values(name="x"),
                "event user[0] offset 4: changed: name is 'x', should be 'user.made'",
            ),
            (
                sa.update(EVENT).where(EVENT.c.id == "e1.2").values(payload=b"{}"),
                "event user[0] offset 4: changed: payload is b'{}', should be b'{\"n\": 1}'",
            ),
            (sa.delete(EVENT).where(EVENT.c.id == "e1.2"), "event user[0] offset 4: missing"),
            (
                sa.insert(EVENT).values(place=(1 << 44) + 999, at_ms=1, name="", id="", source="", headers=b""),
                "offset 999: extra",
            ),
            (sa.delete(RUN_EVENT).where(RUN_EVENT.c.run_id == "r1.2-0"), "run_event run[0] offset 8: missing"),
            (
                sa.update(RUN).where(RUN.c.id == "r1.2-0").values(duration_ms=7.5),
                "run r1.2-0: changed: duration_ms is 7.5, should be 7.0",
            ),
            (
                sa.update(LETTER).where(LETTER.c.id == "l0.0").values(state="open", settled_ms=None),
                "changed: state is 'open', should be 'retried'; settled_ms is None, should be 1800000",
            ),
            (
                sa.update(EVENT_COUNT).where((EVENT_COUNT.c.step == 3600) & (EVENT_COUNT.c.at == 3600)).values(count=6),
                "event_count 3600, 3600, user.made: changed: count is 6, should be 5",
            ),
        ],
    )
    async def test_planted_difference_is_named(self, place: Place, running: Running, planted: Any, told: str) -> None:
        change(running, planted)
        verdict = await check(place, running)
        assert not verdict.equal
        assert told in str(verdict.differences[0])

    async def test_what_the_log_has_not_any_more_is_excluded_and_counted(self, place: Place, running: Running) -> None:
        for name in ("user", "run", "dead-letter"):
            for log in place.broker.logs_of(name):
                log.trim(log.end // 2 + 1)
        verdict = await check(place, running)
        assert verdict.equal, verdict.differences
        assert 0 < verdict.excluded < sum(verdict.offsets.values())
        change(running, sa.delete(EVENT).where(EVENT.c.id == "e3.2"))
        assert not (await check(place, running)).equal

    async def test_letter_whose_settlement_the_log_has_not_any_more_is_excluded(
        self, place: Place, running: Running
    ) -> None:
        await place.send(letter("x", partition=0), letter("x", "retried", partition=1))
        await place.written(running)
        log = place.broker.log(Partition("dead-letter", 1))
        log.trim(log.end)
        assert (await check(place, running)).equal

    async def test_partition_that_is_stopped_can_not_be_verified(self, place: Place, running: Running) -> None:
        place.broker.log(USERS).lose_tail(3)
        with pytest.raises(HistoryStopped):
            await check(place, running)


class TestRebuild:
    async def test_new_one_is_equal_and_everybody_goes_on_with_it(
        self, place: Place, running: Running, url: str
    ) -> None:
        reader = HistoryStore(url)
        change(running, sa.delete(EVENT).where(EVENT.c.id == "e1.2"))
        before = rows(reader, EVENT)
        id_ = running.store.meta("id")
        read = await rebuild(place.broker, reader.place, "")
        assert read == sum(place.ends().values())
        assert len(rows(reader, EVENT)) == len(before) + 1
        await place.until(lambda: running.store.generation == 2 and running.history.ready)
        assert running.store.meta("id") == id_
        await send_hours(place, 1, since=4)
        await place.written(running)
        assert len(rows(reader, EVENT)) == len(before) + 6
        assert (await check(place, running)).equal
        assert reader.place.generations() == [2]
        reader.close()

    async def test_old_one_serves_meanwhile_and_what_is_written_meanwhile_is_there(
        self, place: Place, running: Running
    ) -> None:
        seen: list[int] = []

        def look(doing: str, done: int, total: int) -> None:
            seen.append(len(rows(running.store, EVENT)))

        rebuilding = asyncio.create_task(rebuild(place.broker, running.store.place, "", look))
        await send_hours(place, 2, since=4)
        await place.until(rebuilding.done)
        assert min(seen) >= 20
        await place.written(running)
        assert (await check(place, running)).equal
        assert len(rows(running.store, EVENT)) == 30

    async def test_new_one_never_shows_less_than_the_old_one(
        self, place: Place, url: str, running: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the old one got after the new one had caught up is read before they change places."""

        async def caught_up(*_: object) -> int:
            return 0

        await place.stop(running)
        monkeypatch.setattr("playhead.history.rebuild._catch_up", caught_up)
        store = HistoryStore(url)
        before = len(rows(store, EVENT))
        await rebuild(place.broker, store.place, "")
        assert len(rows(store, EVENT)) == before > 0
        store.close()

    async def test_what_was_killed_in_the_middle_changes_nothing_and_is_cleaned_up(
        self, place: Place, running: Running
    ) -> None:
        def killed(doing: str, done: int, total: int) -> None:
            raise Killed

        before = rows(running.store, EVENT)
        with pytest.raises(Killed):
            await rebuild(place.broker, running.store.place, "", killed)
        assert running.store.place.generations() == [1, 2]
        assert rows(running.store, EVENT) == before
        await rebuild(place.broker, running.store.place, "")
        assert running.store.place.generations() == [2]
        assert rows(running.store, EVENT) != [] != before

    async def test_only_one_at_a_time(self, place: Place, running: Running) -> None:
        with running.store.place.rebuilding() as alone:
            assert alone
            with pytest.raises(AlreadyRunning):
                await rebuild(place.broker, running.store.place, "")
        await rebuild(place.broker, running.store.place, "")

    async def test_it_loses_no_rows_unasked(self, place: Place, running: Running) -> None:
        place.broker.trim(USERS, 4)
        with pytest.raises(InvalidInput, match="no longer has 4 offsets of user"):
            await rebuild(place.broker, running.store.place, "")
        await rebuild(place.broker, running.store.place, "", accept_loss=True)
        await place.until(lambda: running.store.generation == 2 and running.history.ready)
        assert running.store.parts()[USERS].lost == 4
        assert (await check(place, running)).equal

    async def test_it_mends_a_partition_that_is_stopped(self, place: Place, running: Running) -> None:
        place.broker.log(USERS).lose_tail(3)
        await place.until(lambda: not running.history.ready, passing=10)
        await rebuild(place.broker, running.store.place, "", accept_loss=True)
        await place.until(lambda: running.history.ready)
        assert (await check(place, running)).equal

    async def test_another_format_is_built_anew(self, place: Place, running: Running, url: str) -> None:
        await place.stop(running)
        store = HistoryStore(url)
        store.set_meta("format", "0")
        await rebuild(place.broker, store.place, "")
        store.close()
        running = await place.start_ready(url)
        assert (await check(place, running)).equal


class TestRetention:
    async def test_what_is_older_goes_rows_and_sums(self, place: Place, running: Running) -> None:
        await prune(running.store, 2 * HOUR_MS + 1_234)
        assert horizon_ms(running.store) == 2 * HOUR_MS
        for table in (EVENT, RUN_EVENT):
            assert min(row.at_ms for row in rows(running.store, table)) >= 2 * HOUR_MS
        assert len(rows(running.store, RUN)) == 10
        assert {row.at for row in rows(running.store, EVENT_COUNT) if row.step == 3600} == {7_200, 10_800}
        # Those that are open are somebody's to look at.
        old = [row for row in rows(running.store, LETTER) if row.at_ms < 2 * HOUR_MS]
        assert {row.state for row in old} == {"open"}
        assert {row.letter_id for row in rows(running.store, SETTLEMENT)} == {"l2.0", "l3.0"}

    async def test_it_stays_equal_to_the_log(self, place: Place, running: Running) -> None:
        await prune(running.store, 2 * HOUR_MS)
        assert (await check(place, running)).equal
        change(running, sa.update(RUN).where(RUN.c.id == "r3.2-0").values(attempt=7))
        assert not (await check(place, running)).equal

    async def test_run_that_is_told_of_again_after_it_was_pruned(self, place: Place, running: Running) -> None:
        await prune(running.store, 2 * HOUR_MS)
        await place.send(run_event("r0.0-0", "run.retrying", at_ms=5 * HOUR_MS))
        await place.written(running)
        assert (await check(place, running)).equal

    async def test_run_that_goes_on_keeps_its_beginning(self, place: Place, running: Running) -> None:
        await place.send(run_event("long-0", "run.retrying", at_ms=HOUR_MS))
        await place.written(running)
        await prune(running.store, 3 * HOUR_MS)
        await place.send(run_event("long-0", "run.succeeded", attempt=2, at_ms=5 * HOUR_MS))
        await place.written(running)
        (run,) = [row for row in rows(running.store, RUN) if row.id == "long-0"]
        assert (run.began_ms, run.ended_ms) == (HOUR_MS - 1_000, 5 * HOUR_MS)
        assert (await check(place, running)).equal

    async def test_rebuilt_one_has_the_same_horizon(self, place: Place, running: Running) -> None:
        await prune(running.store, 2 * HOUR_MS)
        before = rows(running.store, RUN)
        await rebuild(place.broker, running.store.place, "")
        assert rows(running.store, RUN) == before
        await place.until(lambda: running.store.generation == 2 and running.history.ready)
        assert (await check(place, running)).equal

    async def test_the_process_prunes_as_time_passes(self, place: Place, url: str) -> None:
        running = await place.start_ready(url, retention_days=1)
        now_ms = int(place.clock.time() * 1000)
        await place.send(event("user", 0, "old", at_ms=now_ms - 30 * HOUR_MS), event("user", 0, "new", at_ms=now_ms))
        await place.until(lambda: [row.id for row in rows(running.store, EVENT)] == ["new"], passing=5)
        await place.until(lambda: rows(running.store, EVENT) == [], passing=HOUR_MS / 1000)
        assert running.store.positions()[USERS] == 2


def test_horizon_of_a_new_history_is_none(store: HistoryStore) -> None:
    assert horizon_ms(store) == 0
    assert rows(store, PART) == []
