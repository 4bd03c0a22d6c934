"""What is in the log gets into the database, once, whatever happens to those who write it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from playhead.errors import HistoryMisfit, HistoryStopped, InvalidInput
from playhead.history import bulk
from playhead.history.projection import Rows
from playhead.history.pruning import INTERVAL_SECONDS
from playhead.history.schema import EVENT, PART, RUN
from playhead.history.skipping import skip
from playhead.history.store import HistoryStore, Span
from playhead.records import Partition
from playhead.topics import TopicSpec, entity_topic
from tests.exposition import exposed
from tests.history.logs import event, run_event
from tests.history.place import Place, rows

USERS = Partition("user", 0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """What holds for both databases is in test_writing: here it is the consumer that is tried."""
    return f"sqlite:///{tmp_path}/history.db"


class TestWriting:
    async def test_what_was_there_before_and_what_comes_is_written(self, place: Place, url: str) -> None:
        await place.send(event("user", 0, "a"), run_event("r-0"))
        running = await place.start_ready(url)
        await place.send(event("user", 1, "b"), run_event("q-1", partition=1))
        await place.written(running)
        assert {row.id for row in rows(running.store, EVENT)} == {"a", "b"}
        assert {row.id for row in rows(running.store, RUN)} == {"r-0", "q-1"}
        assert running.history.written == 4

    async def test_delay_jobs_inboxes_and_other_prefixes_are_not_read(self, url: str) -> None:
        place = Place("acme.")
        await place.open()
        others = ["user", "acme.welcome.inbox", "acme.welcome.journal", "other.user"]
        await place.broker.create_topics([TopicSpec(name, 1) for name in others])
        await place.send(event("acme.user", 0, "mine"), *(event(name, 0, "theirs") for name in (*others, "acme.delay")))
        running = await place.start_ready(url)
        await place.until(lambda: running.history.written == 1)
        topics = {row.topic for row in rows(running.store, PART)}
        assert topics == {"acme.user", "acme.run", "acme.dead-letter", "acme.schedule"}
        await place.close()

    async def test_flood_is_written_in_few_transactions(
        self, place: Place, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writes = []
        write = HistoryStore.write

        def counted(self: HistoryStore, batch: Rows, spans: dict[Partition, Span]) -> None:
            writes.append(len(batch.events))
            write(self, batch, spans)

        monkeypatch.setattr(HistoryStore, "write", counted)
        await place.send(*(event("user", n % 2, str(n)) for n in range(20_000)))
        running = await place.start_ready(url)
        await place.written(running)
        assert sum(writes) == 20_000
        assert len([size for size in writes if size]) <= 8

    async def test_it_goes_on_where_it_stopped(self, place: Place, url: str) -> None:
        running = await place.start_ready(url)
        await place.send(event("user", 0, "a"))
        await place.written(running)
        await place.stop(running)
        await place.send(event("user", 0, "b"))
        running = await place.start_ready(url)
        await place.written(running)
        assert running.history.written == 1
        assert [row.id for row in rows(running.store, EVENT)] == ["a", "b"]

    async def test_topic_that_is_made_later_is_noticed(self, place: Place, url: str) -> None:
        running = await place.start_ready(url)
        await place.broker.create_topics([entity_topic("parcel", partitions=3)])
        await place.send(event("parcel", 2, "p"))
        await place.until(lambda: running.history.written == 1, passing=5)
        assert [row.name for row in rows(running.store, EVENT)] == ["parcel.made"]

    async def test_partitions_that_are_added_later_are_noticed(self, place: Place, url: str) -> None:
        running = await place.start_ready(url)
        place.broker.add_partitions("user", 4)
        await place.send(event("user", 3, "p"))
        await place.until(lambda: running.history.written == 1, passing=5)

    async def test_database_of_another_installation_is_refused(self, place: Place, url: str) -> None:
        store = HistoryStore(url)
        store.claim("other.")
        store.close()
        running = await place.start(url)
        with pytest.raises(HistoryMisfit):
            await running.task


class TestSharing:
    async def test_two_on_one_database_share_the_partitions(self, place: Place, url: str) -> None:
        first, second = await place.start_ready(url), await place.start_ready(url)
        await place.until(lambda: all(r.history.ready and len(_tasks(r)) == 1 for r in (first, second)))
        await place.send(*(event("user", n % 2, str(n)) for n in range(100)))
        await place.written(first)
        assert (first.history.written, second.history.written) == (50, 50)
        await place.stop(first)
        await place.send(event("user", 0, "x"), event("user", 1, "y"))
        await place.written(second)
        assert len(rows(second.store, EVENT)) == 102

    async def test_two_databases_are_two_groups(self, place: Place, tmp_path: Path) -> None:
        both = [await place.start_ready(f"sqlite:///{tmp_path}/{name}.db") for name in "ab"]
        await place.send(event("user", 0, "a"), event("user", 1, "b"))
        for running in both:
            await place.written(running)
            assert len(rows(running.store, EVENT)) == 2

    async def test_writer_that_was_overtaken_reads_the_positions_again(self, place: Place, url: str) -> None:
        running = await place.start_ready(url)
        other = HistoryStore(url)
        other.parts()
        other.write(Rows(), {USERS: Span(0, 1)})
        await place.send(event("user", 0, "a"), event("user", 0, "b"))
        await place.written(running)
        assert [row.id for row in rows(running.store, EVENT)] == ["b"]
        other.close()

    async def test_expelled_member_comes_back_and_writes_nothing_twice(self, place: Place, url: str) -> None:
        running = await place.start_ready(url)
        await place.send(event("user", 0, "a"))
        await place.written(running)
        membership = running.history._membership
        place.broker.expel(membership)  # type: ignore[arg-type]
        await place.send(event("user", 0, "b"))
        await place.until(lambda: running.history.ready and running.history.written == 2)
        assert [row.id for row in rows(running.store, EVENT)] == ["a", "b"]


def _tasks(running) -> list[int]:  # type: ignore[no-untyped-def]
    tasks: list[int] = running.history.status()["history"]["tasks"]
    return tasks


class TestStopping:
    """A checkpoint that the log does not fit is a loud state: not a stall of all, not a jump."""

    async def _behind(self, place: Place, url: str) -> None:
        """Five events are written, five more come while nobody writes."""
        running = await place.start_ready(url)
        await place.send(*(event("user", 0, str(n)) for n in range(5)))
        await place.written(running)
        await place.stop(running)
        await place.send(*(event("user", 0, str(n)) for n in range(5, 10)))

    async def test_retention_stops_the_partition_and_no_other(self, place: Place, url: str) -> None:
        await self._behind(place, url)
        place.broker.trim(USERS, 8)
        with capture_logs() as logs:
            running = await place.start(url)
            await place.send(event("user", 1, "other"))
            await place.until(lambda: running.history.written == 1)
        (error,) = [line["event"] for line in logs if line["log_level"] == "error"]
        assert error == (
            "history does not read user[0]: retention took offsets 5 to 7 unread. [PH312] "
            "Go on without them, counted as lost: playhead history skip 'user[0]'"
        )
        assert not running.history.ready
        assert running.history.status()["history"]["phase"] == f"degraded, {error}"
        assert running.history.status()["history"]["stopped"] == {"user[0]": error}
        assert running.store.parts()[USERS].stopped == error
        assert running.store.positions()[USERS] == 5

    async def test_who_skips_goes_on_and_knows_what_is_lost(self, place: Place, url: str) -> None:
        await self._behind(place, url)
        place.broker.trim(USERS, 8)
        running = await place.start(url)
        await place.until(lambda: bool(running.history.status()["history"]["stopped"]))
        with pytest.raises(InvalidInput, match=r"nothing to skip in user\[1\]"):
            await skip(place.broker, running.store, "user", 1)
        assert await skip(place.broker, running.store, "user") == {"user[0]": 3}
        await place.until(lambda: running.history.ready and running.history.written == 2)
        assert [row.id for row in rows(running.store, EVENT)] == ["0", "1", "2", "3", "4", "8", "9"]
        assert running.store.parts()[USERS].lost == 3

    async def test_retention_that_overtakes_it_while_it_runs(self, place: Place, url: str) -> None:
        running = await place.start_ready(url)
        await place.send(*(event("user", 0, str(n)) for n in range(5)))
        await place.written(running)
        log = place.broker.log(USERS)
        log.end = 9  # nine offsets of which four were never seen
        log.trim(8)
        await place.until(lambda: bool(running.history.status()["history"]["stopped"]))
        await place.send(event("user", 1, "other"))
        await place.until(lambda: running.history.written == 6)

    async def test_log_that_lost_its_end(self, place: Place, url: str) -> None:
        await self._behind(place, url)
        place.broker.log(USERS).lose_tail(3)
        running = await place.start(url)
        await place.until(lambda: bool(running.history.status()["history"]["stopped"]))
        with pytest.raises(HistoryStopped, match="history rebuild"):
            await skip(place.broker, running.store, "user", 0)
        assert "up to offset 5, and the log ends at 3" in running.history.status()["history"]["stopped"]["user[0]"]

    async def test_topic_that_was_made_anew(self, place: Place, url: str) -> None:
        await self._behind(place, url)
        del place.broker.all_topics["user"]
        await place.broker.create_topics([entity_topic("user", partitions=2)])
        await place.send(*(event("user", 0, f"new-{n}") for n in range(20)))
        running = await place.start(url)
        await place.until(lambda: len(running.history.status()["history"]["stopped"]) == 2)
        assert "the topic was made anew" in running.history.status()["history"]["stopped"]["user[0]"]
        assert [row.id for row in rows(running.store, EVENT)] == ["0", "1", "2", "3", "4"]

    async def test_markers_that_retention_took_are_no_loss(self, place: Place, url: str) -> None:
        """A marker is behind the last record of a transaction: an idle partition's position has to pass it."""
        running = await place.start_ready(url)
        transaction = place.broker.writers.begin("somebody")
        assert transaction is not None
        transaction.write(place.broker.log(USERS), [event("user", 0, "a")])
        transaction.decide()
        transaction.complete()
        await place.until(lambda: running.history.written == 1)
        assert running.store.positions()[USERS] == 1
        await place.until(lambda: running.store.positions()[USERS] == 2, passing=1)
        await place.stop(running)
        place.broker.trim(USERS, 2)
        await place.start_ready(url)


