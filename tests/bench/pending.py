"""Many pending timers: what it takes to set them, to hold them, to start again with them, and to look at them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playhead import outgoing
from playhead.broker.contract import Broker
from playhead.errors import PlayheadError
from playhead.timers.listing import PendingTimers, Position
from playhead.topics import DELAY
from tests.bench.measures import Bench, bench
from tests.waiting import wait_until

PROGRAM = Path(__file__).with_name("scheduler_process.py")
BATCH = 5_000
YEAR_MS = 366 * 86_400_000
WAIT_SECONDS = 3_600.0
PAGES = 20
Row = tuple[str, str, str, str]


class WatchedScheduler:
    """A scheduler in a process of its own; `state` is what it told last."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.state: dict[str, Any] = {"ready": False, "pending": 0}
        self._process = process
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, b: Bench, folder: Path) -> WatchedScheduler:
        arguments = [b.settings.bootstrap_servers, b.settings.topic_prefix, str(folder)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        return cls(await asyncio.create_subprocess_exec(sys.executable, str(PROGRAM), *arguments, stdout=-1, env=env))

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.state = json.loads(line)

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """What it told when this held first.

        Raises:
            RuntimeError: it ended.
        """

        def reached() -> bool:
            if self._process.returncode is not None:
                raise RuntimeError(f"the scheduler ended with code {self._process.returncode}")
            return holds(self.state)

        await wait_until(reached, seconds=WAIT_SECONDS)
        return self.state

    async def end(self) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        await self._process.wait()
        await self._reading


async def pending(bootstrap: str, count: int) -> list[Row]:
    """Figures for so many pending timers, due at random moments of the next year."""
    async with bench(bootstrap, "pending") as b:
        with tempfile.TemporaryDirectory() as folder:
            stores = Path(folder) / "scheduler"
            rows = await _take_in(b, stores, count)
            rows += await _start_again(b, stores, count)
            return rows + await _look(b, Path(folder) / "lists", count)


async def _take_in(b: Bench, stores: Path, count: int) -> list[Row]:
    scheduler = await WatchedScheduler.start(b, stores)
    await scheduler.until(lambda told: bool(told["ready"]))
    started = time.perf_counter()
    await set_timers(b, count)
    set_seconds = time.perf_counter() - started
    told = await scheduler.until(lambda told: told["pending"] == count)
    taken_seconds = time.perf_counter() - started
    await scheduler.end()
    what = f"{count:,} pending timers"
    memory = f"{told['anon_mib']:.0f} + {told['file_mib']:.0f} MiB, {told['peak_mib']:.0f} MiB"
    return [
        (f"{what}: set, timers/s", f"{count / set_seconds:,.0f}", "", ""),
        (f"{what}: in the scheduler's store, timers/s", f"{count / taken_seconds:,.0f}", "", ""),
        (f"{what}: the scheduler's own memory and that of files, peak", memory, "", ""),
        (f"{what}: its event loop stood still, longest", f"{told['blocked_ms']:.0f} ms", "", ""),
        (f"{what}: its store on disk", f"{_size_mib(stores):,.0f} MiB", "", ""),
    ]


async def set_timers(b: Bench, count: int) -> None:
    """Set so many, due at random moments from tomorrow on, over a year."""
    rng, now_ms = random.Random(7), time.time() * 1000 + 86_400_000
    for first in range(0, count, BATCH):
        moments = (datetime.fromtimestamp((now_ms + rng.randrange(YEAR_MS)) / 1000, UTC) for _ in range(BATCH))
        payload = {"email": "ada@example.com", "userId": "1", "name": "Ada"}
        events = [outgoing("thing.made", payload, at=at) for _, at in zip(range(first, count), moments, strict=False)]
        for result in await b.client.send_all(events):
            if isinstance(result, PlayheadError):
                raise result


async def _start_again(b: Bench, stores: Path, count: int) -> list[Row]:
    rows = []
    for how in ("with its store", "without it, from the log"):
        if how != "with its store":
            shutil.rmtree(stores)
        scheduler = await WatchedScheduler.start(b, stores)
        told = await scheduler.until(lambda told: bool(told["ready"]))
        if told["pending"] != count:
            raise AssertionError(f"{count:,} timers were set, {told['pending']:,} are pending")
        await scheduler.end()
        took = f"{told['seconds']:.1f} s, {told['blocked_ms']:.0f} ms, {told['peak_mib']:.0f} MiB"
        rows.append((f"start {how}: until it fires, event loop stood still, peak of memory", took, "", ""))
    return rows


async def _look(b: Bench, folder: Path, count: int) -> list[Row]:
    async def broker() -> Broker:
        return b.broker

    looking = PendingTimers(broker, b.settings.topic_prefix + DELAY, folder=folder, wait_seconds=None)
    try:
        started = time.perf_counter()
        page = await looking.page()
        first_seconds = time.perf_counter() - started
        took = []
        for n in range(PAGES):
            since = Position(int(time.time() * 1000) + (n + 1) * YEAR_MS // (PAGES + 2), -1, -1)
            started = time.perf_counter()
            page = await looking.page(since)
            took.append((time.perf_counter() - started) * 1000)
            assert len(page.timers) == 100 or count < 10_000
        started = time.perf_counter()
        await looking.page(name="thing.lost")
        scan_ms = (time.perf_counter() - started) * 1000
    finally:
        await looking.close()
    return [
        ("first page of all, its cache made for it", f"{first_seconds:.1f} s", "", ""),
        ("page of 100 anywhere, p50 / max", f"{sorted(took)[PAGES // 2]:.1f} / {max(took):.1f} ms", "", ""),
        ("page that finds nothing of a name", f"{scan_ms:.0f} ms", "", ""),
    ]


def _size_mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 2**20
