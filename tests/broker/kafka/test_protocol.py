"""The bytes of the requests that are not aiokafka's own, and what each error code means; without a broker."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.broker.kafka import faults, wire
from playhead.broker.kafka.faults import Next
from playhead.errors import BrokerUnavailable, NotAuthorized


class TestProduce:
    """Encoded by hand for speed: the same bytes as from its schema."""

    @given(
        transactional_id=st.none() | st.text(max_size=20),
        topics=st.lists(
            st.tuples(st.text(max_size=200), st.lists(st.tuples(st.integers(0, 2**31 - 1), st.binary(max_size=300)))),
            max_size=4,
        ),
    )
    def test_request_has_the_bytes_of_its_schema(
        self, transactional_id: str | None, topics: list[tuple[str, list[tuple[int, bytes]]]]
    ) -> None:
        built = wire.ProduceRequest(transactional_id, 8_000, topics).prepare({0: (3, 13)})
        nested = [(name, [(index, data, {}) for index, data in batches], {}) for name, batches in topics]
        assert built.encode() == built.SCHEMA.encode((transactional_id, -1, 8_000, nested, {}))


class TestFeatures:
    """The finalized features are a tagged field of ApiVersions (KIP-584)."""

    def test_levels_are_read_from_the_tag(self) -> None:
        features = wire.ApiVersionsResponse.FEATURES.encode(
            [("transaction.version", 2, 1, {}), ("group.version", 1, 0, {})]
        )
        tail = b"\x01\x02" + bytes([len(features)]) + features
        answer = wire.ApiVersionsResponse.decode(BytesIO(b"\x00\x00" + b"\x01" + b"\x00\x00\x00\x00" + tail))
        assert answer.finalized_features() == {"transaction.version": 2, "group.version": 1}

    def test_broker_that_names_none_has_none(self) -> None:
        answer = wire.ApiVersionsResponse.decode(BytesIO(b"\x00\x00" + b"\x01" + b"\x00\x00\x00\x00" + b"\x00"))
        assert answer.finalized_features() == {}


class TestErrorCodes:
    """One table decides what happens next."""

    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            (0, Next.DONE),
            (46, Next.DONE),  # DUPLICATE_SEQUENCE_NUMBER
            (3, Next.AGAIN),  # UNKNOWN_TOPIC_OR_PARTITION: the broker may not know a new topic yet
            (6, Next.AGAIN),  # NOT_LEADER_OR_FOLLOWER
            (14, Next.AGAIN),  # COORDINATOR_LOAD_IN_PROGRESS
            (16, Next.AGAIN),  # NOT_COORDINATOR
            (19, Next.AGAIN),  # NOT_ENOUGH_REPLICAS
            (51, Next.AGAIN),  # CONCURRENT_TRANSACTIONS
            (88, Next.AGAIN),  # UNSTABLE_OFFSET_COMMIT
            (48, Next.AFRESH),  # INVALID_TXN_STATE
            (49, Next.AFRESH),  # INVALID_PRODUCER_ID_MAPPING
            (120, Next.AFRESH),  # TRANSACTION_ABORTABLE
            (22, Next.FENCED),  # ILLEGAL_GENERATION
            (25, Next.FENCED),  # UNKNOWN_MEMBER_ID
            (47, Next.FENCED),  # INVALID_PRODUCER_EPOCH
            (82, Next.FENCED),  # FENCED_INSTANCE_ID
            (90, Next.FENCED),  # PRODUCER_FENCED
            (10, Next.REFUSED),  # MESSAGE_TOO_LARGE
            (29, Next.REFUSED),  # TOPIC_AUTHORIZATION_FAILED
            (32, Next.REFUSED),  # INVALID_TIMESTAMP
            (87, Next.REFUSED),  # INVALID_RECORD
            (30, Next.DENIED),  # GROUP_AUTHORIZATION_FAILED
            (53, Next.DENIED),  # TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            (12, Next.BROKEN),  # OFFSET_METADATA_TOO_LARGE: the engine's mistake
            (42, Next.BROKEN),  # INVALID_REQUEST
        ],
    )
    def test_code_has_one_consequence(self, code: int, expected: Next) -> None:
        assert faults.next_after(code) is expected

    def test_code_that_nobody_knows_is_a_mistake(self) -> None:
        assert faults.next_after(9_999) is Next.BROKEN

    def test_missing_permission_is_told_from_a_broker_in_trouble(self) -> None:
        assert isinstance(faults.raised(29, "writing"), NotAuthorized)
        assert isinstance(faults.raised(53, "writing"), NotAuthorized)
        assert isinstance(faults.raised(15, "writing"), BrokerUnavailable)

    def test_people_read_names(self) -> None:
        assert faults.name(22) == "IllegalGeneration (22)"
        assert faults.name(90) == "PRODUCER_FENCED (90)"
