"""The figures of README.md: `make bench`. Prints a table in Markdown; ratios are taken within this run.

    python tests/bench/run.py [--quick] [PART ...]

Without parts it measures all, which takes half an hour: most of it goes into five million runs in a database
(`history`, `pages`) and five million timers in topic `delay` (`pending`). Starts a Kafka of its own; leave the machine
alone meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import structlog
import uvloop

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from playhead.dev.install import default_home, install  # noqa: E402
from playhead.dev.java import find_java  # noqa: E402
from playhead.dev.local_broker import LocalKafka  # noqa: E402
from playhead.events import outgoing  # noqa: E402
from tests.bench import history as histories  # noqa: E402
from tests.bench import measures, raw  # noqa: E402 -- `tests` is found through the line above
from tests.bench import pages as dashboard_pages  # noqa: E402
from tests.bench import pending as pending_timers  # noqa: E402
from tests.bench.catalog import ThingMade  # noqa: E402
from tests.bench.lateness import kill, lateness  # noqa: E402
from tests.survive import fleet  # noqa: E402
from tests.survive.worker_process import Options  # noqa: E402

QUICK = "--quick" in sys.argv
Row = tuple[str, str, str, str]


def rss_mib() -> float:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def throughput(bootstrap: str) -> list[Row]:
    events, ours, theirs, sent = (20_000 if QUICK else 100_000), [], [], 0.0
    for _ in range(3):  # by turns, since the machine is never quite the same
        async with measures.bench(bootstrap, "rate") as b:
            sent = await measures.fill(b.client, events)
            theirs.append(await raw.transactional_loop(bootstrap, b.settings.topic_prefix, events))
            ours.append(await measures.no_op_runs(b, events))
    mine, other = sorted(ours)[1], sorted(theirs)[1]
    what = "no-op typed job, runs/s, one process, four partitions"
    return [
        (what, f"{mine:,.0f}", f"{other:,.0f}: AIOKafkaProducer transactional loop", f"{mine / other:.2f}"),
        ("sending in batches, events/s", f"{sent:,.0f}", "", ""),
    ]


async def memory(bootstrap: str) -> list[Row]:
    small, large = (20_000, 100_000) if QUICK else (100_000, 1_000_000)
    async with measures.bench(bootstrap, "memory") as b:
        await measures.fill(b.client, small)
        await measures.no_op_runs(b, small)
        first = rss_mib()
        await measures.fill(b.client, large - small)
        await measures.no_op_runs(b, large)
        return [
            (f"memory of the process after {small:,} and {large:,} runs", f"{first:.0f}, {rss_mib():.0f} MiB", "", "")
        ]


async def latencies(bootstrap: str) -> list[Row]:
    seconds = 3.0 if QUICK else 15.0
    percentile, rows = measures.percentile, []
    async with measures.bench(bootstrap, "start") as b:
        ours = await measures.start_latency(b, seconds, 200)
        theirs: list[float] = []

        def seen(value: bytes) -> None:
            theirs.append((time.perf_counter() - orjson.loads(value)["sentAt"]) * 1000)

        stop = asyncio.Event()
        reading = asyncio.create_task(raw.read_starts(bootstrap, f"{b.settings.topic_prefix}thing", seen, stop))
        await asyncio.sleep(1)
        await measures.send_at_rate(b.client, seconds, 200)
        stop.set()
        await reading
        theirs = theirs[200 * measures.WARM_UP_SECONDS :]
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        mine, other = percentile(ours, share), percentile(theirs, share)
        what = f"event sent to job start at 200/s, {name}"
        rows.append((what, f"{mine:.2f} ms", f"{other:.2f} ms: bare aiokafka consumer", f"{mine / other:.2f}"))
    async with measures.bench(bootstrap, "hop") as b:
        rounds = 200 if QUICK else 1000
        mine = percentile(await measures.chain_hops(b, rounds // measures.CHAIN_HOPS), 0.5)
        other = percentile(await raw.lone_transactions(bootstrap, b.settings.topic_prefix, rounds), 0.5)
        told = f"{other:.2f} ms: lone AIOKafkaProducer transaction, to a reader"
        rows.append(("hop in a chain, p50", f"{mine:.2f} ms", told, f"{mine / other:.2f}"))
    async with measures.bench(bootstrap, "wait") as b:
        waits = await measures.waits_for_commit(b, seconds, 800)
        told = f"{percentile(waits, 0.5):.1f} / {percentile(waits, 0.99):.1f} ms"
        rows.append(("finished run waiting for its commit, 200/s a partition of 80 ms jobs, p50 / p99", told, "", ""))
    return rows


async def timers(bootstrap: str) -> list[Row]:
    """A thousand a second, and a burst that is due in one millisecond."""
    seconds, burst = (3, 5_000) if QUICK else (10, 50_000)
    rows, percentile = [], measures.percentile
    cases: list[tuple[str, Callable[[float], Sequence[float]]]] = [
        ("1,000 timers/s: late at a reader", lambda now: [now + 4_000 + n for n in range(seconds * 1_000)]),
        (f"{burst:,} timers due at once: late at a reader", lambda now: [now + 8_000] * burst),
    ]
    for what, dues_ms in cases:
        async with measures.bench(bootstrap, "timers") as b:
            with tempfile.TemporaryDirectory() as folder:
                took, rate = await lateness(b, Path(folder), dues_ms)
        told = f"{percentile(took, 0.5):.1f} / {percentile(took, 0.99):.1f} / {max(took):.1f} ms"
        rows.append((f"{what}, p50 / p99 / max", told, "", ""))
    rows.append(("setting timers, events/s", f"{rate:,.0f}", "", ""))
    async with measures.bench(bootstrap, "takeover") as b:
        with tempfile.TemporaryDirectory() as folder:
            late_seconds, off = await kill(b, Path(folder), 12 if QUICK else 30, 1_000)
    what = "one of two schedulers killed -9 at 1,000 timers/s: the latest event, events too many or too few"
    rows.append((what, f"{late_seconds:.1f} s, {off}", "", ""))
    return rows


async def pending(bootstrap: str) -> list[Row]:
    """Timers that wait for long."""
    return await pending_timers.pending(bootstrap, 200_000 if QUICK else 5_000_000)


async def history(bootstrap: str) -> list[Row]:
    """Into SQLite and out of the log again."""
    records, runs, seconds = (20_000, 50_000, 2.0) if QUICK else (500_000, 1_000_000, 10.0)
    rows: list[Row] = []
    async with measures.bench(bootstrap, "ingest") as b:
        rows += await histories.ingest(b, records)
    async with measures.bench(bootstrap, "rebuild") as b:
        rows += await histories.rebuild_of_runs(b, runs)
    async with measures.bench(bootstrap, "delay") as b:
        rows += await histories.delay(b, seconds, 50)
    first, *_, last = histories.flat(50_000 if QUICK else 5_000_000)
    what = f"history: projecting and writing, µs a record, at {first[0]:,} and {last[0]:,} runs"
    return [*rows, (what, f"{first[1]:.1f}, {last[1]:.1f}", "", "")]


async def pages(bootstrap: str) -> list[Row]:
    """The dashboard's pages, without the broker; filling takes five minutes."""
    runs = 20_000 if QUICK else 5_000_000
    times = await asyncio.to_thread(dashboard_pages.page_times, runs)
    name, p50, _ = max(times, key=lambda row: row[1])
    longest = max(row[2] for row in times)
    what = f"dashboard at {runs:,} runs: p50 of the slowest page ({name}), longest answer of any, ms"
    return [(what, f"{p50:.0f}, {longest:.0f}", "300", "")]


