"""One job in one worker: what its member's tasks are for.

fetch ──▶ task.admit ──▶ start ──▶ attempt ──▶ ended ──▶ committer ──▶ topic `run`, sends, checkpoint
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import cast

from playhead.broker.contract import Broker
from playhead.clock import Clock
from playhead.config import Settings
from playhead.engine.attempt import Performer
from playhead.engine.dedupe import RecentIds
from playhead.engine.execution import Execution
from playhead.engine.killers import Killers
from playhead.engine.live import LiveRun, LiveState
from playhead.engine.recall import Recall
from playhead.engine.task import Progress, Task
from playhead.engine.telling import Narrator
from playhead.group.member import Group, Member, Phase
from playhead.group.work import Ending, OwnedTask, Taken
from playhead.io import Logger
from playhead.job import Job
from playhead.topics import DEAD_LETTER, RUN


class JobConsumer:
    """Runs one job until it is stopped. Implements `playhead.group.work.Work`.

    Args:
        logger: of the worker, bound to the job here.
        killers: of the process.
    """

    def __init__(
        self,
        job: Job,
        broker: Broker,
        settings: Settings,
        clock: Clock,
        logger: Logger,
        rng: random.Random,
        killers: Killers,
    ) -> None:
        self.job = job
        self._broker = broker
        self._clock = clock
        self._rng = rng
        self._killers = killers
        self._logger = logger.bind(job_id=job.id)
        self._prefix = prefix = settings.topic_prefix
        group = Group(
            title=f"job {job.id!r}",
            name=prefix + job.id,
            topic=prefix + job.trigger.entity,
            prefix=prefix,
            start=job.start,
            remedy=f"Say where to go on: playhead jobs reset {job.id} --to earliest (or now, or a time).",
        )
        self.member = Member(group, self, broker, clock, self._logger)
        self._performer = Performer(job, broker, prefix, self._logger, clock)
        self._recall = Recall(job, broker, clock, self._logger, self.member.pump_soon, self.member.give_up)
        self._narrator: Narrator
        self._execution: Execution

    @property
    def phase(self) -> Phase:
        return self.member.phase

    @property
    def tasks(self) -> dict[int, Task]:
        return cast("dict[int, Task]", self.member.tasks)

    @property
    def running(self) -> int:
        """How many functions run."""
        return self._execution.running if self.member.joined else 0

    async def run(self, stopping: asyncio.Event, grace_seconds: float) -> None:
        """See `Member.run`."""
        await self.member.run(stopping, grace_seconds)

    # ── joining ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def prepare(self) -> None:
        run_topic = await self._broker.topic(self._prefix + RUN)
        dead_letters = await self._broker.topic(self._prefix + DEAD_LETTER)
        source = f"/playhead/jobs/{self.job.id}".encode()
        self._narrator = Narrator(self.job, source, run_topic, dead_letters, self._now_ms)

    def joined(self, member: Member) -> None:
        self._execution = Execution(
            job=self.job,
            performer=self._performer,
            narrator=self._narrator,
            committer=member.committer,
            clock=self._clock,
            rng=self._rng,
            logger=self._logger,
            pump_soon=member.pump_soon,
            give_up=member.give_up,
            killers=self._killers,
        )

    async def restore(self, taken: Taken) -> Task:
        """A run that was in memory elsewhere starts again: all that there is to know is in the checkpoint."""
        task = Task(self.job, taken.number, taken.owner, self.job.trigger.name.encode())
        for partition, (offset, finished) in taken.partitions.items():
            recent = RecentIds(self.job.dedupe_window_seconds)
            task.progress[partition] = Progress(offset, finished, recent, taken.ends[partition])
        return task

    # ── from buffer to function ──────────────────────────────────────────────────────────────────────────────────────

    def pump(self) -> None:
        """Admit what the limits allow, pause or resume fetching, and start what may start."""
        moved = False
        for task in self.tasks.values():
            waits = task.admit(self._execution.ready)
            if waits is not None:
                self._recall.start(task, waits)
            moved = moved or task.moved
            self._pause_or_resume(task)
        self._execution.start_ready()
        if moved:
            self.member.committer.skipped()

    def _pause_or_resume(self, task: Task) -> None:
        for partition, progress in task.progress.items():
            wants = task.wants_pause(progress)
            if wants is None or wants == progress.paused:
                continue
            progress.paused = wants
            if wants:
                self.member.membership.pause([partition])
            else:
                self.member.membership.resume([partition])

    # ── after a commit ───────────────────────────────────────────────────────────────────────────────────────────────

    def committed(self, endings: Sequence[Ending]) -> None:
        for run, _, final, _ in endings:
            if final and run.state is LiveState.ENDED:
                run.task.forget(run, committed=True)
        self.member.pump_soon()

    def refused(self, item: LiveRun, reason: str) -> None:
        self._execution.refused(item, reason)

    # ── letting go ───────────────────────────────────────────────────────────────────────────────────────────────────

    def drop(self, task: OwnedTask) -> None:
        self._execution.drop(cast("Task", task))

    async def finish(self, grace_seconds: float) -> None:
        await self._execution.finish(grace_seconds)

    async def close(self) -> None:
        self._performer.close()
        await self._recall.stop()

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)
