"""Rows and positions change together, and once; in whatever order partitions and batches come."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import closing

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from playhead.history.digest import Excluded, digest
from playhead.history.projection import Rows, project
from playhead.history.schema import EVENT, LETTER, RUN, RUN_COUNT
from playhead.history.store import HistoryStore, Moved, Span, new_generation
from playhead.records import Partition, Record
from tests.history.logs import Stored, at, event, letter, run_event

RUNS, USERS = Partition("run", 0), Partition("user", 1)
LETTERS, OTHERS = Partition("dead-letter", 0), Partition("dead-letter", 1)


@pytest.fixture
def store(store: HistoryStore) -> HistoryStore:
    store.begin({RUNS: 0, USERS: 0, LETTERS: 0, OTHERS: 0})
    return store


def write(store: HistoryStore, records: Sequence[Stored], spans: Mapping[Partition, Span]) -> None:
    rows = Rows()
    for record in records:
        project([record], record.topic, store.base(Partition(record.topic, record.partition)), rows)
    store.write(rows, spans)


def created(offset: int) -> Stored:
    return at(offset, event("user", 1, "e"))


def told(offset: int, name: str, attempt: int = 1, *, at_ms: int = 6_000) -> Stored:
    return at(offset, run_event("r-0", name, attempt=attempt, at_ms=at_ms))


class TestWriting:
    def test_rows_and_positions_change_together(self, store: HistoryStore) -> None:
        write(store, [created(7), told(3, "run.succeeded")], {RUNS: Span(0, 4), USERS: Span(0, 8)})
        assert (store.positions()[RUNS], store.positions()[USERS]) == (4, 8)
        with store.reading() as db:
            (found,) = db.execute(sa.select(EVENT))
            (run,) = db.execute(sa.select(RUN))
        assert (found.name, found.id, found.key, found.payload) == ("user.made", "e", "k", b"{}")
        assert (run.id, run.state, run.began_ms, run.ended_ms) == ("r-0", "succeeded", 5_000, 6_000)

    def test_span_that_does_not_begin_where_the_position_is_writes_nothing(self, store: HistoryStore) -> None:
        write(store, [created(0)], {USERS: Span(0, 1)})
        with pytest.raises(Moved):
            write(store, [told(0, "run.succeeded"), created(0)], {RUNS: Span(0, 1), USERS: Span(0, 1)})
        assert (store.positions()[RUNS], store.positions()[USERS]) == (0, 1)
        with store.reading() as db:
            assert db.scalar(sa.select(sa.func.count()).select_from(RUN)) == 0

    def test_run_is_what_its_last_event_says_and_began_with_its_first(self, store: HistoryStore) -> None:
        write(store, [told(0, "run.retrying", at_ms=6_000)], {RUNS: Span(0, 1)})
        write(
            store,
            [told(1, "run.retrying", 2, at_ms=9_000), told(2, "run.failed", 3, at_ms=10_000)],
            {RUNS: Span(1, 3)},
        )
        with store.reading() as db:
            (run,) = db.execute(sa.select(RUN))
            counts = db.execute(sa.select(RUN_COUNT.c.state, RUN_COUNT.c.count).where(RUN_COUNT.c.step == 60)).all()
        assert (run.state, run.attempt, run.began_ms, run.ended_ms) == ("failed", 3, 5_000, 10_000)
        assert sorted(tuple(row) for row in counts) == [("failed", 1), ("retrying", 2)]

    @pytest.mark.parametrize("batches", [[3], [1, 2], [2, 1], [1, 1, 1]])
    def test_run_that_is_told_of_after_its_end_begins_anew(self, store: HistoryStore, batches: list[int]) -> None:
        records = [
            told(0, "run.failed", at_ms=6_000),
            told(1, "run.retrying", at_ms=9_000),
            told(2, "run.succeeded", 2, at_ms=12_000),
        ]
        first = 0
        for size in batches:
            write(store, records[first : first + size], {RUNS: Span(first, first + size)})
            first += size
        with store.reading() as db:
            (run,) = db.execute(sa.select(RUN))
        assert (run.state, run.began_ms, run.ended_ms) == ("succeeded", 8_000, 12_000)

    @pytest.mark.parametrize("settlement_first", [True, False])
    def test_letter_is_retried_where_any_settlement_says_so(self, store: HistoryStore, settlement_first: bool) -> None:
        """The two may be in different partitions, and so be read in any order."""
        steps = [
            ([at(0, letter("a"))], {LETTERS: Span(0, 1)}),
            (
                [
                    at(0, letter("a", "retried", partition=1, at_ms=8_500)),
                    at(1, letter("a", "discarded", partition=1, at_ms=9_000)),
                    at(2, letter("a", "discarded", partition=1, at_ms=8_000)),
                    at(3, letter("a", "retried", partition=1, at_ms=8_700)),
                ],
                {OTHERS: Span(0, 4)},
            ),
        ]
        for records, spans in reversed(steps) if settlement_first else steps:
            write(store, records, spans)
        with store.reading() as db:
            (found,) = db.execute(sa.select(LETTER))
        assert (found.state, found.settled_ms) == ("retried", 8_500)

    @pytest.mark.parametrize(
        "value", [b"\0\xff", b'{"runId": "a\\u0000"}', b"[]", b"7", None, b'{"runId": "' + b"x" * 9_000 + b'"}']
    )
    def test_whatever_is_in_a_record_fits(self, store: HistoryStore, value: bytes | None) -> None:
        headers = [("ce_type", b"\0" + b"n" * 999), ("ce_id", b"\xff" * 999), ("other", b"\xfe"), ("none", None)]
        records = [
            Stored(topic, number, 0, -1, b"\0" + "🂡".encode() * 2_000, value, headers)  # type: ignore[arg-type]
            for topic, number in (RUNS, USERS, LETTERS)
        ]
        write(store, records, {p: Span(0, 1) for p in (RUNS, USERS, LETTERS)})
        assert store.positions()[RUNS] == 1

    def test_another_prefix_is_refused(self, store: HistoryStore) -> None:
        from playhead.errors import HistoryMisfit

        store.claim("a.")
        store.claim("a.")
        with pytest.raises(HistoryMisfit, match=r"prefix 'a\.', not ''"):
            store.claim("")

    def test_reader_sees_one_state_while_others_write(self, store: HistoryStore) -> None:
        with store.reading() as db:
            count = sa.select(sa.func.count()).select_from(EVENT)
            assert db.scalar(count) == 0
            writing = threading.Thread(target=write, args=(store, [created(0)], {USERS: Span(0, 1)}))
            writing.start()
            writing.join()
            assert db.scalar(count) == 0
        with store.reading() as db:
            assert db.scalar(count) == 1

    def test_two_writers_of_one_span_write_it_once(self, store: HistoryStore, url: str) -> None:
        other = HistoryStore(url)
        ended: list[str] = []

        def try_it(who: HistoryStore) -> None:
            try:
                write(who, [created(n) for n in range(50)], {USERS: Span(0, 50)})
                ended.append("written")
            except Moved:
                ended.append("moved")

        threads = [threading.Thread(target=try_it, args=(who,)) for who in (store, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        other.close()
        assert sorted(ended) == ["moved", "written"]


class TestSkipping:
    def test_what_is_skipped_is_counted(self, store: HistoryStore) -> None:
        store.mark({USERS: "retention took it"})
        assert store.parts()[USERS].stopped == "retention took it"
        store.skip(USERS, Span(0, 9))
        assert store.parts()[USERS][1:] == (9, 9, "", None)
        with pytest.raises(Moved):
            store.skip(USERS, Span(0, 9))


class TestGenerations:
    def test_everybody_goes_on_with_the_new_one(self, store: HistoryStore, url: str) -> None:
        reader = HistoryStore(url)
        write(store, [created(0)], {USERS: Span(0, 1)})
        new = new_generation(store.place, 2, {})
        new.begin({USERS: 0})
        store.place.switch(2)
        with reader.reading() as db:
            assert db.scalar(sa.select(sa.func.count()).select_from(EVENT)) == 0
        with pytest.raises(Moved):
            write(store, [created(1)], {USERS: Span(1, 2)})
        store.place.drop(1)
        with pytest.raises(Moved):
            write(store, [created(1)], {USERS: Span(1, 2)})
        store.follow()
        assert store.positions() == {USERS: 0}
        assert store.place.generations() == [2]
        for one in (reader, new):
            one.close()

    def test_reader_that_comes_while_the_old_one_is_dropped_gets_the_new_one(
        self, store: HistoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        new_generation(store.place, 2, {}).close()
        store.place.switch(2)
        store.place.drop(1)
        looked = [1]  # before it was switched
        current = store.place.current
        monkeypatch.setattr(store.place, "current", lambda: looked.pop() if looked else current())
        assert store.positions() == {}

    def test_reader_may_finish_what_it_began(self, store: HistoryStore) -> None:
        write(store, [created(0)], {USERS: Span(0, 1)})
        new_generation(store.place, 2, {}).close()
        dropping = threading.Thread(target=store.place.drop, args=(1,))
        with store.reading() as db:
            store.place.switch(2)
            dropping.start()
            assert db.scalar(sa.select(sa.func.count()).select_from(EVENT)) == 1
            assert db.scalar(sa.select(sa.func.count()).select_from(RUN)) == 0
        dropping.join()


# ── any interleaving ─────────────────────────────────────────────────────────────────────────────────────────────────

PARTITIONS = [RUNS, Partition("run", 1), USERS, LETTERS, OTHERS]


@st.composite
def logs(draw: st.DrawFn) -> dict[Partition, list[Record]]:
    """A small log in which the same runs and letters are told of again and again."""
    log: dict[Partition, list[Record]] = {partition: [] for partition in PARTITIONS}
    for _ in range(draw(st.integers(0, 25))):
        partition, at_ms = draw(st.sampled_from(PARTITIONS)), draw(st.integers(0, 9)) * 30_000
        number = draw(st.integers(0, 2))
        made: Record
        if partition.topic == "run":
            name = draw(st.sampled_from(["run.succeeded", "run.failed", "run.retrying", "run.other"]))
            made = run_event(f"r{number}-{partition.partition}", name, partition=partition.partition, at_ms=at_ms)
        elif partition.topic == "user":
            made = event("user", 1, f"e{number}", at_ms=at_ms)
        else:
            name = draw(st.sampled_from(["created", "retried", "discarded"]))
            made = letter(f"l{number}", name, partition=partition.partition, at_ms=at_ms)
        log[partition].append(made)
    return log


def write_by_turns(store: HistoryStore, log: Mapping[Partition, Sequence[Record]], data: st.DataObject) -> None:
    """All of it, in batches of any size, from any partitions."""
    at_offset = dict.fromkeys(log, 0)
    while left := [p for p in log if at_offset[p] < len(log[p])]:
        records, spans = [], {}
        for partition in data.draw(st.lists(st.sampled_from(left), min_size=1, max_size=3, unique=True)):
            first = at_offset[partition]
            end = data.draw(st.integers(first + 1, len(log[partition])))
            records += [at(offset, log[partition][offset]) for offset in range(first, end)]
            spans[partition], at_offset[partition] = Span(first, end), end
        write(store, records, spans)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=logs(), data=st.data())
def test_any_interleaving_gives_the_same_digest(
    store: HistoryStore, log: dict[Partition, list[Record]], data: st.DataObject
) -> None:
    digests = []
    for order in (PARTITIONS, data.draw(st.permutations(PARTITIONS))):
        number = max(store.place.generations()) + 1
        with closing(new_generation(store.place, number, {})) as made:  # hypothesis may end it at any draw
            for partition in order:
                made.begin({partition: 0})
            write_by_turns(made, log, data)
            with made.reading() as db:
                digests.append(digest(db, Excluded({}), subtract=False))
        store.place.drop(number)
    assert digests[0] == digests[1]
    assert digests[0] or not log[USERS]
