"""The protocol versions that Playhead needs and aiokafka does not have.

All of them are flexible versions (KIP-482): compact strings and arrays, tagged fields at the end of every structure.
The field lists follow Kafka's message definitions (`clients/src/main/resources/common/message/*.json`).

| request | version | why |
|---|---|---|
| ApiVersions | 3 | tells the finalized features, among them `transaction.version` (KIP-584) |
| Produce | 12 | adds the partition to the transaction by itself (KIP-890); names refused records (KIP-467) |
| TxnOffsetCommit | 5 | carries the membership (KIP-447); adds the group to the transaction by itself (KIP-890) |
| EndTxn | 5 | ends the transaction and answers the next epoch (KIP-890) |
| OffsetFetch | 7 | `require_stable` (KIP-447) |
| DescribeTransactions | 0 | tells how a transactional id's last transaction ended (KIP-664) |
| ListTransactions | 0 | tells which transactional ids there are (KIP-664) |
| DescribeProducers | 0 | tells what a producer has open in a partition (KIP-664) |
"""
# mypy: disallow-subclassing-any=False
# pyright: reportIncompatibleMethodOverride=false, reportAssignmentType=false, reportAttributeAccessIssue=false
# aiokafka declares API_KEY and API_VERSION as properties, and fields by its schemas alone; its own classes do as these.

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, ClassVar

from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
    UnsignedVarInt32,
)

_NAME = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)
_NO_TAGS = b"\x00"

PartitionBatch = tuple[int, bytes | bytearray]
"""A partition number and one whole record batch for it."""


class ApiVersionsResponse(Response):
    """Its header is never flexible: the client can't know the versions before it has read it (KIP-511)."""

    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        ("api_keys", CompactArray(("api_key", Int16), ("min_version", Int16), ("max_version", Int16), _TAGS)),
        ("throttle_time_ms", Int32),
        _TAGS,
    )

    FINALIZED_FEATURES_TAG: ClassVar[int] = 2
    FEATURES: ClassVar[Any] = CompactArray(("name", _NAME), ("max_level", Int16), ("min_level", Int16), _TAGS)

    def finalized_features(self) -> dict[str, int]:
        """The level of each feature that the cluster has finalized."""
        encoded = self.tags.get(self.FINALIZED_FEATURES_TAG)
        if encoded is None:
            return {}
        return {name: max_level for name, max_level, _, _ in self.FEATURES.decode(BytesIO(encoded))}


