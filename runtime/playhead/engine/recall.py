"""Reads back which chosen and foreign ids came before a takeover: only once such an id turns up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from playhead.broker.contract import Broker
from playhead.clock import Clock
from playhead.engine.task import Progress, Task
from playhead.errors import BrokerUnavailable
from playhead.events import Event
from playhead.io import Logger
from playhead.job import Job
from playhead.records import Partition, StoredRecord
from playhead.serde import CE_TYPE

_RETRY_SECONDS = 0.5


class Recall:
    """The readings of one job. A partition whose next id can't be judged yet waits for its own.

    Args:
        done: called when a partition may go on.
        give_up: called with an error after which the worker can't go on.
    """

    def __init__(
        self,
        job: Job,
        broker: Broker,
        clock: Clock,
        logger: Logger,
        done: Callable[[], None],
        give_up: Callable[[BaseException], None],
    ) -> None:
        self._job = job
        self._name = job.trigger.name.encode()
        self._broker = broker
        self._clock = clock
        self._logger = logger
        self._done = done
        self._give_up = give_up
        self._going: dict[Progress, asyncio.Task[None]] = {}

    def start(self, task: Task, progress: Progress) -> None:
        """Read for this partition, unless that is going on already."""
        if progress not in self._going:
            partition = next(p for p, known in task.progress.items() if known is progress)
            work = asyncio.create_task(self._recall(task, partition, progress), name=f"recall:{self._job.id}")
            self._going[progress] = work
            work.add_done_callback(lambda _: self._going.pop(progress, None))

    async def stop(self) -> None:
        """End what is going on."""
        going = list(self._going.values())
        for work in going:
            work.cancel()
        await asyncio.gather(*going, return_exceptions=True)

    async def _recall(self, task: Task, partition: Partition, progress: Progress) -> None:
        while task.alive:
            try:
                await self._read(partition, progress)
            except BrokerUnavailable as error:
                self._logger.warning("recent ids can't be read; trying again", error=str(error))
                await self._clock.sleep(_RETRY_SECONDS)
            except Exception as error:  # noqa: BLE001 -- nobody awaits this task: the error is the worker's
                self._give_up(error)
                return
            else:
                self._done()
                return

    async def _read(self, partition: Partition, progress: Progress) -> None:
        # The window lies before the event that waits, whenever that is worked on: so a second owner sees what the
        # first one saw. Of those behind it the earliest counts, so that one far in the future costs no second reading.
        recent = progress.recent
        since_ms = recent.begin_reading(min(record.timestamp for record in progress.buffer))

        async def remember(records: Sequence[StoredRecord]) -> None:
            for record in records:
                event = Event(record, dict(record.headers))
                if event.headers.get(CE_TYPE) != self._name or not event.may_repeat:
                    continue
                if event.replay is None or event.replay.job_id == self._job.id:
                    recent.add(event.unique_id, record.timestamp)

        start = (await self._broker.offsets_at([partition], max(since_ms, 0)))[partition]
        first, _ = (await self._broker.bounds([partition]))[partition]
        await self._broker.read(partition, max(start, first), progress.position, remember)
        recent.read_back(since_ms)
