"""Records as record batches, without a broker."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka.record.memory_records import MemoryRecords  # noqa: TID251 -- reads back what was encoded
from hypothesis import given
from hypothesis import strategies as st

from playhead.broker.contract import Record
from playhead.broker.kafka.batches import Batch, encode

PRODUCER = (4711, 3)

records = st.lists(
    st.builds(
        Record,
        topic=st.sampled_from(["a", "b"]),
        partition=st.integers(0, 2),
        key=st.none() | st.binary(max_size=10),
        value=st.none() | st.binary(max_size=400),
        headers=st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3),
        timestamp_ms=st.integers(0, 2**41),
    ),
    max_size=40,
)


def content(batches: Sequence[Batch]) -> list[tuple[object, ...]]:
    """What is in the batches of one partition, read back."""
    found: list[tuple[object, ...]] = []
    for batch in batches:
        read = MemoryRecords(bytes(batch.data))
        (part,) = [read.next_batch()]
        assert part is not None
        assert not read.has_next()
        assert part.validate_crc()
        assert part.is_transactional
        assert (part.producer_id, part.producer_epoch, part.base_sequence) == (*PRODUCER, batch.sequence)
        found += [(r.key, r.value, list(r.headers), r.timestamp) for r in part]
    return found


class TestEncoding:
    """Grouped by partition, in order, split where a batch is full, numbered on."""

    @given(records=records, limit=st.integers(100, 3_000))
    def test_every_record_is_in_its_partition_in_order(self, records: list[Record], limit: int) -> None:
        encoded = encode(records, PRODUCER, lambda _: limit)
        assert set(encoded) == {(r.topic, r.partition) for r in records}
        for place, batches in encoded.items():
            wanted = [(r.key, r.value, r.headers, r.timestamp_ms) for r in records if r[:2] == place]
            assert content(batches) == wanted

    @given(records=records, limit=st.integers(100, 3_000))
    def test_batch_names_the_places_of_its_records(self, records: list[Record], limit: int) -> None:
        encoded = encode(records, PRODUCER, lambda _: limit)
        assert sorted(i for batches in encoded.values() for b in batches for i in b.indices) == list(
            range(len(records))
        )
        for place, batches in encoded.items():
            assert all(records[i][:2] == place for batch in batches for i in batch.indices)

    @given(records=records, limit=st.integers(100, 3_000))
    def test_sequence_numbers_follow_each_other(self, records: list[Record], limit: int) -> None:
        for batches in encode(records, PRODUCER, lambda _: limit).values():
            expected = 0
            for batch in batches:
                assert batch.sequence == expected
                expected += len(batch.indices)

    @given(records=records, limit=st.integers(100, 3_000))
    def test_batch_keeps_the_limit_unless_one_record_alone_breaks_it(self, records: list[Record], limit: int) -> None:
        for batches in encode(records, PRODUCER, lambda _: limit).values():
            for batch in batches:
                assert len(batch.data) <= limit or len(batch.indices) == 1

    def test_each_topic_has_its_own_limit(self) -> None:
        many = [Record(topic, 0, None, b"x" * 200, [], 0) for topic in "ab" for _ in range(10)]
        encoded = encode(many, PRODUCER, lambda topic: 500 if topic == "a" else 100_000)
        assert len(encoded["a", 0]) == 5
        assert len(encoded["b", 0]) == 1
