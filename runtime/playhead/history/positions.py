"""What is to be read, and where each partition goes on: or why it can't."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from playhead.broker.contract import Broker
from playhead.errors import HistoryStopped
from playhead.history.store import Part
from playhead.records import Partition
from playhead.topics import DELAY

_ENTITY = re.compile(r"[a-z](?:-?[a-z0-9])*")


def is_read(topic: str, prefix: str) -> bool:
    """Whether history reads it: topics of entities, `run`, `dead-letter` and `schedule`.

    Inboxes, journals and `playhead.jobs` have a dot in their names, as have the topics of other prefixes.
    """
    entity = topic.removeprefix(prefix)
    return topic.startswith(prefix) and entity != DELAY and _ENTITY.fullmatch(entity) is not None


async def partitions_of(broker: Broker, prefix: str) -> dict[str, int]:
    """How many partitions each topic has that history reads."""
    return {topic.name: topic.partitions for topic in await broker.topics() if is_read(topic.name, prefix)}


@dataclass(slots=True)
class Sighting:
    """Partitions as the broker has them now."""

    bounds: Mapping[Partition, tuple[int, int]]
    """(start, end) of each; the end is the uncommitted one."""
    topic_ids: Mapping[str, str]
    new: dict[Partition, int] = field(default_factory=dict)
    """Those that were never read, with their starts."""
    going: dict[Partition, int] = field(default_factory=dict)
    """Those that are read, with their positions."""
    stopped: dict[Partition, HistoryStopped] = field(default_factory=dict)
    """Those that can't be."""


async def look(broker: Broker, partitions: Collection[Partition], parts: Mapping[Partition, Part]) -> Sighting:
    """Compare what was read with what there is.

    Raises:
        UnknownTopic, NotAuthorized, BrokerUnavailable.
    """
    topics = {topic: await broker.topic(topic) for topic in {partition.topic for partition in partitions}}
    bounds = await broker.bounds(partitions, committed=False) if partitions else {}
    seen = Sighting(bounds, {name: topic.id for name, topic in topics.items()})
    for partition, (start, end) in bounds.items():
        part = parts.get(partition)
        if part is None:
            seen.new[partition] = start
        elif (why := _why_it_stops(partition, part, start, end, seen.topic_ids[partition.topic])) is not None:
            seen.stopped[partition] = why
        else:
            seen.going[partition] = part.next
    return seen


_REBUILD = "Build it again from what there is: playhead history rebuild --accept-loss"


def _why_it_stops(partition: Partition, part: Part, start: int, end: int, topic_id: str) -> HistoryStopped | None:
    where = f"{partition.topic}[{partition.partition}]"
    if part.topic_id and topic_id and part.topic_id != topic_id:
        return HistoryStopped(
            f"history does not read {where}: the topic was made anew, and what was read of it is of the old one.",
            remedy=_REBUILD,
        )
    if part.next < start:
        return HistoryStopped(
            f"history does not read {where}: retention took offsets {part.next:,} to {start - 1:,} unread.",
            remedy=f"Go on without them, counted as lost: playhead history skip '{where}'",
        )
    if part.next > end:
        return HistoryStopped(
            f"history does not read {where}: it has read up to offset {part.next:,}, and the log ends at {end:,}; "
            f"it has lost its end.",
            remedy=_REBUILD,
        )
    return None
