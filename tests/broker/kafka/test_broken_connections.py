"""Connections that break at any byte: a commit is all or nothing, an append is written once, and both go on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from playhead.broker.contract import Appended, Committed, Mark, Partition, Unknown
from playhead.broker.kafka import KafkaBroker, writer
from playhead.errors import BrokerUnavailable
from tests.broker.kafka.proxy import Proxy
from tests.broker.kafka_provider import KafkaProvider
from tests.broker.provider import append, new_topic, read_all, record, sole_member, values

pytestmark = pytest.mark.kafka

END_TXN, PRODUCE = 26, 0
"""Api keys."""


def api_key(chunk: bytes) -> int:
    """Of the request that a chunk begins with: size, api key, …"""
    return int.from_bytes(chunk[4:6], "big")


@pytest.fixture
async def proxy(kafka_bootstrap: str) -> AsyncIterator[Proxy]:
    host, port = kafka_bootstrap.rsplit(":", 1)
    async with Proxy(host, int(port)) as started:
        yield started


@pytest.fixture
def client(provider: KafkaProvider) -> KafkaBroker:
    return provider._first


class TestBrokenAtRandom:
    """A fifth of what the client sends breaks its connection, before or after it arrived."""

    @pytest.mark.parametrize("seed", range(3))
    async def test_commits_are_all_or_nothing_and_the_checkpoint_tells(
        self, provider: KafkaProvider, client: KafkaBroker, proxy: Proxy, seed: int
    ) -> None:
        topic = await new_topic(client, 3)
        partitions = [Partition(topic, n) for n in range(3)]
        member = await sole_member(provider, topic, tasks=3)
        rng = random.Random(seed)
        proxy.cut_before = lambda _: rng.random() < 0.1
        proxy.cut_after = lambda _: rng.random() < 0.1
        expected: list[str] = []
        with proxy.between(client):
            for n in range(1, 61):
                marks = {partition: Mark(n, "ranges") for partition in partitions}
                commit = member.commit_of(marks, [record(topic, p, f"{n}") for p in range(3)])
                outcome = await member.membership.commit(commit)
                assert isinstance(outcome, Committed | Unknown), outcome
                stable = set((await member.membership.checkpoints(partitions)).values())
                assert len(stable) == 1
                (mark,) = stable
                if isinstance(outcome, Committed):
                    assert mark == Mark(n, "ranges")
                if mark is not None and mark.offset == n:
                    expected.append(f"{n}")
        assert proxy.cuts > 20
        assert len(expected) > 50
        for partition in partitions:
            assert values(await read_all(client, partition)) == expected

    async def test_appends_are_written_once_each_in_order(self, client: KafkaBroker, proxy: Proxy) -> None:
        topic = await new_topic(client, 2)
        rng = random.Random(7)
        proxy.cut_before = lambda _: rng.random() < 0.1
        proxy.cut_after = lambda _: rng.random() < 0.1
        with proxy.between(client):
            for n in range(0, 200, 4):
                records = [record(topic, k % 2, f"{k}") for k in range(n, n + 4)]
                assert all(isinstance(result, Appended) for result in await client.append(records))
        assert proxy.cuts > 10
        for half in range(2):
            found = values(await read_all(client, Partition(topic, half)))
            assert found == [f"{k}" for k in range(200) if k % 2 == half]


class TestBrokenForGood:
    """The broker can't be reached any more from the end of a transaction on."""

    @pytest.mark.parametrize("arrived", [True, False])
    async def test_outcome_is_unknown_and_the_checkpoint_tells(
        self, provider: KafkaProvider, client: KafkaBroker, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, arrived: bool
    ) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        member = await sole_member(provider, topic, tasks=1)
        monkeypatch.setattr(writer, "COMMIT_LIMIT_SECONDS", 0.5)

        def end(chunk: bytes) -> bool:
            proxy.refusing |= api_key(chunk) == END_TXN
            return proxy.refusing

        if arrived:
            proxy.cut_after = end
        else:
            proxy.cut_before = end
        with proxy.between(client):
            outcome = await member.membership.commit(member.commit_of({partition: 5}, [record(topic, 0, "a")]))
            assert isinstance(outcome, Unknown)
            proxy.cut_before = proxy.cut_after = lambda _: False
            proxy.refusing = False
            async with asyncio.timeout(5):
                mark = (await member.membership.checkpoints([partition]))[partition]
        assert mark == (Mark(5) if arrived else None)
        assert values(await read_all(client, partition)) == (["a"] if arrived else [])

    async def test_append_gives_up_in_time_and_is_not_written_twice_later(
        self, kafka_bootstrap: str, proxy: Proxy, provider: KafkaProvider
    ) -> None:
        client = KafkaBroker(provider._settings.model_copy(update={"send_timeout_seconds": 0.5}))
        await client.start()
        try:
            topic = await new_topic(client, 1)
            await append(client, record(topic, 0, "before"))
            with proxy.between(client):
                proxy.cut_after = lambda chunk: api_key(chunk) == PRODUCE
                async with asyncio.timeout(2):
                    (late,) = await client.append([record(topic, 0, "late")])
                assert isinstance(late, BrokerUnavailable)
                proxy.cut_after = lambda _: False
                await append(client, record(topic, 0, "after"))
            assert values(await read_all(client, Partition(topic, 0))) == ["before", "late", "after"]
        finally:
            await client.stop()

    async def test_append_waits_once_also_where_its_topic_is_asked_for_first(
        self, proxy: Proxy, provider: KafkaProvider
    ) -> None:
        limit_seconds = 1.5
        update = {"send_timeout_seconds": limit_seconds, "metadata_max_age_seconds": 0.001}
        client = KafkaBroker(provider._settings.model_copy(update=update))
        await client.start()
        try:
            topic = await new_topic(client, 1)
            await append(client, record(topic, 0, "before"))
            with proxy.between(client):
                proxy.refusing = True
                async with asyncio.timeout(limit_seconds * 1.8):
                    (late,) = await client.append([record(topic, 0, "late")])
            assert isinstance(late, BrokerUnavailable)
        finally:
            await client.stop()
