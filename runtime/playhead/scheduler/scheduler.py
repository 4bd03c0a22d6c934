"""The scheduler's process: it fires timers until it is told to stop, or until a person has to act."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import structlog

from playhead.broker.contract import Broker, TopicInfo
from playhead.clock import SYSTEM_CLOCK, Clock
from playhead.config import Settings
from playhead.group.log_ends import LogEnds
from playhead.group.member import Phase
from playhead.metrics import Histogram, Samples
from playhead.scheduler.work import TimerWork
from playhead.timers.store import TimerStore, open_store


class Scheduler:
    """Fires the timers of the partitions that the group gives it. Several schedulers share them.

    Args:
        broker: started.
        folder: for the stores, this process's alone; None keeps them in memory.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        settings: Settings | None = None,
        clock: Clock = SYSTEM_CLOCK,
        folder: Path | None = None,
    ) -> None:
        settings = settings if settings is not None else Settings.from_env()
        self._folder = folder
        self._clock = clock
        self._stopping = asyncio.Event()
        self._ends = LogEnds(broker, clock)
        logger = structlog.get_logger("playhead.scheduler").bind(part="scheduler")
        self._work = TimerWork(broker, settings.topic_prefix, clock, logger, self._open_store)

    @property
    def ready(self) -> bool:
        """Whether all of its partitions are restored, and fire."""
        return self._work.member.phase is Phase.RUNNING

    @property
    def lateness(self) -> Histogram:
        """Of what this process has fired, seconds."""
        return self._work.lateness

    def status(self) -> dict[str, dict[str, Any]]:
        """Its phase and its partitions, as a worker tells those of its jobs."""
        return {"scheduler": {"phase": self._work.member.phase.name.lower(), "tasks": sorted(self._work.tasks)}}

    def pending(self) -> int:
        """How many timers are pending in its partitions."""
        return self._work.pending()

    async def look(self) -> None:
        """Ask the broker what `samples` tells of the lag, seldom.

        Raises:
            UnknownTopic, NotAuthorized, BrokerUnavailable.
        """
        await self._ends.look(p for task in self._work.tasks.values() for p in task.partitions)

    def samples(self) -> Samples:
        """What there is to tell of its timers."""
        return self._work.samples(self._ends)

    def stop(self) -> None:
        """Commit what is under way and leave the group. `run` returns afterwards."""
        self._stopping.set()

    async def run(self) -> None:
        """Fire until `stop`.

        Raises:
            Fatal, UnknownTopic, NotAuthorized: a person has to act.
        """
        await self._work.member.run(self._stopping, 0.0)

    def _open_store(self, topic: TopicInfo, number: int, anew: bool) -> TimerStore:
        return open_store(self._folder, topic, number, int(self._clock.time() * 1000), anew=anew)
