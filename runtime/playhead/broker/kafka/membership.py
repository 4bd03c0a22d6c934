"""One member of one group: aiokafka's consumer, with the epoch captured once, and a transaction writer.

    ABSENT ──assignment──▶ MEMBER(epoch) ──rebalance──▶ REVOKING(epoch) ──▶ ABSENT ──▶ …
                             │ commits with this epoch      │ the commit in flight ends
                             │ fenced: rejoin ──────────────┘
                             └──leave──▶ REVOKING ──▶ LEFT

A member that was thrown out comes back as another member, with another writer: the name of its old one is freed by
whoever took its tasks over, for good.

aiokafka resets a thrown-out member's generation and id to (-1, ""), which the broker *accepts* in a commit; so they are
read once, inside `on_assignment`, and compared before anything is sent.
"""

# pyright: reportIncompatibleMethodOverride=false
# aiokafka's listener is not annotated as the coroutine that it may be.

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.protocol.group import LeaveGroupRequest

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
from playhead.broker.kafka import faults
from playhead.broker.kafka.assignor import Claim, TaskAssignor
from playhead.broker.kafka.fetches import Fetches
from playhead.broker.kafka.link import GROUP, Link, LostError, Patience
from playhead.broker.kafka.offsets import Offsets
from playhead.broker.kafka.timings import GroupTimings, consumer_options
from playhead.broker.kafka.writer import TransactionWriter
from playhead.clock import Clock
from playhead.errors import BrokerUnavailable, PlayheadError
from playhead.errors import Fenced as FencedError

logger = logging.getLogger(__name__)

_ORDERLY_LEAVE_SECONDS = 1.0
_LOOK_UP_SECONDS = 10.0
_PENDING_SECONDS = 3.0
"""How long a checkpoint may be pending before the ids of this member, and of those that are gone, are taken over."""
_PENDING_FOR_GOOD_SECONDS = 25.0
"""How much longer before those of members that live are, too: no transaction lasts as long."""


def new_writer_name() -> str:
    """A name that no other membership has: 64 random bits."""
    return secrets.token_hex(8)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """aiokafka's callbacks, handed on."""

    def __init__(self, member: KafkaMembership) -> None:
        self._member = member

    async def on_partitions_revoked(self, revoked: Any) -> None:
        await self._member.revoke()

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._member.announce()


