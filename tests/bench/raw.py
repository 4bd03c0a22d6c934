"""What a team would write by hand with aiokafka: the things that Playhead is measured against, in the same run."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.bench.catalog import ThingMade


async def transactional_loop(bootstrap: str, prefix: str, events: int) -> float:
    """Events/s of read, validate, write a run record like Playhead's, commit; one producer, batches of 1,000."""
    group = f"{prefix}raw"
    consumer = AIOKafkaConsumer(
        f"{prefix}thing",
        bootstrap_servers=bootstrap,
        group_id=group,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=group)
    await consumer.start()
    await producer.start()
    done = 0
    started = time.perf_counter()
    while done < events:
        batch = await consumer.getmany(timeout_ms=1000, max_records=1000)
        if not batch:
            continue
        async with producer.transaction():
            sent, offsets = [], {}
            for partition, records in batch.items():
                for record in records:
                    headers = dict(record.headers)
                    if headers["ce_type"] != b"thing.made":
                        continue
                    ThingMade.model_validate_json(record.value)
                    event_id = headers["ce_id"].decode()
                    sent.append(
                        await producer.send(
                            f"{prefix}run",
                            orjson.dumps(_run(event_id, partition.partition)),
                            key=headers["ce_id"],
                            partition=partition.partition,
                            headers=_headers(headers["ce_id"]),
                        )
                    )
                offsets[partition] = records[-1].offset + 1
                done += len(records)
            await asyncio.gather(*sent)
            await producer.send_offsets_to_transaction(offsets, group)
    rate = events / (time.perf_counter() - started)
    await consumer.stop()
    await producer.stop()
    return rate


def _run(event_id: str, task: int) -> dict[str, object]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "runId": f"{event_id}-{task}",
        "jobId": "raw",
        "jobVersion": "1.0.0",
        "eventId": event_id,
        "eventName": "thing.made",
        "task": task,
        "attempt": 1,
        "lease": 1,
        "startedAt": now,
        "durationMs": 0.01,
        "logs": [],
        "output": None,
        "sent": [],
    }


def _headers(event_id: bytes) -> list[tuple[str, bytes]]:
    return [
        ("ce_type", b"run.succeeded"),
        ("ce_id", str(uuid.uuid4()).encode()),
        ("ce_specversion", b"1.0"),
        ("ce_source", b"/raw"),
        ("ce_time", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()).encode()),
        ("content-type", b"application/json"),
        ("ce_causationid", event_id),
        ("ce_correlationid", event_id),
    ]


async def read_starts(bootstrap: str, topic: str, seen: Callable[[bytes], None], stop: asyncio.Event) -> None:
    """A bare consumer: tell each value as soon as it is in hand."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        await consumer.seek_to_end()
        while not stop.is_set():
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    seen(record.value)
    finally:
        await consumer.stop()


async def lone_transactions(bootstrap: str, prefix: str, rounds: int) -> list[float]:
    """Milliseconds from the start of a transaction with one record to that record in a reader's hands."""
    topic, group = f"{prefix}thing", f"{prefix}lone"
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
    await reader.start()
    partition = TopicPartition(topic, 0)
    reader.assign([partition])
    await reader.seek_to_end(partition)
    await reader.position(partition)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=group)
    await producer.start()
    took = []
    for number in range(rounds):
        started = time.perf_counter()
        async with producer.transaction():
            await producer.send_and_wait(topic, b'{"n": 1}', partition=0)
            await producer.send_offsets_to_transaction({partition: number}, group)
        await reader.getone()
        took.append((time.perf_counter() - started) * 1000)
    await producer.stop()
    await reader.stop()
    return took
