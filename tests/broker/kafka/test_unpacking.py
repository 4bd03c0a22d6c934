"""Batches that other producers write: compressed, with header names of any bytes, or damaged."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

import aiokafka.codec  # noqa: TID251 -- what is missing where cramjam is
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition  # noqa: TID251 -- the other side of the wire
from aiokafka.record.default_records import DefaultRecordBatchBuilder  # noqa: TID251 -- writes what is read here
from aiokafka.record.util import calc_crc32c  # noqa: TID251
from hypothesis import given
from hypothesis import strategies as st

from playhead.broker.contract import Partition
from playhead.broker.kafka import wire
from playhead.broker.kafka.unpacking import Batches, Records
from playhead.errors import UnreadableRecords
from tests.broker.kafka_provider import KafkaProvider
from tests.broker.provider import NOW_MS, append, new_topic, read_all, record, sole_member, values

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
PLACEHOLDER = "ce_xx"


def batch(*values: bytes, first: int = 0, codec: int = 0, name: bytes = PLACEHOLDER.encode()) -> bytes:
    """A batch whose records have one header each, with this name, of five bytes."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
    for offset, value in enumerate(values):
        builder.append(offset, NOW_MS + offset, b"key", value, [(PLACEHOLDER, b"content")])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, first)
    return signed(data.replace(PLACEHOLDER.encode(), name))


def signed(data: bytearray) -> bytes:
    """With the checksum of what it is now."""
    struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
    return bytes(data)


def unpacked(data: bytes, start: int = 0) -> Records:
    return Records(TopicPartition("user", 0), Batches(data), [], start, None, None, True, 1)


class TestHeaderNames:
    """Any bytes: what is not UTF-8 in them is replaced, and the record is read like any other."""

    def test_records_around_it_and_behind_its_batch_are_read(self) -> None:
        data = batch(b"a", b"b") + batch(b"c", b"d", first=2, name=b"ce_\xff\xfe") + batch(b"e", first=7)
        records = unpacked(data, start=1)
        found = list(records)
        assert [(r.offset, r.value, r.timestamp - NOW_MS) for r in found] == [
            (1, b"b", 1),
            (2, b"c", 0),
            (3, b"d", 1),
            (7, b"e", 0),
        ]
        assert [r.headers for r in found[1:3]] == [(("ce_\ufffd\ufffd", b"content"),)] * 2
        assert records.next_fetch_offset == 8

    @given(name=st.binary(min_size=5, max_size=5), codec=st.sampled_from([0, GZIP]))
    def test_any_name_of_any_bytes_is_read(self, name: bytes, codec: int) -> None:
        plain = batch(b"a", b"b", first=3, name=name)
        data = compressed(plain, codec)
        (first, second) = unpacked(data)
        assert (first.offset, second.offset) == (3, 4)
        assert first.headers == ((name.decode(errors="replace"), b"content"),)
        assert (first.key, second.value) == (b"key", b"b")


def compressed(data: bytes, codec: int) -> bytes:
    """An uncompressed batch, compressed."""
    if codec == 0:
        return data
    body = aiokafka.codec.gzip_encode(data[61:])
    made = bytearray(data[:61] + body)
    struct.pack_into(">i", made, 8, len(made) - 12)
    struct.pack_into(">h", made, 21, codec)
    return signed(made)


