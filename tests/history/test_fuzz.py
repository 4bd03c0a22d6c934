"""Any bytes in any record: nothing stops history, and both kinds of database hold the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from playhead.errors import PlayheadError
from playhead.history import wire
from playhead.history.chain import chain_of
from playhead.history.digest import Excluded, digest
from playhead.history.projection import Rows, project
from playhead.history.reading import Snapshot
from playhead.history.statistics import Span as Stretch
from playhead.history.store import HistoryStore, Span, new_generation
from playhead.http.answers import JsonAnswer
from playhead.records import Partition
from tests.history.logs import Stored

TOPICS = ("user", "run", "dead-letter")
PARTITIONS = [Partition(topic, number) for topic in TOPICS for number in (0, 1)]
NAMES = [
    *("ce_type", "ce_id", "ce_source", "ce_causationid", "ce_correlationid", "ce_runid", "ce_specversion"),
    *("content-type", "ce_replayid", "ce_replayof", "ce_forjob", "", "\0", "x" * 300, "ü"),
]
WORDS = ["run.succeeded", "run.failed", "run.retrying", "dead-letter.created", "dead-letter.retried", "user.made"]
SOME = ["", "a", "b", "é", "\0", "#1", "a\0b", "\ud7ff\U0010ffff", "z" * 255, "%", "x" * 3_000]
TEXTS = st.sampled_from(SOME) | st.text(max_size=20)
BYTES = st.none() | st.binary(max_size=20) | st.sampled_from([w.encode() for w in (*WORDS, *SOME)])
TIMES = st.sampled_from([-(2**63), -(2**62), -1, 0, 1, 59_999, 60_000, 2**53, 2**62, 2**63 - 1]) | st.integers(0, 10**7)
MOMENTS = st.sampled_from(
    ["1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2020-01-01T00:00:00+23:59", "now", ""]
)
SCALARS: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
ANYTHING = st.recursive(
    SCALARS | TEXTS | MOMENTS,
    lambda some: st.lists(some, max_size=3) | st.dictionaries(TEXTS, some, max_size=3),
    max_leaves=6,
)
FIELDS = {
    **dict.fromkeys(("runId", "jobId", "eventId", "eventName", "jobVersion", "letterId", "reason"), TEXTS | ANYTHING),
    **dict.fromkeys(("attempt", "durationMs", "timestampMs", "partition", "offset"), SCALARS | ANYTHING),
    **dict.fromkeys(("startedAt", "dueAt"), MOMENTS | ANYTHING),
    **dict.fromkeys(("error", "headers", "logs", "sent", "output", "key", "value", "replayOf", "topic"), ANYTHING),
}
BODIES = st.fixed_dictionaries({}, optional=FIELDS).map(lambda told: orjson.dumps(told, default=str))
RECORDS = st.builds(
    Stored,
    topic=st.sampled_from(TOPICS),
    partition=st.integers(0, 1),
    offset=st.just(0),
    timestamp=TIMES,
    key=BYTES,
    value=BODIES | BYTES | st.sampled_from([b"[" * 2_000, b'{"runId": NaN}', b'{"runId": "\\ud800"}', b"-0.0"]),
    headers=st.lists(
        st.tuples(st.just("ce_type"), st.sampled_from([w.encode() for w in WORDS]))
        | st.tuples(st.sampled_from(NAMES), BYTES),
        max_size=6,
    ),
)


def write(store: HistoryStore, records: list[Stored]) -> None:
    store.begin(dict.fromkeys(PARTITIONS, 0))
    rows, ends = Rows(), dict.fromkeys(PARTITIONS, 0)
    for record in records:
        place = Partition(record.topic, record.partition)
        numbered = record._replace(offset=ends[place])
        ends[place] += 1
        project([numbered], record.topic, store.base(place), rows)
    store.write(rows, {place: Span(0, end) for place, end in ends.items()})


def ask_everything(now: Snapshot) -> None:
    """Every question, of every row; the answers have to be JSON."""
    pages: list[Callable[[str | None], Any]] = [
        lambda cursor: now.events(limit=2, cursor=cursor),
        lambda cursor: now.runs(limit=2, cursor=cursor),
        lambda cursor: now.letters(limit=2, cursor=cursor),
    ]
    found: list[list[Any]] = []
    for page_of in pages:
        items: list[Any] = []
        cursor = None
        while True:
            page = page_of(cursor)
            items += page.items
            cursor = page.next
            if cursor is None:
                break
        found.append(items)
    events, runs, letters = found
    assert len({event.place for event in events}) == len(events)
    shown: list[Any] = [wire.event_shown(now, event) for event in events]
    shown += [wire.chain_shown(chain_of(now, event.id)) for event in events]
    shown += [wire.run_shown(now, run, at) for run in runs for at in (None, 0, run.told_ms)]
    shown += [wire.letter_shown(letter) for letter in letters]
    shown += [wire.counts_shown(now, at) for at in (-(2**62), 0, 10**6, 2**62)]
    with suppress(PlayheadError):
        shown.append(wire.stats_shown(now, Stretch.of(0, 10**4, 60)))
    for event in events:
        assert event.id == "" or "." not in event.name or now.events(key=event.key or "", name=event.name).items
    for one in shown:
        JsonAnswer(one)


def test_any_records_are_the_same_in_both(postgres_url: str, tmp_path: Path) -> None:
    stores = [HistoryStore(postgres_url), HistoryStore(f"sqlite:///{tmp_path}/history.db")]

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(records=st.lists(RECORDS, max_size=8))
    def run(records: list[Stored]) -> None:
        digests = []
        for store in stores:
            with closing(new_generation(store.place, 2, {})) as made:
                try:
                    write(made, records)
                    with made.reading() as db:
                        digests.append(digest(db, Excluded({}), subtract=False))
                        ask_everything(Snapshot(db))
                finally:
                    made.place.drop(2)
        assert digests[0] == digests[1]

    run()
    for store in stores:
        store.close()
