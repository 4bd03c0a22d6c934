"""One attempt to write a commit: Produce, then TxnOffsetCommit, then, when its moment has come, EndTxn.

Sent at the same time the first two race inside the coordinator; one after the other they take 1.85 ms altogether.
A request is repeated as it is after a retriable code: the sequence numbers make that idempotent (KIP-98), and a
repeated EndTxn is answered like the first (KIP-890).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from playhead.broker.contract import Commit, Partition
from playhead.broker.kafka import faults, wire
from playhead.broker.kafka.batches import Batch
from playhead.broker.kafka.faults import Next
from playhead.broker.kafka.link import GROUP, TRANSACTION, Link, LostError, Patience
from playhead.broker.kafka.offsets import by_topic
from playhead.broker.kafka.topics import Topics
from playhead.broker.kafka.transactional_id import Producer
from playhead.clock import Clock
from playhead.errors import InvalidInput

PRODUCE_TIMEOUT_MS = 8_000
"""How long a leader waits for its replicas before it answers that they were too slow."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Why an attempt went no further.

    AGAIN: no time is left. `unknown` is True where EndTxn may have arrived, so that it may be committed after all.
    """

    next: Next
    reason: str
    suspects: tuple[int, ...] = ()
    unknown: bool = False
    by_producer: bool = False
    """Fenced as a producer (somebody took the transactional id over, or it timed out), not as a member."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """The connections that a writer uses."""

    write: object
    end: object


class Transaction:
    """One attempt.

    Attributes:
        begun: whether the coordinator may hold something open for it.
        next_producer: what the id goes on with, once it is committed.
    """

    def __init__(
        self,
        link: Link,
        topics: Topics,
        lanes: Lanes,
        clock: Clock,
        patience: Patience,
        *,
        group: str,
        name: str,
        producer: Producer,
        commit: Commit,
        batches: Mapping[tuple[str, int], Sequence[Batch]],
    ) -> None:
        self._link = link
        self._topics = topics
        self._lanes = lanes
        self._clock = clock
        self._patience = patience
        self._group = group
        self._name = name
        self._producer = producer
        self._commit = commit
        self._waiting = {place: list(queue) for place, queue in batches.items()}
        self._losses = link.losses
        self.begun = False
        self.next_producer: Producer | None = None

    async def run(self) -> Halt | None:
        """Do all of it; None if it is committed.

        Raises:
            NotAuthorized: for the group or the transactional id.
            ValueError: the broker calls a request of ours malformed.
        """
        halt = await self._produce() or await self._commit_offsets()
        if halt is None:
            await self._wait()
            halt = await self._end()
        return halt

    async def _produce(self) -> Halt | None:
        """Every batch, in rounds: a request may hold one batch of a partition, and the next needs its answer."""
        while self._waiting:
            if halt := self._unsure():
                return halt
            requests, homeless = self._by_leader()
            if homeless:
                if halt := await self._find_leaders(homeless):
                    return halt
                continue
            self.begun = True
            nodes = list(requests)
            if len(nodes) == 1:
                answers = [await self._send_batches(nodes[0], requests[nodes[0]])]
            else:
                answers = await asyncio.gather(*(self._send_batches(node, requests[node]) for node in nodes))
            halt = await self._after_round([entry for answer in answers for entry in answer])
            if halt:
                return halt
        return None

    def _by_leader(self) -> tuple[dict[int, list[Batch]], list[Partition]]:
        requests: dict[int, list[Batch]] = {}
        homeless = []
        for place, queue in self._waiting.items():
            partition = Partition(*place)
            node = self._link.leader(partition)
            if node is None:
                homeless.append(partition)
            else:
                requests.setdefault(node, []).append(queue[0])
        return requests, homeless

    async def _find_leaders(self, homeless: Sequence[Partition]) -> Halt | None:
        """Look the leaders up; refuse what has no partition to go to."""
        await self._link.relocate({partition.topic for partition in homeless})
        if all(self._link.leader(partition) is not None for partition in homeless):
            return None
        for partition in homeless:
            try:
                info = await self._topics.topic(partition.topic, fresh=True)
            except InvalidInput as error:  # it does not exist, or these credentials may not know of it
                return Halt(Next.REFUSED, str(error), self._suspects(partition.topic))
            if partition.partition >= info.partitions:
                suspects = tuple(i for batch in self._waiting[partition] for i in batch.indices)
                return Halt(Next.REFUSED, str(self._link.unknown(*partition)), suspects)
        return None if await self._patience.pause() else Halt(Next.AGAIN, f"no leader of {homeless[0]}")

    async def _send_batches(self, node: int, queue: Sequence[Batch]) -> list[tuple[Batch, int, str, list[int]]]:
        """(batch, code, message, refused places in the batch) of each; a lost connection counts as a moved leader."""
        topics: dict[str, list[wire.PartitionBatch]] = {}
        for batch in queue:
            topics.setdefault(batch.topic, []).append((batch.partition, batch.data))
        request = wire.ProduceRequest(self._name, PRODUCE_TIMEOUT_MS, list(topics.items()))
        try:
            answer = await self._link.send(node, request, self._lanes.write, self._patience)
        except LostError as lost:
            return [(batch, faults.LEADER_NOT_AVAILABLE, str(lost), []) for batch in queue]
        told: dict[tuple[str, int], Any] = {
            (topic, entry[0]): entry for topic, entries, _ in answer.topics for entry in entries
        }
        result = []
        for batch in queue:
            _, code, _, _, _, record_errors, message, _ = told[batch.topic, batch.partition]
            result.append((batch, code, message or faults.name(code), [place for place, _, _ in record_errors or ()]))
        return result

    async def _after_round(self, answers: Sequence[tuple[Batch, int, str, list[int]]]) -> Halt | None:
        if not any(code for _, code, _, _ in answers):  # the usual case, and the one that has to be quick
            for batch, _, _, _ in answers:
                self._advance(batch)
            return None
        refused: set[int] = set()
        stale: set[str] = set()
        again = reason = ""
        for batch, code, message, places in answers:
            step = faults.next_after(code)
            if step is Next.DONE:
                self._advance(batch)
            elif step is Next.REFUSED:
                reason = f"{batch.topic}[{batch.partition}]: {message}"
                whole_topic = code in (faults.TOPIC_AUTHORIZATION_FAILED, faults.INVALID_TOPIC)
                refused.update([batch.indices[p] for p in places] or batch.indices)
                refused.update(self._suspects(batch.topic) if whole_topic else ())
            elif step is Next.AGAIN:
                again = f"{batch.topic}[{batch.partition}]: {message}"
                if faults.moved(code):
                    stale.add(batch.topic)
            else:
                return self._halt(code, f"Produce to {batch.topic}[{batch.partition}]")
        if refused:
            return Halt(Next.REFUSED, reason, tuple(sorted(refused)))
        if again:
            if not await self._patience.pause():
                return Halt(Next.AGAIN, again)
            if stale:
                await self._link.relocate(stale)
                for topic in stale:
                    try:
                        await self._topics.topic(topic, fresh=True)
                    except InvalidInput as error:
                        return Halt(Next.REFUSED, str(error), self._suspects(topic))
        return None

    def _advance(self, batch: Batch) -> None:
        place = batch.topic, batch.partition
        queue = self._waiting[place]
        del queue[0]
        if not queue:
            del self._waiting[place]

    def _suspects(self, topic: str) -> tuple[int, ...]:
        """Every record of the commit that goes to this topic."""
        return tuple(i for i, record in enumerate(self._commit.records) if record.topic == topic)

    async def _commit_offsets(self) -> Halt | None:
        epoch = self._commit.epoch
        marks = by_topic(
            (p.topic, (p.partition, mark.offset, mark.metadata, mark.leader_epoch))
            for p, mark in self._commit.checkpoints.items()
        )
        request = wire.TxnOffsetCommitRequest(
            self._name, self._group, self._producer, epoch.generation, epoch.member_id, marks
        )
        while True:
            node = await self._link.coordinator(GROUP, self._group, self._patience)
            if halt := self._unsure():
                return halt
            self.begun = True
            try:
                answer = await self._link.send(node, request, self._lanes.end, self._patience)
            except LostError as lost:
                reason = str(lost)
                self._link.forget_coordinator(GROUP, self._group)
            else:
                codes = {code for _, entries, _ in answer.topics for _, code, _ in entries} - {faults.NONE}
                if not codes:
                    return None
                for code in codes:
                    if faults.next_after(code) is not Next.AGAIN:
                        return self._halt(code, "TxnOffsetCommit")
                    if faults.moved(code):
                        self._link.forget_coordinator(GROUP, self._group)
                reason = ", ".join(faults.name(code) for code in codes)
            if not await self._patience.pause():
                return Halt(Next.AGAIN, f"TxnOffsetCommit: {reason}")

    def _unsure(self) -> Halt | None:
        """Whether a broker may have crashed since the id was taken over, and left markers of its last transaction out.

        What is written now would go on with that one, and an abort would abort what was committed (`lost_markers`).
        """
        if self._link.losses == self._losses:
            return None
        return Halt(Next.AFRESH, "a connection was lost; the transactional id is to be taken over first")

    async def _wait(self) -> None:
        """Until readers may see it."""
        while (seconds := self._commit.not_before - self._clock.monotonic()) > 0:
            await self._clock.sleep(seconds)

    async def _end(self) -> Halt | None:
        request = wire.EndTxnRequest(self._name, self._producer, committed=True)
        unknown = False
        while True:
            node = await self._link.coordinator(TRANSACTION, self._name, self._patience)
            try:
                answer = await self._link.send(node, request, self._lanes.end, self._patience)
            except LostError as lost:
                unknown |= lost.sent
                reason = str(lost)
                self._link.forget_coordinator(TRANSACTION, self._name)
            else:
                code = answer.error_code
                if code == faults.NONE:
                    self.next_producer = answer.producer_id, answer.producer_epoch
                    return None
                if faults.next_after(code) is not Next.AGAIN:
                    return self._halt(code, "EndTxn", unknown=unknown)
                # The coordinator may have failed after it wrote the decision to its log.
                unknown |= code not in (faults.CONCURRENT_TRANSACTIONS, faults.COORDINATOR_LOAD_IN_PROGRESS)
                reason = faults.name(code)
                if faults.moved(code):
                    self._link.forget_coordinator(TRANSACTION, self._name)
            if not await self._patience.pause():
                return Halt(Next.AGAIN, f"EndTxn: {reason}", unknown=unknown)

    def _halt(self, code: int, doing: str, *, unknown: bool = False) -> Halt:
        step = faults.next_after(code)
        reason = f"{doing}: {faults.name(code)}"
        if step in (Next.DENIED, Next.REFUSED):  # refused by name of the topic, outside Produce: not the records' fault
            raise faults.raised(code, f"{doing} as {self._name!r} in group {self._group!r}")
        if step is Next.BROKEN:
            raise ValueError(f"{reason}: a mistake in the commit, or in Playhead")
        by_producer = code in (faults.INVALID_PRODUCER_EPOCH, faults.PRODUCER_FENCED)
        return Halt(step, reason, unknown=unknown, by_producer=by_producer)
