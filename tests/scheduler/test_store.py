"""The store of a partition: a count that costs nothing, and files that break while they are used."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead.errors import StoreUnusable
from playhead.events import outgoing
from playhead.records import Record
from playhead.timer import armed_record, timer_record, tombstone
from playhead.timers.store import StoreBroken, TimerStore, delete_store
from playhead.topics import DELAY
from tests.scheduler.place import Place
from tests.scheduler.test_tasks import stored

BROKEN = "a store of timers is broken; it is thrown away and rebuilt from the log"


def chosen(id_: str) -> Record:
    return timer_record(outgoing("thing.made", {}, id=id_, delay={"seconds": 1}).sent_at(0), DELAY, 1, "/x", 0)


def occurrence(id_: str) -> Record:
    return armed_record("job", id_, "schedule.job", {}, 1_000, DELAY, 1, 0)


def end_of(record: Record) -> Record:
    assert record.key is not None
    return tombstone(record.key, DELAY, 0, 0)


IDS = st.sampled_from(["a", "b", "c"])
TIMERS = st.one_of(IDS.map(chosen), IDS.map(occurrence))
STEPS = st.lists(st.tuples(TIMERS, st.booleans(), st.booleans()), max_size=25)
"""A timer, whether one of before is ended as well, and whether a transaction ends here."""


class TestCount:
    @settings(max_examples=300, deadline=None)
    @given(STEPS, st.data())
    def test_is_what_a_scan_finds_whatever_was_written(
        self, steps: list[tuple[Record, bool, bool]], data: st.DataObject
    ) -> None:
        store, gathered, written, offset = TimerStore(None), list[Record](), list[Record](), 0
        for record, ends_one, applies in [*steps, (chosen("last"), False, True)]:
            gathered.append(record)
            written.append(record)
            if ends_one:
                gathered.append(end_of(data.draw(st.sampled_from(written))))
            if applies:
                store.apply(stored(*gathered, since=offset), offset + len(gathered), 0)
                offset += len(gathered)
                gathered.clear()
                assert store.count() == scanned(store)
        store.close()

    def test_is_kept_with_the_store(self, tmp_path: Path) -> None:
        path = tmp_path / "delay-0.db"
        store = TimerStore(path)
        first = chosen("a")
        store.apply(stored(first, chosen("b"), chosen("b"), occurrence("c"), occurrence("c"), end_of(first)), 6, 0)
        store.close()
        again = TimerStore(path)
        assert again.count() == scanned(again) == 2
        again.close()

    def test_of_a_batch_that_failed_is_that_of_before(self) -> None:
        store = TimerStore(None)
        store.apply(stored(chosen("a")), 1, 0)
        with pytest.raises(KeyError):
            store.apply(raising(stored(chosen("b"))), 2, 0)
        assert (store.count(), scanned(store), store.position) == (1, 1, 1)

    def test_of_what_is_not_committed_yet_is_as_a_scan_has_it_and_is_gone_when_it_fails(self, tmp_path: Path) -> None:
        path = tmp_path / "delay-0.db"
        store = TimerStore(path)
        store.apply(stored(chosen("a")), 1, 0)
        store.apply(stored(chosen("b"), chosen("c"), since=1), 3, 0, commit=False)
        assert (store.count(), scanned(store), store.position) == (3, 3, 3)
        store._db.execute("PRAGMA query_only=1")
        with pytest.raises(Exception, match="readonly"):
            store.apply(stored(chosen("d"), since=3), 4, 0)
        assert (store.count(), store.position) == (1, 1)
        again = TimerStore(path)
        assert (again.count(), scanned(again), again.position) == (1, 1, 1)
        again.apply(stored(chosen("b"), since=1), 2, 0, commit=False)
        again.apply((), 2, 0)
        again.close()
        last = TimerStore(path)
        assert (last.count(), scanned(last), last.position) == (2, 2, 2)
        last.close()


def raising(records: list[object]):  # type: ignore[no-untyped-def]
    yield from records
    raise KeyError


def scanned(store: TimerStore) -> int:
    ((count,),) = store._db.execute("SELECT count(*) FROM timer").fetchall()
    return int(count)


def overwrite(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def spoil_pages(path: Path) -> None:
    """All but the header: SQLite opens it, and stumbles later."""
    if path.suffix == ".db":
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\x5a" * (path.stat().st_size - 4096))


def spoil_rows(path: Path) -> None:
    """What is in the rows alone: SQLite never notices."""
    path.write_bytes(path.read_bytes().replace(b"thing.made", b"thing.mend"))


def spoil_packing(path: Path) -> None:
    """As the rows before, such that they can't be unpacked."""
    path.write_bytes(path.read_bytes().replace(b"ce_type", b"ce_\xff\xff\xff\xff"))


