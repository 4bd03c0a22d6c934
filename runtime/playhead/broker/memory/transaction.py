"""Transactions in memory, and the writers that they belong to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import count
from typing import Protocol

from playhead.broker.contract import Mark, Partition, Record
from playhead.broker.memory.log import PartitionLog


class Phase(Enum):
    """Where a transaction is.

        OPEN ──▶ DECIDED ──▶ COMMITTED
          │
          └────▶ ABORTED

    DECIDED is what Kafka calls prepare-commit: it will be committed whatever happens, but its markers are not written,
    so readers and checkpoints still wait for it.
    """

    OPEN = "open"
    DECIDED = "decided"
    COMMITTED = "committed"
    ABORTED = "aborted"


_NEXT = {
    Phase.OPEN: {Phase.DECIDED, Phase.ABORTED},
    Phase.DECIDED: {Phase.COMMITTED},
    Phase.COMMITTED: set[Phase](),
    Phase.ABORTED: set[Phase](),
}


class CheckpointHolder(Protocol):
    """The group whose checkpoints a transaction holds open."""

    def hold(self, transaction: Transaction, checkpoints: Mapping[Partition, Mark]) -> None: ...
    def settle(self, transaction: Transaction, *, commit: bool) -> None: ...


class Transaction:
    """What one writer has written and not ended yet: records in partitions, and checkpoints of a group."""

    __slots__ = ("_group", "_logs", "ended", "number", "phase", "writer")

    def __init__(self, number: int, writer: str) -> None:
        self.number = number
        self.writer = writer
        self.phase = Phase.OPEN
        self.ended = asyncio.Event()
        """Set once it is COMMITTED or ABORTED."""
        self._logs: list[PartitionLog] = []
        self._group: CheckpointHolder | None = None

    def write(self, log: PartitionLog, records: Iterable[Record]) -> None:
        """Add records of one partition."""
        self._logs.append(log)
        log.append(records, self.number)

    def hold(self, group: CheckpointHolder, checkpoints: Mapping[Partition, Mark]) -> None:
        """Add a group's checkpoints."""
        self._group = group
        group.hold(self, checkpoints)

    def decide(self) -> None:
        """From here on it will be committed, even if its writer dies."""
        self._become(Phase.DECIDED)

    def complete(self) -> None:
        """Write the markers of a decided transaction."""
        self._become(Phase.COMMITTED)
        self._end(commit=True)

    def abort(self) -> None:
        """End an open transaction; nothing of it is ever seen by a committed reader."""
        self._become(Phase.ABORTED)
        self._end(commit=False)

    def settle(self) -> None:
        """End it in the only way that is still possible: complete what was decided, abort what was not."""
        if self.phase is Phase.DECIDED:
            self.complete()
        elif self.phase is Phase.OPEN:
            self.abort()

    def _become(self, phase: Phase) -> None:
        if phase not in _NEXT[self.phase]:
            raise AssertionError(f"a transaction that is {self.phase.value} can't become {phase.value}")
        self.phase = phase

    def _end(self, *, commit: bool) -> None:
        for log in self._logs:
            log.end_transaction(self.number, commit=commit)
        if self._group is not None:
            self._group.settle(self, commit=commit)
        self.ended.set()


class Writers:
    """Every writer's unfinished transactions, and which writers are fenced for good (rule 6)."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._unfinished: dict[str, list[Transaction]] = {}
        self._fenced: set[str] = set()

    def begin(self, writer: str) -> Transaction | None:
        """Open a transaction; None if the writer is fenced.

        What the writer left open is aborted first: its earlier self saw an error and was thrown away.
        """
        if writer in self._fenced:
            return None
        self.recover(writer)
        transaction = Transaction(next(self._numbers), writer)
        self._unfinished.setdefault(writer, []).append(transaction)
        return transaction

    def is_fenced(self, writer: str) -> bool:
        """Whether the writer was freed."""
        return writer in self._fenced

    def recover(self, writer: str) -> None:
        """Abort what an earlier self of this writer left open; what is decided completes by itself."""
        unfinished = self._unfinished.get(writer, [])
        for transaction in unfinished:
            if transaction.phase is Phase.OPEN:
                transaction.abort()
        unfinished[:] = [transaction for transaction in unfinished if not transaction.ended.is_set()]

    def settle(self, writer: str) -> None:
        """End what the writer has open."""
        for transaction in self._unfinished.pop(writer, ()):
            transaction.settle()

    def free(self, writer: str) -> None:
        """End what the writer has open, and let it begin nothing more."""
        self._fenced.add(writer)
        self.settle(writer)
