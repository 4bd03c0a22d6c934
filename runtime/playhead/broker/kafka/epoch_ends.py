"""OffsetForLeaderEpoch v4 (KIP-320): where the records of a leader epoch, and of those before it, end.

The field lists follow Kafka's message definitions (`OffsetForLeaderEpochRequest.json`, `...Response.json`).
"""
# mypy: disallow-subclassing-any=False
# pyright: reportIncompatibleMethodOverride=false, reportAssignmentType=false
# aiokafka declares API_KEY and API_VERSION as properties, and fields by its schemas alone; its own classes do as these.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

_NAME = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)
_NO_REPLICA = -1
_ANY_EPOCH = -1
"""The asker does not say who leads."""


class EpochEndResponse(Response):
    API_KEY = 23
    API_VERSION = 4
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", _NAME),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("index", Int32),
                        ("leader_epoch", Int32),
                        ("end_offset", Int64),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class EpochEndRequest_v4(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 23
    API_VERSION = 4
    RESPONSE_TYPE = EpochEndResponse
    SCHEMA = Schema(
        ("replica_id", Int32),
        (
            "topics",
            CompactArray(
                ("name", _NAME),
                (
                    "partitions",
                    CompactArray(("index", Int32), ("current_leader_epoch", Int32), ("leader_epoch", Int32), _TAGS),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class EpochEndRequest(Request[EpochEndRequest_v4]):
    """`topics` is [(name, [(partition, leader epoch)])]. `end_offset` is -1 where the leader knows none such."""

    API_KEY = 23

    def __init__(self, topics: Sequence[tuple[str, Sequence[tuple[int, int]]]]) -> None:
        self._topics: Any = [
            (name, [(partition, _ANY_EPOCH, epoch, {}) for partition, epoch in entries], {}) for name, entries in topics
        ]

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(_NO_REPLICA, self._topics, {})