def spoil_texts(path: Path) -> None:
    """The ids of timers, in their rows and in the index, such that they are no text."""
    path.write_bytes(re.sub(rb"(?<!ce_id)[0-9a-f]{8}-[0-9a-f]{4}-7", b"\xff" * 15, path.read_bytes()))


DAMAGES = [overwrite, cut, spoil_pages, spoil_rows, spoil_packing, spoil_texts]


async def fill(place: Place, count: int, since: int = 0) -> None:
    events = [
        outgoing("thing.made", {"n": n, "x": "y" * 500}, delay={"seconds": 60}) for n in range(since, since + count)
    ]
    await place.client.send_all(events)
    await place.clock.advance(0.1)


def spoil(folder: Path, stores: Iterable[TimerStore], damage: Callable[[Path], None]) -> None:
    """Damage the files of stores that are in use, and let SQLite forget what it has of them in memory."""
    for store in stores:
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for path in Place.stores(folder):
        damage(path)
    for store in stores:
        store._db.execute("PRAGMA shrink_memory")


class TestBroken:
    @pytest.mark.parametrize("damage", DAMAGES)
    async def test_store_that_breaks_under_a_scheduler_is_rebuilt_and_every_timer_fires_once(
        self, place: Place, tmp_path: Path, damage: Callable[[Path], None]
    ) -> None:
        running = await place.start(tmp_path)
        await fill(place, 4_000)
        stores = [task.store for task in running.scheduler._work.tasks.values()]
        with structlog.testing.capture_logs() as lines:
            spoil(tmp_path, stores, damage)
            await fill(place, 2_000, since=4_000)
            await place.clock.advance(70)
        assert not running.task.done()
        assert BROKEN in [line["event"] for line in lines]
        assert sorted(place.fired()) == list(range(6_000))
        assert running.scheduler.pending() == 0

    @pytest.mark.parametrize("damage", DAMAGES)
    async def test_store_that_broke_while_nobody_ran_is_rebuilt(
        self, place: Place, tmp_path: Path, damage: Callable[[Path], None]
    ) -> None:
        running = await place.start(tmp_path)
        await fill(place, 5_000)
        await place.stop(running)
        for path in place.stores(tmp_path):
            damage(path)
        await fill(place, 500, since=5_000)
        await place.start(tmp_path)
        await place.clock.advance(70)
        assert sorted(place.fired()) == list(range(5_500))

    async def test_file_that_is_taken_away_costs_nothing(self, place: Place, tmp_path: Path) -> None:
        await place.start(tmp_path)
        await fill(place, 100)
        for path in place.stores(tmp_path):
            path.unlink()
        await fill(place, 100, since=100)
        await place.clock.advance(70)
        assert sorted(place.fired()) == list(range(200))

    def test_its_file_is_gone(self, tmp_path: Path) -> None:
        path = tmp_path / "delay-0.db"
        store = TimerStore(path)
        store.apply(stored(*(chosen(str(n)) for n in range(5_000))), 5_000, 0)
        spoil(tmp_path, [store], overwrite)
        with pytest.raises(StoreBroken, match=r"delay-0\.db"):
            store.apply(stored(*(chosen(f"x{n}") for n in range(5_000)), since=5_000), 10_000, 0)
        assert list(tmp_path.iterdir()) == []
        delete_store(path)


class TestFull:
    async def test_full_disk_ends_the_scheduler_with_what_to_do(self, place: Place, tmp_path: Path) -> None:
        """SQLite's own limit on pages gives the error of a full disk."""
        running = await place.start(tmp_path)
        for task in running.scheduler._work.tasks.values():
            task.store._db.execute("PRAGMA max_page_count=20")
        await fill(place, 2_000)
        await place.clock.advance(1)
        assert running.task.done()
        with pytest.raises(StoreUnusable, match=r"delay-\d\.db can't be written: database or disk is full.*--data-dir"):
            running.task.result()
        await place.start(tmp_path)  # there is room again
        await place.clock.advance(70)
        assert sorted(place.fired()) == list(range(2_000))

    async def test_folder_that_can_not_be_written_says_so(self, place: Place, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("no folder")
        with pytest.raises(StoreUnusable):
            await place.start(tmp_path / "file")
        place.running.clear()

    async def test_folder_in_the_place_of_the_file_says_so(self, place: Place, tmp_path: Path) -> None:
        (tmp_path / f"{DELAY}-0.db").mkdir()
        with pytest.raises(StoreUnusable):
            await place.start(tmp_path)
        await asyncio.gather(*(one.task for one in place.running), return_exceptions=True)
        place.running.clear()
