"""One try of a run: call the function, with a deadline, and collect what it logs and sends."""

from __future__ import annotations

import asyncio
import contextvars
import pickle
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import orjson
import structlog
from structlog.contextvars import STRUCTLOG_KEY_PREFIX

from playhead.broker.contract import Broker
from playhead.clock import Clock, deadline
from playhead.engine.live import LiveRun, LiveState
from playhead.engine.processes import ProcessPool, process_limit
from playhead.errors import InvalidInput
from playhead.events import MAX_CAUSATION_DEPTH, OutgoingEvent
from playhead.io import IO, Logger, RunInfo, SyncIO
from playhead.job import Job
from playhead.retry import NonRetriableError, RetryAfter
from playhead.run import MAX_LOG_BYTES, MAX_LOG_LINES, MAX_TRACEBACK_CHARS
from playhead.sending import SentEvent, current_run_sends, fitting_topic, sent
from playhead.serde import plain_text, rfc3339
from playhead.topics import partition_for

MAX_SENDS_PER_RUN = 1_000
MAX_SENT_BYTES_PER_RUN = 32 * 1024 * 1024
"""All that a run sends is in one transaction, which has to end in time."""
DEADLINE_GRACE_SECONDS = 5.0
"""How long a function may take to end once its deadline has cancelled it."""
# What `structlog.contextvars.bind_contextvars` would make anew for each run.
_LOGGED_JOB = contextvars.ContextVar[str](f"{STRUCTLOG_KEY_PREFIX}job_id")
_LOGGED_RUN = contextvars.ContextVar[str](f"{STRUCTLOG_KEY_PREFIX}run_id")
_LOGGED_EVENT = contextvars.ContextVar[str](f"{STRUCTLOG_KEY_PREFIX}event_id")
_OWN_FIELDS = frozenset({"at", "level", "event", "exc_info"})


class Attempt:
    """One try of a run, as its function may see it. What it sends is kept with the run until that ends well.

    Implements `playhead.io.RunPart`.
    """

    __slots__ = ("_bytes", "_logs", "_number", "_performer", "_run")

    def __init__(self, run: LiveRun, performer: Performer) -> None:
        self._run = run
        self._number = run.attempt
        self._logs = run.logs  # of this attempt; the next one has a list of its own
        self._bytes = 0
        self._performer = performer

    def info(self) -> RunInfo:
        run, job = self._run, self._performer.job
        return RunInfo(
            id=run.id,
            job_id=job.id,
            job_version=job.version,
            event=run.event,
            task=run.task.number,
            attempt=self._number,
            lease=run.task.owner.lease,
        )

    def logger(self) -> Logger:
        outlet = RunLog(self._logs, self._performer.logger)
        return structlog.wrap_logger(outlet, processors=[], wrapper_class=structlog.make_filtering_bound_logger(0))

    async def send(self, event: OutgoingEvent) -> SentEvent:
        performer = self._performer
        if asyncio.get_running_loop() is not performer.loop:
            # A plain function that uses a client of its own: its thread has the run's context, and another loop.
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.send(event), performer.loop))
        run = self._run
        self._check_going()
        if len(run.sends) >= MAX_SENDS_PER_RUN:
            raise InvalidInput(f"run {run.id} has sent {MAX_SENDS_PER_RUN} events; that is the limit of one run.")
        if run.cause.depth > MAX_CAUSATION_DEPTH:
            raise InvalidInput(
                f"event {event.name!r} would be number {run.cause.depth} in a chain of runs; {MAX_CAUSATION_DEPTH} "
                "are allowed. Two jobs probably trigger each other."
            )
        event = event.sent_at(int(performer.clock.time() * 1000))
        topic = await fitting_topic(performer.broker, performer.prefix, event)
        self._check_going()
        self._bytes += event.size_bytes()
        if self._bytes > MAX_SENT_BYTES_PER_RUN:
            raise InvalidInput(f"run {run.id} has sent more than {MAX_SENT_BYTES_PER_RUN:,} bytes of events.")
        run.sends.append((event, topic.name, topic.partitions))
        key = event.key if event.due_ms is None else event.id.encode()
        return sent(event, topic.name, partition_for(key, topic.partitions))

    def _check_going(self) -> None:
        """A thread, or a task that the function left behind, goes on after its attempt has ended."""
        run = self._run
        if run.attempt != self._number or run.state is not LiveState.RUNNING:
            raise InvalidInput(f"attempt {self._number} of run {run.id} has ended; nothing is sent with it any more.")


