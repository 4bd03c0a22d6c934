"""What a member does with its tasks: the interface between `group` and what is built on it (`engine`, `scheduler`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from playhead.broker.contract import Mark
from playhead.group.checkpoint import Owner
from playhead.records import Partition, Record, StoredRecord

if TYPE_CHECKING:
    from playhead.group.member import Member


class Taken(NamedTuple):
    """A task that is this worker's now: for each partition the next offset and the ranges finished beyond it."""

    number: int
    owner: Owner
    partitions: Mapping[Partition, tuple[int, Sequence[range]]]
    ends: Mapping[Partition, int]
    """For each partition the end of what an owner before this one may have had going."""


class OwnedTask(Protocol):
    """A task in the hands of this member."""

    number: int
    owner: Owner
    moved: bool
    """Whether something has finished that no commit tells of yet."""

    @property
    def partitions(self) -> Collection[Partition]:
        """The same partition of every topic that the group reads."""
        ...

    def take(self, partition: Partition, records: Sequence[StoredRecord]) -> None:
        """Keep what was fetched until it is worked on."""
        ...

    def fetched_to(self, partition: Partition) -> int:
        """The next offset to fetch."""
        ...

    def unfinished_from(self, partition: Partition) -> int:
        """The first offset that is not finished."""
        ...

    def resumed(self) -> None:
        """All of its partitions are fetched again."""
        ...

    def marks(self, ending: Mapping[Any, set[int]]) -> dict[Partition, Mark]:
        """The checkpoints of all of the task's partitions, as they will be when what is `ending` is committed."""
        ...


class Item(Protocol):
    """What an ending tells of: a run, or a timer."""

    @property
    def task(self) -> OwnedTask: ...
    @property
    def progress(self) -> Any:
        """Where in its task it is: what `OwnedTask.marks` looks its offset up by."""
        ...

    @property
    def offset(self) -> int: ...
    @property
    def dropped(self) -> bool:
        """Whether its task is another's now: then nothing is told of it any more."""
        ...


class Ending(NamedTuple):
    """What is to be committed of an item: its records, and whether they are its last (so its offset is finished).

    No reader sees them before `not_before`, on the clock's monotonic time.
    """

    item: Any
    records: Sequence[Record]
    final: bool
    not_before: float = 0.0


class Work(Protocol):
    """What a member's tasks are for. A member calls it from one event loop, one call at a time."""

    async def prepare(self) -> None:
        """Ask the broker what there is to know before joining.

        Raises:
            UnknownTopic, NotAuthorized, BrokerUnavailable.
        """
        ...

    def joined(self, member: Member) -> None:
        """The member has joined: from here on there is something to commit with. Nothing is assigned yet."""
        ...

    async def restore(self, taken: Taken) -> OwnedTask:
        """Make the task that was taken over, with all that its past says. Reading the log may take a while.

        Raises:
            BrokerUnavailable: the takeover is tried again.
        """
        ...

    def pump(self) -> None:
        """Work on what the tasks hold, as far as the limits allow."""
        ...

    def drop(self, task: OwnedTask) -> None:
        """The task is another's: stop what it has going, and forget it."""
        ...

    def committed(self, endings: Sequence[Ending]) -> None:
        """These endings are in the log."""
        ...

    def refused(self, item: Any, reason: str) -> None:
        """The broker refuses a record of this item; nothing of it is in the log."""
        ...

    async def finish(self, grace_seconds: float) -> None:
        """Start nothing more, and wait until nothing is going, at most for the grace period."""
        ...

    async def close(self) -> None:
        """The member has left."""
        ...
