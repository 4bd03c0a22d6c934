"""What `playhead dev` runs beside the broker: topics, the HTTP API in this process, the rest in others.

start   topics ──▶ HTTP accepts; worker, scheduler and history start ──▶ all ready: the banner
stop    HTTP takes no more requests ──▶ they end, the worker within its grace ──▶ (the broker, by the caller)
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from socket import socket
from typing import Any

import structlog

from playhead import Client
from playhead.broker.contract import Broker
from playhead.cli import exits
from playhead.cli.banner import ready_banner
from playhead.cli.connection import connected
from playhead.cli.dev import outlives_its_parent
from playhead.cli.output import say, words
from playhead.cli.wanted import entities, wanted_topics
from playhead.config import ENV_PREFIX, Settings
from playhead.dashboard import Dashboard
from playhead.dev.find import RunningBroker
from playhead.dev.supervisor import State, SupervisedProcess
from playhead.errors import NoBroker
from playhead.events import catalog
from playhead.history.opening import Reading
from playhead.http import Readiness, WorkerState, create_app, reaches, serve, url_of
from playhead.job import Job

HTTP_GRACE_SECONDS = 5
WORKER_MARGIN_SECONDS = 5.0
"""What the worker gets beyond its jobs' grace, to commit and to leave its groups."""
_BROKER_CHECK_SECONDS = 1.0
_PATIENCE_SECONDS = 10.0
"""After that long without all being ready, and whenever it changes, what is waited for is told."""

logger = structlog.get_logger("playhead.dev")


