"""How far the groups of an installation are behind: asked of the broker, for every group that was ever founded.

Whose code is not at hand is seen too: a group's founding record says which topics it reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from playhead.broker.contract import Broker, GroupInfo
from playhead.errors import UnknownTopic
from playhead.records import Partition, StoredRecord
from playhead.serde import json_object
from playhead.topics import JOBS

COUNTED_OFFSETS_MAX = 1_000
"""A lag up to this is counted in records; a longer one is told in offsets, which is a little more."""
_OWN_GROUPS = "playhead."


class PartitionLag(NamedTuple):
    """Of one partition that a group reads. `position` and `lag` are None where it has no checkpoint."""

    topic: str
    partition: int
    position: int | None
    end: int
    lag: int | None


@dataclass(frozen=True, slots=True)
class GroupLag:
    """A group: how many members it has, and how far it is in each partition."""

    state: str
    members: int
    partitions: Sequence[PartitionLag]

    @property
    def lag(self) -> int | None:
        """Records that no checkpoint covers; None where the group has never run."""
        known = [one.lag for one in self.partitions if one.lag is not None]
        return sum(known) if known else None


async def job_lags(broker: Broker, prefix: str, job_id: str = "") -> dict[str, GroupLag]:
    """Every job that has ever run, by id; or one.

    Raises:
        BrokerUnavailable, NotAuthorized.
    """
    topics = await _founded(broker, prefix)
    if job_id:
        topics = {job_id: topics[job_id]} if job_id in topics else {}
    lags = await asyncio.gather(*(group_lag(broker, prefix + job, names) for job, names in topics.items()))
    return dict(zip(topics, lags, strict=True))


async def group_lag(broker: Broker, group: str, topics: Sequence[str]) -> GroupLag:
    """How far one group is in these topics; a topic that does not exist has no partitions."""
    partitions: list[Partition] = []
    for name in topics:
        try:
            info = await broker.topic(name)
        except UnknownTopic:
            continue
        partitions += [Partition(name, number) for number in range(info.partitions)]
    bounds, found = await asyncio.gather(broker.bounds(partitions), broker.describe_group(group))
    rows = [await _lag(broker, found, partition, bounds[partition][1]) for partition in partitions]
    return GroupLag(found.state, len(found.members), rows)


async def _lag(broker: Broker, group: GroupInfo, partition: Partition, end: int) -> PartitionLag:
    """Offsets are no records: each transaction's marker takes one. So a short rest is read and counted."""
    mark = group.checkpoints.get(partition)
    if mark is None:
        return PartitionLag(*partition, None, end, None)
    rest = max(0, end - mark.offset)
    if 0 < rest <= COUNTED_OFFSETS_MAX:
        rest = await _count(broker, partition, mark.offset, end)
    return PartitionLag(*partition, mark.offset, end, rest)


async def _count(broker: Broker, partition: Partition, start: int, end: int) -> int:
    count = 0

    async def add(records: Sequence[StoredRecord]) -> None:
        nonlocal count
        count += len(records)

    await broker.read(partition, start, end, add)
    return count


async def _founded(broker: Broker, prefix: str) -> dict[str, list[str]]:
    """job -> the topics that its group was founded on, both sorted. Playhead's own groups are left out."""
    jobs = Partition(prefix + JOBS, 0)
    found: dict[str, set[str]] = {}

    async def note(records: Sequence[StoredRecord]) -> None:
        for record in records:
            told = json_object(record.value)
            group, topic = told.get("group"), told.get("topic")
            if isinstance(group, str) and isinstance(topic, str) and group.startswith(prefix):
                found.setdefault(group.removeprefix(prefix), set()).add(topic)

    start, end = (await broker.bounds([jobs]))[jobs]
    await broker.read(jobs, start, end, note)
    return {job: sorted(topics) for job, topics in sorted(found.items()) if not job.startswith(_OWN_GROUPS)}
