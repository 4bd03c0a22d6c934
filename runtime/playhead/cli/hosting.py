"""A worker's process: its topics, its readiness, and its end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from socket import socket
from typing import Any

import structlog

from playhead.broker.contract import Broker
from playhead.cli import exits
from playhead.cli.connection import connected, run_fast
from playhead.cli.notify import Notifier
from playhead.cli.stopping import Stopping, end_without, still_running
from playhead.config import Settings
from playhead.engine.worker import Worker
from playhead.errors import TopicMisfit, UnknownTopic
from playhead.job import Job
from playhead.topics import system_topics

_READY_POLL_SECONDS = 0.05

logger = structlog.get_logger("playhead.worker")


def host_jobs(
    jobs: Sequence[Job], settings: Settings, *, grace_seconds: float, sockets: Sequence[socket] | None = None
) -> None:
    """Run a worker with these jobs in this process, until it is told to stop.

    Args:
        grace_seconds: what running jobs get to end.
        sockets: to serve /healthz and /readyz on, or None.

    Raises:
        KeyboardInterrupt: it was Ctrl-C that ended it.
        Fatal, BrokerUnavailable, TopicMisfit: it can't go on.
    """
    _collect_garbage_seldom()
    if run_fast(_host_to_the_end(_host(jobs, settings, grace_seconds, sockets))):
        raise KeyboardInterrupt


def _collect_garbage_seldom() -> None:
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


async def _host(
    jobs: Sequence[Job], settings: Settings, grace_seconds: float, sockets: Sequence[socket] | None
) -> bool:
    """Host the jobs; whether it was Ctrl-C that ended it."""
    notifier = Notifier()
    async with AsyncExitStack() as stack:
        stack.callback(notifier.close)
        broker = await stack.enter_async_context(connected(settings))
        await check_topics(broker, settings.topic_prefix, jobs)
        worker = Worker(jobs, broker, settings=settings, grace_seconds=grace_seconds)
        stopping = Stopping(worker.stop, notifier)
        stopping.watch_signals()
        stopping.watch_parent()
        beside = [_tell_readiness(worker, notifier)]
        if sockets is not None:
            beside.append(_serve_health(worker, broker, sockets))
        await _run_with(worker, [asyncio.create_task(duty) for duty in beside])
        return stopping.by_ctrl_c


async def _run_with(worker: Worker, beside: Sequence[asyncio.Task[None]]) -> None:
    """Run the worker to its end. What runs beside it ends with it; when one of those fails, all do."""
    working = asyncio.create_task(worker.run(), name="worker")
    try:
        done, _ = await asyncio.wait({working, *beside}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        worker.stop()
        for task in beside:
            task.cancel()
        await asyncio.gather(working, *beside, return_exceptions=True)
    for task in done:
        task.result()


async def check_topics(broker: Broker, prefix: str, jobs: Sequence[Job]) -> None:
    """See that every topic is there which these jobs read or Playhead writes.

    Raises:
        TopicMisfit: names all that are missing.
    """
    missing = []
    wanted = {prefix + job.trigger.entity for job in jobs} | {spec.name for spec in system_topics(prefix=prefix)}
    for name in sorted(wanted):
        try:
            await broker.topic(name)
        except UnknownTopic:
            missing.append(name)
    if missing:
        raise TopicMisfit(f"missing topics: {', '.join(missing)}.", remedy="Create them: playhead topics create")


async def _tell_readiness(worker: Worker, notifier: Notifier) -> None:
    """Tell $NOTIFY_SOCKET and the log whenever the worker becomes ready, and what it waits for when it is not."""
    told: tuple[bool, str] = (False, "")
    first = {"READY": "1"}  # systemd's, said once; X_READY is ours and follows every change
    while True:
        now = worker.ready, _status(worker.status())
        if now != told:
            ready, status = told = now
            notifier.send(**(first if ready else {}), X_READY=str(int(ready)), STATUS=status)
            if ready and first:
                logger.info("ready", jobs=len(worker.status()))
                first = {}
        await asyncio.sleep(_READY_POLL_SECONDS)


def _status(jobs: Mapping[str, Mapping[str, Any]]) -> str:
    """One line: what each job that is not running does instead."""
    others = [f"{job_id}: {state['phase']}" for job_id, state in jobs.items() if state["phase"] != "running"]
    return "; ".join(others) or (f"{len(jobs)} jobs running" if jobs else "starting")


async def _serve_health(worker: Worker, broker: Broker, sockets: Sequence[socket]) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Route

    from playhead.http import Readiness, reaches, serve, url_of
    from playhead.http.endpoints import Health
    from playhead.http.limits import DEFAULT_LIMITS

    def state() -> Readiness:
        return Readiness(() if worker.ready else (f"worker: {_status(worker.status())}",))

    health = Health(reaches(broker), state, DEFAULT_LIMITS)
    app = Starlette(routes=[Route("/healthz", health.alive), Route("/readyz", health.ready)])
    url = url_of(sockets)
    await serve(app, sockets=sockets, started=lambda: logger.info("health is served", url=url))
