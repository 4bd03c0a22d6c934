"""What `playhead dev` runs beside the broker: topics, the HTTP API in this process, the worker in another.

start   topics ──▶ HTTP accepts, worker starts ──▶ worker ready: the banner
stop    HTTP takes no more requests ──▶ worker ends within its grace ──▶ (the broker, by the caller)
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from socket import socket

import structlog

from playhead import Client
from playhead.broker.contract import Broker
from playhead.cli import exits
from playhead.cli.banner import ready_banner
from playhead.cli.connection import connected
from playhead.cli.output import say, words
from playhead.cli.wanted import entities, wanted_topics
from playhead.config import ENV_PREFIX, Settings
from playhead.dev.find import RunningBroker
from playhead.dev.supervisor import State, SupervisedProcess
from playhead.errors import NoBroker
from playhead.events import catalog
from playhead.http import Readiness, WorkerState, create_app, reaches, serve, url_of
from playhead.job import Job

HTTP_GRACE_SECONDS = 5
WORKER_MARGIN_SECONDS = 5.0
"""What the worker gets beyond its jobs' grace, to commit and to leave its groups."""
_BROKER_CHECK_SECONDS = 1.0

logger = structlog.get_logger("playhead.dev")


class Together:
    """One installation on this machine, from a broker that runs to the end of everything else.

    Args:
        worker_command: starts the worker's process; None for no worker.
        started: when the command began, on `time.monotonic`.
    """

    def __init__(
        self,
        *,
        broker: RunningBroker,
        jobs: Sequence[Job],
        sockets: Sequence[socket],
        partitions: int,
        worker_command: Sequence[str] | None,
        grace_seconds: float,
        started: float,
    ) -> None:
        self._broker = broker
        self._jobs = jobs
        self._sockets = sockets
        self._partitions = partitions
        self._grace_seconds = grace_seconds
        self._started = started
        self._stop = asyncio.Event()
        self._stopped_by = 0
        self._signals = 0
        self._stop_http = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._working: asyncio.Task[int] | None = None
        self._http_accepts = False
        self._told_ready = False
        self._worker: SupervisedProcess | None = None
        if worker_command is not None:
            self._worker = SupervisedProcess(
                "worker",
                worker_command,
                env={**os.environ, f"{ENV_PREFIX}BOOTSTRAP_SERVERS": broker.bootstrap_servers},
                final_codes=(exits.INVALID, exits.FATAL),
                on_change=self._tell_when_ready,
            )

    @property
    def url(self) -> str:
        return url_of(self._sockets)

    async def run(self) -> int:
        """Run until a signal, or until something can't go on; the exit code of the command.

        1. create the topics;
        2. serve HTTP and start the worker;
        3. wait for a signal, or for one of them to end;
        4. stop HTTP, then the worker.

        Raises:
            NoBroker: the broker died.
            BrokerUnavailable, BrokerTooOld, TopicMisfit: as they say.
        """
        settings = Settings.from_env(bootstrap_servers=self._broker.bootstrap_servers)
        self._watch_signals()
        async with connected(settings) as broker:
            await self._create_topics(broker, settings)
            self._serving = asyncio.create_task(self._serve(broker), name="http")
            if self._worker is not None:
                self._working = asyncio.create_task(self._worker.run(), name="worker")
            watching = [asyncio.create_task(self._stop.wait()), asyncio.create_task(self._watch_broker())]
            duties = [duty for duty in (self._serving, self._working, *watching) if duty is not None]
            try:
                ended, _ = await asyncio.wait(duties, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await self._end()
                for task in watching:
                    task.cancel()
            for duty in ended:
                duty.result()  # one that ended by an error has something to say
            return self._exit_code()

    async def _serve(self, broker: Broker) -> None:
        app = create_app(Client("http", broker=broker), broker_reached=reaches(broker), worker=self._worker_state())

        def accepts() -> None:
            self._http_accepts = True
            self._tell_when_ready()

        grace, stop = HTTP_GRACE_SECONDS, self._stop_http
        await serve(app, sockets=self._sockets, stop=stop, started=accepts, grace_seconds=grace)

    def _exit_code(self) -> int:
        if self._stop.is_set():
            return exits.INTERRUPTED if self._stopped_by == signal.SIGINT else 0
        assert self._working is not None
        code = self._working.result()
        say(f"The worker can't go on, its error is above; everything is stopped (exit code {code}).", style="red")
        return code

    # ── starting ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _create_topics(self, broker: Broker, settings: Settings) -> None:
        names = entities(catalog(), self._jobs)
        wanted = wanted_topics(names, prefix=settings.topic_prefix, partitions=self._partitions)
        made = await broker.create_topics(wanted)
        if made:
            logger.info("topics created", topics=sorted(made), partitions=self._partitions)

    def _worker_state(self) -> WorkerState | None:
        worker = self._worker
        if worker is None:
            return None

        def state() -> Readiness:
            if worker.state is State.READY:
                return Readiness()
            return Readiness((f"worker: {worker.status or worker.state.value}",))

        return state

    def _tell_when_ready(self) -> None:
        """Show the banner, once, when HTTP accepts and the worker's tasks run."""
        worker_ready = self._worker is None or self._worker.state is State.READY
        if self._told_ready or not worker_ready or not self._http_accepts:
            return
        self._told_ready = True
        seconds = time.monotonic() - self._started
        words().print(ready_banner(url=self.url, broker=self._broker.description, jobs=self._jobs, seconds=seconds))

    # ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: int) -> None:
        """The first time stop in good order, the second time hurry, the third time leave the rest to the guards."""
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
        if self._worker is not None:
            self._worker.kill()
        if self._serving is not None:
            self._serving.cancel()

    async def _end(self) -> None:
        """HTTP first, so that nothing new is accepted; then the worker, within its grace."""
        self._stop_http.set()
        if self._serving is not None:
            await asyncio.wait([self._serving])
        if self._worker is not None and self._working is not None:
            await self._worker.stop(self._grace_seconds + WORKER_MARGIN_SECONDS)
            await asyncio.wait([self._working])

    async def _watch_broker(self) -> None:
        """End when the broker that was started here has died.

        Raises:
            NoBroker: it has.
        """
        is_running = getattr(self._broker, "is_running", None)
        while is_running is None or is_running():  # noqa: ASYNC110 -- a process is asked: it sets no event
            await asyncio.sleep(_BROKER_CHECK_SECONDS)
        if self._worker is not None:
            self._worker.kill()  # it could commit nothing in its grace
        raise NoBroker("the broker ended by itself.", remedy="Read broker.log and console.log in .playhead/broker.")
