"""Taking over tasks: from a generation's assignment to checkpoints that this worker owns.

1. Free the writers of owners that are gone, so that nothing of theirs stays open.
2. Wait for the stable checkpoints of all partitions.
3. Found the group where there are none: its starting offsets are its first commit.
4. Check that each checkpoint still lies in its log.
5. Commit the checkpoints again, as their new owner, with the lease that follows.

Until step 5 is committed nothing of the task has started here, and after it nothing of the owner before can end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from playhead.broker.contract import (
    Broker,
    Commit,
    Committed,
    Epoch,
    Fenced,
    Mark,
    Membership,
    Outcome,
    Refused,
    TopicInfo,
    Unknown,
)
from playhead.clock import Clock
from playhead.errors import CheckpointLost, Fatal, TopicGone, UnknownTopic
from playhead.group.checkpoint import WINDOW_OFFSETS, Owner, decode, encode
from playhead.group.work import Taken
from playhead.job import Start
from playhead.records import Partition, Record, StoredRecord
from playhead.serde import from_json, to_json
from playhead.topics import JOBS

_FOUNDING_WAIT_SECONDS = 0.05
_RETRY_SECONDS = 0.2
_GONE_SECONDS, _GONE_RETRY_SECONDS = 5.0, 0.5
"""How long a topic has to be missing until it is believed."""
_AT_0 = Mark(0)
"""The first checkpoint of a partition that was added after the group was founded."""


class EpochOver(Exception):
    """The group moved on during the takeover; a new assignment follows."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """Takes over tasks of one group in one epoch. `commit` is the member's one way to commit.

    `name` says whose group it is ("job 'send-mail'"), `remedy` what a person does whose checkpoint is lost, and
    `topic_ids` which topics the member has read so far.
    """

    name: str
    start: Start
    remedy: str
    group: str
    topics: Sequence[str]
    topic_ids: dict[str, str]
    prefix: str
    broker: Broker
    membership: Membership
    commit: Callable[[Commit], Awaitable[Outcome]]
    clock: Clock
    logger: Any

    async def take(self, epoch: Epoch, numbers: frozenset[int]) -> list[Taken]:
        """Take over these tasks of the epoch.

        Raises:
            EpochOver: the group moved on.
            TopicGone: a topic was deleted. (Also where nothing is to be taken over: then that may be why.)
            CheckpointLost: a checkpoint expired or fell off the log.
            Fatal: the broker refuses the records that tell where a group begins.
        """
        for topic in self.topics:
            await self._see_topic(topic)
        if not numbers:
            return []
        partitions = [Partition(topic, number) for topic in self.topics for number in sorted(numbers)]
        while True:
            gone = await self._free_gone_writers(epoch, partitions)
            marks = await self.membership.checkpoints(partitions)
            missing = [partition for partition, mark in marks.items() if mark is None]
            if missing:
                marks.update(await self._first_marks(epoch, missing))
            added = [self._added_record(partition) for partition in missing if marks[partition] is _AT_0]
            stable = {partition: mark for partition, mark in marks.items() if mark is not None}
            if len(stable) < len(marks):
                await self.clock.sleep(_FOUNDING_WAIT_SECONDS)
                continue
            ends = await self._ends_of_data(stable, gone, await self._checked_ends(stable))
            taken = self._as_owner(stable, gone, ends)
            if self._is_done(await self.commit(Commit(epoch, _marks(taken), added))):
                return taken
            await self.clock.sleep(_RETRY_SECONDS)

    async def _see_topic(self, topic: str) -> None:
        """See that it is there, and the one that this member has read so far.

        Raises:
            TopicGone: it has been missing for a while: a broker that has just started may be late to know of it.
        """
        deadline = self.clock.monotonic() + _GONE_SECONDS
        what = "deleted"
        while True:
            try:
                topic_id = (await self.broker.topic(topic, fresh=True)).id
                if self.topic_ids.setdefault(topic, topic_id) == topic_id:
                    return
                what = "deleted and made again"
                break
            except UnknownTopic:
                if self.clock.monotonic() >= deadline:
                    break
            await self.clock.sleep(_GONE_RETRY_SECONDS)
        raise TopicGone(
            f"topic {topic!r}, which {self.name} reads, was {what} while it ran.",
            remedy=f"What it held is lost. If it is missing, create it: playhead topics create {topic}. {self.remedy}",
        )

    def _is_done(self, outcome: Outcome) -> bool:
        """Whether it was committed; where that is unknown, the next round of the takeover finds out.

        Raises:
            EpochOver: the group moved on.
            Fatal: the broker refuses the record.
        """
        match outcome:
            case Committed():
                return True
            case Fenced(reason):
                raise EpochOver(reason)
            case Refused(_, reason):
                raise Fatal(
                    f"the broker refuses what tells where {self.name} begins: {reason}.",
                    remedy=f"Check the settings and ACLs of topic {self.prefix + JOBS!r}: playhead topics check",
                )
            case Unknown(reason):
                self.logger.warning("the outcome of a takeover's commit is unknown; trying again", reason=reason)
        return False

    async def _free_gone_writers(self, epoch: Epoch, partitions: Sequence[Partition]) -> frozenset[str]:
        """Free writers that own a checkpoint and are in no member of this generation."""
        unstable = await self.membership.unstable_checkpoints(partitions)
        writers = {decode(mark.offset, mark.metadata)[0].writer for mark in unstable.values() if mark is not None}
        gone = frozenset(writers - epoch.writers - {"", self.membership.writer})
        if gone:
            self.logger.info("freeing the writers of owners that are gone", writers=sorted(gone))
            await self.membership.free_writers(gone)
        return gone

    # ── founding ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _first_marks(self, epoch: Epoch, missing: Sequence[Partition]) -> dict[Partition, Mark | None]:
        """What a partition without checkpoint means: None where its group is still to be founded by another member.

        Records in topic `playhead.jobs` say which partitions a group has begun on. Each is committed together with the
        first checkpoints of what it names. So a partition without checkpoint was added since, and starts at 0; or,
        where a record names it, its checkpoint expired.
        """
        begun, founded_on = await self._begun()
        first: dict[Partition, Mark | None] = {}
        for topic in {partition.topic for partition in missing}:
            here = [partition for partition in missing if partition.topic == topic]
            if topic in begun:
                named = [partition for partition in here if partition.partition in begun[topic]]
                first.update(dict.fromkeys(here, _AT_0))
                first.update(await self._named_marks(topic, named, founded_on.get(topic, "")))
            else:
                first.update(await self._unfounded_marks(epoch, topic, here))
        return first

    async def _named_marks(
        self, topic: str, named: Sequence[Partition], founded_on: str
    ) -> Mapping[Partition, Mark | None]:
        """The checkpoints of partitions that the group has begun on: asked for again, since it may have just begun."""
        marks = await self.membership.checkpoints(named) if named else {}
        expired = [partition for partition, mark in marks.items() if mark is None]
        if expired:
            made_again = founded_on not in ("", (await self.broker.topic(topic, fresh=True)).id)
            raise CheckpointLost(
                f"{self.name} has run before, but its committed offsets of {topic} "
                f"{sorted(p.partition for p in expired)} are gone: "
                + ("the topic was deleted and made again." if made_again else "they expired while no worker ran."),
                remedy=self.remedy,
            )
        return marks

    async def _unfounded_marks(
        self, epoch: Epoch, topic: str, here: Sequence[Partition]
    ) -> Mapping[Partition, Mark | None]:
        """Found the group, or wait until the owner of task 0 has."""
        info = await self.broker.topic(topic, fresh=True)
        count = info.partitions
        marks = await self.membership.checkpoints({*here, *(Partition(topic, number) for number in range(count))})
        if any(mark is not None for mark in marks.values()):
            # An operator set them before the first worker came, or it was founded a moment ago: founding it now would
            # move them all. What none of that covers was added since.
            return {partition: marks[partition] or _AT_0 for partition in here}
        if 0 in epoch.tasks:
            await self._found(epoch, info)
        return dict.fromkeys(here)

    async def _found(self, epoch: Epoch, info: TopicInfo) -> None:
        """Commit the starting offsets of every partition of the topic, and the founding record with them.

        Whatever the outcome, what counts is what the log says: the next round reads it.
        """
        topic, count = info.name, info.partitions
        partitions = [Partition(topic, number) for number in range(count)]
        start = self.start
        if start == "now":
            offsets = {p: end for p, (_, end) in (await self.broker.bounds(partitions, committed=False)).items()}
        elif start == "earliest":
            offsets = {p: begin for p, (begin, _) in (await self.broker.bounds(partitions)).items()}
        else:
            offsets = await self.broker.offsets_at(partitions, int(start.timestamp() * 1000))
        first = {p: Mark(offset, encode(Owner(), offset, ())) for p, offset in offsets.items()}
        outcome = await self.commit(Commit(epoch, first, [self._founding_record(info, offsets)], founding=True))
        if self._is_done(outcome):
            self.logger.info("group founded", topic=topic, partitions=count, start=str(start))

    def _founding_record(self, topic: TopicInfo, offsets: Mapping[Partition, int]) -> Record:
        told = {
            "group": self.group,
            "topic": topic.name,
            "topicId": topic.id,
            "partitions": topic.partitions,
            "start": {str(p.partition): offset for p, offset in offsets.items()},
        }
        now_ms = int(self.clock.time() * 1000)
        return Record(self.prefix + JOBS, 0, f"{self.group}/{topic.name}".encode(), to_json(told), [], now_ms)

    def _added_record(self, partition: Partition) -> Record:
        told = {"group": self.group, "topic": partition.topic, "partition": partition.partition}
        key = f"{self.group}/{partition.topic}/{partition.partition}".encode()
        return Record(self.prefix + JOBS, 0, key, to_json(told), [], int(self.clock.time() * 1000))

    async def _begun(self) -> tuple[dict[str, set[int]], dict[str, str]]:
        """topic -> the partitions of it that this group has begun on, and the topic's id when the group was founded."""
        jobs = Partition(self.prefix + JOBS, 0)
        begun: dict[str, set[int]] = {}
        founded_on: dict[str, str] = {}

        async def note(records: Sequence[StoredRecord]) -> None:
            for record in records:
                told: dict[str, Any] = from_json(record.value) if record.value else {}
                if told.get("group") == self.group:
                    numbers = [told["partition"]] if "partition" in told else range(told["partitions"])
                    begun.setdefault(told["topic"], set()).update(numbers)
                    founded_on[told["topic"]] = told.get("topicId") or founded_on.get(told["topic"], "")

        start, end = (await self.broker.bounds([jobs], committed=False))[jobs]
        await self.broker.read(jobs, start, end, note)
        return begun, founded_on

    # ── owning ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _as_owner(
        self, marks: Mapping[Partition, Mark], gone: frozenset[str], ends: Mapping[Partition, int]
    ) -> list[Taken]:
        """The tasks with their next lease and this member's writer."""
        taken: dict[int, Taken] = {}
        for number in sorted({partition.partition for partition in marks}):
            own = {partition: mark for partition, mark in marks.items() if partition.partition == number}
            before = {partition: decode(mark.offset, mark.metadata) for partition, mark in own.items()}
            owners = [owner for owner, _ in before.values()]
            # What an owner before may have had going: none of it may be trusted again before all of it has ended.
            unproven_ends = {p: min(ends[p], mark.offset + WINDOW_OFFSETS) for p, mark in own.items()}
            idle = all(mark.offset >= unproven_ends[p] for p, mark in own.items())
            crashes = max(owner.crashes + (owner.writer in gone) for owner in owners)
            latest = max(owners, key=lambda owner: owner.lease)
            taken[number] = Taken(
                number,
                replace(latest, lease=latest.lease + 1, writer=self.membership.writer, crashes=0 if idle else crashes),
                {partition: (mark.offset, before[partition][1]) for partition, mark in own.items()},
                unproven_ends,
            )
        return list(taken.values())

    async def _ends_of_data(
        self, marks: Mapping[Partition, Mark], gone: frozenset[str], ends: Mapping[Partition, int]
    ) -> dict[Partition, int]:
        """The ends without what no one is ever handed: a task that stands before a marker alone had nothing going.

        Looked up only where an owner died: nobody else asks.
        """
        found = dict(ends)

        for partition, (offset, metadata, _) in marks.items():
            owner, _ = decode(offset, metadata)
            if not owner.crashes and owner.writer not in gone:
                continue
            found[partition] = offset

            async def note(records: Sequence[StoredRecord], partition: Partition = partition) -> None:
                found[partition] = records[-1].offset + 1

            await self.broker.read(partition, offset, min(ends[partition], offset + WINDOW_OFFSETS), note)
        return found

    async def _checked_ends(self, marks: Mapping[Partition, Mark]) -> dict[Partition, int]:
        """The ends of the logs. A checkpoint that is not all within its log is a loud error, never a jump.

        What it says is finished beyond the committed offset counts too: where that is not in the log, the next records
        will get those offsets, and would be skipped. It also bounds what is made of the checkpoint's text from here on.
        """
        bounds = await self.broker.bounds(marks, committed=False)
        ends_of_epochs = await self.broker.ends_of_epochs(
            {partition: mark.leader_epoch for partition, mark in marks.items() if mark.leader_epoch >= 0}
        )
        for partition, (start, end) in bounds.items():
            offset, metadata, _ = marks[partition]
            _, finished = decode(offset, metadata)
            position = _read_to(offset, finished)
            if start <= offset and ends_of_epochs.get(partition, end) < position <= end:
                raise CheckpointLost(
                    f"{self.name} has worked on {partition.topic} {partition.partition} up to offset {position}, and "
                    f"the broker lost what was there from offset {ends_of_epochs[partition]} on; since then other "
                    "events have taken these offsets.",
                    remedy=self.remedy,
                )
            if start <= offset and position <= end:
                continue
            why = (
                "retention deleted what it had not worked on yet"
                if offset < start
                else "the topic was deleted and made again, or lost data"
            )
            beyond = f" and has finished some up to {position}" if position > offset else ""
            raise CheckpointLost(
                f"{self.name} stands at offset {offset} of {partition.topic} {partition.partition}{beyond}, "
                f"and the log goes from {start} to {end}: {why}.",
                remedy=self.remedy,
            )
        return {partition: end for partition, (_, end) in bounds.items()}


def _marks(taken: Sequence[Taken]) -> dict[Partition, Mark]:
    return {
        partition: Mark(offset, encode(task.owner, *_position(offset, finished)))
        for task in taken
        for partition, (offset, finished) in task.partitions.items()
    }


def _read_to(offset: int, finished: Sequence[range]) -> int:
    """The next offset to read."""
    return finished[-1].stop if finished else offset


def _position(offset: int, finished: Sequence[range]) -> tuple[int, list[int]]:
    """(next offset to read, unfinished offsets below it) of a checkpoint."""
    unfinished: list[int] = []
    at = offset
    for stretch in finished:
        unfinished.extend(range(at, stretch.start))
        at = stretch.stop
    return at, unfinished
