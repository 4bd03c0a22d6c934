"""A worker: the process that hosts jobs. It runs them until it is told to stop, or until a person has to act."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import structlog

from playhead.broker.contract import Broker
from playhead.clock import SYSTEM_CLOCK, Clock
from playhead.config import Settings
from playhead.engine.consumer import JobConsumer
from playhead.engine.live import LiveRun
from playhead.engine.suspects import Suspects
from playhead.engine.watchdog import Watchdog
from playhead.errors import NoJobs
from playhead.group.member import Phase
from playhead.job import Job

MAX_JOBS = 50
"""Each job has a membership with two connections of its own; more jobs than this go into several processes."""


class Worker:
    """Hosts jobs on a broker that is started.

    Args:
        jobs: at least one.
        grace_seconds: how long runs may go on after `stop`; what still runs then starts again elsewhere.
        seed: of the retries' jitter.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        broker: Broker,
        *,
        settings: Settings | None = None,
        clock: Clock = SYSTEM_CLOCK,
        grace_seconds: float = 30.0,
        seed: int | None = None,
    ) -> None:
        if not jobs:
            raise NoJobs("a worker needs at least one job.")
        if len(jobs) > MAX_JOBS:
            raise NoJobs(
                f"{len(jobs)} jobs are too many for one worker; it takes {MAX_JOBS}. Start several, with --job."
            )
        self._jobs = list(jobs)
        self._broker = broker
        self._settings = settings if settings is not None else Settings.from_env()
        self._clock = clock
        self._grace_seconds = grace_seconds
        self._rng = random.Random(seed)
        self._stopping = asyncio.Event()
        self._logger = structlog.get_logger("playhead.worker")
        self.consumers: list[JobConsumer] = []

    @property
    def ready(self) -> bool:
        """Whether every job has all of its tasks running."""
        return len(self.consumers) == len(self._jobs) and all(c.phase is Phase.RUNNING for c in self.consumers)

    def status(self) -> dict[str, Any]:
        """For each job its phase and its tasks."""
        return {
            c.job.id: {"phase": c.phase.name.lower(), "tasks": sorted(c.tasks), "running": c.running}
            for c in self.consumers
        }

    def _live_runs(self) -> Iterable[LiveRun]:
        return (run for c in self.consumers for task in list(c.tasks.values()) for run in list(task.live_runs))

    def stop(self) -> None:
        """Finish what runs, commit, leave the groups. `run` returns afterwards."""
        self._stopping.set()

    async def run(self) -> None:
        """Run all jobs until `stop`.

        Raises:
            Fatal, UnknownTopic, NotAuthorized: of the first job that can't go on; the others are stopped gracefully.
        """
        suspects = Suspects()
        self.consumers = [
            JobConsumer(job, self._broker, self._settings, self._clock, self._logger, self._rng, suspects)
            for job in self._jobs
        ]
        hosted = [
            asyncio.create_task(c.run(self._stopping, self._grace_seconds), name=f"job:{c.job.id}")
            for c in self.consumers
        ]
        self._broker.on_blocked = Watchdog(threading.get_ident(), self._live_runs, self._logger).blocked
        try:
            await asyncio.wait(hosted, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._broker.on_blocked = None
            self._stopping.set()
            results = await asyncio.gather(*hosted, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
