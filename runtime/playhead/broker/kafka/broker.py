"""`KafkaBroker`: the broker contract on Apache Kafka 4, from the parts beside this file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from playhead.broker.contract import (
    Appended,
    GroupInfo,
    Mark,
    Membership,
    Ownership,
    Partition,
    Record,
    StoredRecord,
    TopicInfo,
)
from playhead.broker.kafka.appending import Appender
from playhead.broker.kafka.groups import Groups
from playhead.broker.kafka.link import Link, client_options
from playhead.broker.kafka.membership import KafkaMembership, new_writer_name
from playhead.broker.kafka.offsets import EARLIEST, LATEST, READ_COMMITTED, READ_UNCOMMITTED, Offsets
from playhead.broker.kafka.pulse import Pulse
from playhead.broker.kafka.reading import Reading
from playhead.broker.kafka.timings import GroupTimings
from playhead.broker.kafka.topics import Topics
from playhead.broker.kafka.transaction import Lanes
from playhead.broker.kafka.writer import TransactionWriter
from playhead.clock import SYSTEM_CLOCK, Clock
from playhead.config import Settings
from playhead.errors import BrokerTooOld
from playhead.topics import TopicSpec

TRANSACTION_FEATURE, TRANSACTION_LEVEL = "transaction.version", 2

WRITER_LANES = 4
"""How many pairs of connections the writers of one process share, to each broker."""


class KafkaBroker:
    """See `playhead.broker.contract.Broker`.

    Attributes:
        on_blocked: called from a thread of its own, about once a second while the event loop does not run, with the
            seconds since it last did. Starts with the first membership.
    """

    def __init__(
        self, settings: Settings, clock: Clock = SYSTEM_CLOCK, *, group_timings: GroupTimings | None = None
    ) -> None:
        limit = settings.send_timeout_seconds
        self.on_blocked: Callable[[float], None] | None = None
        self._settings = settings
        self._clock = clock
        self._timings = group_timings or GroupTimings()
        self._link = Link(settings, clock)
        self._topics = Topics(self._link, clock, limit_seconds=limit, max_age_seconds=settings.metadata_max_age_seconds)
        self._offsets = Offsets(self._link, clock, limit)
        self._groups = Groups(self._link, self._offsets, clock, limit)
        self._reading = Reading(self._link, clock, limit)
        self._appender = Appender(self._link, self._topics, clock, limit)
        self._pulse: Pulse | None = None
        self._members: list[KafkaMembership] = []
        self._joined_count = 0

    async def start(self) -> None:
        features = await self._link.open()
        level = features.get(TRANSACTION_FEATURE, 0)
        if level < TRANSACTION_LEVEL:
            await self._link.close()
            servers = self._settings.bootstrap_servers
            raise BrokerTooOld(
                f"the broker at {servers} has {TRANSACTION_FEATURE} {level}; Playhead needs {TRANSACTION_LEVEL}.",
                remedy=f"Run: kafka-features.sh --bootstrap-server {servers} "
                f"upgrade --feature {TRANSACTION_FEATURE}={TRANSACTION_LEVEL}",
            )

    async def stop(self) -> None:
        for member in list(self._members):
            await member.leave()
        await self._appender.close()
        if self._pulse is not None:
            await self._pulse.stop()
        await self._link.close()

    async def append(self, records: Sequence[Record]) -> list[Appended | Exception]:
        return await self._appender.append(records)

    async def join(self, group: str, topics: Sequence[str], ownership: Ownership) -> Membership:
        for topic in topics:
            await self._topics.topic(topic)
        lane = self._joined_count % WRITER_LANES
        self._joined_count += 1
        member = KafkaMembership(
            self._link,
            self._offsets,
            lambda: self._new_writer(group, lane),
            ownership,
            self._clock,
            group=group,
            timings=self._timings,
            on_left=self._forget,
        )
        await member.start(topics, client_options(self._settings))
        self._members.append(member)
        if self._pulse is None:
            options = client_options(self._settings)
            self._pulse = Pulse(options, self._timings.heartbeat_ms / 1000, lambda: self.on_blocked)
        self._pulse.watch(member)
        return member

    def _new_writer(self, group: str, lane: int) -> TransactionWriter:
        return TransactionWriter(
            self._link,
            self._topics,
            self._clock,
            Lanes(write=("write", lane), end=("end", lane)),
            prefix=self._settings.topic_prefix,
            group=group,
            name=new_writer_name(),
        )

    def _forget(self, member: KafkaMembership) -> None:
        if member in self._members:
            self._members.remove(member)
        if self._pulse is not None:
            self._pulse.forget(member)

    async def read(
        self,
        partition: Partition,
        start: int,
        end: int,
        sink: Callable[[Sequence[StoredRecord]], Awaitable[None]],
        *,
        committed: bool = True,
    ) -> None:
        await self._reading.read(partition, start, end, sink, committed=committed)

    async def bounds(
        self, partitions: Iterable[Partition], *, committed: bool = True
    ) -> dict[Partition, tuple[int, int]]:
        wanted = list(partitions)
        isolation = READ_COMMITTED if committed else READ_UNCOMMITTED
        # The end first: seen the other way round, what is deleted in between would put the start behind the end.
        ends = await self._offsets.at(wanted, LATEST, isolation)
        starts = await self._offsets.at(wanted, EARLIEST, isolation)
        return {partition: (min(starts[partition], ends[partition]), ends[partition]) for partition in wanted}

    async def ends_of_epochs(self, leader_epochs: Mapping[Partition, int]) -> dict[Partition, int]:
        return await self._offsets.ends_of_epochs(leader_epochs)

    async def offsets_at(self, partitions: Iterable[Partition], timestamp_ms: int) -> dict[Partition, int]:
        wanted = list(partitions)
        ends = await self._offsets.at(wanted, LATEST, READ_UNCOMMITTED)
        found = await self._offsets.at(wanted, timestamp_ms, READ_UNCOMMITTED)
        return {p: found[p] if found[p] >= 0 else ends[p] for p in wanted}

    async def topic(self, name: str, *, fresh: bool = False) -> TopicInfo:
        return await self._topics.topic(name, fresh=fresh)

    def known_topic(self, name: str) -> TopicInfo | None:
        return self._topics.known(name)

    async def topics(self) -> list[TopicInfo]:
        return await self._topics.all()

    async def create_topics(self, specs: Sequence[TopicSpec]) -> list[str]:
        return await self._topics.create(specs)

    async def reset_group(self, group: str, checkpoints: Mapping[Partition, Mark]) -> None:
        await self._groups.reset(group, checkpoints)

    async def describe_group(self, group: str) -> GroupInfo:
        return await self._groups.describe(group)
