"""What the conformance suite needs of an implementation beyond the contract: a way to provoke what may happen to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from playhead.broker.contract import (
    Broker,
    Commit,
    Epoch,
    Mark,
    Membership,
    Outcome,
    Partition,
    Record,
    StoredRecord,
)
from playhead.topics import TopicSpec
from tests.waiting import wait_until

NOW_MS = int(time.time() * 1000)
"""Records carry times near this one: a broker drops what is older than its retention, and refuses what is far ahead."""

_names = count(1)


class OpenTransaction(Protocol):
    """A transaction of somebody else's, open until the test ends it."""

    async def commit(self) -> None: ...
    async def abort(self) -> None: ...


@dataclass
class StuckCommit:
    """A commit that has written everything and does not get to the end of its transaction."""

    outcome: asyncio.Task[Outcome]
    may_end: asyncio.Event
    """Set it, and the commit tries to end its transaction after all."""

    async def give_up(self) -> None:
        """Cancel it."""
        self.outcome.cancel()
        await asyncio.wait([self.outcome])


class Provider(Protocol):
    """One implementation of the contract, for one test."""

    broker: Broker
    """One client, started."""
    members: list[Member]
    """Those that joined; `close` lets them leave."""

    async def another_client(self) -> Broker:
        """Another client of the same log, as another process would have it; started."""
        ...

    async def expel(self, member: Member) -> None:
        """Let the group go on without a member that does not know of it yet."""
        ...

    async def open_transaction(
        self, records: Sequence[Record], group: str = "", checkpoints: Mapping[Partition, Mark] | None = None
    ) -> OpenTransaction:
        """A foreign writer's transaction that has written these records, and these checkpoints of a group."""
        ...

    async def commit_without_end(self, member: Member, commit: Commit) -> StuckCommit:
        """Start a commit, and return when it has written everything and is stuck before the end of its transaction."""
        ...

    async def commit_losing_the_answer(self, member: Member, commit: Commit, *, written: bool) -> Outcome:
        """A commit whose end is carried out (or is not, if not `written`), and whose answer does not arrive."""
        ...

    async def compact(self, topic: str, gone: Sequence[int]) -> None:
        """Compact the topic's one partition; return when the records at the offsets `gone` are."""
        ...

    async def trim(self, partition: Partition, new_start: int) -> None:
        """Take the records below `new_start` away."""
        ...

    async def delete_topic(self, topic: str) -> None:
        """Delete a topic."""
        ...

    async def add_partitions(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions, `partitions` in all."""
        ...

    async def close(self) -> None:
        """End everything that the test left."""
        ...


@dataclass
class Owner:
    """An `Ownership` that writes down what it is told."""

    told: list[tuple[str, Epoch]] = field(default_factory=list)
    epoch: Epoch | None = None
    before_release: Callable[[Epoch], Awaitable[None]] | None = None
    """What it does while the group waits for it to let go."""

    async def revoked(self, epoch: Epoch) -> None:
        if self.before_release is not None:
            await self.before_release(epoch)
        self.epoch = None
        self.told.append(("revoked", epoch))

    def assigned(self, epoch: Epoch) -> None:
        self.epoch = epoch
        self.told.append(("assigned", epoch))


@dataclass
class Member:
    """A membership with the owner that it tells."""

    group: str
    topics: tuple[str, ...]
    membership: Membership
    owner: Owner

    @property
    def epoch(self) -> Epoch:
        """What it holds now."""
        assert self.owner.epoch is not None, "it holds nothing now"
        return self.owner.epoch

    @property
    def tasks(self) -> frozenset[int]:
        """The tasks that it holds now; none between two generations."""
        return self.owner.epoch.tasks if self.owner.epoch is not None else frozenset()

    def commit_of(self, offsets: Mapping[Partition, int | Mark], records: Sequence[Record] = ()) -> Commit:
        """A commit in its current epoch."""
        marks = {p: mark if isinstance(mark, Mark) else Mark(mark) for p, mark in offsets.items()}
        return Commit(self.epoch, marks, records)

    async def fetch_all(self, wanted: int, *, max_records: int = 100) -> list[StoredRecord]:
        """Fetch until at least `wanted` records have come."""
        fetched: list[StoredRecord] = []
        async with asyncio.timeout(15):
            while len(fetched) < wanted:
                for records in (await self.membership.fetch(max_records)).values():
                    fetched.extend(records)
        return fetched


async def join(provider: Provider, group: str, *topics: str, broker: Broker | None = None) -> Member:
    """A new member, which may not have been given anything yet. It leaves when the test ends."""
    owner = Owner()
    membership = await (broker or provider.broker).join(group, topics, owner)
    member = Member(group, topics, membership, owner)
    provider.members.append(member)
    return member


async def settled(*members: Member, tasks: int) -> None:
    """Wait until these members hold all `tasks` tasks, each one of them, in one generation."""

    def divided() -> bool:
        epochs = [member.owner.epoch for member in members]
        return (
            all(epoch is not None for epoch in epochs)
            and len({epoch.generation for epoch in epochs if epoch is not None}) == 1
            and sorted(task for member in members for task in member.tasks) == list(range(tasks))
        )

    await wait_until(divided, seconds=30)


async def sole_member(provider: Provider, *topics: str, tasks: int, group: str = "") -> Member:
    """A member that holds every task, in a group of its own unless told otherwise."""
    member = await join(provider, group or unique("group"), *topics)
    await settled(member, tasks=tasks)
    return member


async def two_members(provider: Provider, *topics: str, tasks: int) -> tuple[Member, Member]:
    """Two members of one group, each with half of the tasks."""
    first = await sole_member(provider, *topics, tasks=tasks)
    second = await join(provider, first.group, *topics)
    await settled(first, second, tasks=tasks)
    return first, second


async def new_topic(broker: Broker, partitions: int = 4, **config: str) -> str:
    """A topic that nobody else uses; `max_message_bytes="2000"` sets max.message.bytes."""
    name = unique("topic")
    await broker.create_topics(
        [TopicSpec(name, partitions, config={key.replace("_", "."): text for key, text in config.items()})]
    )
    return name


def unique(what: str) -> str:
    """A name that nobody else uses on this broker, nor did in an earlier session."""
    return f"{what}-{NOW_MS:x}-{next(_names)}"


def record(
    topic: str, partition: int, value: str | None, *, key: str | None = None, timestamp_ms: int = NOW_MS
) -> Record:
    """A record whose content does not matter, told from others by its value."""
    return Record(
        topic,
        partition,
        key.encode() if key is not None else None,
        value.encode() if value is not None else None,
        [],
        timestamp_ms,
    )


async def append(broker: Broker, *records: Record) -> list[int]:
    """Append records that are not refused, and return their offsets."""
    offsets = []
    for result in await broker.append(records):
        assert not isinstance(result, Exception), result
        offsets.append(result.offset)
    return offsets


async def read_all(broker: Broker, partition: Partition, *, committed: bool = True) -> list[StoredRecord]:
    """Everything of a partition, once what is being ended is: its markers follow the outcome by a moment."""
    start, end = (await broker.bounds([partition], committed=False))[partition]
    return await read(broker, partition, start, end, committed=committed)


async def readable_now(broker: Broker, partition: Partition) -> list[StoredRecord]:
    """What a committed reader sees while a transaction may be open."""
    start, end = (await broker.bounds([partition]))[partition]
    return await read(broker, partition, start, end)


async def read(
    broker: Broker, partition: Partition, start: int, end: int, *, committed: bool = True
) -> list[StoredRecord]:
    """The records with start <= offset < end."""
    found: list[StoredRecord] = []

    async def sink(records: Sequence[StoredRecord]) -> None:
        found.extend(records)

    async with asyncio.timeout(15):
        await broker.read(partition, start, end, sink, committed=committed)
    return found


def values(records: Iterable[StoredRecord]) -> list[str | None]:
    """The values, in order."""
    return [r.value.decode() if r.value is not None else None for r in records]


async def still_waits(task: asyncio.Future[object], broker: Broker, partition: Partition) -> bool:
    """Whether `task` has not ended after the broker has answered others, again and again."""
    for _ in range(10):
        await broker.bounds([partition])
    return not task.done()
