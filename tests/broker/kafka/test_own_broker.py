"""What takes a broker of its own: one that restarts, and one that is too old."""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from playhead.broker.contract import Partition
from playhead.broker.kafka import KafkaBroker
from playhead.config import Settings
from playhead.errors import BrokerTooOld
from tests.broker.provider import append, new_topic, read_all, record, values
from tests.broker_fixture import NewLocalKafka

pytestmark = pytest.mark.kafka


class TestRestart:
    """A broker that goes away for a moment costs an append time, and nothing else."""

    async def test_append_outlasts_a_restart_and_is_written_once(self, own_broker: NewLocalKafka) -> None:
        kafka = await asyncio.to_thread(own_broker)
        client = KafkaBroker(Settings(bootstrap_servers=kafka.bootstrap_servers, send_timeout_seconds=60))
        await client.start()
        try:
            topic = await new_topic(client, 1)
            assert await append(client, record(topic, 0, "before")) == [0]
            await asyncio.to_thread(kafka.stop)
            meanwhile = asyncio.create_task(append(client, *(record(topic, 0, f"{i}") for i in range(20))))
            await asyncio.to_thread(kafka.start)
            async with asyncio.timeout(30):
                assert await meanwhile == list(range(1, 21))
            assert await append(client, record(topic, 0, "after")) == [21]
            found = values(await read_all(client, Partition(topic, 0)))
            assert found == ["before", *(f"{i}" for i in range(20)), "after"]
        finally:
            await client.stop()


class TestTooOld:
    """A broker without transactions v2 is refused at start, with the command that upgrades it."""

    async def test_transaction_version_below_2_is_refused(self, own_broker: NewLocalKafka) -> None:
        kafka = await asyncio.to_thread(own_broker)
        feature = ["--bootstrap-server", kafka.bootstrap_servers, "downgrade", "--feature", "transaction.version=1"]
        command = [str(kafka.java.path), "-cp", f"{kafka.libs}/*", "org.apache.kafka.tools.FeatureCommand", *feature]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        client = KafkaBroker(Settings(bootstrap_servers=kafka.bootstrap_servers))
        with pytest.raises(BrokerTooOld) as refused:
            await client.start()
        assert "transaction.version=2" in (refused.value.remedy or "")
