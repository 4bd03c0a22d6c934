"""The dashboard on a port of its own, in a thread of its own: a browser's test blocks in this one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from playhead import Client, event_trigger
from playhead.broker.contract import Mark
from playhead.broker.memory import MemoryBroker
from playhead.clock import SystemClock
from playhead.config import Settings
from playhead.dashboard import Dashboard
from playhead.history.store import HistoryStore
from playhead.http import create_app, listen, reaches, serve, url_of
from playhead.job import Job, cron_trigger
from playhead.records import Partition, Record
from playhead.scheduler import Scheduler
from playhead.serde import to_json
from playhead.topics import JOBS, entity_topic, system_topics
from tests.dashboard.scene import NOW_MS, Scene
from tests.history.scene import History

T = TypeVar("T")
ENTITIES = ("test", "user", "file", "payment", "document", "email", "reminder")


class StillClock(SystemClock):
    """The time of day stands at the scene's NOW; waiting is real."""

    @staticmethod
    def time() -> float:  # type: ignore[override]
        return NOW_MS / 1000


def jobs() -> list[Job]:
    """The jobs of the scene, as a project declares them."""
    client = Client("acme")

    async def nothing(payload: Any, io: Any) -> None: ...

    listens = {
        "crm-sync": "user.created",
        "welcome-email": "user.created",
        "process-upload": "file.uploaded",
        "index-file": "file.processed",
        "receipt": "payment.succeeded",
        "try-out": "test.event",
    }
    for job_id, event in listens.items():
        client.define_job(
            id=job_id,
            name=job_id.replace("-", " ").capitalize(),
            version="1.0.0",
            trigger=event_trigger(event),
            run=nothing,
        )
    client.define_job(id="audit-log", name="Audit log", version="1.0.0", trigger=cron_trigger("0 3 * * *"), run=nothing)
    return list(client.jobs.values())


class Site:
    """A server of a store that stays open: it can be stopped and started again on the same port.

    Args:
        folder: of the store.
    """

    def __init__(self, folder: Path) -> None:
        self.store = HistoryStore(f"sqlite:///{folder}/history.db")
        self.scene: Scene
        self.url = ""
        self.port = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self.broker: MemoryBroker
        self.client: Client

    def start(self) -> None:
        """Serve; returns when it accepts."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), name="site", daemon=True)
        self._thread.start()
        assert ready.wait(10), "the site did not start"

    def stop(self) -> None:
        """Stop, with the pages' connections."""
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the site did not stop: a stream of it is still open"

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something in the server's event loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.broker = MemoryBroker()
        await self.broker.start()
        await self.broker.create_topics([entity_topic(name) for name in ENTITIES] + system_topics())
        await self._checkpoints()
        clock = StillClock()
        self.client = Client("dashboard", settings=Settings(send_timeout_seconds=2), broker=self.broker, clock=clock)
        dashboard = Dashboard(History(self.store), self.client, jobs=jobs(), clock=clock)
        app = create_app(self.client, broker_reached=reaches(self.broker), pages=dashboard.routes)
        sockets = listen("127.0.0.1", self.port)
        self.url = url_of(sockets)
        self.port = sockets[0].getsockname()[1]
        scheduler = Scheduler(self.broker, settings=self.client.settings, clock=clock)
        firing = asyncio.create_task(scheduler.run())
        serving = asyncio.create_task(serve(app, sockets=sockets, stop=self._stop, started=ready.set))
        await self._stop.wait()
        await dashboard.close()
        await serving
        scheduler.stop()
        await firing
        await self.client.close()
        await self.broker.stop()

    async def _checkpoints(self) -> None:
        """Five events of each user, the last two of them not done by `crm-sync`."""
        topic = await self.broker.topic("user")
        now_ms = int(SystemClock.time() * 1000)
        records = [
            Record("user", n % topic.partitions, b"k", b"{}", [("ce_type", b"user.created")], now_ms) for n in range(20)
        ]
        await self.broker.append(records)
        for group, done in (("crm-sync", 3), ("welcome-email", 5)):
            founded = to_json({"group": group, "topic": "user"})
            await self.broker.append([Record(JOBS, 0, group.encode(), founded, [], now_ms)])
            await self.broker.reset_group(group, {Partition("user", n): Mark(done) for n in range(topic.partitions)})
