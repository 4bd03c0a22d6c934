"""Which topic, which partition: names, settings and the partitioner. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from playhead.errors import UnknownTopic

RUN = "run"
"""Entity of what happens to runs. Key = run id, partition = task number mod P."""
DELAY = "delay"
"""Compacted topic of timers."""
DEAD_LETTER = "dead-letter"
"""Entity of what could not be read, and of runs that will not be tried again."""
JOBS = "playhead.jobs"
"""Compacted topic of founding records: which groups exist, on which partitions they began. Key = job id."""

SCHEDULE = "schedule"
"""Entity of what cron jobs and interval jobs run on. Key = job id."""

RESERVED_ENTITIES = frozenset({RUN, DELAY, DEAD_LETTER, SCHEDULE, "playhead"})

DEFAULT_PARTITIONS = 4
MAX_MESSAGE_BYTES = 1_048_576 + 12
"""Kafka's default max.message.bytes."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be. `replication` -1 takes the broker's default."""

    name: str
    partitions: int = DEFAULT_PARTITIONS
    replication: int = -1
    config: Mapping[str, str] = field(default_factory=dict)


_KEEP_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


_DELAY = {
    "cleanup.policy": "compact",
    # Who asks for a cancellation reads its answer from the log: it has to stay there for a while.
    "min.compaction.lag.ms": "3600000",
    # A store of timers that is older than half of this is rebuilt: it may have missed a tombstone.
    "delete.retention.ms": "86400000",
}


def entity_topic(entity: str, *, prefix: str = "", partitions: int = DEFAULT_PARTITIONS) -> TopicSpec:
    """The topic of an entity. It is kept for ever by default: history and replay reach as far as retention."""
    return TopicSpec(prefix + entity, partitions, config=_KEEP_FOR_EVER)


def system_topics(*, prefix: str = "", partitions: int = DEFAULT_PARTITIONS) -> list[TopicSpec]:
    """The topics that Playhead itself writes."""
    return [
        entity_topic(RUN, prefix=prefix, partitions=partitions),
        # Twice the usual size: a dead letter wraps the bytes of a whole record in base64.
        TopicSpec(
            prefix + DEAD_LETTER, partitions, config={**_KEEP_FOR_EVER, "max.message.bytes": str(2 * MAX_MESSAGE_BYTES)}
        ),
        entity_topic(SCHEDULE, prefix=prefix, partitions=partitions),
        TopicSpec(prefix + DELAY, partitions, config=_DELAY),
        TopicSpec(prefix + JOBS, 1, config={"cleanup.policy": "compact"}),
    ]


def creating(topic: str, prefix: str = "") -> str:
    """The command that makes a topic: by its entity; Playhead's own come with whatever else is missing."""
    entity = topic.removeprefix(prefix)
    own = entity in RESERVED_ENTITIES or "." in entity
    return "playhead topics create" if own else f"playhead topics create {entity}"


def unknown_topic(topic: str, prefix: str = "", partition: int | None = None) -> UnknownTopic:
    """The error for a topic, or a partition of it, that is not there."""
    if partition is None:
        return UnknownTopic(topic, remedy=f"Create it: {creating(topic, prefix)}")
    return UnknownTopic(topic, partition, remedy="See how many it has: playhead topics describe")


def event_limit_bytes(max_message_bytes: int) -> int:
    """The largest event a topic takes: 3/4 of its limit (768 KiB of 1 MiB), so that a wrapped copy always fits."""
    return max_message_bytes * 3 // 4


def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a key, as Kafka's Java clients choose it (murmur2, sign bit cleared)."""
    return (murmur2(key) & 0x7FFF_FFFF) % partitions


def murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed, as `org.apache.kafka.common.utils.Utils.murmur2` computes it (unsigned result)."""
    length = len(data)
    h = 0x9747_B28C ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * 0x5BD1_E995 & 0xFFFF_FFFF
        k = (k ^ k >> 24) * 0x5BD1_E995 & 0xFFFF_FFFF
        h = h * 0x5BD1_E995 & 0xFFFF_FFFF ^ k
    if whole != length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * 0x5BD1_E995 & 0xFFFF_FFFF
    h = (h ^ h >> 13) * 0x5BD1_E995 & 0xFFFF_FFFF
    return h ^ h >> 15
