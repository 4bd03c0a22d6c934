"""One job in one worker: its membership, its tasks, and the loop that moves events through them.

fetch ──▶ task.admit ──▶ start ──▶ attempt ──▶ ended ──▶ committer ──▶ topic `run`, sends, checkpoint

                               ┌───────────── a new generation ────────────┐
                               ▼                                           │
JOINING ── assigned ──▶ RESTORING ── taken over ──▶ RUNNING ── revoked ──▶ FROZEN
                          ▲    ▲                       │
                          │    └─ outcome unknown, or ─┘
                          │       heartbeats come again
ISOLATED ─────────────────┘◀── no heartbeat for two thirds of the session ── RUNNING

from each of them: ──▶ STOPPING ──▶ STOPPED; RESTORING can be ISOLATED as well
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Any

from playhead.broker.contract import Broker, Epoch, Membership
from playhead.clock import Clock, within
from playhead.config import Settings
from playhead.engine.attempt import Performer
from playhead.engine.committer import Committer, Ending
from playhead.engine.dedupe import RecentIds
from playhead.engine.execution import Execution
from playhead.engine.live import LiveRun, LiveState
from playhead.engine.recall import Recall
from playhead.engine.suspects import Suspects
from playhead.engine.takeover import EpochOver, Taken, Takeover
from playhead.engine.task import Progress, Task
from playhead.engine.telling import Narrator
from playhead.errors import BrokerUnavailable
from playhead.io import Logger
from playhead.job import Job
from playhead.records import Partition
from playhead.topics import DEAD_LETTER, RUN

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


class JobConsumer:
    """Runs one job until it is stopped. Implements the contract's `Ownership` and the committer's `Consumer`.

    Args:
        logger: of the worker, bound to the job here.
        suspects: of the process.
    """

    def __init__(
        self,
        job: Job,
        broker: Broker,
        settings: Settings,
        clock: Clock,
        logger: Logger,
        rng: random.Random,
        suspects: Suspects,
    ) -> None:
        self.job = job
        self.phase = Phase.JOINING
        self.tasks: dict[int, Task] = {}
        self.epoch: Epoch | None = None
        self._broker = broker
        self._clock = clock
        self._rng = rng
        self._suspects = suspects
        self._prefix = settings.topic_prefix
        self._group = settings.topic_prefix + job.id
        self._logger = logger.bind(job_id=job.id)
        self._performer = Performer(job, broker, settings.topic_prefix, self._logger, clock)
        self._pump_planned = False
        self._taking_over: asyncio.Task[None] | None = None
        self._recall = Recall(job, broker, clock, self._logger, self._pump_soon, self._give_up)
        self._joined = False
        self._early: Epoch | None = None
        """An assignment that came before `join` returned."""
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._membership: Membership
        self._committer: Committer
        self._execution: Execution

    def _to(self, phase: Phase) -> None:
        if phase not in _NEXT[self.phase]:
            raise AssertionError(f"job {self.job.id}: {self.phase.name} -> {phase.name}")
        self.phase = phase

    @property
    def running(self) -> int:
        """How many functions run."""
        return self._execution.running if self._joined else 0

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, stopping: asyncio.Event, grace_seconds: float) -> None:
        """Join, work until `stopping` is set, finish what runs within the grace period, leave.

        Raises:
            Fatal: a person has to act.
            UnknownTopic, NotAuthorized: the job's topics can't be read or written.
        """
        if not await self._join_when_answered(stopping):
            return
        duties = [
            asyncio.create_task(self.loop(), name=f"fetch:{self.job.id}"),
            asyncio.create_task(self._committer.run(), name=f"commit:{self.job.id}"),
            asyncio.create_task(self._watch_heartbeat(), name=f"heartbeat:{self.job.id}"),
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
            await self._stop(grace_seconds)
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
        run_topic = await self._broker.topic(self._prefix + RUN)
        dead_letters = await self._broker.topic(self._prefix + DEAD_LETTER)
        source = f"/playhead/jobs/{self.job.id}".encode()
        narrator = Narrator(self.job, source, run_topic, dead_letters, self._now_ms)
        self._membership = await self._broker.join(self._group, [self._topic], self)
        self._committer = Committer(self._membership, self, self._clock)
        self._execution = Execution(
            job=self.job,
            performer=self._performer,
            narrator=narrator,
            committer=self._committer,
            clock=self._clock,
            rng=self._rng,
            logger=self._logger,
            pump_soon=self._pump_soon,
            give_up=self._give_up,
            suspects=self._suspects,
        )
        self._joined = True
        if self._early is not None:
            self.assigned(self._early)

    @property
    def _topic(self) -> str:
        return self._prefix + self.job.trigger.entity

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

        1. wait for records of the tasks that this worker owns;
        2. hand each task its own; what a task that has since been restored would miss is fetched again;
        3. admit what the limits allow, and start what may start.
        """
        owned = dict(self.tasks)
        fetched = await self._membership.fetch(FETCH_MAX_RECORDS)
        for partition, records in fetched.items():
            task = self.tasks.get(partition[1])
            if task is None:
                continue
            if owned.get(task.number) is not task:
                self._membership.seek(Partition(*partition), task.fetched_to(Partition(*partition)))
                continue
            task.take(Partition(*partition), records)
        self.pump()

    # ── from buffer to function ──────────────────────────────────────────────────────────────────────────────────────

    def pump(self) -> None:
        """Admit what the limits allow, pause or resume fetching, and start what may start."""
        self._pump_planned = False
        if self.phase not in (Phase.RUNNING, Phase.RESTORING):
            return
        moved = False
        for task in self.tasks.values():
            waits = task.admit(self._execution.ready)
            if waits is not None:
                self._recall.start(task, waits)
            moved = moved or task.moved
            self._pause_or_resume(task)
        self._execution.start_ready()
        if moved:
            self._committer.skipped()

    def _pump_soon(self) -> None:
        """Pump once, after all that happens in this turn of the event loop."""
        if not self._pump_planned:
            self._pump_planned = True
            self._loop.call_soon(self._pump_now)

    def _pump_now(self) -> None:
        try:
            self.pump()
        except Exception as error:  # noqa: BLE001 -- nobody awaits a callback: the error is the consumer's
            self._give_up(error)

    def _pause_or_resume(self, task: Task) -> None:
        for partition, progress in task.progress.items():
            wants = task.wants_pause(progress)
            if wants is None or wants == progress.paused:
                continue
            progress.paused = wants
            if wants:
                self._membership.pause([partition])
            else:
                self._membership.resume([partition])

    # ── outcomes of a commit (the committer's Consumer) ───────────────────────────────────────────────────────────────

    def all_tasks(self) -> Iterable[Task]:
        return self.tasks.values()

    def committed(self, endings: Sequence[Ending]) -> None:
        for run, _, final in endings:
            if final and run.state is LiveState.ENDED:
                run.task.forget(run, committed=True)
        self._pump_soon()

    def refused(self, run: LiveRun, reason: str) -> None:
        self._execution.refused(run, reason)

    def fenced(self, reason: str) -> None:
        """The group has moved on without this member; a new assignment follows."""
        self._logger.warning("fenced: the tasks are another's now", reason=reason)
        self._committer.epoch = None
        self._drop(set(self.tasks))

    def unknown(self, reason: str) -> None:
        """Whether the commit is in the log only the log can tell: take the tasks over again."""
        self._logger.warning("the outcome of a commit is unknown; restoring", reason=reason)
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
        await self._committer.freeze()

    def assigned(self, epoch: Epoch) -> None:
        """Keep in memory what comes back in the very next generation; take over the rest."""
        if self.phase is Phase.JOINING and not self._joined:
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
            self._committer.thaw(epoch)  # what still runs here may end; nothing new is taken over
        else:
            self._begin_takeover(epoch)

    def _begin_takeover(self, epoch: Epoch) -> None:
        self._to(Phase.RESTORING)
        for task in self.tasks.values():
            self._resume_from(task)
        self._committer.thaw(epoch)
        self._taking_over = asyncio.create_task(self._take_over(epoch), name=f"takeover:{self.job.id}")

    async def _take_over(self, epoch: Epoch) -> None:
        takeover = Takeover(
            job=self.job,
            group=self._group,
            topics=[self._topic],
            prefix=self._prefix,
            broker=self._broker,
            membership=self._membership,
            commit=self._committer.commit,
            clock=self._clock,
            logger=self._logger,
        )
        wait_seconds = _FETCH_RETRY_SECONDS
        while True:
            try:
                # A commit of this epoch that is still in flight may yet succeed, and move what is about to be read.
                await self._committer.settled()
                new = epoch.tasks - self.tasks.keys()
                taken = await takeover.take(epoch, new) if new else []
                break
            except EpochOver as over:
                self._logger.info("the group moved on during the takeover", reason=str(over))
                return
            except BrokerUnavailable as error:
                self._logger.warning("the broker is away; the takeover waits", error=str(error))
                await self._clock.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, 5.0)
            except Exception as error:  # noqa: BLE001 -- nobody awaits this task: the error is the consumer's
                self._give_up(error)
                return
        for one in taken:
            self._own(one)
        self._to(Phase.RUNNING)
        self._logger.info("running", generation=epoch.generation, tasks=sorted(self.tasks), leases=self._leases())
        self.pump()

    def _leases(self) -> dict[int, int]:
        return {number: task.owner.lease for number, task in sorted(self.tasks.items())}

    def _own(self, taken: Taken) -> None:
        task = Task(self.job, taken.number, taken.owner, self.job.trigger.name.encode(), self._now_ms)
        for partition, (offset, finished) in taken.partitions.items():
            recent = RecentIds(self.job.dedupe_window_seconds)
            task.progress[partition] = Progress(offset, finished, recent, taken.ends[partition])
        self.tasks[taken.number] = task
        self._resume_from(task)

    def _resume_from(self, task: Task) -> None:
        """Fetch on from where the task's buffers end."""
        for partition, progress in task.progress.items():
            self._membership.seek(partition, progress.fetched_to)
            progress.paused = False
        self._membership.resume(task.progress)

    def _drop(self, numbers: set[int]) -> None:
        """These tasks are not ours any more: stop their runs, forget what they had gathered."""
        for number in numbers:
            self._execution.drop(self.tasks.pop(number))

    def _restore(self) -> None:
        """Take all tasks of this epoch over again, from the log."""
        epoch = self._committer.epoch
        self._drop(set(self.tasks))
        self._committer.forget()
        if epoch is None or self.phase not in (Phase.RUNNING, Phase.RESTORING, Phase.ISOLATED):
            return  # a new assignment is on its way, and restores them
        if self._taking_over is not None:
            self._taking_over.cancel()
        self._begin_takeover(epoch)

    # ── background duties ────────────────────────────────────────────────────────────────────────────────────────────

    async def _watch_heartbeat(self) -> None:
        """Without a heartbeat for two thirds of the session another may own the tasks soon: stop, and start nothing."""
        limit_seconds = self._membership.session_seconds * 2 / 3
        while True:
            await self._clock.sleep(_HEARTBEAT_CHECK_SECONDS)
            silent_seconds = self._clock.monotonic() - self._membership.last_heartbeat
            if silent_seconds > limit_seconds:
                self._isolate(silent_seconds)
            elif self.phase is Phase.ISOLATED:
                self._restore()

    def _isolate(self, silent_seconds: float) -> None:
        if self.phase not in (Phase.RUNNING, Phase.RESTORING, Phase.STOPPING):
            return  # FROZEN: who waits to join again sends no heartbeats, and is in the group all the same
        if self.phase is not Phase.STOPPING:
            self._to(Phase.ISOLATED)
        if self._taking_over is not None:
            self._taking_over.cancel()
        if self.tasks:
            self._logger.error("no heartbeat; runs are stopped until the group answers", seconds=silent_seconds)
        self._drop(set(self.tasks))
        self._committer.forget()

    # ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _stop(self, grace_seconds: float) -> None:
        """Start nothing more, let what runs end within the grace period, commit, release the tasks, leave."""
        self._to(Phase.STOPPING)
        if self._taking_over is not None:
            await _cancel(self._taking_over)
        deadline = self._clock.monotonic() + grace_seconds
        await self._execution.finish(grace_seconds)
        if self.tasks:
            await self._committer.thawed(deadline - self._clock.monotonic())
        for task in self.tasks.values():
            task.owner = replace(task.owner, writer="")
            task.moved = True
        self._committer.release()
        try:
            while await self._committer.commit_gathered():
                pass
        except BrokerUnavailable as error:
            self._logger.warning("the last commit failed; its runs start again elsewhere", error=str(error))
        self._drop(set(self.tasks))
        await self._membership.leave()
        self._performer.close()
        await self._recall.stop()
        self._to(Phase.STOPPED)

    def _give_up(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended, whatever they end with."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
