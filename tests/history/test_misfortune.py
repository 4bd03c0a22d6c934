"""What goes wrong around a history: broken files, topics made anew, retention at the worst moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from playhead.errors import FolderUnusable, HistoryMisfit, InvalidInput
from playhead.history.consumer import IDLE_SECONDS
from playhead.history.databases import place_of
from playhead.history.reading import Snapshot
from playhead.history.rebuild import rebuild
from playhead.history.schema import EVENT
from playhead.history.store import HistoryStore
from playhead.history.verify import verify
from playhead.records import Partition
from playhead.topics import entity_topic
from tests.history.logs import event, run_event
from tests.history.place import Place, rows

USERS = Partition("user", 0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/history.db"


async def _written(place: Place, url: str) -> None:
    running = await place.start_ready(url)
    await place.send(*(event("user", 0, str(n)) for n in range(5)), run_event("r-0"))
    await place.written(running)
    await place.stop(running)


class TestBrokenFile:
    @pytest.mark.parametrize("broken", ["gone", "empty", "no database", "a page"])
    async def test_is_a_clear_error_and_can_be_built_again(
        self, place: Place, url: str, tmp_path: Path, broken: str
    ) -> None:
        await _written(place, url)
        file = tmp_path / "history-1.db"
        data = file.read_bytes()
        file.unlink()
        if broken != "gone":
            file.write_bytes(
                {"empty": b"", "no database": b"x" * 9_000, "a page": data[:4096] + b"\xff" * 4096}[broken]
            )
        with pytest.raises(HistoryMisfit, match="playhead history rebuild"):
            HistoryStore(url)
        await rebuild(place.broker, place_of(url), "")
        running = await place.start_ready(url)
        assert [row.id for row in rows(running.store, EVENT)] == ["0", "1", "2", "3", "4"]
        assert (await verify(place.broker, running.store, "")).equal


class TestRebuildInAFolder:
    async def test_that_can_not_be_written_is_a_clear_error(self, place: Place, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(
            FolderUnusable, match=r"file/data can't be written: Not a directory\..*PLAYHEAD_HISTORY_DATABASE"
        ):
            await rebuild(place.broker, place_of(f"sqlite:///{tmp_path}/file/data/history.db"), "")

    async def test_that_is_not_there_makes_it(self, place: Place, tmp_path: Path) -> None:
        where = place_of(f"sqlite:///{tmp_path}/data/history.db")
        await rebuild(place.broker, where, "")
        assert where.generations() == [1]


class TestFileUnderAHistoryThatRuns:
    async def test_deleted_is_waited_for_until_it_is_built_again(self, place: Place, url: str, tmp_path: Path) -> None:
        """What is written into a file without a name is gone when its process ends."""
        running = await place.start_ready(url)
        await place.send(event("user", 0, "a"))
        await place.written(running)
        for suffix in ("", "-wal", "-shm"):
            (tmp_path / f"history-1.db{suffix}").unlink()
        await place.send(event("user", 0, "b"))
        await place.until(lambda: not running.history.ready, passing=1)
        assert running.history.status()["history"]["phase"] == "away"
        await rebuild(place.broker, place_of(url), "")
        await place.send(event("user", 0, "c"))
        await place.until(lambda: running.history.ready and len(rows(running.store, EVENT)) == 3, passing=1)
        assert (await verify(place.broker, running.store, "")).equal

    async def test_put_back_from_a_copy_goes_on_where_that_ends(self, place: Place, url: str, tmp_path: Path) -> None:
        running = await place.start_ready(url)
        await place.send(event("user", 0, "a"))
        await place.written(running)
        with closing(sqlite3.connect(tmp_path / "history-1.db")) as db:
            db.execute(f"VACUUM INTO '{tmp_path}/copy.db'")
        await place.send(event("user", 0, "b"))
        await place.written(running)
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"history-1.db{suffix}").unlink()
        (tmp_path / "copy.db").rename(tmp_path / "history-1.db")
        await place.send(event("user", 0, "c"))
        with closing(HistoryStore(url)) as another:
            await place.until(lambda: len(rows(another, EVENT)) == 3, passing=1)
            assert (await verify(place.broker, another, "")).equal


async def test_page_goes_on_where_it_was_after_a_rebuild(place: Place, url: str) -> None:
    """Many events have the same time; a topic that came later is before others by its name."""
    running = await place.start_ready(url)
    await place.broker.create_topics([entity_topic("animal", partitions=2)])
    await place.send(*(event(topic, n % 2, f"{topic}{n}") for topic in ("user", "animal") for n in range(6)))
    await place.until(lambda: len(rows(running.store, EVENT)) == 12, passing=5)
    seen: list[str] = []
    cursor = None
    while cursor is not None or not seen:
        with running.store.reading() as db:
            page = Snapshot(db).events(cursor=cursor, limit=4)
        seen += [one.id for one in page.items]
        cursor = page.next
        await rebuild(place.broker, running.store.place, "")
    assert len(seen) == len(set(seen)) == 12


class TestRebuildThatWouldLoseRows:
    async def test_of_a_topic_that_was_made_anew_is_refused(self, place: Place, url: str) -> None:
        await _written(place, url)
        del place.broker.all_topics["user"]
        await place.broker.create_topics([entity_topic("user", partitions=2)])
        await place.send(*(event("user", 0, f"new-{n}") for n in range(7)))
        with pytest.raises(InvalidInput, match="no longer has 5 offsets of user"):
            await rebuild(place.broker, place_of(url), "")
        await rebuild(place.broker, place_of(url), "", accept_loss=True)

    async def test_of_a_log_that_lost_its_end_is_refused(self, place: Place, url: str) -> None:
        await _written(place, url)
        place.broker.log(USERS).lose_tail(3)
        with pytest.raises(InvalidInput, match="no longer has 2 offsets of user"):
            await rebuild(place.broker, place_of(url), "")

    async def test_of_a_topic_that_is_gone_is_refused(self, place: Place, url: str) -> None:
        await _written(place, url)
        del place.broker.all_topics["user"]
        with pytest.raises(InvalidInput, match="no longer has 5 offsets of user"):
            await rebuild(place.broker, place_of(url), "")


async def test_retention_while_an_idle_partition_is_looked_at_ends_nothing(
    place: Place, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await place.start_ready(url)
    await place.send(event("user", 0, "a"))
    await place.written(running)
    log, bounds = place.broker.log(USERS), place.broker.bounds

    async def overtaken(partitions: Sequence[Partition], **more: Any) -> Any:
        found = await bounds(partitions, **more)
        if USERS in partitions and place.clock.monotonic() > IDLE_SECONDS and log.end == 1:
            log.end = 9
            found = await bounds(partitions, **more)
            log.trim(8)
        return found

    monkeypatch.setattr(place.broker, "bounds", overtaken)
    await place.until(lambda: bool(running.history.status()["history"]["stopped"]) or running.task.done(), passing=1)
    assert not running.task.done(), running.task.exception()