class TestDamaged:
    """A batch that can't be read is told with its place, and what lies before it is handed out first."""

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: data[:-1] + bytes([data[-1] ^ 1]),
            lambda data: signed(bytearray(data[:61] + b"\x7f" + data[62:])),
            lambda data: signed(bytearray(data[:22] + bytes([GZIP]) + data[23:])),
            lambda data: signed(bytearray(data[:22] + bytes([7]) + data[23:])),
        ],
        ids=["checksum", "length", "no gzip", "no such codec"],
    )
    def test_is_an_error_that_names_topic_partition_and_offset(self, damage: Callable[[bytes], bytes]) -> None:
        records = unpacked(batch(b"a", b"b") + damage(batch(b"c", first=2)))
        assert [next(records).offset, next(records).offset] == [0, 1]
        with pytest.raises(UnreadableRecords, match=r"user\[0\] at offset 2"):
            next(records)

    @given(at=st.integers(22, 100), byte=st.integers(0, 255))
    def test_no_byte_of_a_batch_makes_another_error(self, at: int, byte: int) -> None:
        data = bytearray(batch(b"a", b"b", b"c" * 20))
        data[at % len(data)] = byte
        for made in (bytes(data), signed(data)):
            try:
                for _ in unpacked(made):
                    pass
            except UnreadableRecords:
                pass

    @pytest.mark.parametrize("codec", [SNAPPY, LZ4, ZSTD])
    def test_codec_that_is_not_installed_is_told_with_what_to_install(
        self, codec: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = batch(b"a" * 1_000, codec=codec)
        assert [r.value for r in unpacked(data)] == [b"a" * 1_000]
        for name in ("has_snappy", "has_lz4", "has_zstd"):
            monkeypatch.setattr(aiokafka.codec, name, lambda: False)
        with pytest.raises(UnreadableRecords, match="pip install cramjam"):
            list(unpacked(data))


async def fetched_and_read(provider: KafkaProvider, topic: str, wanted: int) -> tuple[list[Any], list[Any]]:
    """What a member of a group gets of a topic with one partition, and what a reader outside groups gets."""
    partition = Partition(topic, 0)
    member = await sole_member(provider, topic, tasks=1)
    member.membership.seek(partition, 0)
    member.membership.resume([partition])
    return list(await member.fetch_all(wanted)), await read_all(provider.broker, partition)


@pytest.mark.kafka
class TestOnABroker:
    @pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
    async def test_records_of_a_producer_that_compresses_are_fetched_and_read(
        self, provider: KafkaProvider, codec: str
    ) -> None:
        topic = await new_topic(provider.broker, 1)
        wanted = [f"{n}" * 500 for n in range(5)]
        producer = AIOKafkaProducer(
            bootstrap_servers=provider._settings.bootstrap_servers, compression_type=codec, linger_ms=50
        )
        await producer.start()
        try:
            await _send_together(producer, topic, wanted)
        finally:
            await producer.stop()
        for found in await fetched_and_read(provider, topic, 5):
            assert values(found) == wanted

    async def test_topic_that_compresses_what_playhead_writes_is_fetched_and_read(
        self, provider: KafkaProvider
    ) -> None:
        topic = await new_topic(provider.broker, 1, compression_type="zstd")
        await append(provider.broker, *(record(topic, 0, f"{n}" * 500) for n in range(5)))
        for found in await fetched_and_read(provider, topic, 5):
            assert values(found) == [f"{n}" * 500 for n in range(5)]

    async def test_header_name_that_is_not_utf_8_is_fetched_and_read(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 1)
        await append(provider.broker, record(topic, 0, "before"))
        await _produce(provider, topic, batch(b"foreign", name=b"ce_\xff\xfe"))
        await append(provider.broker, record(topic, 0, "after"))
        for found in await fetched_and_read(provider, topic, 3):
            assert values(found) == ["before", "foreign", "after"]
            assert found[1].headers == (("ce_\ufffd\ufffd", b"content"),)


async def _send_together(producer: AIOKafkaProducer, topic: str, texts: Iterable[str]) -> None:
    sent = [await producer.send(topic, text.encode(), partition=0) for text in texts]
    for one in sent:
        await one


async def _produce(provider: KafkaProvider, topic: str, data: bytes) -> None:
    """Write a batch as it is."""
    link: Any = provider.broker._link  # type: ignore[attr-defined]
    request = wire.ProduceRequest(None, 5_000, [(topic, [(0, data)])])
    answer = await link.send(link.leader(Partition(topic, 0)), request)
    assert answer.topics[0][1][0][1] == 0
