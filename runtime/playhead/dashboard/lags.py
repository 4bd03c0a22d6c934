"""How far jobs are behind, for pages that many look at: asked of the broker, not of history."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from playhead.client import Client
from playhead.clock import Clock
from playhead.errors import PlayheadError
from playhead.group.lag import GroupLag, PartitionLag, job_lags

FRESH_SECONDS = 2.0
"""For so long an answer is used again: a page that many look at asks no more often."""
PATIENCE_SECONDS = 1.0
"""A page waits no longer for the broker, and says that the lag is not known."""


@dataclass(frozen=True, slots=True)
class Known:
    """The lags as of the last answer."""

    by_job: Mapping[str, GroupLag] = field(default_factory=dict)
    why_not: str = ""

    def of(self, job_id: str) -> int | None:
        """A job's, over its partitions; None where nothing is known."""
        return self.by_job[job_id].lag if job_id in self.by_job else None

    def partitions(self, job_id: str) -> Sequence[PartitionLag]:
        return self.by_job[job_id].partitions if job_id in self.by_job else ()

    @property
    def total(self) -> int | None:
        lags = [one.lag for one in self.by_job.values() if one.lag is not None]
        return sum(lags) if lags else None

    @property
    def note(self) -> str:
        if self.why_not:
            return self.why_not
        if self.total is None:
            return "no job has run yet"
        behind = sum(1 for one in self.by_job.values() if one.lag)
        return f"{behind} jobs behind" if behind > 1 else "1 job behind" if behind else "nobody is behind"


class Lags:
    """Asks for all jobs at once."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._known = Known(why_not="not asked yet")
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    def known(self) -> Known:
        """As of the last `refresh`."""
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
        try:
            self._known = Known(await job_lags(await self._client.broker(), self._client.settings.topic_prefix))
        except PlayheadError as error:
            self._known = Known(why_not=f"not known: {error.message}")
        self._asked_at = self._clock.monotonic()
