"""On a real broker and PostgreSQL: writers killed and paused, rebuilds killed on their way, and all of it at once."""

from __future__ import annotations

import asyncio
import os
import random
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
from tests.history.logs import event, letter, run_event
from tests.waiting import block_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
EVENTS = 4_000
SEED, ROUNDS = (int(os.environ.get(f"PLAYHEAD_TEST_{name}", "1")) for name in ("SEED", "ROUNDS"))
"""What is killed when, and how often: a round takes ten seconds and more."""


async def _send(bootstrap: str, prefix: str, round_: int) -> None:
    broker = KafkaBroker(Settings(bootstrap_servers=bootstrap, topic_prefix=prefix))
    await broker.start()
    try:
        records = [event(f"{prefix}user", n % 4, f"{round_}-{n}") for n in range(EVENTS)]
        for n in range(EVENTS // 4):
            run_id, partition = f"r{n}-{n % 4}", n % 4
            records.append(run_event(run_id, "run.retrying", partition=partition, topic=f"{prefix}run"))
            if n % 3:
                records.append(run_event(run_id, "run.failed", partition=partition, topic=f"{prefix}run", attempt=2))
            records.append(letter(f"l{n}", partition=partition)._replace(topic=f"{prefix}dead-letter"))
        assert not [result for result in await broker.append(records) if isinstance(result, Exception)]
    finally:
        await broker.stop()


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
def test_history_is_the_log_whatever_ends_who_writes_and_builds_it(
    kind: str, kafka_bootstrap: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else f"sqlite:///{tmp_path}/history.db"
    chance, writers = random.Random(SEED), 2 if kind == "postgres" else 1
    here = Installation(kafka_bootstrap, tmp_path)
    here.env["PLAYHEAD_HISTORY_DATABASE"] = url
    here.run("topics", "create", "user")
    store = HistoryStore(url)
    writing: list[subprocess.Popen[bytes]] = []
    building: list[subprocess.Popen[bytes]] = []

    def count(table: sa.Table) -> int:
        with store.reading() as db:
            return db.scalar(sa.select(sa.func.count()).select_from(table)) or 0

    try:
        writing += [here.start("history") for _ in range(writers)]
        block_until(lambda: count(PART) == 16, seconds=90)
        for round_ in range(ROUNDS):
            asyncio.run(_send(kafka_bootstrap, here.prefix, round_))
            paused, killed = writing[0], writing[-1]
            if writers > 1:
                paused.send_signal(signal.SIGSTOP)
            building += [here.start("history", "rebuild") for _ in range(2)]
            generation = store.place.current()
            wanted = chance.choice(["made", "filling", "switched"])
            _wait_until(store, generation, wanted, building)
            for one in building:
                one.kill()
            killed.kill()
            killed.communicate()
            asyncio.run(_send(kafka_bootstrap, here.prefix, 10 + round_))
            writing[-1] = here.start("history")
            if writers > 1:
                paused.send_signal(signal.SIGCONT)
            for one in building:
                one.communicate()
            building.clear()
            expected = 2 * (round_ + 1) * EVENTS
            block_until(lambda expected=expected: count(EVENT) == expected, seconds=120)
            verified = here.run("history", "verify", "--json")
            assert verified.code == 0, verified.out + verified.err
            assert all(one.poll() is None for one in writing)
        rebuilt = here.run("history", "rebuild")
        assert rebuilt.code == 0, rebuilt.err
        assert len(store.place.generations()) == 1
        assert here.run("history", "verify").code == 0
    finally:
        store.close()
        for process in (*writing, *building):
            process.kill()
            process.communicate()


def _wait_until(store: HistoryStore, before: int, wanted: str, building: list[subprocess.Popen[bytes]]) -> None:
    """Until a rebuild is as far as wanted, or all have ended."""
    block_until(lambda: _reached(store, before, wanted) or all(one.poll() is not None for one in building), seconds=90)


def _reached(store: HistoryStore, before: int, wanted: str) -> bool:
    others = [number for number in store.place.generations() if number > before]
    if wanted == "switched":
        return store.place.current() > before
    if not others:
        return False
    if wanted == "made":
        return True
    engine = store.place.engine(others[-1])
    try:
        with engine.connect() as db:
            return bool(db.scalar(sa.select(sa.func.count()).select_from(EVENT)))
    except sa.exc.DBAPIError:
        return False
    finally:
        engine.dispose()
