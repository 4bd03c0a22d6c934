"""One member of one group in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from playhead.broker.contract import (
    MIN_WAIT_SECONDS,
    Commit,
    Epoch,
    Fenced,
    Mark,
    Outcome,
    Ownership,
    Partition,
    StoredRecord,
)
from playhead.broker.memory.cluster import Cluster
from playhead.broker.memory.committing import carry_out
from playhead.broker.memory.group import Group, Member
from playhead.broker.memory.log import PartitionLog
from playhead.clock import within
from playhead.errors import Fenced as FencedError


class MemoryMembership:
    """A `Membership`.

        JOINED ──a generation──▶ HOLDING (epoch) ──rebalance──▶ revoked ──▶ JOINED ──▶ …
                                   │ fenced, or expelled and told so ──▶ revoked ──▶ joins again
                                   └──leave──▶ revoked ──▶ LEFT

    A member that was expelled, or whose writer was freed, comes back with a new writer: the old one is fenced for good.
    """

    def __init__(self, cluster: Cluster, group: Group, topics: Sequence[str], ownership: Ownership) -> None:
        self._cluster = cluster
        self._group = group
        self._topics = tuple(dict.fromkeys(topics))
        self._ownership = ownership
        self._epoch: Epoch | None = None
        self._revoking: asyncio.Future[None] | None = None
        self._committing = False
        self._fenced_epoch: Epoch | None = None
        self._left = False
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._freezes = 0
        self._silent_since: float | None = None  # when its heartbeats stopped being answered
        self._logs: dict[Partition, PartitionLog] = {}  # of the partitions that it holds, next to be fetched first
        self._positions: dict[Partition, int] = {}
        self._leader_epochs: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._changed = asyncio.Event()
        self._hushed = asyncio.Event()
        """Set when something happens that heartbeats may hang on."""
        cluster.waiting.update((self._changed.set, self._hushed.set))
        self._join()

    # The group -------------------------------------------------------------------------------------------------

    @property
    def writer(self) -> str:
        """See `Membership.writer`."""
        return self._member.writer

    @property
    def session_seconds(self) -> float:
        """See `Membership.session_seconds`."""
        return self._cluster.session_seconds

    @property
    def last_heartbeat(self) -> float:
        """See `Membership.last_heartbeat`. Computed, so that a virtual clock need not stop at every heartbeat."""
        silent = [t for t in (self._silent_since, self._cluster.faults.unavailable_since) if t is not None]
        until = min(silent, default=self._cluster.clock.monotonic())
        interval = self._cluster.heartbeat_seconds
        return self._joined_at + max(0.0, (until - self._joined_at) // interval * interval)

    @property
    def breath_seconds(self) -> float:
        """See `Membership.breath_seconds`."""
        return self._cluster.breath_seconds

    async def silent(self, seconds: float) -> None:
        """See `Membership.silent`. While heartbeats are answered nobody looks, so a quiet year costs nothing."""
        clock = self._cluster.clock
        while True:
            self._hushed.clear()
            if self._silent_since is None and self._cluster.faults.unavailable_since is None:
                await self._hushed.wait()
                continue
            silent_seconds = clock.monotonic() - self.last_heartbeat
            if silent_seconds >= seconds:
                return
            await within(clock, max(seconds - silent_seconds, MIN_WAIT_SECONDS), self._hushed.wait())

    async def leave(self) -> None:
        """See `Membership.leave`."""
        if self._left:
            return
        self._left = True
        await self._revoke()
        self._group.remove(self._member)
        self._cluster.waiting.difference_update((self._changed.set, self._hushed.set))
        self._changed.set()

    def _join(self) -> None:
        self._joined_at = self._cluster.clock.monotonic()
        self._silent_since = None
        self._member = Member(
            id=f"{self._group.name}-member-{self._cluster.next_number()}",
            writer=self._new_writer(),
            topics=self._topics,
            revoke=self._asked_to_release,
            assign=self._assigned,
            lost=self._lost,
        )
        self._group.add(self._member)

    def _new_writer(self) -> str:
        return f"{self._group.name}-writer-{self._cluster.next_number()}"

    def _assigned(self, epoch: Epoch) -> None:
        self._epoch = epoch
        for topic in self._topics:
            for log in self._cluster.logs_of(topic) if topic in self._cluster.all_topics else ():
                if log.partition in epoch.tasks:
                    partition = Partition(topic, log.partition)
                    self._logs[partition] = log
                    self._paused.add(partition)
                    log.listeners.add(self._changed.set)
        self._changed.set()
        try:
            self._ownership.assigned(epoch)
        except Exception as error:  # noqa: BLE001 - a broken engine must not stop its group's other members
            asyncio.get_running_loop().call_exception_handler({"message": "assigned() raised", "exception": error})

    async def _asked_to_release(self) -> None:
        await self._thawed.wait()
        await self._revoke()

    async def _revoke(self) -> None:
        """Give up the epoch, once: leaving during a rebalance waits for the same call of `revoked`."""
        if self._epoch is None:
            return
        if self._revoking is None:
            self._revoking = asyncio.ensure_future(self._give_up(self._epoch))
        await asyncio.shield(self._revoking)

    async def _give_up(self, epoch: Epoch) -> None:
        try:
            await self._ownership.revoked(epoch)
        finally:
            self._epoch = self._revoking = None
            if self._cluster.writers.is_fenced(self.writer):
                self._member.writer = self._new_writer()
            for log in self._logs.values():
                log.listeners.discard(self._changed.set)
            self._logs.clear()
            self._positions.clear()
            self._paused.clear()
            self._changed.set()

    # What a test does to it (through MemoryBroker) ----------------------------------------------------------------

    def freeze(self) -> None:
        """Answer neither heartbeats nor rebalances: what a stopped process looks like to its group."""
        self._thawed.clear()
        self._freezes += 1
        self._fall_silent()
        self._cluster.spawn(self._session_ends(self._freezes))

    def _is_frozen(self) -> bool:
        return not self._thawed.is_set()

    def thaw(self) -> None:
        """Undo `freeze`; if the group went on meanwhile, the member learns of it with its next heartbeat."""
        self._thawed.set()
        if self._member.id in self._group.members:
            self._silent_since = None

    def expel(self) -> None:
        """Let the group go on without asking this member, which does not know of it before its next heartbeat."""
        self._group.remove(self._member)
        self._lost()

    def _lost(self) -> None:
        self._fall_silent()
        self._cluster.spawn(self._come_back(self._member, self._cluster.heartbeat_seconds))

    def _fall_silent(self) -> None:
        if self._silent_since is None:
            self._silent_since = self._cluster.clock.monotonic()
            self._hushed.set()

    async def _session_ends(self, freeze: int) -> None:
        await self._cluster.clock.sleep(self._cluster.session_seconds)
        if self._is_frozen() and self._freezes == freeze and self._member.id in self._group.members:
            self.expel()

    async def _come_back(self, member: Member, after_seconds: float) -> None:
        """Take part in the next generation: as the same member if the group still knows it, else as a new one."""
        await self._cluster.clock.sleep(after_seconds)
        await self._thawed.wait()
        if member.id in self._group.members:
            self._group.rebalance()
            return
        if self._member is not member:
            return  # it heard of it in another way, and has come back already
        await self._revoke()
        if self._member is member and not self._left:
            self._join()

    # Checkpoints and commits ---------------------------------------------------------------------------------------

    async def checkpoints(self, partitions: Iterable[Partition]) -> dict[Partition, Mark | None]:
        """See `Membership.checkpoints`."""
        self._cluster.faults.check()
        if not self._committing:
            self._cluster.writers.recover(self.writer)
        marks = await self._group.checkpoints(partitions)
        for partition, mark in marks.items():
            if partition not in self._positions:  # of the others it knows by fetching
                self._leader_epochs[partition] = mark.leader_epoch if mark else -1
        return marks

    async def unstable_checkpoints(self, partitions: Iterable[Partition]) -> dict[Partition, Mark | None]:
        """See `Membership.unstable_checkpoints`."""
        self._cluster.faults.check()
        return self._group.unstable_checkpoints(partitions)

    async def free_writers(self, names: Iterable[str]) -> None:
        """See `Membership.free_writers`."""
        self._cluster.faults.check()
        await asyncio.sleep(0)
        for name in set(names) - {self.writer}:
            self._cluster.writers.free(name)

    async def commit(self, commit: Commit) -> Outcome:
        """See `Membership.commit`.

        Raises:
            ValueError: a commit is in flight (rule 3).
        """
        if self._committing:
            raise ValueError("a commit is in flight; the next is sealed only after its outcome is known")
        epoch = self._epoch
        if epoch is None or commit.epoch != epoch or epoch is self._fenced_epoch:
            return Fenced(f"generation {commit.epoch.generation} of group {self._group.name} is over for this member")
        self._committing = True
        try:
            known = {
                partition: Mark(mark.offset, mark.metadata, self._leader_epochs.get(partition, -1))
                for partition, mark in commit.checkpoints.items()
            }
            told = replace(commit, checkpoints=known)
            outcome = await carry_out(self._cluster, told, self.writer, self._group, is_frozen=self._is_frozen)
        finally:
            self._committing = False
        if isinstance(outcome, Fenced) or self._cluster.writers.is_fenced(self.writer):
            # The broker says that the epoch is over, so it shall be.
            self._fenced_epoch = epoch
            self._cluster.spawn(self._come_back(self._member, 0.0))
        return outcome

    # Reading -----------------------------------------------------------------------------------------------------

    def seek(self, partition: Partition, offset: int) -> None:
        """See `Membership.seek`."""
        if partition in self._logs:
            self._positions[partition] = offset
            self._changed.set()

    def pause(self, partitions: Iterable[Partition]) -> None:
        """See `Membership.pause`."""
        self._paused.update(self._logs.keys() & set(partitions))

    def resume(self, partitions: Iterable[Partition]) -> None:
        """See `Membership.resume`."""
        self._paused.difference_update(partitions)
        self._changed.set()

    async def fetch(self, max_records: int) -> dict[Partition, Sequence[StoredRecord]]:
        """See `Membership.fetch`. Returns none when the assignment changed while it waited."""
        await asyncio.sleep(0)
        while True:
            if self._left:
                raise FencedError(f"this member has left group {self._group.name!r}.")
            self._cluster.faults.check()
            self._changed.clear()
            epoch = self._epoch
            if records := self._take(max_records):
                return records
            await self._changed.wait()
            if self._epoch is not epoch and not self._left:
                return {}

    def _take(self, max_records: int) -> dict[Partition, Sequence[StoredRecord]]:
        taken: dict[Partition, Sequence[StoredRecord]] = {}
        left = max_records
        for partition, log in list(self._logs.items()):
            position = self._positions.get(partition)
            if position is None or partition in self._paused:
                continue
            records, self._positions[partition] = log.read(position, left)
            if records:
                taken[partition] = records
                self._leader_epochs[partition] = log.leader_epoch
                left -= len(records)
                # To the back of the queue, so that one busy partition does not starve the others.
                self._logs[partition] = self._logs.pop(partition)
                if left <= 0:
                    break
        return taken