class Together:
    """One installation on this machine, from a broker that runs to the end of everything else.

    Args:
        timers_folder: for the API's cache of topic `delay`.
        history: for the API's questions of what happened.
        commands: of the processes beside, by name: `worker`, `scheduler`, `history`.
        started: when the command began, on `time.monotonic`.
    """

    def __init__(
        self,
        *,
        broker: RunningBroker,
        jobs: Sequence[Job],
        sockets: Sequence[socket],
        timers_folder: Path,
        history: Reading,
        partitions: int,
        commands: Mapping[str, Sequence[str]],
        grace_seconds: float,
        started: float,
    ) -> None:
        self._broker = broker
        self._jobs = jobs
        self._sockets = sockets
        self._timers_folder = timers_folder
        self._history = history
        self._partitions = partitions
        self._grace_seconds = grace_seconds
        self._started = started
        self._stop = asyncio.Event()
        self._stopped_by = 0
        self._signals = 0
        self._stop_http = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._going: dict[asyncio.Task[int], str] = {}
        self._http_accepts = False
        self._told_ready = False
        self._beside = {
            name: SupervisedProcess(
                name,
                command,
                env={**os.environ, f"{ENV_PREFIX}BOOTSTRAP_SERVERS": broker.bootstrap_servers},
                final_codes=(exits.INVALID, exits.FATAL),
                on_change=self._tell_when_ready,
            )
            for name, command in commands.items()
        }

    @property
    def url(self) -> str:
        return url_of(self._sockets)

    async def run(self) -> int:
        """Run until a signal, or until something can't go on; the exit code of the command.

        1. create the topics;
        2. serve HTTP and start the processes beside;
        3. wait for a signal, or for one of them to end;
        4. stop HTTP, then the others.

        Raises:
            NoBroker: the broker died.
            BrokerUnavailable, BrokerTooOld, TopicMisfit: as they say.
        """
        settings = Settings.from_env(bootstrap_servers=self._broker.bootstrap_servers)
        self._watch_signals()
        async with connected(settings) as broker:
            await self._create_topics(broker, settings)
            self._serving = asyncio.create_task(self._serve(broker), name="http")
            self._going = {asyncio.create_task(one.run(), name=name): name for name, one in self._beside.items()}
            watching = [asyncio.create_task(self._stop.wait()), asyncio.create_task(self._watch_broker())]
            telling = asyncio.create_task(self._tell_what_is_waited_for())
            duties: list[asyncio.Task[Any]] = [self._serving, *self._going, *watching]
            try:
                ended, _ = await asyncio.wait(duties, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await self._end()
                for task in (*watching, telling):
                    task.cancel()
            for duty in ended:
                duty.result()  # one that ended by an error has something to say
            return self._exit_code(ended)

    async def _serve(self, broker: Broker) -> None:
        client = Client("http", broker=broker)
        dashboard = Dashboard(self._history, client, jobs=self._jobs)
        app = create_app(
            client,
            broker_reached=reaches(broker),
            worker=self._state_beside(),
            timers_folder=self._timers_folder,
            history=self._history,
            pages=dashboard.routes,
        )

        def accepts() -> None:
            self._http_accepts = True
            self._tell_when_ready()

        grace, stop = HTTP_GRACE_SECONDS, self._stop_http
        async with dashboard.open_until(stop):
            await serve(app, sockets=self._sockets, stop=stop, started=accepts, grace_seconds=grace)

    def _exit_code(self, ended: AbstractSet[asyncio.Task[Any]]) -> int:
        if self._stop.is_set():
            return exits.INTERRUPTED if self._stopped_by == signal.SIGINT else 0
        name, code = next((name, task.result()) for task, name in self._going.items() if task in ended)
        say(f"The {name} can't go on, its error is above; everything is stopped (exit code {code}).", style="red")
        return code

    # ── starting ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _create_topics(self, broker: Broker, settings: Settings) -> None:
        names = entities(catalog(), self._jobs)
        wanted = wanted_topics(names, prefix=settings.topic_prefix, partitions=self._partitions)
        made = await broker.create_topics(wanted)
        if made:
            logger.info("topics created", topics=sorted(made), partitions=self._partitions)

    def _state_beside(self) -> WorkerState | None:
        if not self._beside:
            return None

        return lambda: Readiness(self._waited_for())

    def _waited_for(self) -> tuple[str, ...]:
        waiting = {name: one for name, one in self._beside.items() if one.state is not State.READY}
        return tuple(f"{name}: {one.status or one.state.value}" for name, one in waiting.items())

    async def _tell_what_is_waited_for(self) -> None:
        """Something may stay as it is until a person acts, and the rest works without it."""
        told: tuple[str, ...] = ()
        while not self._told_ready:
            await asyncio.sleep(_PATIENCE_SECONDS)
            waited_for = () if self._told_ready else self._waited_for()
            if waited_for and waited_for != told:
                say(f"Not all is ready; {url_of(self._sockets)} serves what is.", style="yellow")
                for line in waited_for:
                    say(f"  {line}", style="yellow")
            told = waited_for

    def _tell_when_ready(self) -> None:
        """Show the banner, once, when HTTP accepts and all tasks run."""
        if self._told_ready or self._waited_for() or not self._http_accepts:
            return
        self._told_ready = True
        seconds = time.monotonic() - self._started
        words().print(ready_banner(url=self.url, broker=self._broker.description, jobs=self._jobs, seconds=seconds))

    # ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or not outlives_its_parent():
                loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: int) -> None:
        """The first time stop in good order, the second time hurry, the third time leave the rest to the guards.

        A terminal that is closed hangs up more than once (the kernel, the shell, the death of whoever started this):
        that is still one request.
        """
        if number == signal.SIGHUP and self._signals:
            return
        self._signals += 1
        if self._signals == 1:
            self._stopped_by = number
            say("\nStopping; Ctrl-C again to hurry.")
            self._stop.set()
        elif self._signals == 2:
            self._hurry()
        else:
            os._exit(128 + number)

    def _hurry(self) -> None:
        logger.warning("hurrying: what the jobs had not committed starts again next time")
        for one in self._beside.values():
            one.kill()
        if self._serving is not None:
            # That it is cut off is what was asked for, and no error with a traceback.
            logging.getLogger("uvicorn.error").disabled = True
            self._serving.cancel()

    async def _end(self) -> None:
        """HTTP first, so that nothing new is accepted; then the others, the worker within its grace."""
        self._stop_http.set()
        if self._serving is not None:
            await asyncio.wait([self._serving])
        if self._going:
            grace_seconds = self._grace_seconds + WORKER_MARGIN_SECONDS
            await asyncio.gather(*(one.stop(grace_seconds) for one in self._beside.values()))
            await asyncio.wait(self._going)

    async def _watch_broker(self) -> None:
        """End when the broker that was started here has died.

        Raises:
            NoBroker: it has.
        """
        is_running = getattr(self._broker, "is_running", None)
        while is_running is None or is_running():  # noqa: ASYNC110 -- a process is asked: it sets no event
            await asyncio.sleep(_BROKER_CHECK_SECONDS)
        for one in self._beside.values():
            one.kill()  # it could commit nothing in its grace
        raise NoBroker("the broker ended by itself.", remedy="Read broker.log and console.log in .playhead/broker.")