class ApiVersionsRequestStruct(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 18
    API_VERSION = 3
    RESPONSE_TYPE = ApiVersionsResponse
    SCHEMA = Schema(("client_software_name", _NAME), ("client_software_version", _NAME), _TAGS)

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> Any:
        return ResponseHeader_v0.decode(read_buffer)


class ApiVersionsRequest(Request[ApiVersionsRequestStruct]):
    """Which versions and features the broker has."""

    API_KEY = 18

    def __init__(self, version: str) -> None:
        self._version = version

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class("playhead", self._version, {})


_PRODUCE_REQUEST = Schema(
    ("transactional_id", _NAME),
    ("acks", Int16),
    ("timeout_ms", Int32),
    (
        "topics",
        CompactArray(
            ("name", _NAME),
            ("partitions", CompactArray(("index", Int32), ("records", CompactBytes), _TAGS)),
            _TAGS,
        ),
    ),
    _TAGS,
)
_PRODUCE_RESPONSE = Schema(
    (
        "topics",
        CompactArray(
            ("name", _NAME),
            (
                "partitions",
                CompactArray(
                    ("index", Int32),
                    ("error_code", Int16),
                    ("base_offset", Int64),
                    ("log_append_time_ms", Int64),
                    ("log_start_offset", Int64),
                    ("record_errors", CompactArray(("batch_index", Int32), ("message", _NAME), _TAGS)),
                    ("error_message", _NAME),
                    _TAGS,
                ),
            ),
            _TAGS,
        ),
    ),
    ("throttle_time_ms", Int32),
    _TAGS,
)


class ProduceResponse(Response):
    API_KEY = 0
    API_VERSION = 12
    SCHEMA = _PRODUCE_RESPONSE


class ProduceRequest_v12(RequestStruct):
    """Encoded in one pass: aiokafka's nested encoders copy each batch seven times."""

    FLEXIBLE_VERSION = True
    API_KEY = 0
    API_VERSION = 12
    RESPONSE_TYPE = ProduceResponse
    SCHEMA = _PRODUCE_REQUEST

    def encode(self) -> bytes:
        varint = UnsignedVarInt32.encode
        parts: list[bytes | bytearray] = [
            _NAME.encode(self.transactional_id),
            Int16.encode(self.acks),
            Int32.encode(self.timeout_ms),
            varint(len(self.topics) + 1),
        ]
        for name, partitions in self.topics:
            parts += (_NAME.encode(name), varint(len(partitions) + 1))
            for index, batch in partitions:
                parts += (Int32.encode(index), varint(len(batch) + 1), batch, _NO_TAGS)
            parts.append(_NO_TAGS)
        parts.append(_NO_TAGS)
        return b"".join(parts)


class ProduceRequest(Request[ProduceRequest_v12]):
    """Append one batch to each partition named, acknowledged by all in-sync replicas."""

    API_KEY = 0

    def __init__(
        self, transactional_id: str | None, timeout_ms: int, topics: Sequence[tuple[str, Sequence[PartitionBatch]]]
    ) -> None:
        self._transactional_id, self._timeout_ms, self._topics = transactional_id, timeout_ms, topics

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(self._transactional_id, -1, self._timeout_ms, self._topics, {})


class TxnOffsetCommitResponse(Response):
    API_KEY = 28
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", _NAME),
                ("partitions", CompactArray(("index", Int32), ("error_code", Int16), _TAGS)),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class TxnOffsetCommitRequest_v5(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 28
    API_VERSION = 5
    RESPONSE_TYPE = TxnOffsetCommitResponse
    SCHEMA = Schema(
        ("transactional_id", _NAME),
        ("group_id", _NAME),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", _NAME),
        ("group_instance_id", _NAME),
        (
            "topics",
            CompactArray(
                ("name", _NAME),
                (
                    "partitions",
                    CompactArray(
                        ("index", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", _NAME), _TAGS
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class TxnOffsetCommitRequest(Request[TxnOffsetCommitRequest_v5]):
    """Set a group's offsets in a transaction, if `member_id` is a member in `generation`.

    `topics` is [(name, [(partition, offset, metadata, leader epoch)])].
    """

    API_KEY = 28

    def __init__(
        self,
        transactional_id: str,
        group: str,
        producer: tuple[int, int],
        generation: int,
        member_id: str,
        topics: Sequence[tuple[str, Sequence[tuple[int, int, str, int]]]],
    ) -> None:
        marks: Any = [
            (name, [(p, offset, epoch, text, {}) for p, offset, text, epoch in entries], {}) for name, entries in topics
        ]
        self._fields: Any = (transactional_id, group, *producer, generation, member_id, None, marks, {})

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(*self._fields)


class EndTxnResponse(Response):
    API_KEY = 26
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        _TAGS,
    )


class EndTxnRequest_v5(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 26
    API_VERSION = 5
    RESPONSE_TYPE = EndTxnResponse
    SCHEMA = Schema(
        ("transactional_id", _NAME),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("committed", Boolean),
        _TAGS,
    )


class EndTxnRequest(Request[EndTxnRequest_v5]):
    """Commit or abort; the answer holds the producer id and epoch of the next transaction."""

    API_KEY = 26

    def __init__(self, transactional_id: str, producer: tuple[int, int], *, committed: bool) -> None:
        self._fields: Any = (transactional_id, *producer, committed, {})

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(*self._fields)


class OffsetFetchResponse(Response):
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", _NAME),
                (
                    "partitions",
                    CompactArray(
                        ("index", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", _NAME),
                        ("error_code", Int16),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        ("error_code", Int16),
        _TAGS,
    )


class OffsetFetchRequest_v7(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 9
    API_VERSION = 7
    RESPONSE_TYPE = OffsetFetchResponse
    SCHEMA = Schema(
        ("group_id", _NAME),
        ("topics", CompactArray(("name", _NAME), ("partitions", CompactArray(Int32)), _TAGS)),
        ("require_stable", Boolean),
        _TAGS,
    )


class OffsetFetchRequest(Request[OffsetFetchRequest_v7]):
    """A group's offsets: of the partitions named, or (None) of all that it has."""

    API_KEY = 9

    def __init__(self, group: str, topics: Sequence[tuple[str, Sequence[int]]] | None, *, stable: bool) -> None:
        named: Any = None if topics is None else [(name, list(partitions), {}) for name, partitions in topics]
        self._fields: Any = (group, named, stable, {})

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(*self._fields)


class DescribeTransactionsResponse(Response):
    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "transactions",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", _NAME),
                ("state", _NAME),
                ("timeout_ms", Int32),
                ("start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("topics", CompactArray(("name", _NAME), ("partitions", CompactArray(Int32)), _TAGS)),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class DescribeTransactionsRequest_v0(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 65
    API_VERSION = 0
    RESPONSE_TYPE = DescribeTransactionsResponse
    SCHEMA = Schema(("transactional_ids", CompactArray(_NAME)), _TAGS)


class DescribeTransactionsRequest(Request[DescribeTransactionsRequest_v0]):
    """The state of these transactional ids; only their coordinator answers."""

    API_KEY = 65

    def __init__(self, transactional_ids: Sequence[str]) -> None:
        self._transactional_ids = list(transactional_ids)

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(self._transactional_ids, {})


class ListTransactionsResponse(Response):
    API_KEY = 66
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("unknown_states", CompactArray(_NAME)),
        (
            "transactions",
            CompactArray(("transactional_id", _NAME), ("producer_id", Int64), ("state", _NAME), _TAGS),
        ),
        _TAGS,
    )


class ListTransactionsRequest_v0(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 66
    API_VERSION = 0
    RESPONSE_TYPE = ListTransactionsResponse
    SCHEMA = Schema(("states", CompactArray(_NAME)), ("producer_ids", CompactArray(Int64)), _TAGS)


class ListTransactionsRequest(Request[ListTransactionsRequest_v0]):
    """The transactional ids in one of these states that the node asked coordinates."""

    API_KEY = 66

    def __init__(self, states: Sequence[str]) -> None:
        self._states = list(states)

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(self._states, [], {})


class DescribeProducersResponse(Response):
    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", _NAME),
                (
                    "partitions",
                    CompactArray(
                        ("index", Int32),
                        ("error_code", Int16),
                        ("error_message", _NAME),
                        (
                            "producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("open_since", Int64),
                                _TAGS,
                            ),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class DescribeProducersRequest_v0(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 61
    API_VERSION = 0
    RESPONSE_TYPE = DescribeProducersResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("name", _NAME), ("partitions", CompactArray(Int32)), _TAGS)),
        _TAGS,
    )


class DescribeProducersRequest(Request[DescribeProducersRequest_v0]):
    """The producers of partitions that the node asked leads. `open_since` is -1 where nothing is open."""

    API_KEY = 61

    def __init__(self, topics: Sequence[tuple[str, Sequence[int]]]) -> None:
        self._topics: Any = [(name, list(partitions), {}) for name, partitions in topics]

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(self._topics, {})