def _set_read_only(db: sa.Connection, url: str, how: str) -> None:
    """For the sessions that begin from now on; those that are there end."""
    name = url.rpartition("/")[2]
    db.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = {how}")
    db.exec_driver_sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


class TestTrouble:
    async def test_broker_that_is_away_is_waited_for(self, place: Place, url: str) -> None:
        running = await place.start_ready(url)
        place.broker.faults.unavailable = True
        await place.until(lambda: not running.history.ready)
        place.broker.faults.unavailable = False
        await place.send(event("user", 0, "a"))
        await place.until(lambda: running.history.ready and running.history.written == 1)

    async def test_database_that_is_away_is_waited_for(
        self, place: Place, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        running = await place.start_ready(url)
        write, failures = HistoryStore.write, ["", "disk full", "disk full"]

        def failing(self: HistoryStore, batch: Rows, spans: dict[Partition, Span]) -> None:
            if failures:
                said = failures.pop()
                raise sa.exc.OperationalError("write", {}, Exception(said))
            write(self, batch, spans)

        monkeypatch.setattr(HistoryStore, "write", failing)
        with capture_logs() as logs:
            await place.send(event("user", 0, "a"))
            await place.written(running)
        waits = [line for line in logs if line["event"] == "the database is away; waiting"]
        assert [line["retry_in_seconds"] for line in waits] == [0.5, 1, 2], "though restoring went well in between"
        assert [line["error"] for line in waits] == ["disk full", "disk full", "Exception"], (
            "its kind, if it says nothing"
        )
        assert [row.id for row in rows(running.store, EVENT)] == ["a"]

    async def test_postgres_that_takes_no_writes_is_waited_for(self, place: Place, postgres_url: str) -> None:
        running = await place.start_ready(postgres_url, retention_days=1)
        server = sa.create_engine(postgres_url.rpartition("/")[0] + "/postgres", isolation_level="AUTOCOMMIT")
        with server.connect() as db:
            _set_read_only(db, postgres_url, "on")
            await place.send(event("user", 0, "a"))
            with capture_logs() as logs:
                await place.until(lambda: any("in a read-only" in line.get("error", "") for line in logs))
            assert {line["event"] for line in logs} == {"the database is away; waiting"}
            await place.until(lambda: place.clock.monotonic() > INTERVAL_SECONDS * 2, passing=5)  # it prunes too
            assert not running.task.done()
            _set_read_only(db, postgres_url, "off")
        await place.written(running)
        server.dispose()
        assert [row.id for row in rows(running.store, EVENT)] == ["a"]

    async def test_postgres_that_goes_away_while_rows_are_copied_is_waited_for(
        self, place: Place, postgres_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        running = await place.start_ready(postgres_url)
        copy = bulk._copy
        ends = ["SELECT pg_terminate_backend(pg_backend_pid())", "SET LOCAL statement_timeout = 1; SELECT pg_sleep(9)"]

        def copy_in_bad_times(cursor: Any, *what: Any) -> None:
            if ends:
                cursor.execute(ends.pop())
            copy(cursor, *what)

        monkeypatch.setattr(bulk, "_copy", copy_in_bad_times)
        with capture_logs() as logs:
            await place.send(event("user", 0, "a"))
            await place.written(running)
        assert [line["event"] for line in logs].count("the database is away; waiting") == 2
        assert [row.id for row in rows(running.store, EVENT)] == ["a"]

    async def test_row_that_the_database_refuses_ends_it(
        self, place: Place, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        running = await place.start_ready(url)

        def refusing(self: HistoryStore, batch: Rows, spans: dict[Partition, Span]) -> None:
            raise sa.exc.IntegrityError("write", {}, Exception("twice"))

        monkeypatch.setattr(HistoryStore, "write", refusing)
        await place.send(event("user", 0, "a"))
        with pytest.raises(sa.exc.IntegrityError):
            await running.task
        assert await asyncio.to_thread(running.store.positions)


async def test_what_it_counts_is_shown(place: Place, url: str) -> None:
    running = await place.start_ready(url)
    await place.send(event("user", 0, "a"), run_event("r-0"))
    await place.written(running)
    await running.history.look()
    shown = exposed(running.history.samples)
    assert shown.value("playhead_history_records_total") == 2
    assert shown.value("playhead_history_write_duration_seconds_count") >= 1
    assert shown.value("playhead_history_lag_records", topic="user", partition="0") == 0
    assert shown.value("playhead_history_stopped_partitions") == 0
