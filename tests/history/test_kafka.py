"""On a real broker: processes that share a history in PostgreSQL, one of them killed in a flood."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa

from playhead.broker.kafka import KafkaBroker
from playhead.config import Settings
from playhead.history.schema import EVENT, PART
from playhead.history.store import HistoryStore
from tests.cli.installation import Installation
from tests.history.logs import event
from tests.waiting import block_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
EVENTS = 3_000


async def _send(bootstrap: str, prefix: str) -> None:
    broker = KafkaBroker(Settings(bootstrap_servers=bootstrap, topic_prefix=prefix))
    await broker.start()
    try:
        records = [event(f"{prefix}user", n % 4, f"{n}") for n in range(EVENTS)]
        assert not [result for result in await broker.append(records) if isinstance(result, Exception)]
    finally:
        await broker.stop()


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