async def starts(bootstrap: str) -> list[Row]:
    """Importing the producer, in a process of its own; the median of seven."""
    took = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "from playhead import Client, send_event"], check=True)  # noqa: ASYNC221
        took.append(time.perf_counter() - started)
    bare = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import aiokafka"], check=True)  # noqa: ASYNC221 -- nothing else runs
        bare.append(time.perf_counter() - started)
    mine, other = sorted(took)[3] * 1000, sorted(bare)[3] * 1000
    return [
        (
            "python with the producer imported",
            f"{mine:.0f} ms",
            f"{other:.0f} ms: import aiokafka",
            f"{mine / other:.2f}",
        )
    ]


async def first_job(bootstrap: str) -> list[Row]:
    """From the start of a worker's process to the first run in it, an event waiting."""
    async with measures.bench(bootstrap, "first") as b:
        await fleet.make_topics(b.broker, b.settings.topic_prefix)
        await b.client.send_events([_thing(1)])
        options = Options(bootstrap, b.settings.topic_prefix, jobs=("count",))
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            worker = await fleet.WorkerProcess.start(options, Path(folder) / "log")
            while not any("started" in told for told in worker.said):  # noqa: ASYNC110 -- told by another process
                await asyncio.sleep(0.002)
            took = time.perf_counter() - started
            await worker.end(signal.SIGTERM)
    return [("start of a worker's process to its first run", f"{took * 1000:.0f} ms", "", "")]


