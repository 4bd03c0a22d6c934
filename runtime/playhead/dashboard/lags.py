"""How far jobs are behind: asked of the broker, not of history."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from playhead.broker.contract import Broker, Partition
from playhead.client import Client
from playhead.clock import Clock
from playhead.errors import PlayheadError
from playhead.job import Job

FRESH_SECONDS = 2.0
"""For so long an answer is used again: a page that many look at asks no more often."""
PATIENCE_SECONDS = 1.0
"""A page waits no longer for the broker, and says that the lag is not known."""
COUNTED_OFFSETS_MAX = 200
"""A shorter rest is read and counted: a transaction's marker takes an offset too, and is no event."""


class PartitionLag(NamedTuple):
    """Of one partition that a job reads. `position` is None where the job has no checkpoint."""

    topic: str
    partition: int
    position: int | None
    end: int
    lag: int | None


@dataclass(frozen=True, slots=True)
class Known:
    """The lags as of the last answer."""

    by_job: Mapping[str, Sequence[PartitionLag]] = field(default_factory=dict)
    why_not: str = ""

    def of(self, job_id: str) -> int | None:
        """A job's, over its partitions; None where nothing is known."""
        known = [row.lag for row in self.by_job.get(job_id, ()) if row.lag is not None]
        return sum(known) if known else None

    @property
    def total(self) -> int | None:
        lags = [lag for job_id in self.by_job if (lag := self.of(job_id)) is not None]
        return sum(lags) if lags else None

    @property
    def note(self) -> str:
        if self.why_not:
            return self.why_not
        if self.total is None:
            return "no job has a checkpoint"
        behind = sum(1 for job_id in self.by_job if self.of(job_id))
        return f"{behind} jobs behind" if behind > 1 else "1 job behind" if behind else "nobody is behind"


class Lags:
    """Asks for all jobs at once.

    Args:
        jobs: those of this project; of others the topics are not known.
    """

    def __init__(self, client: Client, jobs: Sequence[Job], clock: Clock) -> None:
        self._client, self._jobs, self._clock = client, jobs, clock
        self._known = Known(why_not="not asked yet")
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    def known(self) -> Known:
        return self._known

    async def refresh(self) -> None:
        """Ask where the last answer is old; a broker that takes longer is not waited for."""
        if self._clock.monotonic() - self._asked_at < FRESH_SECONDS:
            return
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="dashboard lags")
        done, _ = await asyncio.wait({self._asking}, timeout=PATIENCE_SECONDS)
        if not done:
            self._known = Known(self._known.by_job, "the broker does not answer")

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    async def _ask(self) -> None:
        if not self._jobs:
            self._known = Known(why_not="this project has no jobs")
            return
        try:
            broker = await self._client.broker()
            rows = await asyncio.gather(*(self._of(broker, job) for job in self._jobs))
            self._known = Known({job.id: lags for job, lags in zip(self._jobs, rows, strict=True)})
        except PlayheadError as error:
            self._known = Known(why_not=f"not known: {error.message}")
        self._asked_at = self._clock.monotonic()

    async def _of(self, broker: Broker, job: Job) -> list[PartitionLag]:
        prefix = self._client.settings.topic_prefix
        topic = await broker.topic(prefix + job.trigger.entity)
        partitions = [Partition(topic.name, number) for number in range(topic.partitions)]
        bounds, group = await asyncio.gather(broker.bounds(partitions), broker.describe_group(prefix + job.id))
        rows = []
        for partition in partitions:
            mark, (_, end) = group.checkpoints.get(partition), bounds[partition]
            position = None if mark is None else mark.offset
            lag = None if position is None else await _rest(broker, partition, position, end)
            rows.append(PartitionLag(partition.topic, partition.partition, position, end, lag))
        return rows


async def _rest(broker: Broker, partition: Partition, position: int, end: int) -> int:
    if position >= end:
        return 0
    if end - position > COUNTED_OFFSETS_MAX:
        return end - position
    count = 0

    async def add(records: Sequence[object]) -> None:
        nonlocal count
        count += len(records)

    await broker.read(partition, position, end, add)
    return count
