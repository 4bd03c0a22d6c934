"""Transactions that are complete and have markers missing: found, and ended as they were decided.

From 4.1 on Kafka takes a partition that has no leader at the moment for one that was deleted (KAFKA-20734). A
coordinator that has the markers of a decided transaction still to write, after a crash above all, leaves those
partitions out and calls the transaction complete. Nothing would ever end it there: a checkpoint in it stays pending,
and readers of committed records stand still before its records.

    DescribeTransactions: complete, how ─▶ DescribeProducers, OffsetFetch: something is open
        ─▶ AddOffsetsToTxn, AddPartitionsToTxn ─▶ EndTxn, decided as the one before ─▶ InitProducerId

The markers of a transaction end whatever its producer id has open in a partition. So one without content, in the
partitions left out, ends there what the last one began; it takes the rights of a writer and no more. It is written with
the epoch that the coordinator tells, before InitProducerId: several who take an id over at once write the same one
together, and none aborts another's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.transaction import AddOffsetsToTxnRequest, AddPartitionsToTxnRequest

from playhead.broker.contract import Partition
from playhead.broker.kafka import faults, wire
from playhead.broker.kafka.faults import Next
from playhead.broker.kafka.link import GROUP, ORDINARY, TRANSACTION, Link, LostError, Patience
from playhead.broker.kafka.offsets import by_topic

logger = logging.getLogger(__name__)


class UnendedError(Exception):
    """The markers of the last transaction are just being written; what is open is not left open."""


class YieldedError(UnendedError):
    """It may be another's `end`, or be open where nobody leads: that is waited for, and not for ever."""


DECISIONS: Mapping[str, bool] = {"CompleteCommit": True, "CompleteAbort": False}
"""The states of a transactional id that tell how its last transaction was decided: whether it was committed."""
_ENDING = ("PrepareCommit", "PrepareAbort")
_OPEN = "Ongoing"
_OFFSETS = "__consumer_offsets"


@dataclass(frozen=True, slots=True)
class Decided:
    """The last transaction of a transactional id, complete."""

    producer_id: int
    epoch: int
    """That of its markers, and of the next transaction."""
    committed: bool
    open_in: Sequence[Partition]
    """Where it did not end, as far as these credentials may see."""


async def find(
    link: Link, group: str, name: str, lane: object, patience: Patience, *, yielding: bool
) -> Decided | None:
    """The last transaction of this id, if it is complete and something is open; None where there is nothing to end.

    `yielding` waits where a partition has no leader, and leaves a transaction alone that is open and may be another's
    `end`: an abort would abort what it was to commit.

    Raises:
        UnendedError: its markers are just being written, or it is one to yield to.
        LostError: somebody who has to be asked does not answer.
        BrokerUnavailable, NotAuthorized: there is no coordinator to ask.
    """
    node = await link.coordinator(TRANSACTION, name, patience)
    answer = await link.send(node, wire.DescribeTransactionsRequest([name]), lane, patience)
    code, _, state, _, _, producer_id, epoch, topics, _ = answer.transactions[0]
    if faults.next_after(code) is Next.AGAIN:
        raise LostError(faults.name(code), sent=True)
    if code != faults.NONE or state not in (*DECISIONS, *_ENDING, _OPEN):
        return None
    if state in _ENDING:
        raise UnendedError(state)
    if state == _OPEN and not yielding:
        return None
    open_in, leaderless = await _open_partitions(link, producer_id, epoch, patience)
    if leaderless and yielding:
        raise YieldedError(f"{leaderless[0].topic}[{leaderless[0].partition}] has no leader that could tell")
    if state == _OPEN:
        if open_in or [topic for topic, _, _ in topics] == [_OFFSETS]:
            raise YieldedError("somebody ends what the last transaction left open")
        return None
    if not open_in and not await _has_pending(link, group, patience):
        return None
    return Decided(producer_id, epoch, DECISIONS[state], open_in)


