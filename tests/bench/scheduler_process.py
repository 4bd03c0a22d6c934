"""A scheduler for the benchmark of pending timers, in a process of its own so that its memory is its own.

`python scheduler_process.py BOOTSTRAP PREFIX FOLDER` runs until SIGTERM. Every tenth of a second it tells on stdout,
a JSON object a line, how it is: whether it is ready, how many timers are pending, its memory, and for how long at most
its event loop stood still.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import sys
import time
from pathlib import Path

import structlog
import uvloop

from playhead import Settings
from playhead.broker.kafka import KafkaBroker
from playhead.scheduler import Scheduler

TICK_SECONDS = 0.005
TELL_SECONDS = 0.1


def memory_mib() -> dict[str, float]:
    """What the kernel says of this process's memory: its own, and that of files."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    names = {"anon_mib": "RssAnon", "file_mib": "RssFile", "peak_mib": "VmHWM"}
    return {name: int(fields[field].split()[0]) / 1024 for name, field in names.items()}


async def main(bootstrap: str, prefix: str, folder: str) -> None:
    settings = Settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    broker = KafkaBroker(settings)
    await broker.start()
    scheduler = Scheduler(broker, settings=settings, folder=Path(folder))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, scheduler.stop)
    telling = asyncio.create_task(tell(scheduler, time.monotonic()))
    try:
        await scheduler.run()
    finally:
        telling.cancel()
        await broker.stop()


async def tell(scheduler: Scheduler, started: float) -> None:
    """How it is, again and again."""
    longest, told, before = 0.0, started, time.monotonic()
    while True:
        await asyncio.sleep(TICK_SECONDS)
        now = time.monotonic()
        longest, before = max(longest, now - before - TICK_SECONDS), now
        if now - told >= TELL_SECONDS:
            told = now
            state = {"ready": scheduler.ready, "pending": scheduler.pending(), "seconds": now - started}
            print(json.dumps({**state, "blocked_ms": longest * 1000, **memory_mib()}), flush=True)


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 10, 100)  # as a scheduler's process has it
    uvloop.run(main(*sys.argv[1:]))
