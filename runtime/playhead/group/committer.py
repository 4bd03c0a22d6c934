"""Group commit: while one commit is in flight, what ends gathers for the next.

    ended ──▶ gathered ──▶ seal ──▶ commit ──▶ Committed   forget what has ended
                 ▲                     ├─────▶ Refused     commit the suspects alone; the one that is refused fails
                 │                     ├─────▶ Fenced      the tasks are another's: drop them
                 └── the others ───────┤
                                       └─────▶ Unknown     take the tasks over again: only the log can tell

A lone ending waits for nothing, and a flood is written in batches as large as the time of one commit makes them. The
next commit is sealed only after the outcome of the last is known, and a breath later where little has gathered.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from playhead.broker.contract import (
    Commit,
    Committed,
    Epoch,
    Fenced,
    Mark,
    Membership,
    Outcome,
    Refused,
    Unknown,
)
from playhead.clock import Clock, within
from playhead.group.tally import GroupTally
from playhead.group.work import Ending, Item, OwnedTask, Work
from playhead.records import Partition, Record

MAX_ENDINGS_PER_COMMIT = 1_000
MAX_COMMIT_BYTES = 4 * 1024 * 1024
FEW_ENDINGS = 100
"""A commit of so many is not small."""
_LAST_COMMITS_MAX = 3
SKIPS_DUE_SECONDS = 1.0
"""How long a checkpoint that moved by skipping alone may wait for its commit."""


class Sealed(NamedTuple):
    """A commit, and what it was made of."""

    commit: Commit
    endings: Sequence[Ending]
    first_record: Sequence[int]
    """For each ending the index of its first record in the commit."""


class Owning(Protocol):
    """Whose tasks are committed."""

    @property
    def tasks(self) -> Mapping[int, OwnedTask]: ...
    def fenced(self, reason: str) -> None: ...
    def unknown(self, reason: str) -> None: ...


class Committer:
    """The one way in which a member commits. It commits for `epoch`, and does nothing while that is None."""

    def __init__(
        self,
        membership: Membership,
        member: Owning,
        work: Work,
        clock: Clock,
        tally: GroupTally,
        *,
        max_endings: int = MAX_ENDINGS_PER_COMMIT,
    ) -> None:
        self.epoch: Epoch | None = None
        self._membership = membership
        self._member = member
        self._work = work
        self._clock = clock
        self._tally = tally
        self._max_endings = max_endings
        self._gathered: deque[Ending] = deque()
        self._suspects: deque[Ending] = deque()
        self._in_flight = asyncio.Lock()
        self._due = asyncio.Event()
        self._thawed = asyncio.Event()
        self._skips_due = False
        self._skips_timer: asyncio.Task[None] | None = None

    def add(self, ending: Ending) -> None:
        """Commit this, soon."""
        self._gathered.append(ending)
        self._due.set()

    def skipped(self) -> None:
        """A checkpoint has moved by skipping: commit it within a second, with others if any."""
        if self._skips_timer is None and not self._skips_due:
            self._skips_timer = asyncio.create_task(self._wait_for_skips())

    async def _wait_for_skips(self) -> None:
        await self._clock.sleep(SKIPS_DUE_SECONDS)
        self._skips_timer = None
        self._skips_due = True
        self._due.set()

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Commit what gathers, until cancelled."""
        breath_seconds = self._membership.breath_seconds
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                while await self.commit_gathered():
                    if breath_seconds and len(self._gathered) < FEW_ENDINGS:
                        await self._clock.sleep(breath_seconds)
        finally:
            if self._skips_timer is not None:
                self._skips_timer.cancel()

    async def commit_gathered(self) -> bool:
        """Seal and commit once; False when there was nothing to commit."""
        async with self._in_flight:
            sealed = self._seal()
            if sealed is None:
                return False
            outcome = await self._carried_out(sealed.commit)
        self._settle(sealed, outcome)
        return True

    async def commit(self, commit: Commit) -> Outcome:
        """Commit something else (a takeover, a founding), in turn with the others."""
        async with self._in_flight:
            return await self._carried_out(commit)

    async def commit_tasks(self, tasks: Sequence[OwnedTask]) -> Outcome:
        """Commit the checkpoints of these tasks as they are now, and nothing else. Its failure is settled as any."""
        async with self._in_flight:
            if self.epoch is None:
                return Fenced("the group is moving on")
            checkpoints: dict[Partition, Mark] = {}
            for task in tasks:
                checkpoints.update(task.marks({}))
            sealed = Sealed(Commit(self.epoch, checkpoints), (), ())
            outcome = await self._carried_out(sealed.commit)
        self._settle(sealed, outcome)
        return outcome

    async def _carried_out(self, commit: Commit) -> Outcome:
        told: Outcome | None = None
        self._tally.commit_begins(self._clock.monotonic())
        try:
            outcome = told = await self._membership.commit(commit)
        finally:
            self._tally.commit_ended(told, len(commit.records), self._clock.monotonic())
        return outcome

    async def settled(self) -> None:
        """Return when no commit is in flight: what the log says of the checkpoints then is final."""
        async with self._in_flight:
            pass

    async def freeze(self) -> None:
        """Commit what has gathered by now, and seal nothing more until `epoch` is set again."""
        last = asyncio.ensure_future(self._commit_last())
        try:
            await asyncio.shield(last)  # whoever does not wait for it any longer must not cut a transaction in two
        finally:
            self.epoch = None
            self._thawed.clear()
        await self.settled()

    async def _commit_last(self) -> None:
        """Functions go on meanwhile; whoever ends too late is not waited for."""
        for _ in range(_LAST_COMMITS_MAX):
            if not await self.commit_gathered():
                break

    def thaw(self, epoch: Epoch) -> None:
        """Go on, for this epoch."""
        self.epoch = epoch
        self._thawed.set()
        self._due.set()

    async def thawed(self, seconds: float) -> bool:
        """Wait until it may commit, at most for `seconds`."""
        return await within(self._clock, seconds, self._thawed.wait())

    def release(self) -> None:
        """Commit the checkpoint of every task that has moved with what has gathered, without waiting."""
        self._skips_due = True

    def withdraw(self, item: Item) -> None:
        """Forget what else this run, or timer, was about to tell."""
        self._gathered = deque(ending for ending in self._gathered if ending.item is not item)
        self._suspects = deque(ending for ending in self._suspects if ending.item is not item)

    def forget(self) -> None:
        """Drop what has gathered: its tasks are restored from the log, or another's."""
        self._gathered.clear()
        self._suspects.clear()

    # ── sealing and settling ─────────────────────────────────────────────────────────────────────────────────────────

    def _seal(self) -> Sealed | None:
        epoch = self.epoch
        if epoch is None:
            return None
        endings = self._next_endings()
        touched: set[OwnedTask] = set()
        ended: defaultdict[Any, set[int]] = defaultdict(set)
        records: list[Record] = []
        first_record: list[int] = []
        not_before = 0.0
        for item, told, final, moment in endings:
            touched.add(item.task)
            if moment > not_before:
                not_before = moment
            if final:
                ended[item.progress].add(item.offset)
            first_record.append(len(records))
            records += told
        if self._skips_due:
            self._skips_due = False
            touched.update(task for task in self._member.tasks.values() if task.moved)
        if not touched:
            return None
        checkpoints: dict[Partition, Mark] = {}
        for task in sorted(touched, key=lambda task: task.number):
            task.moved = False
            checkpoints.update(task.marks(ended))
        return Sealed(Commit(epoch, checkpoints, records, not_before=not_before), endings, first_record)

    def _next_endings(self) -> list[Ending]:
        """As many as one commit takes; a suspect goes alone. What belongs to a dropped task is forgotten."""
        while self._suspects:
            suspect = self._suspects.popleft()
            if not suspect.item.dropped:
                return [suspect]
        taken: list[Ending] = []
        size_bytes = 0
        gathered = self._gathered
        while gathered and len(taken) < self._max_endings and size_bytes < MAX_COMMIT_BYTES:
            ending = gathered.popleft()
            if ending.item.dropped:
                continue
            taken.append(ending)
            for record in ending.records:
                size_bytes += len(record.value or b"")
        return taken

    def _settle(self, sealed: Sealed, outcome: Outcome) -> None:
        match outcome:
            case Committed():
                self._work.committed(sealed.endings)
            case Refused(suspects, reason):
                self._isolate(sealed, suspects, reason)
            case Fenced(reason):
                self._member.fenced(reason)
            case Unknown(reason):
                self._member.unknown(reason)

    def _isolate(self, sealed: Sealed, suspects: Sequence[int], reason: str) -> None:
        """Whose record is refused fails alone; the others go again without it."""
        for task in self._member.tasks.values():
            task.moved = True
        items = {sealed.endings[self._ending_of(sealed, index)].item for index in suspects}
        # All that a run tells goes the same way, so that its order stays.
        named = {i for i, ending in enumerate(sealed.endings) if ending.item in items}
        others = [ending for i, ending in enumerate(sealed.endings) if i not in named]
        self._gathered.extendleft(reversed(others))
        if len(items) == 1:
            self._work.refused(items.pop(), reason)
        else:
            self._suspects.extend(sealed.endings[i] for i in sorted(named))
        self._due.set()

    @staticmethod
    def _ending_of(sealed: Sealed, record_index: int) -> int:
        """Which ending the record belongs to: the last one that begins at or before it."""
        low, high = 0, len(sealed.first_record)
        while high - low > 1:
            middle = (low + high) // 2
            if sealed.first_record[middle] <= record_index:
                low = middle
            else:
                high = middle
        return low
