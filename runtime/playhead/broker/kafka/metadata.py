"""Metadata v12, which tells a topic's id (KIP-516): another one each time a topic of the same name is made.

The field lists follow Kafka's message definitions (`MetadataRequest.json`, `MetadataResponse.json`).
"""
# mypy: disallow-subclassing-any=False
# pyright: reportIncompatibleMethodOverride=false, reportAssignmentType=false, reportAttributeAccessIssue=false
# aiokafka declares API_KEY and API_VERSION as properties, and fields by its schemas alone; its own classes do as these.

from __future__ import annotations

from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

_NAME = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)
_UUID = (("high", Int64), ("low", Int64))
_MASK = (1 << 64) - 1
_REPLICAS = 4
"""Where they are in what is told of a partition."""


class MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(("node_id", Int32), ("host", _NAME), ("port", Int32), ("rack", _NAME), _TAGS)),
        ("cluster_id", _NAME),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _NAME),
                *_UUID,
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("index", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        _TAGS,
                    ),
                ),
                ("operations", Int32),
                _TAGS,
            ),
        ),
        _TAGS,
    )

    def topic(self) -> tuple[int, str, int, int]:
        """Of the first topic: error code, id, partitions, replicas of each."""
        topics: Any = self.topics
        code, _, high, low, _, partitions, *_ = topics[0]
        replicas = len(partitions[0][_REPLICAS]) if partitions else 0
        return code, f"{high & _MASK:016x}{low & _MASK:016x}", len(partitions), replicas


class MetadataRequest_v12(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(*_UUID, ("name", _NAME), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class TopicRequest(Request[MetadataRequest_v12]):
    """Metadata of one topic, by name."""

    API_KEY = 3

    def __init__(self, name: str) -> None:
        self._name = name

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([(0, 0, self._name, {})], False, False, {})
