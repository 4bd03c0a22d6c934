"""Fixtures: a real Kafka for the whole session, and brokers of a test's own to stop, kill and start again.

The session's broker is found in this order: PLAYHEAD_BOOTSTRAP_SERVERS; a local one, on jars that are kept in the
checkout's `.playhead/` (or $PLAYHEAD_KAFKA_HOME); one in a container of testcontainers. Without any of them the tests
that need Kafka are errors, not skipped: a green run has seen a real broker.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from playhead.dev.find import ConfiguredBroker, RunningBroker
from playhead.dev.install import default_home, install
from playhead.dev.java import find_java
from playhead.dev.local_broker import LocalKafka
from playhead.errors import NoBroker
from tests.kafka_container import ContainerKafka

CHECKOUT = Path(__file__).parent.parent

NewLocalKafka = Callable[..., LocalKafka]


@pytest.fixture(scope="session")
def new_local_kafka() -> NewLocalKafka:
    """Makes a broker that is not started: `new_local_kafka(data_dir, port=0, properties={...})`."""
    java = find_java()
    libs = install(default_home(CHECKOUT / ".playhead"))

    def new(data_dir: Path, *, port: int = 0, properties: Mapping[str, object] | None = None) -> LocalKafka:
        return LocalKafka(data_dir, java, libs, port=port, properties=properties)

    return new


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """A real Kafka that all tests share: use topic and group names of your own, and leave it running."""
    configured = os.environ.get("PLAYHEAD_BOOTSTRAP_SERVERS")
    if configured:
        yield ConfiguredBroker(configured)
        return
    running: RunningBroker
    try:
        new: NewLocalKafka = request.getfixturevalue("new_local_kafka")
    except NoBroker as no_local:
        try:
            running = ContainerKafka.started()
        except NoBroker as no_container:
            raise NoBroker(f"{no_local.message} {no_container.message}", remedy=no_local.remedy) from no_container
    else:
        local = new(tmp_path_factory.mktemp("kafka"), properties={"log.cleaner.backoff.ms": 200})
        local.start()
        running = local
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def kafka_bootstrap(broker: RunningBroker) -> str:
    """host:port of the session's Kafka."""
    return broker.bootstrap_servers


@pytest.fixture
def own_broker(new_local_kafka: NewLocalKafka, tmp_path: Path) -> Iterator[NewLocalKafka]:
    """Starts a broker of the test's own: `own_broker(port=0, properties={...})`.

    The test may `stop`, `kill` (as a crash) and `start` it again, on the same port with the same data.
    """
    started: list[LocalKafka] = []

    def start(**options: object) -> LocalKafka:
        mine = new_local_kafka(tmp_path / f"kafka-{len(started)}", **options)
        started.append(mine)
        mine.start()
        return mine

    yield start
    for mine in started:
        mine.stop()