async def end(link: Link, group: str, name: str, last: Decided, lane: object, patience: Patience) -> None:
    """End it everywhere, as it was decided. Nothing is done where somebody else has ended it and gone on.

    Raises:
        NotAuthorized, BrokerUnavailable.
    """
    producer = last.producer_id, last.epoch
    where = ", ".join(f"{topic}[{partition}]" for topic, partition in last.open_in) or "a checkpoint"
    logger.warning("%s: its last transaction is complete, and may not have ended in %s; ending it", name, where)
    requests: list[Any] = [AddOffsetsToTxnRequest(name, *producer, group)]
    if last.open_in:
        requests.append(AddPartitionsToTxnRequest(name, *producer, by_topic(last.open_in)))
    requests.append(wire.EndTxnRequest(name, producer, committed=last.committed))
    for request in requests:
        if not await _done(link, name, request, lane, patience):
            return


async def decided_ids(link: Link, patience: Patience) -> set[str]:
    """The transactional ids whose last transaction is complete, of all that these credentials may know.

    Raises:
        LostError: a broker does not answer.
    """
    request = wire.ListTransactionsRequest(list(DECISIONS))
    answers = await asyncio.gather(*(link.send(node, request, ORDINARY, patience) for node in link.nodes()))
    return {id_ for answer in answers for id_, _, _, _ in answer.transactions}


async def _open_partitions(
    link: Link, producer_id: int, epoch: int, patience: Patience
) -> tuple[list[Partition], list[Partition]]:
    """Where this producer id has something open from before this epoch, in all topics that may be seen.

    Also the partitions that nobody leads, who can't be asked.
    """
    request = MetadataRequest(None, allow_auto_topic_creation=False)
    metadata = await link.send(link.any_node(), request, ORDINARY, patience)
    led: dict[int, list[Partition]] = {}
    leaderless = []
    for _, topic, internal, partitions in metadata.topics:
        for _, partition, leader, *_ in partitions if not internal else ():
            if leader >= 0:
                led.setdefault(leader, []).append(Partition(topic, partition))
            else:
                leaderless.append(Partition(topic, partition))
    requests = {node: wire.DescribeProducersRequest(by_topic(partitions)) for node, partitions in led.items()}
    answers = await asyncio.gather(*(link.send(node, asked, ORDINARY, patience) for node, asked in requests.items()))
    found = []
    for answer in answers:
        for topic, partitions, _ in answer.topics:
            for partition, code, _, producers, _ in partitions:
                if faults.next_after(code) is Next.AGAIN:
                    raise LostError(f"{topic}[{partition}]: {faults.name(code)}", sent=True)
                if any(id_ == producer_id and of < epoch and since >= 0 for id_, of, _, _, _, since, _ in producers):
                    found.append(Partition(topic, partition))
    return found, leaderless


async def _has_pending(link: Link, group: str, patience: Patience) -> bool:
    """Whether a checkpoint of the group is pending, whoever's it is."""
    node = await link.coordinator(GROUP, group, patience)
    try:
        answer = await link.send(node, wire.OffsetFetchRequest(group, None, stable=True), ORDINARY, patience)
    except LostError:
        link.forget_coordinator(GROUP, group)
        raise
    codes = {code for _, entries, _ in answer.topics for _, _, _, _, code, _ in entries} | {answer.error_code}
    if faults.UNSTABLE_OFFSET_COMMIT in codes:
        return True
    again = [code for code in codes if faults.next_after(code) is Next.AGAIN]
    if again:
        link.forget_coordinator(GROUP, group)
        raise LostError(faults.name(again[0]), sent=True)
    return False


async def _done(link: Link, name: str, request: Any, lane: object, patience: Patience) -> bool:
    """Whether the coordinator has done it; False where the id has gone on since."""
    while True:
        node = await link.coordinator(TRANSACTION, name, patience)
        try:
            answer = await link.send(node, request, lane, patience)
        except LostError:
            code = faults.COORDINATOR_NOT_AVAILABLE
        else:
            code = _code(answer)
        if code == faults.NONE:
            return True
        if faults.next_after(code) is Next.FENCED:
            return False
        if faults.moved(code):
            link.forget_coordinator(TRANSACTION, name)
        if faults.next_after(code) is not Next.AGAIN or not await patience.pause():
            raise faults.raised(code, f"ending the last transaction of {name!r}")


def _code(answer: Any) -> int:
    """The first error of an answer, whichever shape it has."""
    if hasattr(answer, "error_code"):
        return answer.error_code  # type: ignore[no-any-return]
    return next((code for _, entries in answer.errors for _, code in entries if code), faults.NONE)
