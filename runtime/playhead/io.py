"""What a job's function is given beside its payload: `io`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from playhead.delay import Delay
from playhead.events import Event, TypedEvent, outgoing
from playhead.sending import RunSends, SentEvent

Logger = Any
"""A structlog bound logger: structlog's own type has no attributes that a checker could know."""


class RunInfo(NamedTuple):
    """The run, as its function may see it.

    `id` is the same each time this job works on this event: use it as the idempotency key of effects outside Kafka.
    `lease` grows with each change of the run's owner: use it as a fencing token where the other side keeps the highest.
    """

    id: str
    job_id: str
    job_version: str
    event: Event
    task: int
    attempt: int
    lease: int


class RunPart(RunSends, Protocol):
    """The attempt that an `IO` is a window to."""

    def info(self) -> RunInfo: ...
    def logger(self) -> Logger: ...


class IO:
    """The `io` of an async function. What it shows is made when it is asked for: most runs ask for none of it."""

    __slots__ = ("_attempt", "_logger", "_run")

    def __init__(self, attempt: RunPart) -> None:
        self._attempt = attempt
        self._run: RunInfo | None = None
        self._logger: Logger = None

    @property
    def run(self) -> RunInfo:
        """Which run this is, of which event, and which attempt."""
        if self._run is None:
            self._run = self._attempt.info()
        return self._run

    @property
    def logger(self) -> Logger:
        """A structlog logger bound to the run; its lines are kept with the run."""
        if self._logger is None:
            self._logger = self._attempt.logger()
        return self._logger

    async def send_event(
        self,
        event: str | TypedEvent,
        payload: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        key: str | None = None,
        delay: Delay | None = None,
        at: datetime | str | None = None,
    ) -> SentEvent:
        """Send an event with this run: it is in the log if and only if the run's end is. As `playhead.send_event`."""
        return await self._attempt.send(outgoing(event, payload, id=id, key=key, delay=delay, at=at))


class SyncIO(IO):
    """The `io` of a plain function, which runs in a thread: the same, and it blocks."""

    __slots__ = ("_loop",)

    def __init__(self, attempt: RunPart, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(attempt)
        self._loop = loop

    def send_event(  # type: ignore[override]  # the blocking twin
        self,
        event: str | TypedEvent,
        payload: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        key: str | None = None,
        delay: Delay | None = None,
        at: datetime | str | None = None,
    ) -> SentEvent:
        """Send an event with this run, from its thread."""
        out = outgoing(event, payload, id=id, key=key, delay=delay, at=at)
        return asyncio.run_coroutine_threadsafe(self._attempt.send(out), self._loop).result()
