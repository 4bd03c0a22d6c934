"""The process of a worker, a scheduler or a history: its broker, its topics, its readiness, and its end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from playhead.broker.contract import Broker
from playhead.cli import exits
from playhead.cli.connection import run_fast
from playhead.cli.notify import Notifier
from playhead.cli.reaching import awaited
from playhead.cli.stopping import Stopping, end_without, still_running
from playhead.config import Settings
from playhead.engine.worker import Worker
from playhead.errors import TopicMisfit, UnknownTopic
from playhead.job import Job
from playhead.metrics import Samples
from playhead.scheduler import Scheduler
from playhead.topics import system_topics

if TYPE_CHECKING:
    from playhead.history.store import HistoryStore

_READY_POLL_SECONDS = 0.05

logger = structlog.get_logger("playhead.process")


class Part(Protocol):
    """What is hosted."""

    @property
    def ready(self) -> bool: ...
    def status(self) -> Mapping[str, Mapping[str, Any]]: ...
    def samples(self) -> Samples: ...
    async def look(self) -> None: ...
    def stop(self) -> None: ...
    async def run(self) -> None: ...


def host_jobs(
    jobs: Sequence[Job], settings: Settings, *, grace_seconds: float, sockets: Sequence[socket] | None = None
) -> None:
    """Run a worker with these jobs in this process, until it is told to stop. A broker that is away is waited for.

    Args:
        grace_seconds: what running jobs get to end.
        sockets: to serve /healthz, /readyz and /metrics on, or None.

    Raises:
        KeyboardInterrupt: it was Ctrl-C that ended it.
        Fatal, TopicMisfit: it can't go on.
    """
    entities = {settings.topic_prefix + job.trigger.entity for job in jobs}

    def worker(broker: Broker) -> Part:
        return Worker(jobs, broker, settings=settings, grace_seconds=grace_seconds)

    _host_here("worker", worker, settings, entities, sockets)


def host_scheduler(settings: Settings, folder: Path, *, sockets: Sequence[socket] | None = None) -> None:
    """Run a scheduler in this process, until it is told to stop. A broker that is away is waited for.

    Args:
        folder: for its stores.
        sockets: to serve /healthz, /readyz and /metrics on, or None.

    Raises:
        KeyboardInterrupt: it was Ctrl-C that ended it.
        Fatal, TopicMisfit: it can't go on.
    """
    _host_here(
        "scheduler", lambda broker: Scheduler(broker, settings=settings, folder=folder), settings, set(), sockets
    )


def host_history(settings: Settings, store: HistoryStore, *, sockets: Sequence[socket] | None = None) -> None:
    """Write the history in this process, until it is told to stop. A broker that is away is waited for.

    Args:
        store: opened; the caller closes it.
        sockets: to serve /healthz, /readyz and /metrics on, or None.

    Raises:
        KeyboardInterrupt: it was Ctrl-C that ended it.
        Fatal, TopicMisfit: it can't go on.
    """
    from playhead.history.consumer import Historian

    days = settings.history_retention_days

    def history(broker: Broker) -> Part:
        return Historian(broker, store, settings=settings, retention_days=days)

    _host_here("history", history, settings, set(), sockets)


def _host_here(
    name: str,
    make: Callable[[Broker], Part],
    settings: Settings,
    topics: AbstractSet[str],
    sockets: Sequence[socket] | None,
) -> None:
    collect_garbage_seldom()
    if run_fast(_host_to_the_end(_host(Hosted(name, make, settings, topics), sockets))):
        raise KeyboardInterrupt


def collect_garbage_seldom() -> None:
    """What was imported lives for ever, and a run's objects die by reference count: look through them less often.

    With Python's defaults the collector takes a fifth of a no-op run's time (measured with a thousand runs in memory).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 10, 100)


async def _host_to_the_end(hosting: Coroutine[Any, Any, bool]) -> bool:
    """Its answer, or its error. Where a function of a job goes on after its grace, the process ends here.

    Its group has been left: what the function still does counts for nothing, and has started again elsewhere.
    """
    try:
        by_ctrl_c = await hosting
    except Exception as error:
        if left := await still_running():
            end_without(left, exits.report(error))
        raise
    if left := await still_running():
        end_without(left, exits.INTERRUPTED if by_ctrl_c else 0)
    return by_ctrl_c


async def _host(hosted: Hosted, sockets: Sequence[socket] | None) -> bool:
    """Host it; whether it was Ctrl-C that ended it."""
    notifier = Notifier()
    stopping = Stopping(hosted.stop, notifier)
    stopping.watch_signals()
    stopping.watch_parent()
    beside = [_tell_readiness(hosted, notifier)]
    if sockets is not None:
        beside.append(_serve_health(hosted, sockets))
    try:
        await _run_with(hosted, [asyncio.create_task(duty) for duty in beside])
    finally:
        notifier.close()
    return stopping.by_ctrl_c