def _thing(n: int) -> ThingMade:
    return ThingMade(email="a@example.com", user_id=str(n), name="Ada")


async def kills(bootstrap: str) -> list[Row]:
    """kill -9 at random while events come; then what a read_committed reader finds."""
    kill_count, per_kill = (3, 500) if QUICK else (20, 2_500)
    jobs, rng = ("count", "chain", "chained"), random.Random(7)
    async with measures.bench(bootstrap, "kill") as b:
        prefix = b.settings.topic_prefix
        options = Options(bootstrap, prefix, jobs=jobs, work_seconds=0.001)
        sent: list[str] = []
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            workers = [await fleet.WorkerProcess.start(options, log) for _ in range(2)]
            for _ in range(kill_count):
                events = [outgoing(_thing(n), key=str(n % 50)) for n in range(per_kill)]
                await b.client.send_all(events)
                sent += [event.id for event in events]
                await asyncio.sleep(rng.uniform(0.1, 2.0))
                await workers.pop(rng.randrange(2)).end()
                workers.append(await fleet.WorkerProcess.start(options, log))
            while not await fleet.finished(b.broker, prefix, jobs, sent):  # noqa: ASYNC110 -- other processes do it
                await asyncio.sleep(1)
            report = await fleet.check(b.broker, prefix, jobs, sent)
            for worker in workers:
                await worker.end()
    took = time.perf_counter() - started
    lost, doubled = len(report.lost) + len(report.links_lost), len(report.doubled) + len(report.links_doubled)
    return [
        (
            f"{kill_count} kills -9 under {len(sent):,} events and three jobs ({took:.0f} s): lost, doubled",
            f"{lost}, {doubled}",
            "",
            "",
        )
    ]


PARTS: dict[str, Callable[[str], Coroutine[Any, Any, list[Row]]]] = {
    part.__name__: part
    for part in (starts, throughput, latencies, timers, first_job, memory, history, kills, pages, pending)
}
# The flood early: it leaves the broker's JVM warm, as one in service is.


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 10, 100)  # as a worker's process has it
    with tempfile.TemporaryDirectory() as folder:
        kafka = LocalKafka(Path(folder), find_java(), install(default_home(CHECKOUT / ".playhead")), port=0)
        kafka.start()
        try:
            rows: list[Row] = []
            for name in [name for name in sys.argv[1:] if not name.startswith("--")] or PARTS:
                print(f"… {name}", file=sys.stderr, flush=True)
                measured = uvloop.run(PARTS[name](kafka.bootstrap_servers))
                for row in measured:
                    print("  ", *row, file=sys.stderr, flush=True)
                rows += measured
        finally:
            kafka.stop()
    cores, memory_gib = os.cpu_count(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    where = "broker and client on the same machine"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {cores} cores, {memory_gib:.0f} GiB, {where}\n")
    print("| what | Playhead | against | ratio |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
