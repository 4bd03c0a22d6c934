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
from playhead.engine.killers import Killers
from playhead.engine.live import LiveRun
from playhead.engine.watchdog import Watchdog
from playhead.errors import NoJobs, PlayheadError
from playhead.group.member import Phase
from playhead.job import Job
from playhead.timer import schedule_record
from playhead.topics import DELAY

MAX_JOBS = 50
"""Each job has a membership with two connections of its own; more jobs than this go into several processes."""


_DECLARE_SECONDS = 0.05
_DECLARE_AGAIN_SECONDS = 5.0


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

    async def _declare_schedules(self) -> None:
        """Tell the scheduler when jobs are due that run by the clock: once their groups are there to see it."""
        told = {job.id: job.schedule.to_wire() for job in self._jobs if job.schedule is not None}
        topic = self._settings.topic_prefix + DELAY
        while told:
            await self._clock.sleep(_DECLARE_SECONDS)
            if not self.ready:
                continue
            try:
                info = await self._broker.topic(topic)
                now_ms = int(self._clock.time() * 1000)
                records = [schedule_record(id_, wire, topic, info.partitions, now_ms) for id_, wire in told.items()]
                for job_id, result in zip(list(told), await self._broker.append(records), strict=True):
                    if isinstance(result, Exception):
                        raise result
                    del told[job_id]
            except PlayheadError as error:
                self._logger.warning("schedules can't be declared; trying again", jobs=sorted(told), error=str(error))
                await self._clock.sleep(_DECLARE_AGAIN_SECONDS)

    def metrics(self) -> str:
        """In Prometheus' text format."""
        name = "playhead_runs_running"
        lines = [f"# HELP {name} Functions that run now.", f"# TYPE {name} gauge"]
        return "\n".join([*lines, *(f'{name}{{job="{c.job.id}"}} {c.running}' for c in self.consumers), ""])

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
        killers = Killers()
        self.consumers = [
            JobConsumer(job, self._broker, self._settings, self._clock, self._logger, self._rng, killers)
            for job in self._jobs
        ]
        hosted = [
            asyncio.create_task(c.run(self._stopping, self._grace_seconds), name=f"job:{c.job.id}")
            for c in self.consumers
        ]
        declaring = asyncio.create_task(self._declare_schedules(), name="schedules")
        self._broker.on_blocked = Watchdog(threading.get_ident(), self._live_runs, self._logger).blocked
        try:
            await asyncio.wait(hosted, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._broker.on_blocked = None
            declaring.cancel()
            self._stopping.set()
            results = await asyncio.gather(*hosted, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
