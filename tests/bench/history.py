"""What is measured of the history: how fast it writes, how soon a run's row is there, how long a rebuild takes.

python tests/bench/history.py flat [RUNS]       µs a record at the start and after RUNS runs, without a broker
python tests/bench/history.py profile [RUNS]    the same under cProfile: where its time goes
"""

from __future__ import annotations

import asyncio
import cProfile
import logging
import pstats
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from playhead.errors import PlayheadError
from playhead.history.consumer import History
from playhead.history.filling import fill, in_the_log
from playhead.history.projection import Rows, project
from playhead.history.rebuild import rebuild
from playhead.history.schema import RUN
from playhead.history.store import HistoryStore, Span
from playhead.history.verify import verify
from playhead.ids import new_event_id, run_id
from playhead.records import Partition, Record, StoredRecord
from playhead.serde import rfc3339, to_json
from tests.bench.measures import Bench, percentile
from tests.waiting import wait_until

Row = tuple[str, str, str, str]
PARTITIONS = 4
APPEND_RECORDS = 5_000
BATCH = 10_000


def event_and_run(n: int, prefix: str = "") -> tuple[Record, Record]:
    """An event, and what became of its run, as services and workers write them."""
    event_id, now_ms, partition = new_event_id(), time.time_ns() // 1_000_000, n % PARTITIONS
    payload = {"email": f"user{n}@example.com", "userId": str(n), "name": "Ada Lovelace"}
    run = run_id("noop", event_id, partition)
    told = {
        "runId": run,
        "jobId": "noop",
        "jobVersion": "1",
        "eventId": event_id,
        "eventName": "thing.made",
        "task": partition,
        "attempt": 1,
        "lease": 1,
        "startedAt": rfc3339(now_ms),
        "durationMs": 0.125 + n % 100,
        "logs": [],
        "output": None,
        "sent": [],
    }
    return (
        Record(
            f"{prefix}thing",
            partition,
            str(n).encode(),
            to_json(payload),
            _headers("thing.made", event_id, "shop"),
            now_ms,
        ),
        Record(
            f"{prefix}run",
            partition,
            run.encode(),
            to_json(told),
            _headers("run.succeeded", event_id, event_id),
            now_ms,
        ),
    )


def _headers(name: str, id_: str, source: str) -> list[tuple[str, bytes]]:
    made = {"ce_type": name, "ce_id": id_, "ce_specversion": "1.0", "ce_source": source}
    made |= {"ce_time": rfc3339(1_790_000_000_000), "content-type": "application/json", "ce_playheadminted": "1"}
    return [(header, text.encode()) for header, text in made.items()]


async def append(b: Bench, runs: int) -> None:
    for first in range(0, runs, APPEND_RECORDS):
        numbers = range(first, min(runs, first + APPEND_RECORDS))
        records = [record for n in numbers for record in event_and_run(n, b.settings.topic_prefix)]
        for result in await b.broker.append(records):
            if isinstance(result, PlayheadError):
                raise result


async def ingest(b: Bench, runs: int) -> list[Row]:
    """Records/s from the log into SQLite, half events, half ends of runs; then a rebuild, and whether it is equal."""
    await append(b, runs)
    with tempfile.TemporaryDirectory() as folder:
        store = HistoryStore(f"sqlite:///{folder}/history.db")
        history = History(b.broker, store, settings=b.settings)
        running = asyncio.create_task(history.run())
        await wait_until(lambda: history.ready, seconds=60)
        started, before = time.perf_counter(), history.written
        await wait_until(lambda: history.written >= 2 * runs, seconds=1_200)
        rate = (2 * runs - before) / (time.perf_counter() - started)
        history.stop()
        await running
        started = time.perf_counter()
        await rebuild(b.broker, store.place, b.settings.topic_prefix)
        took = time.perf_counter() - started
        started = time.perf_counter()
        verdict = await verify(b.broker, store, b.settings.topic_prefix)
        verified = time.perf_counter() - started
        store.close()
    if not verdict.equal:
        raise AssertionError(f"not equal: {verdict.differences[:3]}")
    return [
        (f"history: ingest of {2 * runs:,} records into SQLite, records/s", f"{rate:,.0f}", "", ""),
        (f"history: rebuild of {2 * runs:,} records, half of them ends of runs", f"{took:.1f} s", "", ""),
        (f"history: verify of them, {verdict.rows:,} rows: equal", f"{verified:.1f} s", "", ""),
    ]


