"""How a commit is carried out: the order of steps, and what can come between them, as in Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from playhead.broker.contract import Commit, Committed, Fenced, Outcome, Partition, Record, Refused, Unknown
from playhead.broker.memory.cluster import Cluster
from playhead.broker.memory.faults import CommitFault
from playhead.broker.memory.group import Group
from playhead.broker.memory.transaction import Phase, Transaction


async def carry_out(
    cluster: Cluster, commit: Commit, writer: str, group: Group, *, is_frozen: Callable[[], bool]
) -> Outcome:
    """Write the records, then the checkpoints (here the group is asked), then, in its time, end the transaction.

    The event loop goes round before each of the three, so whatever may come between them in Kafka can come here.
    A commit that is cancelled leaves nothing open, unless its member is frozen: that is like a process that was killed.
    """
    fault = cluster.faults.take_commit_fault()
    await asyncio.sleep(0)
    if cluster.faults.unavailable:
        return Unknown("the broker did not answer")
    refusals = {i: why for i, record in enumerate(commit.records) if (why := cluster.refusal(record)) is not None}
    if refusals:
        return Refused(tuple(refusals), str(next(iter(refusals.values()))))
    transaction = cluster.writers.begin(writer)
    if transaction is None:
        return Fenced(f"writer {writer} was freed")
    try:
        return await _write(cluster, transaction, commit, group, fault)
    except asyncio.CancelledError:
        if fault == "hang" or is_frozen():
            cluster.spawn(_expire(cluster, transaction))
        else:
            transaction.settle()
        raise


async def _write(
    cluster: Cluster, transaction: Transaction, commit: Commit, group: Group, fault: CommitFault | None
) -> Outcome:
    for partition, records in _by_partition(commit.records).items():
        transaction.write(cluster.log(partition), records)
    await asyncio.sleep(0)
    if transaction.phase is Phase.OPEN:
        if not group.owns(commit.epoch):
            transaction.abort()
            return Fenced(f"group {group.name} has moved on from generation {commit.epoch.generation} of this member")
        transaction.hold(group, commit.checkpoints)
    seconds = max(cluster.commit_latency_seconds, commit.not_before - cluster.clock.monotonic())
    if seconds > 0:
        await cluster.clock.sleep(seconds)
    else:
        await asyncio.sleep(0)
    if fault == "hang" and await _expire(cluster, transaction):
        return Unknown("the transaction timed out")
    if transaction.phase is not Phase.OPEN:
        return Fenced(f"writer {transaction.writer} was freed")
    if fault == "unknown_aborted":
        transaction.abort()
        return Unknown("the answer was lost")
    transaction.decide()
    if cluster.marker_latency_seconds > 0:
        cluster.spawn(_complete_later(cluster, transaction))
    else:
        transaction.complete()
    return Committed() if fault is None else Unknown("the answer was lost")


async def _expire(cluster: Cluster, transaction: Transaction) -> bool:
    """Wait until a transaction ends, or abort it after the transaction timeout; say whether it came to that.

    One that is decided by then still completes.
    """
    timeout = asyncio.ensure_future(cluster.clock.sleep(cluster.transaction_timeout_seconds))
    ended = asyncio.ensure_future(transaction.ended.wait())
    try:
        await asyncio.wait((timeout, ended), return_when=asyncio.FIRST_COMPLETED)
    finally:
        timeout.cancel()
        ended.cancel()
        await asyncio.gather(timeout, ended, return_exceptions=True)
    expired = transaction.phase is Phase.OPEN
    if expired:
        cluster.writers.free(transaction.writer)  # the coordinator raises the epoch: this writer commits nothing more
    return expired


async def _complete_later(cluster: Cluster, transaction: Transaction) -> None:
    await cluster.clock.sleep(cluster.marker_latency_seconds)
    transaction.settle()


def _by_partition(records: Sequence[Record]) -> dict[Partition, list[Record]]:
    divided: dict[Partition, list[Record]] = {}
    for record in records:
        divided.setdefault(Partition(record.topic, record.partition), []).append(record)
    return divided
