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

from playhead.broker.contract import Broker, Commit, Committed, Epoch, Fenced, Mark, Membership, Outcome
from playhead.clock import Clock
from playhead.engine.checkpoint import Ownership, decode, encode
from playhead.errors import CheckpointLost
from playhead.io import Logger
from playhead.job import Job
from playhead.records import Partition, Record, StoredRecord
from playhead.serde import from_json, to_json
from playhead.topics import JOBS

_FOUNDING_WAIT_SECONDS = 0.05
_RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Taken:
    """A task that is this worker's now: for each partition the next offset and the ranges finished beyond it."""

    number: int
    owner: Ownership
    partitions: Mapping[Partition, tuple[int, Sequence[range]]]


class EpochOver(Exception):
    """The group moved on during the takeover; a new assignment follows."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """Takes over tasks of one job in one epoch. `commit` is the job's one way to commit."""

    job: Job
    group: str
    topics: Sequence[str]
    prefix: str
    broker: Broker
    membership: Membership
    commit: Callable[[Commit], Awaitable[Outcome]]
    clock: Clock
    logger: Logger

    async def take(self, epoch: Epoch, numbers: frozenset[int]) -> list[Taken]:
        """Take over these tasks of the epoch.

        Raises:
            EpochOver: the group moved on.
            CheckpointLost: a checkpoint expired or fell off the log.
        """
        partitions = [Partition(topic, number) for topic in self.topics for number in sorted(numbers)]
        while True:
            gone = await self._free_gone_writers(epoch, partitions)
            marks = await self.membership.checkpoints(partitions)
            missing = [partition for partition, mark in marks.items() if mark is None]
            if missing:
                marks.update(await self._first_marks(epoch, missing))
            stable = {partition: mark for partition, mark in marks.items() if mark is not None}
            if len(stable) < len(marks):
                await self.clock.sleep(_FOUNDING_WAIT_SECONDS)
                continue
            taken = self._as_owner(stable, gone)
            await self._check_bounds(taken)
            outcome = await self.commit(Commit(epoch, _marks(taken)))
            match outcome:
                case Committed():
                    return taken
                case Fenced(reason):
                    raise EpochOver(reason)
                case _:
                    self.logger.warning("takeover is tried again", outcome=str(outcome))
                    await self.clock.sleep(_RETRY_SECONDS)

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

        A founding record in topic `playhead.jobs` says which partitions a group began with. It is committed together
        with their first checkpoints. So a partition without checkpoint was added later, and starts at 0; or, where the
        record names it, its checkpoint expired.
        """
        founded = await self._founded()
        first: dict[Partition, Mark | None] = {}
        for topic in {partition.topic for partition in missing}:
            count = founded.get(topic)
            here = [partition for partition in missing if partition.topic == topic]
            if count is None:
                first.update(await self._found(epoch, topic) if 0 in epoch.tasks else {})
                first.update({partition: None for partition in here if partition not in first})
                continue
            expired = [partition for partition in here if partition.partition < count]
            if expired:
                raise CheckpointLost(
                    f"job {self.job.id!r} has run before, but its committed offsets of {topic} "
                    f"{[p.partition for p in expired]} are gone: they expired while no worker ran.",
                    remedy=f"Say where to go on: playhead jobs reset {self.job.id} --to earliest (or now, or a time).",
                )
            first.update({partition: Mark(0) for partition in here})
        return first

    async def _found(self, epoch: Epoch, topic: str) -> dict[Partition, Mark | None]:
        """Commit the starting offsets of the topic's partitions, and the founding record with them.

        A partition that has a checkpoint already (somebody said where to start: `playhead jobs reset`) keeps it.
        """
        count = (await self.broker.topic(topic)).partitions
        every = [Partition(topic, number) for number in range(count)]
        known = await self.membership.checkpoints(every)
        partitions = [partition for partition in every if known[partition] is None]
        start = self.job.start
        if start == "now":
            offsets = {p: end for p, (_, end) in (await self.broker.bounds(partitions, committed=False)).items()}
        elif start == "earliest":
            offsets = {p: begin for p, (begin, _) in (await self.broker.bounds(partitions)).items()}
        else:
            offsets = await self.broker.offsets_at(partitions, int(start.timestamp() * 1000))
        first = {p: Mark(offset, encode(Ownership(), offset, ())) for p, offset in offsets.items()}
        outcome = await self.commit(Commit(epoch, first, [self._founding_record(topic, count, offsets)], founding=True))
        if isinstance(outcome, Fenced):
            raise EpochOver(outcome.reason)
        if isinstance(outcome, Committed):
            self.logger.info("group founded", topic=topic, partitions=count, start=str(start))
        # Whatever the outcome, what counts is what the log says: the next round reads it.
        return dict.fromkeys(partitions)

    def _founding_record(self, topic: str, count: int, offsets: Mapping[Partition, int]) -> Record:
        told = {
            "jobId": self.job.id,
            "group": self.group,
            "topic": topic,
            "partitions": count,
            "start": {str(p.partition): offset for p, offset in offsets.items()},
        }
        now_ms = int(self.clock.time() * 1000)
        return Record(self.prefix + JOBS, 0, f"{self.group}/{topic}".encode(), to_json(told), [], now_ms)

    async def _founded(self) -> dict[str, int]:
        """topic -> how many partitions it had when this group was founded on it."""
        jobs = Partition(self.prefix + JOBS, 0)
        founded: dict[str, int] = {}

        async def note(records: Sequence[StoredRecord]) -> None:
            for record in records:
                told: dict[str, Any] = from_json(record.value) if record.value else {}
                if told.get("group") == self.group:
                    founded[told["topic"]] = told["partitions"]

        start, end = (await self.broker.bounds([jobs], committed=False))[jobs]
        await self.broker.read(jobs, start, end, note)
        return founded

    # ── owning ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _as_owner(self, marks: Mapping[Partition, Mark], gone: frozenset[str]) -> list[Taken]:
        """The tasks with their next lease and this member's writer."""
        taken: dict[int, Taken] = {}
        for partition, mark in marks.items():
            before, finished = decode(mark.offset, mark.metadata)
            known = taken.get(partition.partition)
            owner = replace(
                before,
                lease=max(before.lease + 1, known.owner.lease if known else 0),
                writer=self.membership.writer,
                crashes=before.crashes + 1 if before.writer in gone else 0,
            )
            parts = {**(known.partitions if known else {}), partition: (mark.offset, finished)}
            taken[partition.partition] = Taken(partition.partition, owner, parts)
        return list(taken.values())

    async def _check_bounds(self, taken: Sequence[Taken]) -> None:
        """A committed offset that is outside the log is a loud error, never a jump."""
        offsets = {p: offset for task in taken for p, (offset, _) in task.partitions.items()}
        for partition, (start, end) in (await self.broker.bounds(offsets, committed=False)).items():
            offset = offsets[partition]
            if start <= offset <= end:
                continue
            why = (
                "retention deleted what it had not worked on yet"
                if offset < start
                else "the topic was deleted and made again, or lost data"
            )
            raise CheckpointLost(
                f"job {self.job.id!r} stands at offset {offset} of {partition.topic} {partition.partition}, "
                f"and the log goes from {start} to {end}: {why}.",
                remedy=f"Say where to go on: playhead jobs reset {self.job.id} --to earliest (or now, or a time).",
            )


def _marks(taken: Sequence[Taken]) -> dict[Partition, Mark]:
    return {
        partition: Mark(offset, encode(task.owner, *_position(offset, finished)))
        for task in taken
        for partition, (offset, finished) in task.partitions.items()
    }


def _position(offset: int, finished: Sequence[range]) -> tuple[int, list[int]]:
    """(next offset to read, unfinished offsets below it) of a checkpoint."""
    end = finished[-1].stop if finished else offset
    done = {at for stretch in finished for at in stretch}
    return end, [at for at in range(offset, end) if at not in done]
