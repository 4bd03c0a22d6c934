"""The transaction writer: a commit in, an outcome out.

Two transactional ids are used in turn, so that a commit need not wait for the markers of the last one:

    id .0   Produce ─ TxnOffsetCommit ─ EndTxn │ markers …            Produce ─ …
    id .1                                      Produce ─ TxnOffsetCommit ─ EndTxn │ markers …

All under transactions v2 (KIP-890): Produce v12 and TxnOffsetCommit v5 add themselves to the transaction, and EndTxn v5
answers the epoch of the next one, so a request that comes late finds its epoch gone. TxnOffsetCommit carries the
member and generation of the commit's epoch (KIP-447): there the group fences whoever it has moved on from.

An id that saw an error is thrown away; its successor initialises it at once, which aborts or completes what was open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from playhead.broker.contract import Commit, Committed, Fenced, Outcome, Refused, Unknown
from playhead.broker.kafka import batches, lost_markers
from playhead.broker.kafka.faults import Next
from playhead.broker.kafka.link import Link, LostError, Patience
from playhead.broker.kafka.topics import Topics
from playhead.broker.kafka.transaction import Halt, Lanes, Transaction
from playhead.broker.kafka.transactional_id import Producer, TransactionalId, ids_of, initialise, writer_of
from playhead.clock import Clock
from playhead.errors import BrokerUnavailable, InvalidInput

COMMIT_LIMIT_SECONDS = 10.0
"""How long a commit tries; below the transaction timeout, so that it ends while its transaction can still be ended."""
FREE_LIMIT_SECONDS = 20.0
"""How long freeing a writer tries."""
SETTLE_LIMIT_SECONDS = 5.0
"""How long a writer that closes waits for what failed to be aborted."""


class TransactionWriter:
    """The writer of one membership. One commit at a time."""

    def __init__(
        self, link: Link, topics: Topics, clock: Clock, lanes: Lanes, *, prefix: str, group: str, name: str
    ) -> None:
        self._link = link
        self._topics = topics
        self._clock = clock
        self._lanes = lanes
        self._prefix = prefix
        self._group = group
        self.name = name
        self._ids = [TransactionalId(link, clock, group, id_, lanes.end) for id_ in ids_of(prefix, group, name)]
        self._turn = 0

    async def open(self) -> None:
        """Initialise both ids, so that the first commit does not pay for it.

        Raises:
            NotAuthorized, BrokerUnavailable.
        """
        patience = Patience(self._clock, COMMIT_LIMIT_SECONDS)
        await asyncio.gather(*(id_.ready(patience) for id_ in self._ids))

    async def close(self) -> None:
        """Leave nothing open."""
        await asyncio.gather(*(id_.settle(SETTLE_LIMIT_SECONDS) for id_ in self._ids))

    def abandon(self) -> None:
        """Nothing was ever begun: stop initialising."""
        for id_ in self._ids:
            id_.abandon()

    def renew(self) -> None:
        """Begin to initialise both ids; a commit waits for it."""
        for id_ in self._ids:
            id_.renew()

    def refresh(self) -> None:
        """Take over the ids that may have lost markers, if there are any. No commit may be in flight."""
        for id_ in self._ids:
            id_.refresh()

    async def write(self, commit: Commit) -> tuple[Outcome, bool]:
        """Write the commit; True where it was fenced as a producer: then it never commits again.

        Raises:
            NotAuthorized: for the group or the transactional ids; nothing is written.
            ValueError: a mistake of ours; nothing is written.
        """
        patience = Patience(self._clock, COMMIT_LIMIT_SECONDS)
        while True:
            id_ = self._ids[self._turn]
            self._turn ^= 1
            try:
                halt = await self._attempt(id_, commit, patience)
            except BrokerUnavailable as error:
                return Unknown(str(error)), False
            if halt is None:
                return Committed(), False
            if halt.unknown:
                return Unknown(halt.reason), halt.by_producer
            if halt.next is Next.FENCED:
                return Fenced(halt.reason), halt.by_producer
            if halt.next is Next.REFUSED:
                return Refused(halt.suspects, halt.reason), False
            if halt.next is Next.AGAIN or not await patience.pause():
                return Unknown(halt.reason), False

    async def _attempt(self, id_: TransactionalId, commit: Commit, patience: Patience) -> Halt | None:
        if halt := await self._unfit(commit):
            return halt
        producer = await id_.ready(patience)
        transaction = Transaction(
            self._link,
            self._topics,
            self._lanes,
            self._clock,
            patience,
            group=self._group,
            name=id_.name,
            producer=producer,
            commit=commit,
            batches=self._encode(commit, producer),
        )
        try:
            halt = await transaction.run()
        except BaseException:  # whatever it is, cancellation too: nothing may stay open
            if transaction.begun:
                id_.renew()
            raise
        if transaction.next_producer is not None:
            id_.advance(transaction.next_producer)
        elif transaction.begun and not (halt and halt.by_producer and not halt.unknown):
            id_.renew()
        return halt

    async def _unfit(self, commit: Commit) -> Halt | None:
        """Learn the limits of topics that are new to this process; refuse records for topics that are not there."""
        for topic in {record.topic for record in commit.records}:
            if self._topics.peek(topic) is None:
                try:
                    await self._topics.topic(topic)
                except InvalidInput as error:
                    suspects = tuple(i for i, record in enumerate(commit.records) if record.topic == topic)
                    return Halt(Next.REFUSED, str(error), suspects)
        return None

    def _encode(self, commit: Commit, producer: Producer) -> dict[tuple[str, int], list[batches.Batch]]:
        return batches.encode(commit.records, producer, self._batch_limit_bytes)

    def _batch_limit_bytes(self, topic: str) -> int:
        info = self._topics.peek(topic)
        return min(batches.BATCH_LIMIT_BYTES, info.max_message_bytes) if info else batches.BATCH_LIMIT_BYTES

    async def free(self, names: Iterable[str]) -> None:
        """Abort or complete what these writers of the same group have open, and fence them.

        Raises:
            NotAuthorized, BrokerUnavailable.
        """
        patience = Patience(self._clock, FREE_LIMIT_SECONDS)
        ids = [id_ for name in names for id_ in ids_of(self._prefix, self._group, name)]
        await asyncio.gather(*(initialise(self._link, self._group, id_, self._lanes.end, patience) for id_ in ids))

    async def decided(self) -> set[str]:
        """The writers of the same group that have a transactional id whose last transaction is decided.

        Raises:
            BrokerUnavailable.
        """
        try:
            ids = await lost_markers.decided_ids(self._link, Patience(self._clock, FREE_LIMIT_SECONDS))
        except LostError as lost:
            raise BrokerUnavailable(f"listing the transactional ids of group {self._group!r}: {lost}.") from lost
        return {name for id_ in ids if (name := writer_of(self._prefix, self._group, id_))}
