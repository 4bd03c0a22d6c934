"""How to provoke things in a real Kafka: raw requests beside the implementation, or its last request held back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition  # noqa: TID251 - the other side of the wire
from aiokafka.admin import (  # noqa: TID251 - the contract has no word for what an operator does
    AIOKafkaAdminClient,
    NewPartitions,
    RecordsToDelete,
)
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # noqa: TID251 - as above
from aiokafka.client import AIOKafkaClient, CoordinationType  # noqa: TID251 - the other side of the wire
from aiokafka.protocol.group import LeaveGroupRequest  # noqa: TID251 - the other side of the wire
from aiokafka.structs import OffsetAndMetadata  # noqa: TID251 - the other side of the wire

from playhead.broker.contract import Broker, Commit, Mark, Outcome, Partition, Record
from playhead.broker.kafka import KafkaBroker, writer
from playhead.broker.kafka.link import LostError
from playhead.broker.kafka.membership import GroupTimings
from playhead.broker.kafka.wire import EndTxnRequest
from playhead.config import Settings
from tests.broker.provider import NOW_MS, Member, StuckCommit, read_all, unique
from tests.waiting import wait_until

UNANSWERED_SECONDS = 1.0
"""How long a commit whose end is never answered goes on trying, in these tests."""


class KafkaTransaction:
    """A transaction of aiokafka's own producer."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._open = True

    async def commit(self) -> None:
        self._open = False
        await self._producer.commit_transaction()

    async def abort(self) -> None:
        self._open = False
        await self._producer.abort_transaction()

    async def close(self) -> None:
        if self._open:
            await self.abort()
        await self._producer.stop()


class KafkaProvider:
    """Clients of one Kafka, which other tests use too."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._settings = Settings(bootstrap_servers=bootstrap_servers, metadata_max_age_seconds=1.0)
        self._first = self._new_client()
        self._clients = [self._first]
        self._transactions: list[KafkaTransaction] = []
        self.broker: Broker = self._first
        self.members: list[Member] = []

    def _new_client(self) -> KafkaBroker:
        # Members hear of a rebalance with their next heartbeat; the usual 2 s would be most of this suite's time.
        return KafkaBroker(self._settings, group_timings=GroupTimings(heartbeat_ms=200))

    async def another_client(self) -> Broker:
        client = self._new_client()
        await client.start()
        self._clients.append(client)
        return client

    async def expel(self, member: Member) -> None:
        """Leave the group in the member's name, from a connection of our own."""
        client = AIOKafkaClient(bootstrap_servers=self._settings.bootstrap_servers)
        await client.bootstrap()
        try:
            node = await client.coordinator_lookup(CoordinationType.GROUP, member.group)
            answer = await client.send(node, LeaveGroupRequest(member.group, member.epoch.member_id))
            assert answer.error_code == 0
        finally:
            await client.close()

    async def open_transaction(
        self, records: Sequence[Record], group: str = "", checkpoints: Mapping[Partition, Mark] | None = None
    ) -> KafkaTransaction:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.bootstrap_servers,
            transactional_id=unique("foreign"),
            transaction_timeout_ms=60_000,
        )
        await producer.start()
        transaction = KafkaTransaction(producer)
        self._transactions.append(transaction)
        await producer.begin_transaction()
        for record in records:
            await producer.send_and_wait(
                record.topic, record.value, record.key, partition=record.partition, timestamp_ms=record.timestamp_ms
            )
        if checkpoints:
            offsets = {TopicPartition(*p): OffsetAndMetadata(*mark[:2]) for p, mark in checkpoints.items()}
            await producer.send_offsets_to_transaction(offsets, group)
        return transaction

    async def commit_without_end(self, member: Member, commit: Commit) -> StuckCommit:
        """Hold back the request that ends the transaction."""
        stuck, may_end = asyncio.Event(), asyncio.Event()
        link: Any = member.membership._link  # type: ignore[attr-defined]
        send = link.send

        async def send_later(node: int, request: Any, *lane: Any) -> Any:
            if isinstance(request, EndTxnRequest) and not may_end.is_set():
                stuck.set()
                await may_end.wait()
            return await send(node, request, *lane)

        link.send = send_later
        outcome = asyncio.create_task(member.membership.commit(commit))
        await stuck.wait()
        link.send = send
        return StuckCommit(outcome, may_end)

    async def commit_losing_the_answer(self, member: Member, commit: Commit, *, written: bool) -> Outcome:
        """Send the end of the transaction (or do not), and say each time that the connection broke."""
        link: Any = member.membership._link  # type: ignore[attr-defined]
        send, limit_seconds = link.send, writer.COMMIT_LIMIT_SECONDS

        async def send_and_lose(node: int, request: Any, *lane: Any) -> Any:
            if not isinstance(request, EndTxnRequest):
                return await send(node, request, *lane)
            if written:
                await send(node, request, *lane)
            raise LostError("the test lost the answer", sent=True)

        link.send, writer.COMMIT_LIMIT_SECONDS = send_and_lose, UNANSWERED_SECONDS
        try:
            return await member.membership.commit(commit)
        finally:
            link.send, writer.COMMIT_LIMIT_SECONDS = send, limit_seconds

    async def compact(self, topic: str, gone: Sequence[int]) -> None:
        """Let the cleaner at it. It leaves the newest segment alone: a filler, later by `segment.ms`, opens one."""
        async with self._admin() as admin:
            # Of all of the topic's settings: what is not named here falls back to the broker's.
            settings = {"cleanup.policy": "compact", "segment.ms": "1", "min.cleanable.dirty.ratio": "0.001"}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=settings)])
        partition = Partition(topic, 0)
        await self.broker.append([Record(topic, 0, b"filler", b"filler", [], NOW_MS + 60_000)])

        async def cleaned() -> bool:
            found = {r.offset for r in await read_all(self.broker, partition, committed=False)}
            return found.isdisjoint(gone)

        await wait_until(cleaned, seconds=60)

    async def trim(self, partition: Partition, new_start: int) -> None:
        async with self._admin() as admin:
            await admin.delete_records({TopicPartition(*partition): RecordsToDelete(before_offset=new_start)})

    async def delete_topic(self, topic: str) -> None:
        async with self._admin() as admin:
            await admin.delete_topics([topic])

    async def add_partitions(self, topic: str, partitions: int) -> None:
        async with self._admin() as admin:
            await admin.create_partitions({topic: NewPartitions(total_count=partitions)})

    async def close(self) -> None:
        for transaction in self._transactions:
            await transaction.close()
        for member in self.members:
            await member.membership.leave()
        for client in self._clients:
            await client.stop()

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.bootstrap_servers)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()
