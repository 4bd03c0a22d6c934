"""A transactional id: the producer id and epoch that it has now, and how a failed one is taken over.

NEW ──InitProducerId──▶ READY ──Produce/TxnOffsetCommit──▶ OPEN ──EndTxn──▶ READY (with the next epoch)
                          ▲                                  │ any error
                          └────────InitProducerId────────────┘ aborts, or completes, what was open
"""

from __future__ import annotations

import asyncio
import logging
import math

from aiokafka.protocol.transaction import InitProducerIdRequest

from playhead.broker.kafka import faults, lost_markers
from playhead.broker.kafka.faults import Next
from playhead.broker.kafka.link import TRANSACTION, Link, LostError, Patience
from playhead.clock import Clock
from playhead.errors import BrokerUnavailable, PlayheadError

logger = logging.getLogger(__name__)

TRANSACTION_TIMEOUT_SECONDS = 15.0
"""After this the coordinator aborts a transaction by itself."""
RENEWAL_LIMIT_SECONDS = 30.0
"""How long the successor of a failed id tries to take over from it; by then the coordinator has aborted it."""
YIELD_SECONDS = 1.0
"""How long a transaction that may be another's of `lost_markers` is let alone, and a partition without a leader is
waited for; both take milliseconds."""
END_SECONDS = 1.0
"""How long the last transaction is ended again and again where a checkpoint stays pending: it may be another's."""

Producer = tuple[int, int]
"""A producer id and its epoch."""


def ids_of(prefix: str, group: str, writer: str) -> tuple[str, str]:
    """The two transactional ids of a writer."""
    return f"{prefix}playhead.{group}.{writer}.0", f"{prefix}playhead.{group}.{writer}.1"


def writer_of(prefix: str, group: str, transactional_id: str) -> str | None:
    """The writer whose id this is; None where it is not one of this group."""
    name = transactional_id.rpartition(".")[0].rpartition(".")[2]
    return name if transactional_id in ids_of(prefix, group, name) else None


async def initialise(link: Link, group: str, name: str, lane: object, patience: Patience) -> Producer:
    """Take a transactional id over: what it had open is aborted, or completed if it was being committed.

    Whoever used it before is fenced. It answers only when nothing is open any more. First, what the last transaction
    left open although it is complete (see `lost_markers`) is ended as it was decided: after InitProducerId nobody
    could tell how that was.

    Raises:
        NotAuthorized, BrokerUnavailable.
    """
    request = InitProducerIdRequest(name, int(TRANSACTION_TIMEOUT_SECONDS * 1000))
    yield_until = end_until = math.inf  # from the first time on that there is something to yield to, or to end
    while True:
        node = await link.coordinator(TRANSACTION, name, patience)
        try:
            last = await lost_markers.find(link, group, name, lane, patience, yielding=link.now() < yield_until)
            if last is not None and (last.open_in or link.now() < end_until):
                end_until = min(end_until, link.now() + END_SECONDS)
                await lost_markers.end(link, group, name, last, lane, patience)
                # InitProducerId has to wait until its markers are written; and they, too, can be left out.
                code, producer = faults.CONCURRENT_TRANSACTIONS, None
            else:
                answer = await link.send(node, request, lane, patience)
                code, producer = answer.error_code, (answer.producer_id, answer.producer_epoch)
        except lost_markers.UnendedError as error:
            if isinstance(error, lost_markers.YieldedError):
                yield_until = min(yield_until, link.now() + YIELD_SECONDS)
            reason = str(error)
        except LostError as lost:
            reason = str(lost)
            link.forget_coordinator(TRANSACTION, name)
        else:
            if code == faults.NONE and producer is not None:
                return producer
            if faults.next_after(code) not in (Next.AGAIN, Next.FENCED):  # fenced: somebody else takes it over too
                raise faults.raised(code, f"initialising the transactional id {name!r}")
            reason = faults.name(code)
            if faults.moved(code):
                link.forget_coordinator(TRANSACTION, name)
        if not await patience.pause():
            raise BrokerUnavailable(f"the transactional id {name!r} can't be initialised: {reason}.")


class TransactionalId:
    """One of a writer's two ids."""

    def __init__(self, link: Link, clock: Clock, group: str, name: str, lane: object) -> None:
        self.name = name
        self._group = group
        self._link = link
        self._clock = clock
        self._lane = lane
        self._producer: Producer | None = None
        self._losses = 0  # of the link, when the id was last taken over
        self._renewal: asyncio.Task[None] | None = None
        self._failure: PlayheadError | None = None

    def renew(self) -> None:
        """Throw the producer away; its successor takes the id over at once, so that readers are not held up."""
        self._producer = None
        if self._renewal is None or self._renewal.done():
            self._failure = None
            self._renewal = asyncio.create_task(self._renew(), name=f"renew {self.name}")

    def refresh(self) -> None:
        """Take the id over where the next transaction would: it may be long in coming, and readers wait for it."""
        if self._usable() is None:
            self.renew()

    def advance(self, producer: Producer) -> None:
        """A transaction ended well: this is the next one's producer."""
        self._producer = producer

    async def ready(self, patience: Patience) -> Producer:
        """The producer for the next transaction, when nothing of this id is open any more.

        Where an answer or a connection was lost since the id was taken over, a broker may have crashed and left markers
        out. The next transaction would end that one only where it writes itself; and were it aborted, it would abort
        what was committed. So the id is taken over first.

        Raises:
            NotAuthorized, BrokerUnavailable.
        """
        while (producer := self._usable()) is None:
            self.renew()
            assert self._renewal is not None
            await asyncio.wait({self._renewal}, timeout=patience.remaining_seconds)
            if self._failure is not None:
                raise self._failure
            if self._usable() is None and patience.over:
                raise BrokerUnavailable(f"the transactional id {self.name!r} is still being taken over.")
        return producer

    def _usable(self) -> Producer | None:
        return self._producer if self._losses == self._link.losses else None

    def abandon(self) -> None:
        """Nothing is open and nothing will be: stop trying."""
        if self._renewal is not None:
            self._renewal.cancel()

    async def settle(self, seconds: float) -> None:
        """Wait until nothing of this id is open, if that is under way; not longer than `seconds`."""
        if self._renewal is not None and not self._renewal.done():
            await asyncio.wait({self._renewal}, timeout=seconds)
            if not self._renewal.done():
                logger.warning("gave up aborting what %s has open; it is aborted when it times out", self.name)
                self._renewal.cancel()

    async def _renew(self) -> None:
        self._losses = self._link.losses
        try:
            self._producer = await initialise(
                self._link, self._group, self.name, self._lane, Patience(self._clock, RENEWAL_LIMIT_SECONDS)
            )
        except PlayheadError as error:
            self._failure = error
