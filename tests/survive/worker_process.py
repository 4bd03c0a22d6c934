"""A worker for the survival tests, in a process of its own so that it can be killed.

`python worker_process.py '<json>'` runs the jobs below until SIGTERM. On stdout it tells, a JSON object a line, when it
is ready and which attempts start; its log goes to stderr. The options are those of `Options`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import sys
import time

import uvloop

from playhead import IO, Client, Settings, event_trigger
from playhead.broker.kafka import GroupTimings, KafkaBroker
from playhead.broker.kafka.transaction import Transaction
from playhead.cli.logs import configure_logging
from playhead.engine import Worker


@dataclasses.dataclass(frozen=True)
class Options:
    bootstrap: str
    prefix: str
    jobs: tuple[str, ...] = ("count", "chain", "chained")
    work_seconds: float = 0.002
    die_before_end_of_commit: int = 0
    """Kill the process with its n-th commit written but not ended, so that a transaction stays open."""


def tell(**said: object) -> None:
    print(json.dumps(said), flush=True)  # noqa: T201 -- its only way to tell the test


def jobs_of(options: Options) -> Client:
    client = Client("survive")

    @client.job(id="count", name="Count", version="1", trigger=event_trigger("thing.made"), start="earliest")
    async def count(payload: dict[str, object], io: IO) -> None:
        tell(started=io.run.event.id, pid=os.getpid())
        await asyncio.sleep(options.work_seconds)  # the work itself is under test

    @client.job(id="chain", name="Chain", version="1", trigger=event_trigger("thing.made"), start="earliest")
    async def chain(payload: dict[str, object], io: IO) -> None:
        await io.send_event("link.made", {"of": io.run.event.id})

    @client.job(id="chained", name="Chained", version="1", trigger=event_trigger("link.made"), start="earliest")
    async def chained(payload: dict[str, object], io: IO) -> None:
        await asyncio.sleep(options.work_seconds)  # the work itself is under test

    @client.job(id="block", name="Block", version="1", trigger=event_trigger("thing.made"), start="earliest")
    async def block(payload: dict[str, object], io: IO) -> None:
        tell(blocking=io.run.event.id)
        time.sleep(float(str(payload["seconds"])))  # noqa: ASYNC251 -- the blocking itself is under test

    @client.job(id="kill", name="Kill", version="1", trigger=event_trigger("thing.made"), start="earliest")
    async def kill(payload: dict[str, object], io: IO) -> None:
        if payload.get("kills"):
            os.kill(os.getpid(), signal.SIGKILL)

    return client


def die_at(commit: int) -> None:
    """Make the n-th commit with records end in a SIGKILL between TxnOffsetCommit and EndTxn."""
    end, seen = Transaction._end, 0

    async def dying_end(self: Transaction) -> object:
        nonlocal seen
        seen += bool(self._commit.records) and not self._commit.founding
        if seen == commit:
            tell(died_at=time.time())
            os.kill(os.getpid(), signal.SIGKILL)
        return await end(self)

    Transaction._end = dying_end  # type: ignore[method-assign]


async def main(options: Options) -> None:
    configure_logging()
    settings = Settings(bootstrap_servers=options.bootstrap, topic_prefix=options.prefix)
    if options.die_before_end_of_commit:
        die_at(options.die_before_end_of_commit)
    broker = KafkaBroker(settings, group_timings=GroupTimings(session_ms=6_000, heartbeat_ms=1_000))
    await broker.start()
    client = jobs_of(options)
    worker = Worker([client.jobs[name] for name in options.jobs], broker, settings=settings, grace_seconds=5.0)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    running = asyncio.create_task(worker.run())
    ready = False
    while not running.done():
        if worker.ready != ready:
            ready = worker.ready
            tell(ready=ready, tasks={job: status["tasks"] for job, status in worker.status().items()})
        await asyncio.wait({running}, timeout=0.02)
    await broker.stop()
    running.result()


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    uvloop.run(main(Options(**{**told, "jobs": tuple(told.get("jobs", Options.jobs))})))
