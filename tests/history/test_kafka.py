"""On a real broker: what the log has not any more, and processes that share a history, one of them killed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from playhead.broker.kafka import KafkaBroker
from playhead.config import Settings
from playhead.history.consumer import Historian
from playhead.history.schema import EVENT, PART
from playhead.history.skipping import skip
from playhead.history.store import HistoryStore
from playhead.history.verify import verify
from playhead.records import Partition
from playhead.topics import entity_topic
from tests.broker.kafka_provider import KafkaProvider
from tests.broker.provider import NOW_MS, append, unique
from tests.cli.installation import Installation
from tests.history.logs import event
from tests.waiting import block_until, wait_until

pytestmark = pytest.mark.kafka
EVENTS = 3_000


async def _send(bootstrap: str, prefix: str) -> None:
    broker = KafkaBroker(Settings(bootstrap_servers=bootstrap, topic_prefix=prefix))
    await broker.start()
    try:
        records = [event(f"{prefix}user", n % 4, f"{n}") for n in range(EVENTS)]
        assert not [result for result in await broker.append(records) if isinstance(result, Exception)]
    finally:
        await broker.stop()


@pytest.mark.slow
def test_two_share_a_history_and_one_is_killed(kafka_bootstrap: str, postgres_url: str, tmp_path: Path) -> None:
    here = Installation(kafka_bootstrap, tmp_path)
    here.env["PLAYHEAD_HISTORY_DATABASE"] = postgres_url
    here.run("topics", "create", "user")
    store = HistoryStore(postgres_url)
    processes: list[subprocess.Popen[bytes]] = []

    def flood() -> None:
        asyncio.run(_send(kafka_bootstrap, here.prefix))

    def count(table: sa.Table) -> int:
        with store.reading() as db:
            return db.scalar(sa.select(sa.func.count()).select_from(table)) or 0

    try:
        processes += [here.start("history"), here.start("history")]
        block_until(lambda: count(PART) == 16, seconds=60)
        flood()
        processes[0].send_signal(signal.SIGKILL)
        flood()
        block_until(lambda: count(EVENT) == 2 * EVENTS, seconds=60)
        verified = here.run("history", "verify", "--json")
        assert verified.code == 0, verified.out + verified.err
        rebuilt = here.run("history", "rebuild")
        assert rebuilt.code == 0, rebuilt.err
        flood()
        block_until(lambda: count(EVENT) == 3 * EVENTS, seconds=60)
        assert here.run("history", "verify").code == 0
    finally:
        store.close()
        for process in processes:
            process.kill()
            process.communicate()


class Here:
    """An installation of one topic, and a history of it in this process."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.prefix = f"{unique('history')}."
        self.users = Partition(f"{self.prefix}user", 0)
        self.provider = KafkaProvider(bootstrap)
        self.broker = self.provider.broker
        self.settings = Settings(bootstrap_servers=bootstrap, topic_prefix=self.prefix, metadata_max_age_seconds=1)
        self.store = HistoryStore(f"sqlite:///{folder}/history.db")
        self.history: Historian
        self.running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.history = Historian(self.broker, self.store, settings=self.settings)
        self.running = asyncio.create_task(self.history.run())

    async def stop(self) -> None:
        if self.running is not None:
            self.history.stop()
            await self.running
            self.running = None

    async def send(self, *ids: str) -> None:
        await append(self.broker, *(event(self.users.topic, 0, id_, at_ms=NOW_MS) for id_ in ids))

    def ids(self) -> list[str]:
        with self.store.reading() as db:
            return list(db.scalars(sa.select(EVENT.c.id).order_by(EVENT.c.place)))


@pytest.fixture
async def here(kafka_bootstrap: str, tmp_path: Path) -> AsyncIterator[Here]:
    made = Here(kafka_bootstrap, tmp_path)
    await made.broker.start()
    await made.broker.create_topics([entity_topic(made.users.topic, partitions=2)])
    yield made
    await made.stop()
    made.store.close()
    await made.provider.close()


class TestLog:
    async def test_retention_stops_the_partition_until_it_is_skipped(self, here: Here) -> None:
        await here.start()
        await here.send("a", "b")
        await wait_until(lambda: here.ids() == ["a", "b"], seconds=30)
        await here.stop()
        await here.send("c", "d", "e")
        await here.provider.trim(here.users, 4)
        await here.start()
        await wait_until(lambda: bool(here.history.status()["history"]["stopped"]), seconds=30)
        assert "retention took offsets 2 to 3 unread" in str(here.history.status())
        await skip(here.broker, here.store, here.users.topic)
        await wait_until(lambda: here.ids() == ["a", "b", "e"], seconds=30)
        assert (await verify(here.broker, here.store, here.prefix)).equal

    async def test_position_outside_the_log_is_looked_at_again(self, here: Here) -> None:
        """What aiokafka tells of it names no remedy; where each partition goes on is in the database."""
        await here.start()
        await wait_until(lambda: here.history.ready, seconds=30)
        membership = here.history._membership
        assert membership is not None
        membership.seek(here.users, 999)
        with capture_logs() as logs:
            await wait_until(lambda: any("looking again" in line["event"] for line in logs), seconds=30)
        await here.send("a")
        await wait_until(lambda: here.ids() == ["a"], seconds=30)

    async def test_topic_that_is_made_later_is_joined(self, here: Here) -> None:
        await here.start()
        await wait_until(lambda: here.history.ready, seconds=30)
        late = f"{here.prefix}parcel"
        await here.broker.create_topics([entity_topic(late, partitions=3)])
        await append(here.broker, event(late, 2, "p", at_ms=NOW_MS))
        await wait_until(lambda: here.ids() == ["p"], seconds=30)
