"""The jobs that a simulation runs, and what is watched while their functions run."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from playhead.client import Client
from playhead.clock import Clock
from playhead.config import Settings
from playhead.io import IO
from playhead.job import Job, event_trigger
from playhead.retry import NonRetriableError, RetryPolicy
from tests.simulator.process import Process, process_of


class Watch:
    """Looks at every function from its start to its end.

    Args:
        calm: whether nothing goes wrong: then no run may go on in two processes at once either.
    """

    def __init__(self, *, calm: bool) -> None:
        self.problems: list[str] = []
        self.first_attempts: Counter[str] = Counter()
        self.cancelled: Counter[str] = Counter()
        self.ended_between: Counter[str] = Counter()
        self._calm = calm
        self._going: dict[int, tuple[Process, Job, Any]] = {}

    @contextmanager
    def over(self, job: Job, io: IO) -> Iterator[None]:
        """The function of `job` runs, in this context."""
        process, event = process_of(io), io.run.event
        what = f"{job.id} on {event.record.topic}/{event.record.partition}@{event.record.offset}"
        if process.dead:
            raise asyncio.CancelledError  # it was killed in this turn of the event loop
        self._check_start(process, job, event.record, what)
        self.first_attempts[what] += io.run.attempt == 1
        self._going[id(io)] = (process, job, event.record)
        try:
            yield
        except asyncio.CancelledError:
            self.cancelled[what] += 1
            raise
        else:
            self.ended_between[what] += process.is_between_generations(job.id)
        finally:
            del self._going[id(io)]

    def _check_start(self, process: Process, job: Job, record: Any, what: str) -> None:
        beside = [(p, r) for p, j, r in self._going.values() if j.id == job.id and (self._calm or p is process)]
        if any(r[:3] == record[:3] for _, r in beside):
            self.problems.append(f"{what} goes on already")
        if job.order == "key" and any((r.partition, r.key) == (record.partition, record.key) for _, r in beside):
            self.problems.append(f"{what}: another of its key goes on")
        if sum(p is process for p, _ in beside) >= job.concurrency:
            self.problems.append(f"{what}: {job.concurrency} of its job go on already")

    def repeated(self) -> Iterator[str]:
        """Where nothing goes wrong: what started again, and was neither cancelled nor ended too late to be told."""
        for what, starts in self.first_attempts.items():
            if not 1 <= starts - self.cancelled[what] <= 1 + self.ended_between[what]:
                yield f"{what} started {starts} times and was cancelled {self.cancelled[what]} times"


def define_jobs(rng: random.Random, clock: Clock, watch: Watch) -> Sequence[Job]:
    """Two jobs on `order.made`, one of which sends `step.taken`, and one on that."""
    client = Client("simulator", settings=Settings())

    async def work(payload: Any, io: IO) -> None:
        with watch.over(client.jobs[io.run.job_id], io):
            if io.run.job_id == "chain":
                await io.send_event("step.taken", {"of": payload["number"]}, key=str(payload["number"]))
            if payload["seconds"]:
                await clock.sleep(payload["seconds"])
            if payload["kills"]:
                asyncio.get_running_loop().call_soon(process_of(io).kill)
                await clock.sleep(1_000_000)
            if payload["hopeless"]:
                raise NonRetriableError("hopeless")
            if io.run.attempt <= payload["failures"]:
                raise ValueError("not yet")

    async def follow(payload: Any, io: IO) -> None:
        with watch.over(client.jobs["follow"], io):
            await clock.sleep(0.01)

    common: dict[str, Any] = {
        "version": "1",
        "start": "earliest",
        "retry": RetryPolicy(max_attempts=3, initial_seconds=rng.choice([0.0, 0.5]), jitter=rng.choice([0.0, 0.2])),
        "dedupe_window": rng.choice([5.0, 40.0, 3600.0]),
    }
    made = event_trigger("order.made")
    few, order = rng.choice([1, 4, 100]), rng.choice(["key", "key", "none"])
    client.define_job(id="chain", name="chain", trigger=made, run=work, concurrency=few, **common)
    client.define_job(id="plain", name="plain", trigger=made, run=work, order=order, **common)
    client.define_job(id="follow", name="follow", trigger=event_trigger("step.taken"), run=follow, **common)
    return list(client.jobs.values())