class RunLog:
    """The outlet of `io.logger`: each line goes to the process's log and is kept with the run, up to a limit."""

    def __init__(self, lines: list[dict[str, Any]], outlet: Logger) -> None:
        self._lines = lines
        self._outlet = outlet
        self._bytes = 0

    def _line(self, level: str, /, **fields: Any) -> None:
        event = fields.pop("event", "")
        getattr(self._outlet, level)(event, **fields)
        lines = self._lines
        if len(lines) >= MAX_LOG_LINES or self._bytes >= MAX_LOG_BYTES:
            return
        line = {"at": rfc3339(time.time_ns() // 1_000_000), "level": level, "event": plain_text(event)}
        line.update({plain_text(name): _loggable(value) for name, value in fields.items() if name not in _OWN_FIELDS})
        if (shown := _traceback(fields.get("exc_info"))) is not None:
            line["exception"] = shown
        self._bytes += len(orjson.dumps(line))
        if self._bytes >= MAX_LOG_BYTES or len(lines) == MAX_LOG_LINES - 1:
            line = {"at": line["at"], "level": "warning", "event": "(further lines are in the worker's log only)"}
        lines.append(line)

    def debug(self, /, **fields: Any) -> None:
        self._line("debug", **fields)

    def info(self, /, **fields: Any) -> None:
        self._line("info", **fields)

    def warning(self, /, **fields: Any) -> None:
        self._line("warning", **fields)

    def error(self, /, **fields: Any) -> None:
        self._line("error", **fields)

    def critical(self, /, **fields: Any) -> None:
        self._line("critical", **fields)


def _traceback(exc_info: Any) -> str | None:
    """The end of the traceback that `exc_info` of a log line means: True, or an exception."""
    error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1] if exc_info else None
    return None if error is None else plain_text("".join(traceback.format_exception(error))[-MAX_TRACEBACK_CHARS:])


def _loggable(value: Any) -> Any:
    if isinstance(value, str):
        return plain_text(value)
    try:
        return orjson.loads(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
    except TypeError:
        return plain_text(repr(value))


def _call(function: Callable[..., Any], payload: Any, io: SyncIO | None) -> Any:
    """Call a plain function in its thread or process. A future can't hold a StopIteration: it would never be done."""
    try:
        return function(payload, io)
    except StopIteration as stop:
        raise RuntimeError("the function raised StopIteration") from stop


def _call_in_process(function: Callable[..., Any], payload: Any) -> Any:
    """The same in a process. An error that can't be unpickled would break the pool, and with it every run in it."""
    try:
        return _call(function, payload, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        try:
            pickle.loads(pickle.dumps(error))
        except BaseException:  # noqa: BLE001 -- a user's class: pickling it may raise anything
            raise _plain_error(error) from None
        raise


def _plain_error(error: BaseException) -> Exception:
    """The nearest of Playhead's or Python's own that means the same."""
    what = f"{type(error).__qualname__}: {plain_text(error)}"
    if isinstance(error, NonRetriableError):
        return NonRetriableError(what)
    if isinstance(error, RetryAfter):
        try:
            return RetryAfter(error.delay_seconds, what)
        except Exception:  # noqa: BLE001 -- a subclass that has set no delay, or one that is none
            return NonRetriableError(what)
    return RuntimeError(what)


class Performer:
    """Calls the function of one job."""

    def __init__(self, job: Job, broker: Broker, prefix: str, logger: Logger, clock: Clock) -> None:
        self.job = job
        self.broker = broker
        self.prefix = prefix
        self.logger = logger
        self.loop = asyncio.get_running_loop()
        self.clock = clock
        self.on_overdue: Callable[[LiveRun], None] | None = None
        """Called with a run whose function goes on though its time, and a grace, are over."""
        self._executor: Executor | None = None
        self._in_pool = 0
        """How many calls are in it."""
        self.concurrency = process_limit(job.concurrency) if job.executor == "process" else job.concurrency
        """How many functions may run at once: a deadline must not run out in a queue for a process."""
        self._alone = asyncio.Semaphore(self.concurrency)
        self._graces: set[asyncio.Task[None]] = set()
        self._is_async = job.is_async

    def perform(self, run: LiveRun, payload: Any) -> Awaitable[Any]:
        """One attempt; what it raises is the attempt's end, TimeoutError for its deadline included.

        To be called in the task in which it is awaited: it sets context variables.
        """
        if run.attempt > 1:
            run.sends, run.logs = [], []
        attempt = Attempt(run, self)
        current_run_sends.set(attempt)
        _LOGGED_JOB.set(self.job.id)
        _LOGGED_RUN.set(run.id)
        _LOGGED_EVENT.set(run.event.id)
        call = self.job.function(payload, IO(attempt)) if self._is_async else self._call(attempt, payload)
        timeout = self.job.attempt_timeout_seconds
        return call if timeout is None else self._limited(call, timeout, run)

    async def _limited(self, call: Awaitable[Any], timeout_seconds: float, run: LiveRun) -> Any:
        expired: list[bool] = []
        try:
            async with deadline(self.clock, timeout_seconds, partial(self._expired, run, run.attempt, expired)):
                return await call
        except TimeoutError as error:
            if not expired:
                raise  # the function's own
            raise TimeoutError(f"the attempt took longer than its timeout of {timeout_seconds:g} s") from error

    def _expired(self, run: LiveRun, attempt: int, expired: list[bool]) -> None:
        expired.append(True)
        grace = self.loop.create_task(self._wait_for_end(run, attempt))
        self._graces.add(grace)
        grace.add_done_callback(self._graces.discard)

    async def _wait_for_end(self, run: LiveRun, attempt: int) -> None:
        """A function may swallow its cancellation: that must not hold its key for ever."""
        await self.clock.sleep(DEADLINE_GRACE_SECONDS)
        if run.state is LiveState.RUNNING and run.attempt == attempt and self.on_overdue is not None:
            self.on_overdue(run)

    async def _call(self, attempt: Attempt, payload: Any) -> Any:
        """Call a plain function where it blocks nobody."""
        function, in_process = self.job.function, self.job.executor == "process"
        pool = self._pool()
        self._in_pool += 1
        future: Future[Any] | None = None
        try:
            if in_process:
                future = pool.submit(_call_in_process, function, payload)
            else:
                io = SyncIO(attempt, self.loop)
                future = pool.submit(contextvars.copy_context().run, _call, function, payload, io)
            return await asyncio.wrap_future(future, loop=self.loop)
        except asyncio.CancelledError:
            if future is not None and future.running():
                # Nothing ends a thread: who knows how long it is busy. Those that come get others in its place.
                self._leave_pool(pool)
            raise
        except BrokenExecutor:
            # A process died, and took along its pool, and all that ran beside: who did it shows when each is alone.
            did_it = pool is self._executor and self._in_pool == 1 and future is not None
            self._leave_pool(pool)
            if did_it:
                raise
        finally:
            if pool is self._executor:
                self._in_pool -= 1
        return await self._call_alone(payload)

    async def _call_alone(self, payload: Any) -> Any:
        """The same attempt once more, in a process that no other run shares."""
        async with self._alone:
            pool = ProcessPool(1)
            try:
                return await self.loop.run_in_executor(pool, _call_in_process, self.job.function, payload)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _pool(self) -> Executor:
        if self._executor is None:
            if self.job.executor == "process":
                self._executor = ProcessPool(self.concurrency)
            else:
                self._executor = ThreadPoolExecutor(self.job.concurrency, f"job-{self.job.id}")
        return self._executor

    def _leave_pool(self, pool: Executor) -> None:
        """What runs in it may end; the next call gets a new one."""
        if pool is self._executor:
            self._executor = None
            self._in_pool = 0
            pool.shutdown(wait=False)

    def close(self) -> None:
        """Take no more work; threads that are still busy are not waited for."""
        for grace in self._graces:
            grace.cancel()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