class KafkaMembership:
    """See `playhead.broker.contract.Membership`."""

    def __init__(
        self,
        link: Link,
        offsets: Offsets,
        new_writer: Callable[[], TransactionWriter],
        ownership: Ownership,
        clock: Clock,
        *,
        group: str,
        timings: GroupTimings,
        on_left: Callable[[KafkaMembership], None],
    ) -> None:
        self.group = group
        self.last_heartbeat = time.monotonic()
        self._link = link
        self._offsets = offsets
        self._new_writer = new_writer
        self._writer = new_writer()
        self._spent: set[asyncio.Task[None]] = set()  # writers that abort what they had open
        self._ownership = ownership
        self._clock = clock
        self._timings = timings
        self._consumer: Any = None
        self._fetches: Fetches
        self._epoch: Epoch | None = None
        self._last: Epoch | None = None
        self._revoking: asyncio.Task[None] | None = None
        self._assigned = asyncio.Event()
        self._unsought: dict[Partition, bool] = {}  # assigned, not sought yet: whether it is to run as soon as it is
        self._committing = False
        self._writer_used_by = ""  # the member id under which the writer was announced; none yet
        self._writer_fenced = False
        self._fenced: Epoch | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._left = False
        self._on_left = on_left

    @property
    def writer(self) -> str:
        return self._writer.name

    @property
    def session_seconds(self) -> float:
        return self._timings.session_ms / 1000

    @property
    def breath_seconds(self) -> float:
        return self._timings.breath_ms / 1000

    @property
    def epoch(self) -> Epoch | None:
        """What this member was given in the generation that is going on; None between two."""
        return self._epoch

    async def start(self, topics: Sequence[str], options: dict[str, Any]) -> None:
        """Begin to join; the assignment arrives later, through `Ownership.assigned`.

        Raises:
            NotAuthorized, BrokerUnavailable.
        """
        assignor = TaskAssignor(self._claim, self._capture)
        self._consumer = AIOKafkaConsumer(
            group_id=self.group,
            partition_assignment_strategy=[assignor],
            **(options | consumer_options(self._timings)),
        )
        starting: asyncio.Task[None] | None = None
        try:
            await self._link.coordinator(GROUP, self.group, Patience(self._clock, _LOOK_UP_SECONDS))
            starting = asyncio.create_task(self._consumer.start(), name=f"start consumer of {self.group}")
            await asyncio.gather(self._writer.open(), starting)
        except BaseException as error:
            self._writer.abandon()
            if starting is not None:  # what it connects after `stop`, nobody would close
                starting.cancel()
                await asyncio.wait({starting})
            await self._consumer.stop()
            if isinstance(error, kafka_errors.KafkaError):
                raise BrokerUnavailable(f"joining group {self.group!r}: {error}.") from error
            raise
        self._watch_heartbeats()
        self._fetches = self._consumer._fetcher._client = Fetches(self._consumer._client, self.group)
        # Only now: a consumer that starts with topics waits in `start` for its first assignment, however long.
        self._consumer.subscribe(list(topics), listener=_Listener(self))

    def _watch_heartbeats(self) -> None:
        """aiokafka does not tell when a heartbeat was answered; its coordinator asks this method for it."""
        coordinator = self._consumer._coordinator
        heartbeat = coordinator._do_heartbeat

        async def watched() -> bool:
            sent = time.monotonic()
            answered: bool = await heartbeat()
            if answered:
                self.beat(sent)
                if not (self._committing or self._writer_fenced or self._left):
                    self._writer.refresh()
            return answered

        coordinator._do_heartbeat = watched

    def beat(self, sent: float) -> None:
        """A heartbeat sent at this moment was answered."""
        self.last_heartbeat = max(self.last_heartbeat, sent)

    async def silent(self, seconds: float) -> None:
        while (silent_seconds := self._clock.monotonic() - self.last_heartbeat) < seconds:
            await self._clock.sleep(max(seconds - silent_seconds, MIN_WAIT_SECONDS))

    # From the group

    def _claim(self) -> Claim:
        """What this member says of itself when it joins."""
        used_by = self._writer_used_by
        if used_by and (self._writer_fenced or self._consumer._coordinator.member_id != used_by):
            self._replace_writer()
        last = self._last
        return Claim(self.writer, last.generation, last.tasks) if last else Claim(self.writer)

    def _replace_writer(self) -> None:
        closing = asyncio.create_task(self._writer.close(), name=f"close writer {self.writer}")
        self._spent.add(closing)
        closing.add_done_callback(self._spent.discard)
        self._writer = self._new_writer()
        self._writer.renew()
        self._writer_used_by, self._writer_fenced = "", False

    def _capture(self, tasks: frozenset[int], writers: frozenset[str]) -> None:
        """The one place where member id and generation are read; nothing has been awaited since the group gave them."""
        coordinator = self._consumer._coordinator
        self._last = Epoch(coordinator.member_id, coordinator.generation, tasks, writers)
        self._writer_used_by = coordinator.member_id
        self.beat(time.monotonic())
        subscription = self._consumer._subscription
        self._unsought = {Partition(*partition): False for partition in subscription.assigned_partitions()}
        for partition in subscription.assigned_partitions():
            # A position, so that aiokafka looks for none; paused, so that it is never fetched from.
            subscription.seek(partition, 0)
            subscription.pause(partition)

    def announce(self) -> None:
        """Tell the engine what it has been given, unless that arrives while it leaves."""
        if self._left:
            return
        assert self._last is not None, "aiokafka calls on_assignment before its listener"
        self._epoch = self._last
        self._fetches.failure = None
        self._assigned.set()
        self._ownership.assigned(self._last)

    async def revoke(self) -> None:
        """Let the engine finish its commit in flight; then there is no epoch."""
        if self._epoch is None:
            return
        if self._revoking is None:
            self._revoking = asyncio.create_task(self._revoke(self._epoch), name=f"revoke {self.group}")
        await asyncio.shield(self._revoking)

    async def _revoke(self, epoch: Epoch) -> None:
        limit = self._timings.rebalance_ms / 1000 * 0.75  # the rest is for joining
        try:
            async with asyncio.timeout(limit):
                await self._ownership.revoked(epoch)
        except TimeoutError:
            logger.warning("group %s: the engine did not let go of its tasks within %.1f s", self.group, limit)
        finally:
            self._assigned.clear()
            self._epoch = None
            self._revoking = None

    # From the engine

    async def checkpoints(self, partitions: Iterable[Partition]) -> dict[Partition, Mark | None]:
        marks = await self._stable_checkpoints(list(partitions))
        for partition, mark in marks.items():
            if partition in self._unsought or not self._holds(partition):  # of the others it knows by fetching
                self._fetches.leader_epochs[partition] = mark.leader_epoch if mark else -1
        return marks

    async def _stable_checkpoints(self, wanted: Sequence[Partition]) -> dict[Partition, Mark | None]:
        for seconds, living_too in ((_PENDING_SECONDS, False), (_PENDING_FOR_GOOD_SECONDS, True)):
            try:
                return await self._offsets.of_group(self.group, wanted, stable=True, limit_seconds=seconds)
            except BrokerUnavailable:
                await self._end_what_lost_its_markers(living_too=living_too)
        return await self._offsets.of_group(self.group, wanted, stable=True)

    async def _end_what_lost_its_markers(self, *, living_too: bool) -> None:
        """Take over the ids that may hold a checkpoint pending although their transactions are complete."""
        living = self._epoch.writers if self._epoch and not living_too else frozenset()
        names = await self._writer.decided()
        if self.writer in names and not self._committing:
            self._writer.renew()
        await self.free_writers(names - living)

    async def unstable_checkpoints(self, partitions: Iterable[Partition]) -> dict[Partition, Mark | None]:
        return await self._offsets.of_group(self.group, partitions, stable=False)

    async def free_writers(self, names: Iterable[str]) -> None:
        others = [name for name in names if name != self.writer]
        if others:
            await self._writer.free(others)

    async def commit(self, commit: Commit) -> Outcome:
        if self._committing:
            raise ValueError("a commit is in flight; the next is sealed only after its outcome is known")
        epoch = self._epoch
        if epoch is None or commit.epoch != epoch or epoch is self._fenced:
            return Fenced(f"generation {commit.epoch.generation} of group {self.group!r} is over for this member")
        self._committing = True
        try:
            outcome, by_producer = await self._writer.write(replace(commit, checkpoints=self._with_epochs(commit)))
        finally:
            self._committing = False
        if isinstance(outcome, Fenced) or by_producer:
            self._fenced = epoch
            self._writer_fenced |= by_producer
            self._rejoin(epoch)
        return outcome

    def _with_epochs(self, commit: Commit) -> dict[Partition, Mark]:
        known = self._fetches.leader_epochs
        return {p: Mark(mark.offset, mark.metadata, known.get(p, -1)) for p, mark in commit.checkpoints.items()}

    def _rejoin(self, epoch: Epoch) -> None:
        """The broker says that the epoch is over, so it shall be: also where only the transaction had timed out."""
        if self._epoch is epoch and not self._left:
            self._consumer._coordinator.request_rejoin()

    def seek(self, partition: Partition, offset: int) -> None:
        if not self._holds(partition):
            return
        self._consumer.seek(TopicPartition(*partition), offset)
        if self._unsought.pop(partition, False):
            self._consumer.resume(TopicPartition(*partition))

    def _holds(self, partition: Partition) -> bool:
        """Where the group has moved on there is nothing to do: the next assignment begins paused."""
        return TopicPartition(*partition) in self._consumer.assignment()

    def pause(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            if partition in self._unsought:
                self._unsought[partition] = False
            elif self._holds(partition):
                self._consumer.pause(TopicPartition(*partition))

    def resume(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            if partition in self._unsought:
                self._unsought[partition] = True
            elif self._holds(partition):
                self._consumer.resume(TopicPartition(*partition))

    async def fetch(self, max_records: int) -> dict[Partition, Sequence[StoredRecord]]:
        if self._left:
            raise FencedError(f"this member has left group {self.group!r}.")
        if not self._assigned.is_set():
            return await self._await_assignment()
        if self._fetches.failure is not None:
            failure, self._fetches.failure = self._fetches.failure, None
            raise failure
        try:
            return await self._consumer.getmany(  # type: ignore[no-any-return]
                timeout_ms=self._timings.poll_ms, max_records=max_records
            )
        except (kafka_errors.KafkaError, kafka_errors.ConsumerStoppedError) as error:
            raise faults.of_fetch(error, self.group) from error

    async def _await_assignment(self) -> dict[Partition, Sequence[StoredRecord]]:
        """As long as a fetch takes; aiokafka's own would wait for an assignment without end."""
        try:
            self._consumer._coordinator.check_errors()
        except kafka_errors.KafkaError as error:
            raise faults.of_fetch(error, self.group) from error
        try:
            async with asyncio.timeout(self._timings.poll_ms / 1000):
                await self._assigned.wait()
        except TimeoutError:
            pass
        return {}

    async def leave(self) -> None:
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave(), name=f"leave {self.group}")
        await asyncio.shield(self._leaving)

    async def _leave(self) -> None:
        await self.revoke()
        self._left = True
        self._on_left(self)
        # The fetcher first: woken below without an assignment it would fail an assertion, which `stop` raises.
        self._consumer._fetcher._fetch_task.cancel()
        stopping = asyncio.create_task(self._consumer.stop(), name=f"stop consumer of {self.group}")
        self._consumer._subscription._notify_assignment_waiters()  # a fetch that waits for one would wait for ever
        done, _ = await asyncio.wait({stopping}, timeout=_ORDERLY_LEAVE_SECONDS)
        if not done:
            await self._leave_the_hard_way()
        await stopping
        await asyncio.gather(self._writer.close(), *self._spent)

    async def _leave_the_hard_way(self) -> None:
        """aiokafka first waits for the answer to its JoinGroup, which may take others their whole rebalance time."""
        member_id = self._consumer._coordinator.member_id
        if not member_id:
            return
        try:
            node = await self._link.coordinator(GROUP, self.group, Patience(self._clock, _ORDERLY_LEAVE_SECONDS))
            await self._link.send(node, LeaveGroupRequest(self.group, member_id))
        except (LostError, PlayheadError):
            logger.warning("group %s: could not say that this member leaves; its session will run out", self.group)
