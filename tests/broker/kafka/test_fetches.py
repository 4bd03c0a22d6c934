"""What a consumer's fetches tell beyond the records: leader epochs, and errors that aiokafka only logs."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest  # noqa: TID251 - the other side of the wire
from hypothesis import given
from hypothesis import strategies as st

from playhead.broker.contract import Partition
from playhead.broker.kafka.fetches import youngest_leader_epoch
from playhead.errors import BrokerUnavailable, UnreadableRecords
from tests.broker.kafka.test_unpacking import batch
from tests.broker.kafka_provider import KafkaProvider
from tests.broker.provider import Member, append, new_topic, record, sole_member, values


def of_epoch(epoch: int, *, first: int = 0) -> bytes:
    data = bytearray(batch(b"a", b"b", first=first))
    struct.pack_into(">i", data, 12, epoch)  # the checksum does not cover it: the broker fills it in
    return bytes(data)


class TestYoungestLeaderEpoch:
    def test_is_the_last_batchs(self) -> None:
        assert youngest_leader_epoch(of_epoch(3) + of_epoch(3, first=2) + of_epoch(7, first=4)) == 7

    def test_of_nothing_is_none(self) -> None:
        assert youngest_leader_epoch(b"") == -1

    @pytest.mark.parametrize("left", [16, 30, 61])
    def test_last_batch_may_be_cut_off(self, left: int) -> None:
        assert youngest_leader_epoch(of_epoch(3) + of_epoch(7, first=2)[:left]) == 7

    def test_header_that_is_cut_off_does_not_count(self) -> None:
        assert youngest_leader_epoch(of_epoch(3) + of_epoch(7, first=2)[:15]) == 3

    @given(data=st.binary(max_size=200))
    def test_any_bytes_come_to_an_end(self, data: bytes) -> None:
        youngest_leader_epoch(data)


async def fetching(provider: KafkaProvider, answered: Callable[[int], int]) -> tuple[Member, Partition]:
    """A member of a topic with one record; the code of each answer to its fetches goes through `answered`."""
    topic = await new_topic(provider.broker, 1)
    partition = Partition(topic, 0)
    await append(provider.broker, record(topic, 0, "a"))
    member = await sole_member(provider, topic, tasks=1)
    consumer: Any = member.membership._consumer  # type: ignore[attr-defined]
    send = consumer._client.send

    async def send_and_change(node: int, request: Any, **options: Any) -> Any:
        answer = await send(node, request, **options)
        if isinstance(request, FetchRequest):
            for _, entries in answer.topics:
                for i, (number, code, *others, data) in enumerate(entries):
                    told = answered(code)
                    entries[i] = (number, told, *others, data if told == code else b"")
        return answer

    consumer._client.send = send_and_change
    member.membership.seek(partition, 0)
    member.membership.resume([partition])
    return member, partition


@pytest.mark.kafka
class TestErrorsThatAiokafkaOnlyLogs:
    """A partition never stands still in silence."""

    @pytest.mark.parametrize("code", [2, 76])
    async def test_records_that_the_broker_can_not_give_are_an_error_with_their_place(
        self, provider: KafkaProvider, code: int
    ) -> None:
        member, partition = await fetching(provider, lambda _: code)
        with pytest.raises(UnreadableRecords, match=rf"{partition.topic}\[0\] at offset 0"):
            await member.fetch_all(1)

    async def test_code_that_nobody_expects_is_an_error(self, provider: KafkaProvider) -> None:
        member, _ = await fetching(provider, lambda _: 42)
        with pytest.raises(BrokerUnavailable, match="InvalidRequest"):
            await member.fetch_all(1)

    @pytest.mark.parametrize("code", [-1, 5, 9, 56, 74, 75, 78, 100])
    async def test_broker_that_is_not_ready_is_asked_again_and_said_so(
        self, provider: KafkaProvider, code: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        codes = [code, code]
        with caplog.at_level(logging.WARNING, logger="playhead"):
            member, partition = await fetching(provider, lambda told: codes.pop() if codes else told)
            assert values(await member.fetch_all(1)) == ["a"]
        ours = [line for line in caplog.records if line.name.startswith("playhead.broker.kafka.fetches")]
        assert len(ours) == 2
        assert all(f"{partition.topic}[0]" in line.getMessage() and f"({code})" in line.getMessage() for line in ours)