async def rebuild_of_runs(b: Bench, runs: int) -> list[Row]:
    """The ends of runs alone, read into a new database; twice, with equal digests."""
    for first in range(0, runs, APPEND_RECORDS):
        numbers = range(first, min(runs, first + APPEND_RECORDS))
        for result in await b.broker.append([event_and_run(n, b.settings.topic_prefix)[1] for n in numbers]):
            if isinstance(result, PlayheadError):
                raise result
    prefix = b.settings.topic_prefix
    with tempfile.TemporaryDirectory() as folder:
        store = HistoryStore(f"sqlite:///{folder}/history.db")
        spans = {p: Span(*bounds) for p, bounds in (await in_the_log(b.broker, prefix)).items()}
        await fill(b.broker, store, prefix, spans)
        started = time.perf_counter()
        await rebuild(b.broker, store.place, prefix)
        took = time.perf_counter() - started
        verdict = await verify(b.broker, store, prefix)
        store.close()
    if not verdict.equal:
        raise AssertionError(f"not equal: {verdict.differences[:3]}")
    return [(f"history: rebuild of {runs:,} run events, equal digest", f"{took:.1f} s", "aim: 1,000,000 in 30 s", "")]


async def delay(b: Bench, seconds: float, rate: int) -> list[Row]:
    """From a run's end, by the timestamp of its record, to its row in another connection's eyes."""
    with tempfile.TemporaryDirectory() as folder:
        store = HistoryStore(f"sqlite:///{folder}/history.db")
        history = History(b.broker, store, settings=b.settings)
        running = asyncio.create_task(history.run())
        await wait_until(lambda: history.ready, seconds=60)
        took: list[float] = []
        for n in range(int(seconds * rate)):
            _, ended = event_and_run(n, b.settings.topic_prefix)
            began = time.perf_counter()
            (result,) = await b.broker.append([ended])
            if isinstance(result, Exception):
                raise result
            while not _is_there(store, (ended.key or b"").decode()):  # noqa: ASYNC110 -- another thread writes it
                await asyncio.sleep(0.0005)
            took.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(max(0.0, 1 / rate - (time.perf_counter() - began)))
        history.stop()
        await running
        store.close()
    told = f"{percentile(took, 0.5):.1f} / {percentile(took, 0.99):.1f} ms"
    return [("history: from a run's end being written to its row being read, p50 / p99", told, "", "")]


def _is_there(store: HistoryStore, run: str) -> bool:
    with store.reading() as db:
        return db.execute(RUN.select().where(RUN.c.id == run)).first() is not None


class _Read(NamedTuple):
    """A record as it is read back."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def flat(runs: int, *, url: str = "", samples: int = 10) -> list[tuple[int, float]]:
    """(runs so far, µs a record) of projecting and writing, without a broker, while a database grows to this size."""
    with tempfile.TemporaryDirectory() as folder:
        store = HistoryStore(url or f"sqlite:///{folder}/history.db")
        partitions = {Partition(topic, n): 0 for topic in ("thing", "run") for n in range(PARTITIONS)}
        store.begin(partitions)
        store.parts()
        found, since, busy = [], 0, 0.0
        for first in range(0, runs, BATCH):
            records = [record for n in range(first, min(runs, first + BATCH)) for record in event_and_run(n)]
            by_partition = _read_back(records, partitions)
            started = time.perf_counter()
            rows, spans = Rows(), {}
            for partition, some in by_partition.items():
                project(some, partition.topic, store.base(partition), rows)
                spans[partition] = Span(partitions[partition], partitions[partition] + len(some))
            store.write(rows, spans)
            busy += time.perf_counter() - started
            since += len(records)
            partitions |= {partition: span.next for partition, span in spans.items()}
            if since >= 2 * runs / samples or first + BATCH >= runs:
                found.append((first + BATCH, busy / since * 1e6))
                since, busy = 0, 0.0
        store.close()
    return found


def _read_back(records: Iterable[Record], ends: dict[Partition, int]) -> dict[Partition, list[StoredRecord]]:
    found: dict[Partition, list[StoredRecord]] = {}
    for record in records:
        partition = Partition(record.topic, record.partition)
        some = found.setdefault(partition, [])
        offset = ends[partition] + len(some)
        some.append(_Read(*partition, offset, record.timestamp_ms, record.key, record.value, tuple(record.headers)))
    return found


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    what, runs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
    if what == "flat":
        for so_far, micros in flat(runs):
            print(f"{so_far:>12,} runs: {micros:.1f} µs a record", flush=True)
    elif what == "profile":
        with cProfile.Profile() as profile:
            flat(runs)
        pstats.Stats(profile).sort_stats("tottime").print_stats(20)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
