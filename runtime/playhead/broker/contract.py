"""The broker contract: what Playhead needs of a log, small enough to be written twice.

`playhead.broker.kafka` and `playhead.broker.memory` implement it; `tests/broker/` holds the cases that both pass.

A partition is a sequence of offsets. A reader that reads committed stops at the last stable offset (LSO), before the
first transaction that is still open; a reader that reads uncommitted goes on to the end.

    offset      0    1    2    3    4    5    6    7    8
              ┌────┬────┬────┬────┬────┬────┬────┬────┐
    partition │ a  │ b  │ b  │ ✓b │ c  │ a  │ c  │ a  │          a: appended   b: committed (✓b its marker)
              └────┴────┴────┴────┴────┴────┴────┴────┘          c: a transaction still open
                ▲                   ▲                   ▲
              start                LSO                 end       markers and aborted records take offsets, and
                                                                 are never handed out: offsets have gaps

A job is a group. Its work is divided into tasks: task p is partition p of every topic that the group reads. Tasks are
handed to members, whole, in generations. What a member was given in one generation is an `Epoch`; it is captured once,
when the assignment arrives, and every commit carries it.

    generation        7                          8                            9
    member A    tasks {0,1,2,3}  ── revoked ─▶  tasks {0,1}   ── dies
    member B                                    tasks {2,3}   ── revoked ─▶  tasks {0,1,2,3}
                                                                             B takes over 0 and 1: A's writer is in
                                                                             their checkpoints and not in the epoch's
                                                                             `writers`, so B frees it first

What a group has done is its checkpoints: for each partition the next offset, and a text of the engine's that says what
is finished beyond it.

                    committed offset (checkpoint)
                            ▼
    ─ done ─ done ─ done ─ RUNNING ─ done ─ done ─ RUNNING ─ done ─ not read yet ─▶
                                     └────────┘              └──┘
                                     finished ranges, in the checkpoint's metadata

A commit is a value: records to write and the checkpoints of the tasks that they came from, all or nothing. What comes
back is a value too:

    Committed   all of it is in the log, and every later checkpoint fetch shows it; readers see it a moment later
    Fenced      nothing of it is, and nothing of this epoch ever will be: somebody else owns the tasks
    Refused     nothing of it is: the broker refuses the records named; the others may be committed without them
    Unknown     no definite answer: all or nothing of it is. Only the log can tell: take the tasks over again

Rules that every implementation keeps (a case of the conformance suite holds each):

1.  A commit carries one epoch's generation (>= 0) and member id (not empty), and only that epoch's tasks. If the group
    has moved on, nothing is sent.
2.  Every commit that touches task p commits p's checkpoint, moved or not: that is the fence.
3.  One commit at a time per membership: the next is sealed only after the last one's outcome is known.
4.  `checkpoints` answers only what is stable: it waits while a transaction holds a checkpoint of the partition open.
5.  There is no automatic offset reset. A partition without checkpoint answers None; what that means is the engine's.
6.  After `free_writers(names)`, nothing that those writers had open or begin later is ever committed.
7.  Partitions are handed over paused; nothing is fetched before the engine has sought and resumed them.
8.  A checkpoint carries the youngest leader epoch that its writer knew of, from what it fetched or from the checkpoint
    before: so a log that lost its end, and has grown again since, can be told from the one that was read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from playhead.records import Headers, Partition, Record, StoredRecord
from playhead.topics import TopicSpec

__all__ = [
    "METADATA_LIMIT_BYTES",
    "MIN_WAIT_SECONDS",
    "Appended",
    "Broker",
    "Commit",
    "Committed",
    "Epoch",
    "Fenced",
    "GroupInfo",
    "Headers",
    "Mark",
    "Membership",
    "Outcome",
    "Ownership",
    "Partition",
    "Record",
    "Refused",
    "StoredRecord",
    "TopicInfo",
    "Unknown",
]


class Appended(NamedTuple):
    """Where an appended record is."""

    topic: str
    partition: int
    offset: int


class Mark(NamedTuple):
    """A partition's checkpoint: the next offset to read, and the engine's text about what is finished beyond it.

    `leader_epoch` is filled in by the membership that commits: one that no record the checkpoint counts is younger
    than, and that every later leader of the partition is younger than (KIP-320). -1 where none is known.
    """

    offset: int
    metadata: str = ""
    leader_epoch: int = -1


METADATA_LIMIT_BYTES = 3_500
"""The most that a mark's metadata may take (Kafka's offset.metadata.max.bytes is 4,096)."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one member was given in one generation of its group. Captured at assignment, never read live again."""

    member_id: str
    generation: int
    tasks: frozenset[int]
    writers: frozenset[str]
    """The writers of all members of this generation: who is not in here can be freed."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Records and the checkpoints of the tasks that they came from: all or nothing.

    `founding` marks a group's first commit, which sets the checkpoint of every partition of a topic, whoever owns it:
    only the owner of task 0 may send one, while nobody has a checkpoint and so nobody has started.

    `not_before` is a moment on the clock's monotonic time: all of it is written at once, and readers see nothing of it
    before. It should be near, since readers of the partitions are held meanwhile.

    Raises:
        ValueError: it breaks rule 1 or 2, or a mark's metadata is too long; that is a mistake in the engine.
    """

    epoch: Epoch
    checkpoints: Mapping[Partition, Mark]
    records: Sequence[Record] = field(default=())
    founding: bool = False
    not_before: float = 0.0

    def __post_init__(self) -> None:
        if self.epoch.generation < 0 or not self.epoch.member_id:
            raise ValueError(f"a commit needs a member of a generation, not {self.epoch!r}")
        if not self.checkpoints:
            raise ValueError("a commit without a checkpoint has no fence")
        if self.founding:
            if 0 not in self.epoch.tasks:
                raise ValueError("only the owner of task 0 founds a group")
        elif foreign := {p.partition for p in self.checkpoints} - self.epoch.tasks:
            raise ValueError(f"tasks {sorted(foreign)} are not this epoch's")
        for partition, mark in self.checkpoints.items():
            if len(mark.metadata.encode()) > METADATA_LIMIT_BYTES:
                raise ValueError(f"the metadata of {partition} is longer than {METADATA_LIMIT_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class Committed:
    """All of it is in the log."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """Nothing of it is in the log; the epoch is over."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing of it is in the log, because of these records (indices into the commit's records; at least one).

    Where the broker named only a batch, they are the suspects: commit them one by one to find the one.
    """

    suspects: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """All or nothing of it is in the log; take the tasks over again to learn which."""

    reason: str


Outcome: TypeAlias = Committed | Fenced | Refused | Unknown


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as it is."""

    name: str
    partitions: int
    replication: int
    max_message_bytes: int
    config: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    """Another one each time a topic of this name is made. Empty where the topic was not asked for alone (`topics`)."""


MIN_WAIT_SECONDS = 0.001
"""What a wait for a moment takes at least: a difference that is too small for a float would never pass."""


class Ownership(Protocol):
    """What a membership tells its engine when the group moves."""

    async def revoked(self, epoch: Epoch) -> None:
        """The group is about to move on: finish the commit in flight and seal no other. `epoch` is over afterwards."""
        ...

    def assigned(self, epoch: Epoch) -> None:
        """A new generation: every partition of `epoch.tasks` is paused and waits to be sought and resumed."""
        ...


class Membership(Protocol):
    """One member of one group, from `Broker.join` to `leave`."""

    @property
    def writer(self) -> str:
        """The name of this member's writer: no two memberships ever share one.

        A member that was thrown out, or whose writer was freed, comes back with another.
        """
        ...

    @property
    def session_seconds(self) -> float:
        """After how long without a heartbeat the group moves on without this member."""
        ...

    @property
    def last_heartbeat(self) -> float:
        """When the group last answered a heartbeat, on the clock's monotonic time."""
        ...

    @property
    def breath_seconds(self) -> float:
        """How long to wait after a commit before a small one: where fewer are quicker, who ends waits less in all."""
        ...

    async def silent(self, seconds: float) -> None:
        """Return once the group has answered no heartbeat for so long; at once where that is so already."""
        ...

    async def checkpoints(self, partitions: Iterable[Partition]) -> dict[Partition, Mark | None]:
        """The stable checkpoints of the group (rule 4)."""
        ...

    async def unstable_checkpoints(self, partitions: Iterable[Partition]) -> dict[Partition, Mark | None]:
        """The last stable checkpoints, not waiting for what is open. Only good for learning whose writer to free."""
        ...

    async def free_writers(self, names: Iterable[str]) -> None:
        """Abort or complete what these writers have open, and fence them for good (rule 6)."""
        ...

    async def commit(self, commit: Commit) -> Outcome:
        """Write the commit, all or nothing.

        Raises:
            ValueError: another is in flight (rule 3); nothing is sent.
        """
        ...

    def seek(self, partition: Partition, offset: int) -> None:
        """Fetch this partition from `offset` on. Like `pause` and `resume`, it passes over what is not held."""
        ...

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Hand out no record of these partitions until they are resumed. What was fetched already is kept."""
        ...

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Undo `pause`."""
        ...

    async def fetch(self, max_records: int) -> dict[Partition, Sequence[StoredRecord]]:
        """Wait for committed records of partitions that are not paused; may return none after a while.

        Raises:
            CheckpointLost: a position is outside the log.
            Fenced: this member has left.
            NotAuthorized, BrokerUnavailable: the broker says so, or says nothing.
        """
        ...

    async def leave(self) -> None:
        """Leave the group at once, after `Ownership.revoked`."""
        ...


class Broker(Protocol):
    """A log, its topics and its groups.

    `on_blocked` is called, from a thread, about once a second while the event loop does not turn, with how long that
    has been so, in seconds.
    """

    on_blocked: Callable[[float], None] | None

    async def start(self) -> None:
        """Connect and check the broker.

        Raises:
            BrokerUnavailable: nobody answers.
            BrokerTooOld: its transaction.version is below 2.
        """
        ...

    async def stop(self) -> None:
        """Flush what was appended and close every connection."""
        ...

    async def append(self, records: Sequence[Record]) -> list[Appended | Exception]:
        """Append records outside any transaction: idempotent, acknowledged by all in-sync replicas; a result each.

        Records of one partition keep their order. An exception in the result is a PlayheadError: nothing of that record
        is acknowledged; with BrokerUnavailable it may still have been written.
        """
        ...

    async def join(self, group: str, topics: Sequence[str], ownership: Ownership) -> Membership:
        """Become a member of `group`, which divides the tasks of `topics` among its members.

        Raises:
            UnknownTopic, NotAuthorized, BrokerUnavailable.
        """
        ...

    async def read(
        self,
        partition: Partition,
        start: int,
        end: int,
        sink: Callable[[Sequence[StoredRecord]], Awaitable[None]],
        *,
        committed: bool = True,
    ) -> None:
        """Hand every record with start <= offset < end to `sink`, in batches.

        Reading committed waits until the last stable offset has reached `end`, so with `end` the uncommitted end
        nothing that was open at that moment is missed. Without new data it waits; the caller bounds it.
        """
        ...

    async def bounds(
        self, partitions: Iterable[Partition], *, committed: bool = True
    ) -> dict[Partition, tuple[int, int]]:
        """(start, end) of each partition; the end is the LSO when reading committed, else the next record's offset."""
        ...

    async def ends_of_epochs(self, leader_epochs: Mapping[Partition, int]) -> dict[Partition, int]:
        """Where the records of this leader epoch, and of those before it, end in each partition; 0 if it had none such.

        A mark that counts records beyond that end counts lost ones: its leader's successor did not have them, and
        others may be in their place.
        """
        ...

    async def offsets_at(self, partitions: Iterable[Partition], timestamp_ms: int) -> dict[Partition, int]:
        """The first offset whose record is not older than `timestamp_ms`, or the end."""
        ...

    async def topic(self, name: str, *, fresh: bool = False) -> TopicInfo:
        """One topic, from a cache that lives as long as metadata does, or (`fresh`) as it is now.

        Raises:
            UnknownTopic, NotAuthorized, BrokerUnavailable.
        """
        ...

    def known_topic(self, name: str) -> TopicInfo | None:
        """The cached answer of `topic`, without waiting."""
        ...

    async def topics(self) -> list[TopicInfo]:
        """All topics that these credentials may see, without the broker's own."""
        ...

    async def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create those that do not exist, wait until they can be used, and name them.

        Raises:
            NotAuthorized, BrokerUnavailable, TopicMisfit: the broker refuses a setting.
        """
        ...

    async def reset_group(self, group: str, checkpoints: Mapping[Partition, Mark]) -> None:
        """Set the checkpoints of a group that has no members.

        Raises:
            InvalidInput: the group has members.
        """
        ...

    async def describe_group(self, group: str) -> GroupInfo:
        """Who is in the group, which tasks they hold, and what it has committed."""
        ...


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A group as it is. `state` is Kafka's word in lower case: empty, preparing_rebalance, stable, dead …"""

    name: str
    state: str
    members: Mapping[str, frozenset[Partition]]
    checkpoints: Mapping[Partition, Mark]
