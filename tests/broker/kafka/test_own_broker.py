"""What takes a broker of its own: one that restarts, and one that is too old."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from playhead.broker.contract import Partition
from playhead.broker.kafka import KafkaBroker
from playhead.config import Settings
from playhead.errors import BrokerTooOld
from tests.broker.kafka_provider import KafkaProvider
from tests.broker.provider import append, new_topic, read_all, record, sole_member, values
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


class TestLostTail:
    """A broker whose disk had not got the end of a log when it died, and which has taken other events since."""

    async def test_leader_epoch_of_the_checkpoint_tells_where_the_log_was_cut(self, own_broker: NewLocalKafka) -> None:
        kafka = await asyncio.to_thread(own_broker)
        provider = KafkaProvider(kafka.bootstrap_servers)
        await provider.broker.start()
        try:
            topic = await new_topic(provider.broker, 1)
            partition = Partition(topic, 0)
            for i in range(10):  # a batch each
                await append(provider.broker, record(topic, 0, f"{i}"))
            member = await sole_member(provider, topic, tasks=1)
            member.membership.seek(partition, 0)
            member.membership.resume([partition])
            await member.fetch_all(10)
            await member.membership.commit(member.commit_of({partition: 8}))
            await member.membership.checkpoints([partition])  # stable: the markers are written
            await asyncio.to_thread(kafka.kill)
            _cut(kafka.data_dir / "data" / f"{topic}-0" / f"{0:020}.log", batches=5)
            await asyncio.to_thread(kafka.start)
            others = await provider.another_client()  # the first would go on with sequence numbers that were lost, too
            for i in range(20):
                await append(others, record(topic, 0, f"after {i}"))
            mark = (await member.membership.checkpoints([partition]))[partition]
            assert mark is not None
            assert mark.offset == 8
            assert mark.leader_epoch >= 0
            assert (await provider.broker.bounds([partition]))[partition] == (0, 25)
            assert await provider.broker.ends_of_epochs({partition: mark.leader_epoch}) == {partition: 5}
        finally:
            await provider.close()

    async def test_restart_that_loses_nothing_is_told_from_it(self, own_broker: NewLocalKafka) -> None:
        kafka = await asyncio.to_thread(own_broker)
        provider = KafkaProvider(kafka.bootstrap_servers)
        await provider.broker.start()
        try:
            topic = await new_topic(provider.broker, 1)
            partition = Partition(topic, 0)
            await append(provider.broker, *(record(topic, 0, f"{i}") for i in range(10)))
            member = await sole_member(provider, topic, tasks=1)
            member.membership.seek(partition, 0)
            member.membership.resume([partition])
            await member.fetch_all(10)
            await member.membership.commit(member.commit_of({partition: 10}))
            await member.membership.checkpoints([partition])  # stable: the markers are written
            await asyncio.to_thread(kafka.kill)
            await asyncio.to_thread(kafka.start)
            await append(provider.broker, record(topic, 0, "after"))
            mark = (await member.membership.checkpoints([partition]))[partition]
            assert mark is not None
            assert await provider.broker.ends_of_epochs({partition: mark.leader_epoch}) == {partition: 10}
        finally:
            await provider.close()


def _cut(log: Path, *, batches: int) -> None:
    """Leave a segment's first record batches."""
    data, at = log.read_bytes(), 0
    for _ in range(batches):
        at += 12 + int.from_bytes(data[at + 8 : at + 12], "big")
    log.write_bytes(data[:at])


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
