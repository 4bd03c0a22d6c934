"""From a run that may start to what is committed of it: call the function, judge how it ended, tell it.

    ready ──▶ start ──▶ attempt ──▶ ended ── Complete ──▶ sends + run.succeeded ─┐
                ▲                     ├───── Fail ──────▶ run.failed + dead letter ├──▶ committer
                └──── back-off ◀──────┴───── Retry ─────▶ run.retrying ────────────┘

A run that may have killed its worker (`Killers`) starts only after its start is committed (`Alone` in the checkpoint).
After three such starts it is a dead letter.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from playhead.broker.contract import Committed
from playhead.clock import Clock, within
from playhead.engine.attempt import Performer
from playhead.engine.killers import Killers
from playhead.engine.live import LiveRun, LiveState, Refusal
from playhead.engine.tally import JobTally
from playhead.engine.task import Task
from playhead.engine.telling import Narrator, UnfitOutput
from playhead.errors import Fatal, Poison
from playhead.events import MAX_CAUSATION_DEPTH
from playhead.group.checkpoint import Alone
from playhead.group.committer import Committer
from playhead.group.work import Ending
from playhead.io import Logger
from playhead.job import Job
from playhead.records import Record
from playhead.retry import NonRetriableError
from playhead.run import MAX_MESSAGE_CHARS, Fail, Failure, Retry, Verdict, verdict
from playhead.serde import plain_text, shortened
from playhead.topics import DEAD_LETTER, RUN

MAX_STARTS_ALONE = 3
_FROZEN_RETRY_SECONDS = 0.05
_REFUSED_REASON_CHARS = 500

_REFUSED_REMEDY = "Check the settings and ACLs of the topics `run` and `dead-letter`: playhead topics check"


class Execution:
    """The runs of one job that may start, run or wait for another try, in this worker.

    Args:
        pump_soon: called when there may be room for more.
        give_up: called with an error after which the worker can't go on.
        killers: of the process.
    """

    def __init__(
        self,
        job: Job,
        performer: Performer,
        narrator: Narrator,
        committer: Committer,
        clock: Clock,
        rng: random.Random,
        logger: Logger,
        pump_soon: Callable[[], None],
        give_up: Callable[[BaseException], None],
        killers: Killers,
        tally: JobTally,
    ) -> None:
        self.ready: deque[LiveRun] = deque()
        self.running = 0
        self._job = job
        self._performer = performer
        self._narrator = narrator
        self._committer = committer
        self._clock = clock
        self._rng = rng
        self._logger = logger
        self._pump_soon = pump_soon
        self._give_up = give_up
        self._killers = killers
        self._tally = tally
        killers.on_change(pump_soon)
        performer.on_overdue = self._overdue
        self._left_behind: set[asyncio.Task[None]] = set()
        self._nothing_runs = asyncio.Event()
        self._on_runs = job.trigger.entity in (RUN, DEAD_LETTER)
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()

    def _spawn(self, work: Coroutine[Any, Any, None], context: contextvars.Context | None = None) -> asyncio.Task[None]:
        """A task that sees none of the context variables of whoever happens to start it, which may be another run."""
        return self._loop.create_task(work, context=context or self._context.copy())

    # ── from ready to running ────────────────────────────────────────────────────────────────────────────────────────

    def start_ready(self) -> None:
        """Start what may start, up to the job's concurrency."""
        waiting: list[LiveRun] = []
        while self.ready and self.running < self._performer.concurrency:
            run = self.ready.popleft()
            if run.state is not LiveState.READY:
                continue  # its task was dropped since
            if not run.task.unproven or self._killers.is_going(run):
                self._start(run)
            elif self._killers.may_start(run):
                self._begin(run)
                run.work = self._spawn(self._start_alone(run))
            else:
                waiting.append(run)
        self.ready.extendleft(reversed(waiting))

    def _begin(self, run: LiveRun) -> None:
        run.to(LiveState.RUNNING)
        run.started_ms = int(self._clock.time() * 1000)
        run.started_at = self._clock.monotonic()
        self.running += 1

    def _start(self, run: LiveRun) -> None:
        self._begin(run)
        context = self._context.copy()  # filters and validators are a user's code as well
        wanted, payload = context.run(self._prepare, run)
        if wanted:
            run.work = self._spawn(self._attempt(run, payload), context)

    def _prepare(self, run: LiveRun) -> tuple[bool, Any]:
        """Decode the payload and ask the filter; what is not wanted or can't be read has ended here."""
        trigger = self._job.trigger
        try:
            run.event.check()
            payload = trigger.payload_of(run.event)
        except Poison as error:
            self._bury_unreadable(run, error)
            return False, None
        try:
            # Asked once: a run that is tried again has passed.
            wanted = run.attempt > 0 or (
                (not self._on_runs or self._may_follow(run, payload)) and trigger.accepts(payload)
            )
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 -- a filter is a user's code: what it raises fails its run
            what = f"{type(error).__qualname__}: {plain_text(error)}"
            failure = NonRetriableError(f"the trigger's filter raised {what}")
            failure.__cause__ = error
            run.attempt += 1
            self._ended(run, None, failure)
            return False, None
        if not wanted:
            self._tally.skipped_filter += 1
            self._leave(run, LiveState.ENDED)
            run.task.forget(run, committed=False)
            return False, None
        if run.attempt == 0:
            self._tally.start_latency.add((run.started_ms - run.record.timestamp) / 1000)
        run.attempt += 1
        return True, payload

    def _may_follow(self, run: LiveRun, payload: Any) -> bool:
        """A job on what becomes of runs never runs on its own, and no chain of such jobs goes on for ever."""
        job_id = payload.get("jobId") if isinstance(payload, Mapping) else getattr(payload, "job_id", None)
        if job_id == self._job.id:
            return False
        if run.event.depth > MAX_CAUSATION_DEPTH:
            # Not buried: that would tell of one more, for whoever listens to dead letters.
            self._logger.error("two jobs probably trigger each other; the chain ends here", event_id=run.event.id)
            return False
        return True

    async def _start_alone(self, run: LiveRun) -> None:
        """Commit that the run starts, then start it; after too many such starts it is a dead letter."""
        task = run.task
        alone = task.owner.alone
        if not run.starts_alone:  # a retry is no further start: it takes another life to kill another worker
            run.starts_alone = 1 + (alone.starts if alone is not None and task.named_run is run else 0)
        if run.starts_alone > MAX_STARTS_ALONE:
            run.attempt = MAX_STARTS_ALONE
            killed = f"its worker died {MAX_STARTS_ALONE} times while it ran alone"
            self._fail(run, Failure(type="playhead.errors.KilledItsWorker", message=killed), 0.0)
            return
        task.owner = replace(task.owner, alone=Alone(run.offset, run.starts_alone))
        while not isinstance(await self._committer.commit_tasks([task]), Committed):
            # Not while the group moves on. If that takes the task away, the run is dropped, and cancelled here.
            await self._clock.sleep(_FROZEN_RETRY_SECONDS)
        wanted, payload = self._prepare(run)
        if wanted:
            await self._attempt(run, payload)

    async def _attempt(self, run: LiveRun, payload: Any) -> None:
        output: Any = None
        error: BaseException | None = None
        try:
            output = await self._performer.perform(run, payload)
        except asyncio.CancelledError as cancelled:
            if not self._is_going(run):
                raise
            error = cancelled  # the function's own doing
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # whatever a user's code raises is its attempt's end
            if isinstance(raised, GeneratorExit) and not self._loop.is_running():
                raise  # not the function's doing: the loop is gone, and this coroutine with it
            error = raised
        if not self._is_going(run):
            return  # dropped, or ended from outside
        try:
            self._ended(run, output, error)
        except Exception as mistake:  # noqa: BLE001 -- the engine's own: better no worker than a run that never ends
            self._give_up(mistake)

    def _is_going(self, run: LiveRun) -> bool:
        """Whether the run waits for this very task, and not, once it was ended from outside, for its next attempt."""
        return run.state is LiveState.RUNNING and run.work is asyncio.current_task(self._loop)

    def _overdue(self, run: LiveRun) -> None:
        """The attempt ends without its function, which does not listen."""
        if (work := run.work) is not None:
            self._left_behind.add(work)  # the loop itself holds a task but weakly
            work.add_done_callback(self._left_behind.discard)
        self._logger.warning("a function goes on after its deadline; its run goes on without it", run_id=run.id)
        self._ended(run, None, TimeoutError("the function did not end at its deadline"))

    # ── from running to the commit ───────────────────────────────────────────────────────────────────────────────────

    def _ended(self, run: LiveRun, output: Any, error: BaseException | None) -> None:
        """An attempt has ended: tell it, and go on as the verdict says."""
        run.work = None
        duration_seconds = self._clock.monotonic() - run.started_at
        self._tally.duration.add(duration_seconds)
        duration_ms = round(duration_seconds * 1000, 3)
        if error is None:
            try:
                told = self._narrator.succeeded(run, output, duration_ms)
            except UnfitOutput as unfit:
                error = NonRetriableError(str(unfit))
            else:
                self._finish(run, [*self._narrator.sends(run), told])
                return
        follows, failure = self._judged(run, error)
        match follows:
            case Retry(delay_seconds):
                self._retry(run, failure, duration_ms, delay_seconds)
            case Fail():
                self._fail(run, failure, duration_ms)

    def _judged(self, run: LiveRun, error: BaseException) -> tuple[Verdict, Failure]:
        """What follows, and what is told. An exception is an object of a user's class: to look at it may raise too."""
        try:
            return verdict(error, run.attempt, self._job.retry, self._rng.random()), Failure.of(error)
        except KeyboardInterrupt:
            raise
        except BaseException as mistake:  # noqa: BLE001 -- a user's code
            kind = plain_text(type(error).__qualname__)
            message = f"it can't be judged: looking at it raised {type(mistake).__qualname__}: {plain_text(mistake)}"
            return Fail(), Failure(type=kind, message=shortened(message, MAX_MESSAGE_CHARS))

    def _retry(self, run: LiveRun, failure: Failure, duration_ms: float, delay_seconds: float) -> None:
        due_ms = self._now_ms() + int(delay_seconds * 1000)
        what = f"{failure.type}: {failure.message}"
        self._logger.warning("attempt failed", run_id=run.id, attempt=run.attempt, error=what)
        told = self._narrator.retrying(run, failure, duration_ms, due_ms)
        self._leave(run, LiveState.BACKOFF)
        self._killers.leave(run)
        self._committer.add(Ending(run, [told], final=False))
        run.work = self._spawn(self._back_off(run, delay_seconds))

    async def _back_off(self, run: LiveRun, delay_seconds: float) -> None:
        await self._clock.sleep(delay_seconds)
        run.work = None
        run.to(LiveState.READY)
        self.ready.append(run)
        self._pump_soon()

    def _fail(self, run: LiveRun, failure: Failure, duration_ms: float) -> None:
        reason = f"{failure.type}: {failure.message}"
        self._logger.error("run failed", run_id=run.id, event_id=run.event.id, attempts=run.attempt, error=reason)
        dead = self._narrator.dead_letter(run, reason, failure)
        run.lost = True
        self._finish(run, [self._narrator.failed(run, failure, duration_ms), dead])

    def _bury_unreadable(self, run: LiveRun, error: Poison) -> None:
        record, reason = run.record, shortened(error.message, MAX_MESSAGE_CHARS)
        self._logger.error(
            "a record can't be read; it goes to the dead letters",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=reason,
        )
        run.lost = True
        self._finish(run, [self._narrator.dead_letter(run, reason, None)])

    def _finish(self, run: LiveRun, records: Sequence[Record]) -> None:
        self._leave(run, LiveState.ENDED)
        self._committer.add(Ending(run, records, final=True))

    def _leave(self, run: LiveRun, state: LiveState) -> None:
        """The function does not run any more."""
        run.work = None
        run.to(state)
        self.running -= 1
        if state is LiveState.ENDED:
            self._let_others_start(run)
        self._pump_soon()
        if self.running == 0:
            self._nothing_runs.set()

    def _let_others_start(self, run: LiveRun) -> None:
        """Only a run that has ended lets the next of its key start; and others' runs, where it had to be alone."""
        task = run.task
        if task.owner.alone is not None and task.named_run is run:
            task.owner = replace(task.owner, alone=None)
        self._killers.leave(run)
        task.leave_lane(run, self.ready)

    def refused(self, run: LiveRun, reason: str) -> None:
        """The broker refuses a record of this run: the run fails, without what it wrote."""
        if run.refused is Refusal.MINIMAL:
            error = Fatal(f"the broker refuses what tells of run {run.id}: {reason}.", remedy=_REFUSED_REMEDY)
            self._give_up(error)
            return
        if run.state is LiveState.DROPPED:
            return
        again = run.refused is not None
        run.refused = Refusal.MINIMAL if again else Refusal.FAILURE
        run.lost = True
        why = shortened(reason, _REFUSED_REASON_CHARS)
        failure = Failure(type="playhead.errors.Refused", message=f"the broker refused what the run wrote: {why}")
        self._logger.error("run failed: its commit was refused", run_id=run.id, reason=reason)
        self._committer.withdraw(run)
        self._end_early(run)
        if again:
            run.logs = []  # whatever of it was too large: what is told now has a size of its own
        # Of a record that can't be read no run began, and none has failed.
        told = [self._narrator.failed(run, failure, 0.0)] if run.attempt else []
        told.append(self._narrator.dead_letter(run, failure.message, failure, minimal=again))
        self._committer.add(Ending(run, told, final=True))

    def _end_early(self, run: LiveRun) -> None:
        """End a run that may have gone on since it told what was refused: to its back-off, or to its next attempt."""
        work, run.work = run.work, None
        if run.state is LiveState.RUNNING:
            self._leave(run, LiveState.ENDED)
        elif run.state is not LiveState.ENDED:
            run.to(LiveState.ENDED)
            self._let_others_start(run)
            self._pump_soon()
        if work is not None:
            work.cancel()

    # ── ending ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def drop(self, task: Task) -> None:
        """The task is not this worker's any more: stop its runs."""
        self.running -= sum(run.state is LiveState.RUNNING for run in task.live_runs)
        task.drop()
        self._killers.look()
        if self.running == 0:
            self._nothing_runs.set()

    async def finish(self, grace_seconds: float) -> None:
        """Wait until nothing runs, at most for the grace period."""
        self._nothing_runs.clear()
        if self.running == 0:
            return
        self._logger.info("finishing what runs", runs=self.running, grace_seconds=grace_seconds)
        if not await within(self._clock, grace_seconds, self._nothing_runs.wait()):
            self._logger.warning("the grace period is over; these runs start again elsewhere", runs=self.running)

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)
