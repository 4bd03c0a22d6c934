"""One topic in memory: its settings, its partitions, and which records it refuses."""

from __future__ import annotations

import re
from uuid import uuid4

from playhead.broker.contract import Record, TopicInfo
from playhead.broker.memory.log import PartitionLog
from playhead.errors import EventTooLarge, InvalidInput, PlayheadError, TopicMisfit
from playhead.topics import MAX_MESSAGE_BYTES, TopicSpec

BATCH_HEADER_BYTES = 61
"""What Kafka adds to a batch of one record; max.message.bytes is the limit of the batch."""

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_POLICIES = ({"delete"}, {"compact"}, {"compact", "delete"})


class MemoryTopic:
    """A topic that exists."""

    def __init__(self, spec: TopicSpec) -> None:
        """
        Raises:
            TopicMisfit: a setting that a broker refuses.
        """
        policies = {policy.strip() for policy in spec.config.get("cleanup.policy", "delete").split(",")}
        if not _NAME.fullmatch(spec.name) or spec.name in {".", ".."}:
            raise TopicMisfit(f"topic {spec.name!r}: a name is letters, digits, '.', '_' and '-', at most 249.")
        if spec.partitions < 1:
            raise TopicMisfit(f"topic {spec.name!r}: {spec.partitions} partitions.")
        if policies not in _POLICIES:
            raise TopicMisfit(f"topic {spec.name!r}: cleanup.policy {spec.config['cleanup.policy']!r}.")
        for name, text in spec.config.items():
            if name.endswith((".ms", ".bytes")) and not re.fullmatch(r"-?\d+", text):
                raise TopicMisfit(f"topic {spec.name!r}: {name} is {text!r}, which is no whole number.")
        self.name = spec.name
        self.id = uuid4().hex
        self.config = dict(spec.config)
        self.compacted = "compact" in policies
        self.max_message_bytes = int(self.config.get("max.message.bytes", MAX_MESSAGE_BYTES))
        self.logs = [PartitionLog(spec.name, partition) for partition in range(spec.partitions)]

    def info(self) -> TopicInfo:
        """What `Broker.topic` answers."""
        return TopicInfo(self.name, len(self.logs), 1, self.max_message_bytes, dict(self.config), self.id)

    def refusal(self, record: Record) -> PlayheadError | None:
        """Why this topic does not take the record, or None if it does."""
        if not 0 <= record.partition < len(self.logs):
            return InvalidInput(f"topic {self.name!r} has no partition {record.partition}.")
        size_bytes = record.size_bytes() + BATCH_HEADER_BYTES
        if size_bytes > self.max_message_bytes:
            return EventTooLarge(self.name, size_bytes, self.max_message_bytes)
        if self.compacted and record.key is None:
            return InvalidInput(f"topic {self.name!r} is compacted: a record needs a key.")
        return None

    def grow(self, partitions: int) -> None:
        """Add partitions until there are `partitions`.

        Raises:
            ValueError: it has as many or more.
        """
        if partitions <= len(self.logs):
            raise ValueError(f"topic {self.name!r} has {len(self.logs)} partitions already")
        self.logs.extend(PartitionLog(self.name, partition) for partition in range(len(self.logs), partitions))
