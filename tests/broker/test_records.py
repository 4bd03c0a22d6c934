"""The broker contract: appending, reading, offsets, retention and compaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from playhead.broker.contract import Appended, Broker, Partition, Record, StoredRecord
from playhead.errors import EventTooLarge, PlayheadError, UnknownTopic
from tests.broker.provider import (
    NOW_MS,
    Provider,
    append,
    new_topic,
    read,
    read_all,
    readable_now,
    record,
    sole_member,
    still_waits,
    unique,
    values,
)


class TestAppending:
    """What is appended is there once, in order, and its offset is known."""

    async def test_records_of_one_partition_keep_their_order(self, client: Broker) -> None:
        topic = await new_topic(client)
        await append(client, *(record(topic, i % 4, f"{i}") for i in range(400)))
        for partition in range(4):
            found = values(await read_all(client, Partition(topic, partition)))
            assert found == [f"{i}" for i in range(partition, 400, 4)]

    async def test_result_names_where_each_record_is(self, client: Broker) -> None:
        topic = await new_topic(client)
        results = await client.append([record(topic, 1, "a"), record(topic, 3, "b"), record(topic, 1, "c")])
        assert results == [Appended(topic, 1, 0), Appended(topic, 3, 0), Appended(topic, 1, 1)]

    async def test_many_records_at_once_are_written_once_each(self, client: Broker) -> None:
        topic = await new_topic(client)
        offsets = await append(client, *(record(topic, i % 4, f"{i}") for i in range(10_000)))
        assert offsets == [i // 4 for i in range(10_000)]
        assert (await client.bounds([Partition(topic, 2)]))[Partition(topic, 2)] == (0, 2_500)

    async def test_appends_at_the_same_time_are_written_once_each(self, client: Broker) -> None:
        topic = await new_topic(client, 1)
        await asyncio.gather(*(append(client, record(topic, 0, f"{i}")) for i in range(200)))
        assert sorted(values(await read_all(client, Partition(topic, 0))), key=str) == sorted(map(str, range(200)))

    async def test_content_comes_back_as_it_was(self, client: Broker) -> None:
        topic = await new_topic(client, 1)
        headers = [("ce_id", b"1"), ("again", b"a"), ("again", b"b"), ("empty", b"")]
        contents: list[tuple[bytes | None, bytes | None]] = [(b"k", b"v"), (None, b"v"), (b"k", None), (b"", b"")]
        await append(client, *(Record(topic, 0, key, value, headers, NOW_MS + 7) for key, value in contents))
        found = await read_all(client, Partition(topic, 0))
        assert [(r.key, r.value) for r in found] == contents
        assert [list(r.headers) for r in found] == [headers] * 4
        assert {(r.topic, r.partition, r.timestamp) for r in found} == {(topic, 0, NOW_MS + 7)}

    async def test_record_too_large_is_refused_and_its_neighbours_are_written(self, client: Broker) -> None:
        topic = await new_topic(client, 1, max_message_bytes="2000")
        results = await client.append([record(topic, 0, "a"), record(topic, 0, "b" * 3_000), record(topic, 0, "c")])
        assert [type(result) for result in results] == [Appended, EventTooLarge, Appended]
        assert values(await read_all(client, Partition(topic, 0))) == ["a", "c"]

    async def test_record_for_a_topic_that_is_not_there_is_an_unknown_topic(self, client: Broker) -> None:
        topic = await new_topic(client, 1)
        missing, written = await client.append([record(unique("absent"), 0, "a"), record(topic, 0, "b")])
        assert isinstance(missing, UnknownTopic)
        assert isinstance(written, Appended)

    async def test_record_for_a_partition_that_is_not_there_is_an_error_of_its_own(self, client: Broker) -> None:
        topic = await new_topic(client, 2)
        missing, written = await client.append([record(topic, 9, "a"), record(topic, 1, "b")])
        assert isinstance(missing, PlayheadError)
        assert isinstance(written, Appended)


class TestReading:
    """A range of offsets is read as the picture in the contract says."""

    async def test_range_includes_its_start_and_not_its_end(self, client: Broker) -> None:
        topic = await new_topic(client, 1)
        await append(client, *(record(topic, 0, f"{i}") for i in range(10)))
        assert values(await read(client, Partition(topic, 0), 3, 7)) == ["3", "4", "5", "6"]

    async def test_empty_range_calls_nobody(self, client: Broker) -> None:
        topic = await new_topic(client, 1)
        assert await read(client, Partition(topic, 0), 0, 0) == []

    async def test_more_records_than_fit_into_one_batch_come_in_order(self, client: Broker) -> None:
        topic = await new_topic(client, 1)
        await append(client, *(record(topic, 0, f"{i}") for i in range(5_000)))
        assert values(await read(client, Partition(topic, 0), 10, 4_990)) == [f"{i}" for i in range(10, 4_990)]

    async def test_committed_reader_sees_neither_open_nor_aborted_records(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, record(topic, 0, "a"))
        aborted = await provider.open_transaction([record(topic, 0, "aborted")])
        await aborted.abort()
        await append(client, record(topic, 0, "b"))
        await provider.open_transaction([record(topic, 0, "open")])
        assert values(await readable_now(client, partition)) == ["a", "b"]

    async def test_uncommitted_reader_sees_open_and_aborted_records(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        await append(client, record(topic, 0, "a"))
        aborted = await provider.open_transaction([record(topic, 0, "aborted")])
        await aborted.abort()
        await provider.open_transaction([record(topic, 0, "open")])
        found = await read_all(client, Partition(topic, 0), committed=False)
        assert values(found) == ["a", "aborted", "open"]

    async def test_end_of_a_transaction_takes_an_offset(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        transaction = await provider.open_transaction([record(topic, 0, "a"), record(topic, 0, "b")])
        await transaction.commit()
        await append(client, record(topic, 0, "c"))
        found = await read_all(client, Partition(topic, 0))
        assert [(r.offset, r.value) for r in found] == [(0, b"a"), (1, b"b"), (3, b"c")]

    async def test_read_ends_where_nothing_but_a_marker_is_left(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        transaction = await provider.open_transaction([record(topic, 0, "a")])
        await transaction.commit()
        end = (await client.bounds([partition]))[partition][1]
        assert end == 2
        assert values(await read(client, partition, 0, end)) == ["a"]
        assert await read(client, partition, 1, end) == []

    async def test_read_ends_where_nothing_but_aborted_records_are_left(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 1)
        transaction = await provider.open_transaction([record(topic, 0, "a"), record(topic, 0, "b")])
        await transaction.abort()
        assert await read_all(client, Partition(topic, 0)) == []

    async def test_committed_read_waits_for_what_was_open_before_its_end(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, record(topic, 0, "a"))
        transaction = await provider.open_transaction([record(topic, 0, "b")])
        await append(client, record(topic, 0, "c"))
        end = (await client.bounds([partition], committed=False))[partition][1]
        reading = asyncio.create_task(read(client, partition, 0, end))
        assert await still_waits(reading, client, partition)
        await transaction.commit()
        assert values(await reading) == ["a", "b", "c"]

    async def test_read_waits_for_records_that_are_not_written_yet(self, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        reading = asyncio.create_task(read(client, partition, 0, 2))
        await append(client, record(topic, 0, "a"))
        assert await still_waits(reading, client, partition)
        await append(client, record(topic, 0, "b"))
        assert values(await reading) == ["a", "b"]

    async def test_error_of_the_sink_ends_the_read(self, client: Broker) -> None:
        topic = await new_topic(client, 1)
        await append(client, record(topic, 0, "a"))

        async def sink(records: Sequence[StoredRecord]) -> None:
            raise LookupError(len(records))

        with pytest.raises(LookupError):
            await client.read(Partition(topic, 0), 0, 1, sink)


class TestBounds:
    """Where a partition begins and ends, for whom."""

    async def test_empty_partition_begins_and_ends_at_zero(self, client: Broker) -> None:
        topic = await new_topic(client)
        partitions = [Partition(topic, i) for i in range(4)]
        assert await client.bounds(partitions) == dict.fromkeys(partitions, (0, 0))

    async def test_committed_end_is_before_the_first_open_record(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, record(topic, 0, "a"))
        transaction = await provider.open_transaction([record(topic, 0, "open")])
        await append(client, record(topic, 0, "b"))
        assert (await client.bounds([partition]))[partition] == (0, 1)
        assert (await client.bounds([partition], committed=False))[partition] == (0, 3)
        await transaction.abort()
        assert values(await read_all(client, partition)) == ["a", "b"]
        assert (await client.bounds([partition]))[partition] == (0, 4)

    async def test_time_leads_to_the_first_record_that_is_not_older(self, client: Broker) -> None:
        topic = await new_topic(client, 2)
        await append(client, *(record(topic, 0, f"{i}", timestamp_ms=NOW_MS + 10 * i) for i in range(5)))
        first, empty = Partition(topic, 0), Partition(topic, 1)
        assert await client.offsets_at([first, empty], NOW_MS + 20) == {first: 2, empty: 0}
        assert await client.offsets_at([first], NOW_MS + 21) == {first: 3}
        assert await client.offsets_at([first], 0) == {first: 0}

    async def test_time_after_the_last_record_leads_to_the_end(self, client: Broker) -> None:
        topic = await new_topic(client, 1)
        await append(client, *(record(topic, 0, f"{i}") for i in range(3)))
        partition = Partition(topic, 0)
        assert await client.offsets_at([partition], NOW_MS + 1) == {partition: 3}


class TestRetention:
    """What retention takes is gone; offsets do not move."""

    async def test_start_moves_and_offsets_stay(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1)
        partition = Partition(topic, 0)
        await append(client, *(record(topic, 0, f"{i}") for i in range(10)))
        await provider.trim(partition, 6)
        assert (await client.bounds([partition]))[partition] == (6, 10)
        assert [r.offset for r in await read_all(client, partition)] == [6, 7, 8, 9]


class TestCompaction:
    """A compacted topic keeps the newest record of each key, where it was."""

    COMPACTED = {
        "cleanup_policy": "compact",
        "segment_ms": "1",
        "min_cleanable_dirty_ratio": "0.001",
        "min_compaction_lag_ms": str(24 * 3600 * 1000),  # nothing goes before the test says so
    }

    async def test_newest_record_of_each_key_stays_at_its_offset(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1, **self.COMPACTED)
        await append(client, *(record(topic, 0, f"{key}{i}", key=key) for i in range(5) for key in "ab"))
        await append(client, record(topic, 0, "c0", key="c"))
        await provider.compact(topic, gone=range(8))
        found = [
            (r.offset, r.value) for r in await read_all(client, Partition(topic, 0)) if r.key in {b"a", b"b", b"c"}
        ]
        assert found == [(8, b"a4"), (9, b"b4"), (10, b"c0")]

    async def test_tombstone_outlives_what_it_deletes(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1, **self.COMPACTED)
        await append(client, record(topic, 0, "a0", key="a"), record(topic, 0, "b0", key="b"))
        await append(client, record(topic, 0, None, key="a"))
        await provider.compact(topic, gone=[0])
        found = [(r.offset, r.value) for r in await read_all(client, Partition(topic, 0)) if r.key in {b"a", b"b"}]
        assert found == [(1, b"b0"), (2, None)]

    async def test_what_is_behind_an_open_transaction_is_not_compacted(
        self, provider: Provider, client: Broker
    ) -> None:
        topic = await new_topic(client, 1, **self.COMPACTED)
        await append(client, record(topic, 0, "a0", key="a"), record(topic, 0, "a1", key="a"))
        # Later than segment.ms, and so in another segment: Kafka compacts none that has a part of an open transaction.
        await provider.open_transaction([record(topic, 0, "b0", key="b", timestamp_ms=NOW_MS + 10_000)])
        await append(client, record(topic, 0, "a2", key="a", timestamp_ms=NOW_MS + 10_000))
        await provider.compact(topic, gone=[0])
        found = [(r.offset, r.value) for r in await read_all(client, Partition(topic, 0), committed=False)]
        assert (0, b"a0") not in found
        assert {(1, b"a1"), (2, b"b0"), (3, b"a2")} <= set(found)

    async def test_record_without_a_key_is_refused(self, client: Broker) -> None:
        topic = await new_topic(client, 1, **self.COMPACTED)
        (result,) = await client.append([record(topic, 0, "a")])
        assert isinstance(result, PlayheadError)

    async def test_restoring_reads_over_gaps(self, provider: Provider, client: Broker) -> None:
        topic = await new_topic(client, 1, **self.COMPACTED)
        member = await sole_member(provider, topic, tasks=1)
        partition = Partition(topic, 0)
        for i in range(3):
            await member.membership.commit(member.commit_of({partition: i}, [record(topic, 0, f"{i}", key="a")]))
        await append(client, record(topic, 0, "last", key="b"))
        assert values(await read_all(client, partition)) == ["0", "1", "2", "last"]
        end = (await client.bounds([partition]))[partition][1]
        await provider.compact(topic, gone=[0, 2])
        assert values(await read(client, partition, 0, end)) == ["2", "last"]
