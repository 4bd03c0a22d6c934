"""What the survival tests share: a broker, topics of their own, and workers that are gone when the test is."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from playhead import Client, Settings
from playhead.broker.kafka import KafkaBroker
from tests.survive.fleet import WorkerProcess, make_topics
from tests.survive.worker_process import Options
from tests.waiting import wait_until

StartWorker = Callable[..., Awaitable[WorkerProcess]]


@pytest.fixture
def prefix() -> str:
    return f"s{uuid.uuid4().hex[:8]}."


@pytest.fixture
def settings(kafka_bootstrap: str, prefix: str) -> Settings:
    return Settings(bootstrap_servers=kafka_bootstrap, topic_prefix=prefix)


@pytest.fixture
async def log(settings: Settings, prefix: str) -> AsyncIterator[KafkaBroker]:
    """The test's own connection to the broker, its topics made."""
    broker = KafkaBroker(settings)
    await broker.start()
    await make_topics(broker, prefix)
    yield broker
    await broker.stop()


@pytest.fixture
async def client(log: KafkaBroker, settings: Settings) -> AsyncIterator[Client]:
    async with Client("survive", broker=log, settings=settings) as client:
        yield client


@pytest.fixture
async def start_worker(settings: Settings, tmp_path: Path) -> AsyncIterator[StartWorker]:
    """Starts a worker process, ready when it returns unless `ready=False`."""
    started: list[WorkerProcess] = []
    numbers = itertools.count()

    async def start(*, ready: bool = True, **options: object) -> WorkerProcess:
        chosen = Options(settings.bootstrap_servers, settings.topic_prefix, **options)  # type: ignore[arg-type]
        worker = await WorkerProcess.start(chosen, tmp_path / f"worker-{next(numbers)}.log")
        started.append(worker)
        if ready:
            await wait_until(lambda: worker.ready or worker.process.returncode is not None, seconds=40)
            assert worker.process.returncode is None, worker.log
        return worker

    yield start
    for worker in started:
        await worker.end()