class Hosted:
    """The part of this process, and before it the wait for the broker.

    Args:
        name: worker, scheduler or history.
        make: the part, once the broker is there.
        topics: that it needs beside Playhead's own.

    Attributes:
        broker: None until it was reached.
    """

    def __init__(self, name: str, make: Callable[[Broker], Part], settings: Settings, topics: AbstractSet[str]) -> None:
        self.name = name
        self.broker: Broker | None = None
        self._make, self._settings, self._topics = make, settings, topics
        self._part: Part | None = None
        self._stopping = asyncio.Event()

    @property
    def ready(self) -> bool:
        return self._part is not None and self._part.ready

    def status(self) -> str:
        """One line: what is waited for, or what each job that is not running does instead."""
        return "waiting for the broker" if self._part is None else _status(self.name, self._part.status())

    def samples(self) -> Samples:
        """What the part counts, for /metrics."""
        return () if self._part is None else self._part.samples()

    async def look(self) -> None:
        """Ask the broker what `samples` tells of it.

        Raises:
            UnknownTopic, NotAuthorized, BrokerUnavailable.
        """
        if self._part is not None:
            await self._part.look()

    def stop(self) -> None:
        self._stopping.set()
        if self._part is not None:
            self._part.stop()

    async def run(self) -> None:
        """Wait for the broker, then work until `stop`.

        Raises:
            Fatal, UnknownTopic, NotAuthorized, TopicMisfit: waiting would not help.
        """
        async with AsyncExitStack() as stack:
            reaching = asyncio.create_task(stack.enter_async_context(awaited(self._settings, self._check_topics)))
            stopped = asyncio.create_task(self._stopping.wait())
            try:
                await asyncio.wait({reaching, stopped}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                reaching.cancel()
                stopped.cancel()
                await asyncio.wait({reaching})
            if reaching.cancelled() or (reaching.exception() is None and self._stopping.is_set()):
                return
            self.broker = reaching.result()
            self._part = self._make(self.broker)
            await self._part.run()

    async def _check_topics(self, broker: Broker) -> None:
        """See that every topic is there which the part reads or Playhead writes.

        Raises:
            TopicMisfit: names all that are missing.
        """
        missing = []
        own = {spec.name for spec in system_topics(prefix=self._settings.topic_prefix)}
        for name in sorted(self._topics | own):
            try:
                await broker.topic(name)
            except UnknownTopic:
                missing.append(name)
        if missing:
            raise TopicMisfit(f"missing topics: {', '.join(missing)}.", remedy="Create them: playhead topics create")


async def _run_with(hosted: Hosted, beside: Sequence[asyncio.Task[None]]) -> None:
    """Run the worker to its end. What runs beside it ends with it; when one of those fails, all do."""
    working = asyncio.create_task(hosted.run(), name="worker")
    try:
        done, _ = await asyncio.wait({working, *beside}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hosted.stop()
        for task in beside:
            task.cancel()
        await asyncio.gather(working, *beside, return_exceptions=True)
    for task in done:
        task.result()


async def _tell_readiness(hosted: Hosted, notifier: Notifier) -> None:
    """Tell $NOTIFY_SOCKET and the log whenever the worker becomes ready, and what it waits for when it is not."""
    told: tuple[bool, str] = (False, "")
    first = {"READY": "1"}  # systemd's, said once; X_READY is ours and follows every change
    while True:
        now = hosted.ready, hosted.status()
        if now != told:
            ready, status = told = now
            notifier.send(**(first if ready else {}), X_READY=str(int(ready)), STATUS=status)
            if ready and first:
                logger.info("ready", status=status)
                first = {}
        await asyncio.sleep(_READY_POLL_SECONDS)


def _status(part: str, jobs: Mapping[str, Mapping[str, Any]]) -> str:
    """One line: what each job, or the part itself, does instead of running."""
    phases = {name: state["phase"] for name, state in jobs.items() if state["phase"] != "running"}
    others = [phase if name == part else f"{name}: {phase}" for name, phase in phases.items()]
    if others or not jobs:
        return "; ".join(others) or "starting"
    return f"{len(jobs)} jobs running" if len(jobs) > 1 else f"{next(iter(jobs))} running"


async def _serve_health(hosted: Hosted, sockets: Sequence[socket]) -> None:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    from playhead.http import Readiness, Scrape, reaches, serve, url_of
    from playhead.http.answers import routing_error
    from playhead.http.endpoints import Health
    from playhead.http.limits import DEFAULT_LIMITS

    def state() -> Readiness:
        return Readiness(() if hosted.ready else (f"{hosted.name}: {hosted.status()}",))

    async def reached() -> bool:
        return hosted.broker is not None and await reaches(hosted.broker)()

    health = Health(reached, state, DEFAULT_LIMITS)
    scrape = Scrape(hosted.name, [hosted.samples], probe=reached, state=state, look=hosted.look)
    routes = [Route("/healthz", health.alive), Route("/readyz", health.ready), Route("/metrics", scrape.answer)]
    app = Starlette(routes=routes, exception_handlers={HTTPException: routing_error})
    url = url_of(sockets)
    await serve(app, sockets=sockets, started=lambda: logger.info("health is served", part=hosted.name, url=url))
