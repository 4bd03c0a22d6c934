"""Records that anybody may have written stop nothing, and are the same rows in every kind of database."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

import orjson
import pytest
import sqlalchemy as sa

from playhead.history.digest import Excluded, digest
from playhead.history.projection import MAX_TEXT_BYTES, Rows, project
from playhead.history.reading import Snapshot
from playhead.history.schema import LETTER, RUN
from playhead.history.store import HistoryStore, Span
from playhead.records import Partition
from tests.history.logs import Stored, at, letter, run_event
from tests.history.scene import Scene

PARTITIONS = [Partition(topic, number) for topic in ("user", "run", "dead-letter") for number in (0, 1)]


def incompressible(chars: int, seed: int) -> str:
    """Text that no database packs: three bytes for each character."""
    made = random.Random(seed)
    return "".join(chr(made.randrange(0x4E00, 0x9FFF)) for _ in range(chars))


def project_all(store: HistoryStore, records: list[Stored]) -> None:
    """Write these records, of partitions that were begun, each in a transaction of its own."""
    rows = Rows()
    spans: dict[Partition, Span] = {}
    for record in records:
        partition = Partition(record.topic, record.partition)
        project([record], record.topic, store.base(partition), rows)
        before = spans.get(partition)
        spans[partition] = Span(record.offset if before is None else before.first, record.offset + 1)
    store.write(rows, spans)


def test_records_without_key_value_and_headers_stop_nothing(store: HistoryStore) -> None:
    store.begin(dict.fromkeys(PARTITIONS, 0))
    names = ["run.failed", "dead-letter.created", "dead-letter.retried", "user.made"]
    for offset, pairs in enumerate([[], *([("ce_type", name.encode())] for name in names)]):
        for topic in ("run", "dead-letter", "user"):
            project_all(store, [Stored(topic, 0, offset, 1_000, None, None, pairs)])
    assert set(store.positions().values()) == {0, 5}


class TestTexts:
    def test_of_any_length_fit_into_every_index_together(self, store: HistoryStore) -> None:
        """PostgreSQL has indexes of several columns, and no entry of one may take more than 2,704 bytes."""
        store.begin(dict.fromkeys(PARTITIONS, 0))
        long = [incompressible(4_000, seed) for seed in range(6)]
        told = {"runId": long[0], "jobId": long[1], "eventId": long[2], "eventName": long[3], "jobVersion": long[4]}
        records = [
            Stored(topic, 0, 0, 1_000, long[5].encode(), orjson.dumps(told), [("ce_type", name), ("ce_id", b"x")])
            for topic, name in (("run", b"run.failed"), ("dead-letter", b"dead-letter.created"), ("user", b"u.made"))
        ]
        project_all(store, records)
        with store.reading() as db:
            (run,) = db.execute(sa.select(RUN))
        assert MAX_TEXT_BYTES - 3 < len(run.id.encode()) <= MAX_TEXT_BYTES

    @pytest.mark.parametrize("number", [b"-0.0", b"-0", b"-1e300", b"1e300", b"123456789012345678901234567890"])
    def test_numbers_are_the_same_in_every_database(self, store: HistoryStore, number: bytes, tmp_path: Path) -> None:
        """SQLite has no negative zero, and PostgreSQL does."""
        value = b'{"runId": "r", "jobId": "j", "durationMs": %b, "attempt": %b}' % (number, number)
        record = Stored("run", 0, 0, 1_000, b"r", value, [("ce_type", b"run.succeeded")])
        with closing(HistoryStore(f"sqlite:///{tmp_path}/other.db")) as other:
            digests = []
            for one in (store, other):
                one.begin(dict.fromkeys(PARTITIONS, 0))
                project_all(one, [record])
                with one.reading() as db:
                    digests.append(digest(db, Excluded({}), subtract=False))
        assert digests[0] == digests[1]


@pytest.fixture
def english(postgres: str) -> Iterator[str]:
    """A database that sorts as people of a language do, as most PostgreSQLs do unless they are told otherwise."""
    name = f"t{uuid4().hex[:12]}"
    engine = sa.create_engine(f"{postgres}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        db.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
    yield f"{postgres}/{name}"
    with engine.connect() as db:
        db.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


def test_entity_is_found_where_the_database_sorts_as_a_language_does(english: str) -> None:
    with closing(HistoryStore(english)) as store:
        scene = Scene(store)
        for name in ("user.created", "user.zipped", "userland.entered", "User.created", "user-group.made"):
            scene.event(name, name)
        with store.reading() as db:
            found = [event.name for event in Snapshot(db).events(name="user").items]
    assert found == ["user.zipped", "user.created"]


def test_letter_and_settlement_written_at_once_by_two_know_of_each_other(
    store: HistoryStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be in two partitions, which two processes write: neither sees what the other has not committed."""
    from playhead.history import bulk

    store.begin(dict.fromkeys(PARTITIONS, 0))
    before, after = threading.Barrier(2, timeout=1), threading.Barrier(2, timeout=1)
    settle = bulk._settle

    def together(db: sa.Connection, rows: Rows) -> None:
        for step, barrier in ((lambda *_: None, before), (settle, after)):
            step(db, rows)
            with suppress(threading.BrokenBarrierError):  # one waits for the other's commit
                barrier.wait()

    monkeypatch.setattr(bulk, "_settle", together)
    with closing(HistoryStore(url)) as other:
        records = [at(0, letter("a")), at(0, letter("a", "retried", partition=1))]
        threads = [
            threading.Thread(target=project_all, args=(who, [record]))
            for who, record in zip((store, other), records, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with store.reading() as db:
        (found,) = db.execute(sa.select(LETTER))
    assert found.state == "retried"


def test_run_of_a_strange_id_ends_no_list(store: HistoryStore) -> None:
    store.begin(dict.fromkeys(PARTITIONS, 0))
    names = ["#1", "#a", "b|c", "", "ü", "z" * 255, "d"]
    project_all(store, [at(offset, run_event(name)) for offset, name in enumerate(names)])
    seen: list[str] = []
    cursor = None
    with store.reading() as db:
        while True:
            page = Snapshot(db).runs(limit=1, cursor=cursor)
            seen += [run.id for run in page.items]
            cursor = page.next
            if cursor is None:
                break
    assert sorted(seen) == sorted(name for name in names if name)
