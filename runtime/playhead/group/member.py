"""One member of one group: it joins, takes tasks over, keeps them over a rebalance, lets go of them, and leaves.

                               ┌───────────── a new generation ────────────┐
                               ▼                                           │
JOINING ── assigned ──▶ RESTORING ── taken over ──▶ RUNNING ── revoked ──▶ FROZEN
                          ▲    ▲                       │
                          │    └─ outcome unknown, or ─┘
                          │       heartbeats come again
ISOLATED ─────────────────┘◀── no heartbeat for two thirds of the session ── RUNNING

from each of them: ──▶ STOPPING ──▶ STOPPED; RESTORING can be ISOLATED as well

What it does with its tasks is its `Work`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from playhead.broker.contract import Broker, Epoch, Membership
from playhead.clock import Clock, within
from playhead.errors import BrokerUnavailable, CheckpointLost
from playhead.group.committer import MAX_ENDINGS_PER_COMMIT, Committer
from playhead.group.takeover import EpochOver, Takeover
from playhead.group.work import OwnedTask, Work
from playhead.job import Start
from playhead.records import Partition

FETCH_MAX_RECORDS = 2_000
_HEARTBEAT_CHECK_SECONDS = 0.5
_FETCH_RETRY_SECONDS = 0.5


class Phase(Enum):
    JOINING = auto()
    RESTORING = auto()
    RUNNING = auto()
    FROZEN = auto()
    ISOLATED = auto()
    STOPPING = auto()
    STOPPED = auto()


_NEXT: Mapping[Phase, frozenset[Phase]] = {
    Phase.JOINING: frozenset({Phase.RESTORING, Phase.STOPPING}),
    Phase.RESTORING: frozenset({Phase.RUNNING, Phase.RESTORING, Phase.FROZEN, Phase.ISOLATED, Phase.STOPPING}),
    Phase.RUNNING: frozenset({Phase.FROZEN, Phase.RESTORING, Phase.ISOLATED, Phase.STOPPING}),
    Phase.FROZEN: frozenset({Phase.RESTORING, Phase.FROZEN, Phase.STOPPING}),
    Phase.ISOLATED: frozenset({Phase.RESTORING, Phase.FROZEN, Phase.STOPPING}),
    Phase.STOPPING: frozenset({Phase.STOPPED}),
    Phase.STOPPED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Group:
    """Which group, and of what.

    Attributes:
        title: for people: "job 'send-mail'".
        name: the consumer group's, prefix included.
        topic: that it reads, prefix included.
        prefix: of the installation.
        start: where a new group begins.
        remedy: what a person does whose checkpoint is lost.
        max_endings: how many endings one commit takes.
    """

    title: str
    name: str
    topic: str
    prefix: str
    start: Start
    remedy: str
    max_endings: int = MAX_ENDINGS_PER_COMMIT


class Member:
    """Runs one group's work in this process until it is stopped. Implements the contract's `Ownership`.

    Args:
        logger: bound to whose work it is.
    """

    def __init__(self, group: Group, work: Work, broker: Broker, clock: Clock, logger: Any) -> None:
        self.group = group
        self.phase = Phase.JOINING
        self.tasks: dict[int, OwnedTask] = {}
        self.epoch: Epoch | None = None
        self.membership: Membership
        self.committer: Committer
        self.joined = False
        self._work = work
        self._broker = broker
        self._clock = clock
        self._logger = logger
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        """Of whoever made the member: nobody whose end makes room for more leaves variables of his own to others."""
        self._pump_planned = False
        self._topic_ids: dict[str, str] = {}
        self._taking_over: asyncio.Task[None] | None = None
        self._early: Epoch | None = None
        """An assignment that came before `join` returned."""
        self._failed: asyncio.Future[None] = self._loop.create_future()

    def _to(self, phase: Phase) -> None:
        if phase not in _NEXT[self.phase]:
            raise AssertionError(f"{self.group.title}: {self.phase.name} -> {phase.name}")
        self.phase = phase

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, stopping: asyncio.Event, grace_seconds: float) -> None:
        """Join, work until `stopping` is set, finish what is going within the grace period, leave.

        Raises:
            Fatal: a person has to act.
            UnknownTopic, NotAuthorized: the topics can't be read or written.
        """
        if not await self._join_when_answered(stopping):
            return
        duties = [
            asyncio.create_task(self.loop(), name=f"fetch:{self.group.name}"),
            asyncio.create_task(self.committer.run(), name=f"commit:{self.group.name}"),
            asyncio.create_task(self._watch_heartbeat(), name=f"heartbeat:{self.group.name}"),
        ]
        stop = asyncio.create_task(stopping.wait())
        watched: list[asyncio.Future[Any]] = [stop, self._failed, *duties]
        try:
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()  # a duty ends only by an error
        finally:
            stop.cancel()
            duties[0].cancel()
            try:
                await self._stop(grace_seconds)
            finally:
                await _cancel(*duties)

    async def _join_when_answered(self, stopping: asyncio.Event) -> bool:
        """Join, waiting for a broker that is away; False where the worker was stopped meanwhile."""
        wait_seconds = _FETCH_RETRY_SECONDS
        while True:
            try:
                await self._join()
            except BrokerUnavailable as error:
                self._logger.warning("the broker is away; waiting to join", error=str(error))
                if await within(self._clock, wait_seconds, stopping.wait()):
                    return False
                wait_seconds = min(wait_seconds * 2, 10.0)
            else:
                return True

    async def _join(self) -> None:
        await self._work.prepare()
        self.membership = await self._broker.join(self.group.name, [self.group.topic], self)
        self.committer = Committer(self.membership, self, self._work, self._clock, max_endings=self.group.max_endings)
        self._work.joined(self)
        self.joined = True
        if self._early is not None:
            self.assigned(self._early)

    async def loop(self) -> None:
        """Fetch again and again; a broker that is away is waited for."""
        wait_seconds = _FETCH_RETRY_SECONDS
        while True:
            try:
                await self.run_once()
                wait_seconds = _FETCH_RETRY_SECONDS
            except BrokerUnavailable as error:
                self._logger.warning("the broker is away; waiting", error=str(error), retry_in_seconds=wait_seconds)
                await self._clock.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, 10.0)

    async def run_once(self) -> None:
        """One round:

        1. wait for records of the tasks that this member owns;
        2. hand each task its own; what a task that has since been restored would miss is fetched again;
        3. work on them, as far as the limits allow.
        """
        owned = dict(self.tasks)
        try:
            fetched = await self.membership.fetch(FETCH_MAX_RECORDS)
        except CheckpointLost as lost:
            raise CheckpointLost(f"{self.group.title}: {lost.message}", remedy=self.group.remedy) from lost
        for partition, records in fetched.items():
            task = self.tasks.get(partition[1])
            if task is None:
                continue
            if owned.get(task.number) is not task:
                self.membership.seek(Partition(*partition), task.fetched_to(Partition(*partition)))
                continue
            task.take(Partition(*partition), records)
        self.pump()

    def pump(self) -> None:
        """Let the work go on, while the tasks are this member's."""
        self._pump_planned = False
        if self.phase in (Phase.RUNNING, Phase.RESTORING):
            self._work.pump()

    def pump_soon(self) -> None:
        """Pump once, after all that happens in this turn of the event loop."""
        if not self._pump_planned:
            self._pump_planned = True
            self._loop.call_soon(self._pump_now, context=self._context)

    def _pump_now(self) -> None:
        try:
            self.pump()
        except Exception as error:  # noqa: BLE001 -- nobody awaits a callback: the error is the member's
            self.give_up(error)

    def give_up(self, error: BaseException) -> None:
        """End `run` with this error."""
        if not self._failed.done():
            self._failed.set_exception(error)

    # ── failures of a commit (the committer's Owning) ────────────────────────────────────────────────────────────────

    def fenced(self, reason: str) -> None:
        """The group has moved on without this member; a new assignment follows."""
        self._logger.warning("fenced: the tasks are another's now", reason=reason)
        self.committer.epoch = None
        self._drop(set(self.tasks))

    def unknown(self, reason: str) -> None:
        """Whether the commit is in the log only the log can tell: take the tasks over again."""
        self._logger.warning("the outcome of a commit is unknown; restoring", reason=reason)
        self.begin_again()

    def begin_again(self) -> None:
        """Forget what is in memory, and take the tasks over again."""
        if self.phase is not Phase.ISOLATED:  # then nothing is left to lose, and the tasks are restored later
            self._restore()

    # ── ownership (the contract's Ownership) ─────────────────────────────────────────────────────────────────────────

    async def revoked(self, epoch: Epoch) -> None:
        """Seal nothing more, finish the commit in flight, freeze. Functions that run go on running."""
        if self.phase in (Phase.JOINING, Phase.STOPPED):
            self._early = None
            return
        if self.phase is not Phase.STOPPING:
            self._to(Phase.FROZEN)
        if self._taking_over is not None:
            await _cancel(self._taking_over)
        await self.committer.freeze()

    def assigned(self, epoch: Epoch) -> None:
        """Keep in memory what comes back in the very next generation; take over the rest."""
        if self.phase is Phase.JOINING and not self.joined:
            self._early = epoch
            return
        if self.phase is Phase.STOPPED:
            return
        before, self.epoch = self.epoch, epoch
        same = before is not None and before.member_id == epoch.member_id
        goes_on = same and before is not None and epoch.generation == before.generation + 1
        self._drop({number for number in self.tasks if not goes_on or number not in epoch.tasks})
        self._logger.debug("tasks assigned", generation=epoch.generation, tasks=sorted(epoch.tasks))
        if self.phase is Phase.STOPPING:
            self.committer.thaw(epoch)  # what still runs here may end; nothing new is taken over
        else:
            self._begin_takeover(epoch)

    def _begin_takeover(self, epoch: Epoch) -> None:
        self._to(Phase.RESTORING)
        for task in self.tasks.values():
            self._resume(task)
        self.committer.thaw(epoch)
        self._taking_over = asyncio.create_task(self._take_over(epoch), name=f"takeover:{self.group.name}")

    async def _take_over(self, epoch: Epoch) -> None:
        group = self.group
        takeover = Takeover(
            name=group.title,
            start=group.start,
            remedy=group.remedy,
            group=group.name,
            topics=[group.topic],
            topic_ids=self._topic_ids,
            prefix=group.prefix,
            broker=self._broker,
            membership=self.membership,
            commit=self.committer.commit,
            clock=self._clock,
            logger=self._logger,
        )
        wait_seconds = _FETCH_RETRY_SECONDS
        while True:
            try:
                # A commit of this epoch that is still in flight may yet succeed, and move what is about to be read.
                await self.committer.settled()
                new = epoch.tasks - self.tasks.keys()
                taken = await takeover.take(epoch, new)
                restored = [await self._work.restore(one) for one in taken]
                break
            except EpochOver as over:
                self._logger.info("the group moved on during the takeover", reason=str(over))
                return
            except BrokerUnavailable as error:
                self._logger.warning("the broker is away; the takeover waits", error=str(error))
                await self._clock.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, 5.0)
            except Exception as error:  # noqa: BLE001 -- nobody awaits this task: the error is the member's
                self.give_up(error)
                return
        for task in restored:
            self.tasks[task.number] = task
            self._resume(task)
        self._to(Phase.RUNNING)
        leases = {number: task.owner.lease for number, task in sorted(self.tasks.items())}
        self._logger.info("running", generation=epoch.generation, tasks=sorted(self.tasks), leases=leases)
        self.pump()

    def _resume(self, task: OwnedTask) -> None:
        """Fetch on from where the task's buffers end."""
        for partition in task.partitions:
            self.membership.seek(partition, task.fetched_to(partition))
        self.membership.resume(task.partitions)
        task.resumed()

    def _drop(self, numbers: set[int]) -> None:
        """These tasks are not ours any more: stop what they have going, forget what they had gathered."""
        for number in numbers:
            self._work.drop(self.tasks.pop(number))

    def _restore(self) -> None:
        """Take all tasks of this epoch over again, from the log."""
        epoch = self.committer.epoch
        self._drop(set(self.tasks))
        self.committer.forget()
        if epoch is None or self.phase not in (Phase.RUNNING, Phase.RESTORING, Phase.ISOLATED):
            return  # a new assignment is on its way, and restores them
        if self._taking_over is not None:
            self._taking_over.cancel()
        self._begin_takeover(epoch)

    # ── silence ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _watch_heartbeat(self) -> None:
        """Without a heartbeat for two thirds of the session another may own the tasks soon: stop, and start nothing."""
        limit_seconds = self.membership.session_seconds * 2 / 3
        while True:
            await self.membership.silent(limit_seconds)
            while (silent_seconds := self._clock.monotonic() - self.membership.last_heartbeat) >= limit_seconds:
                self._isolate(silent_seconds)
                await self._clock.sleep(_HEARTBEAT_CHECK_SECONDS)
            if self.phase is Phase.ISOLATED:
                self._restore()

    def _isolate(self, silent_seconds: float) -> None:
        if self.phase not in (Phase.RUNNING, Phase.RESTORING, Phase.STOPPING):
            return  # FROZEN: who waits to join again sends no heartbeats, and is in the group all the same
        if self.phase is not Phase.STOPPING:
            self._to(Phase.ISOLATED)
        if self._taking_over is not None:
            self._taking_over.cancel()
        if self.tasks:
            self._logger.error("no heartbeat; work is stopped until the group answers", seconds=silent_seconds)
        self._drop(set(self.tasks))
        self.committer.forget()

    # ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _stop(self, grace_seconds: float) -> None:
        """Start nothing more, let what is going end within the grace period, commit, release the tasks, leave."""
        self._to(Phase.STOPPING)
        if self._taking_over is not None:
            await _cancel(self._taking_over)
        deadline = self._clock.monotonic() + grace_seconds
        await self._work.finish(grace_seconds)
        if self.tasks:
            await self.committer.thawed(deadline - self._clock.monotonic())
        for task in self.tasks.values():
            task.owner = replace(task.owner, writer="")
            task.moved = True
        self.committer.release()
        try:
            while await self.committer.commit_gathered():
                pass
        except BrokerUnavailable as error:
            self._logger.warning("the last commit failed; what was going starts again elsewhere", error=str(error))
        finally:
            # Whatever the commit ended with: who stays in the group without working holds its tasks back.
            self._drop(set(self.tasks))
            await self.membership.leave()
            await self._work.close()
            self._to(Phase.STOPPED)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended, whatever they end with."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
