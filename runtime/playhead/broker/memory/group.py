"""A group in memory: its members, their generations, and its checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import count

from playhead.broker.contract import Epoch, GroupInfo, Mark, Partition
from playhead.broker.memory.assignment import divide
from playhead.broker.memory.transaction import Transaction
from playhead.clock import Clock


class GroupState(Enum):
    """Where a group is, in Kafka's words.

    EMPTY ◀──────────────┐
      │                  │ the last member is gone
      ▼                  │
    PREPARING ───────▶ STABLE       PREPARING: the members are asked to let go of what they have
      ▲                  │
      └──────────────────┘ somebody comes or goes, or partitions were added
    """

    EMPTY = "empty"
    PREPARING = "preparing_rebalance"
    STABLE = "stable"


_NEXT = {
    GroupState.EMPTY: {GroupState.PREPARING},
    GroupState.PREPARING: {GroupState.STABLE, GroupState.EMPTY},
    GroupState.STABLE: {GroupState.PREPARING, GroupState.EMPTY},
}


@dataclass(slots=True, eq=False)
class Member:
    """One member id of a group, as the group sees it."""

    id: str
    writer: str
    topics: tuple[str, ...]
    revoke: Callable[[], Awaitable[None]]
    """Asks it to let go of its tasks; returns when it has. A frozen member does not return."""
    assign: Callable[[Epoch], None]
    lost: Callable[[], None]
    """Called when it took too long to let go, and the group has gone on without it."""
    epoch: Epoch | None = None
    """What the group gave it last; None before its first generation."""
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it has let go of that, or is out of the group."""

    @property
    def tasks(self) -> frozenset[int]:
        return self.epoch.tasks if self.epoch is not None else frozenset()

    @property
    def must_release(self) -> bool:
        """Whether the group has to wait for it."""
        return self.epoch is not None and not self.released.is_set()


class Group:
    """The coordinator of one group. Every change of members or partitions leads to a new generation."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        partitions_of: Callable[[str], int],
        *,
        rebalance_timeout_seconds: float,
    ) -> None:
        self.name = name
        self.generation = 0
        self.state = GroupState.EMPTY
        self.members: dict[str, Member] = {}
        self._clock = clock
        self._partitions_of = partitions_of
        self._rebalance_timeout_seconds = rebalance_timeout_seconds
        self.background: set[asyncio.Task[None]] = set()
        """What the coordinator is doing now."""
        self._rebalancing: asyncio.Task[None] | None = None
        self._stale = False  # whether what is assigned is no longer what should be
        self._marks: dict[Partition, tuple[int, Mark]] = {}  # with the number of the hold that set it
        self._held: dict[Transaction, dict[Partition, tuple[int, Mark]]] = {}
        self._numbers = count(1)

    # Members ----------------------------------------------------------------------------------------------------

    def add(self, member: Member) -> None:
        """Take a member in."""
        self.members[member.id] = member
        self.rebalance()

    def remove(self, member: Member) -> None:
        """Let the group go on without a member, whether it knows or not."""
        if self.members.pop(member.id, None) is None:
            return
        member.released.set()
        self.rebalance()

    def owns(self, epoch: Epoch) -> bool:
        """Whether the group is still in this epoch: the fence of a commit."""
        return epoch.member_id in self.members and epoch.generation == self.generation

    def reads(self, topic: str) -> bool:
        """Whether a member reads this topic."""
        return any(topic in member.topics for member in self.members.values())

    def rebalance(self) -> None:
        """Begin a new generation; one that is being prepared takes the change in."""
        self._stale = True
        if self._rebalancing is None or self._rebalancing.done():
            self._rebalancing = self._spawn(self._rebalance())

    async def _rebalance(self) -> None:
        while self._stale:
            if not self.members:
                self._stale = False
                self._become(GroupState.EMPTY)
                return
            self._become(GroupState.PREPARING)
            await self._all_released()
            self._stale = False
            if self.members:
                self._assign()
                self._become(GroupState.STABLE)
            else:
                self._stale = True

    async def _all_released(self) -> None:
        """Wait until every member has let go. Who has not after the rebalance timeout is out of the group."""
        for member in self.members.values():
            if member.must_release:
                self._spawn(self._release(member))
        deadline = self._spawn(self._remove_the_slow())
        try:
            while waiting := [member for member in self.members.values() if member.must_release]:
                await waiting[0].released.wait()
        finally:
            deadline.cancel()

    async def _release(self, member: Member) -> None:
        try:
            await member.revoke()
        finally:
            member.released.set()

    async def _remove_the_slow(self) -> None:
        await self._clock.sleep(self._rebalance_timeout_seconds)
        for member in [member for member in self.members.values() if member.must_release]:
            self.remove(member)
            member.lost()

    def _assign(self) -> None:
        self.generation += 1
        topics = {topic for member in self.members.values() for topic in member.topics}
        tasks = max((self._partitions_of(topic) for topic in topics), default=0)
        division = divide(tasks, {member.id: member.tasks for member in self.members.values()})
        writers = frozenset(member.writer for member in self.members.values())
        for member in list(self.members.values()):
            member.epoch = Epoch(member.id, self.generation, division[member.id], writers)
            member.released.clear()
            member.assign(member.epoch)

    def _become(self, state: GroupState) -> None:
        if state is not self.state and state not in _NEXT[self.state]:
            raise AssertionError(f"a group that is {self.state.value} can't become {state.value}")
        self.state = state

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return task

    # Checkpoints ------------------------------------------------------------------------------------------------

    def hold(self, transaction: Transaction, checkpoints: Mapping[Partition, Mark]) -> None:
        """Take checkpoints that become the group's when `transaction` commits; until it ends they are unstable."""
        number = next(self._numbers)
        self._held[transaction] = {partition: (number, mark) for partition, mark in checkpoints.items()}

    def settle(self, transaction: Transaction, *, commit: bool) -> None:
        """Take in, or drop, what a transaction held. Of two that overlapped, the one that held later wins."""
        for partition, (number, mark) in self._held.pop(transaction).items():
            if commit and self._marks.get(partition, (0, mark))[0] < number:
                self._marks[partition] = (number, mark)

    def reset(self, checkpoints: Mapping[Partition, Mark]) -> None:
        """Set checkpoints outside any transaction."""
        number = next(self._numbers)
        self._marks.update({partition: (number, mark) for partition, mark in checkpoints.items()})

    def forget(self, topic: str) -> None:
        """Drop the checkpoints of a topic that was deleted."""
        self._marks = {partition: mark for partition, mark in self._marks.items() if partition.topic != topic}

    async def checkpoints(self, partitions: Iterable[Partition]) -> dict[Partition, Mark | None]:
        """The checkpoints, once no transaction holds one of these partitions open."""
        wanted = frozenset(partitions)
        while holding := [t for t, held in self._held.items() if not wanted.isdisjoint(held)]:
            await holding[0].ended.wait()
        return self.unstable_checkpoints(wanted)

    def unstable_checkpoints(self, partitions: Iterable[Partition]) -> dict[Partition, Mark | None]:
        """The checkpoints as they are, whatever is held open."""
        return {p: self._marks[p][1] if p in self._marks else None for p in partitions}

    def describe(self) -> GroupInfo:
        """What an operator sees."""
        return GroupInfo(
            name=self.name,
            state=self.state.value,
            members={
                member.id: frozenset(
                    Partition(topic, task)
                    for topic in member.topics
                    for task in member.tasks
                    if task < self._partitions_of(topic)
                )
                for member in self.members.values()
            },
            checkpoints={partition: mark for partition, (_, mark) in self._marks.items()},
        )
