"""A run: one job working on one event. Its life, what happens after an attempt, and the events that tell of it. Pure.

                   ┌───────────────────────────────┐
                   ▼                               │ its time has come
    (event) ─▶ RUNNING ── attempt failed ─▶ RETRYING
                   │                               │
                   ├── attempt succeeded ─▶ SUCCEEDED
                   └── last attempt failed ─▶ FAILED ◀─┘ (taken over by nobody who may try it again)

What happened to a run is an event in topic `run`: key = run id, partition = task number mod P. A run is the fold of its
events (`RunView.apply`), so its history can be rebuilt from the log alone.
"""

from __future__ import annotations

import traceback
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

from playhead.errors import PlayheadError, Poison
from playhead.events import MAX_KEY_BYTES, TypedEvent
from playhead.retry import NonRetriableError, RetryAfter, RetryPolicy, checked_delay
from playhead.serde import plain_text, shortened, to_json

MAX_OUTPUT_BYTES = 256 * 1024
MAX_MESSAGE_CHARS = 4_096
MAX_TRACEBACK_CHARS = 16_384
MAX_LOG_LINES = 1_000
MAX_LOG_BYTES = 128 * 1024
_HEADER_ROOM_BYTES = 16
"""What a header takes in a dead letter beside its name and its text."""


class RunState(StrEnum):
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


NEXT_STATES: Mapping[RunState | None, frozenset[RunState]] = {
    # A run that ends in memory costs one record, so its first event may be its last.
    None: frozenset(RunState),
    RunState.RUNNING: frozenset({RunState.RETRYING, RunState.SUCCEEDED, RunState.FAILED}),
    # A worker that dies with a run in memory starts it again, at attempt 1: retrying may follow retrying.
    RunState.RETRYING: frozenset({RunState.RUNNING, RunState.RETRYING, RunState.SUCCEEDED, RunState.FAILED}),
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset(),
}


# ── what an attempt's end means ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Retry:
    """The run is tried again after `delay_seconds`."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Fail:
    """The run will not be tried again."""


Verdict: TypeAlias = Retry | Fail


def verdict(error: BaseException, attempt: int, policy: RetryPolicy, random: float) -> Verdict:
    """What follows attempt number `attempt` (from 1), which ended with `error`.

    Args:
        random: a number from 0 up to 1, for the jitter.
    """
    if isinstance(error, NonRetriableError | Poison) or (isinstance(error, PlayheadError) and not error.retriable):
        return Fail()
    delay = policy.delay_seconds(attempt, random)
    if delay is None:
        return Fail()
    if isinstance(error, RetryAfter):
        return Retry(checked_delay(error.delay_seconds))
    return Retry(delay)


class Failure(TypedEvent):
    """Why an attempt failed. `type` is the exception's qualified name; `traceback` is its end where it is long."""

    type: str
    message: str
    traceback: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        kind = type(error)
        # From the job's own code on: the engine's frames above it tell its author nothing.
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("playhead.engine"):
            trace = trace.tb_next
        lines = "".join(traceback.format_exception(kind, error, trace))
        message = shortened(plain_text(error), MAX_MESSAGE_CHARS)
        return cls(
            type=f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
            message=message,
            traceback=plain_text(lines[-MAX_TRACEBACK_CHARS:]),
        )


# ── the events of a run ──────────────────────────────────────────────────────────────────────────────────────────────


class RunEvent(TypedEvent):
    """What every event of a run tells."""

    run_id: str
    job_id: str
    job_version: str
    event_id: str
    event_name: str
    task: int
    attempt: int
    lease: int
    started_at: str
    duration_ms: float
    logs: list[dict[str, Any]] = []
    replay_of: str = ""
    """Of a run that replays another: that one's id, or the dead letter's where no run began."""


class RunSucceeded(RunEvent, name="run.succeeded", key="run_id"):
    """The run ended well. `sent` are the ids of the events that were committed with it."""

    output: Any = None
    sent: list[str] = []


class RunRetrying(RunEvent, name="run.retrying", key="run_id"):
    """An attempt failed, and another follows not before `due_at`."""

    error: Failure
    due_at: str


class RunFailed(RunEvent, name="run.failed", key="run_id"):
    """The last attempt failed. The run is in the dead letters too."""

    error: Failure


class DeadLetter(TypedEvent, name="dead-letter.created"):
    """A record that could not be read, or a run that will not be tried again, with its reason and its bytes.

    `key`, `value` and the header values are base64: they may be anything. `value` is None where the record had none, or
    where it is too large to be wrapped: it is then still at the offset named, and so are headers that are left out and
    the rest of a key that is cut; `left_out` and the reason say so of these. `run_id` is empty where no run began.
    """

    job_id: str
    reason: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: str | None
    value: str | None
    headers: list[tuple[str, str]]
    run_id: str = ""
    attempts: int = 0
    left_out: list[str] = []
    error: Failure | None = None

    def key_bytes(self) -> bytes | None:
        """The record's key, as far as it is here. Raises ValueError where it is no base64, like `value_bytes`."""
        return None if self.key is None else b64decode(self.key, validate=True)

    def value_bytes(self) -> bytes | None:
        """The record's value."""
        return None if self.value is None else b64decode(self.value, validate=True)


class Settled(TypedEvent):
    """What the events that settle a dead letter tell. They are in the partition that the letter is in."""

    letter_id: str
    job_id: str


class DeadLetterRetried(Settled, name="dead-letter.retried"):
    """The job works on the letter's record again, as the run `replay_run_id`. If that fails, it has another letter."""

    replay_run_id: str


class DeadLetterDiscarded(Settled, name="dead-letter.discarded"):
    """Nobody need look at the letter any more."""


def fitting(
    key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]], limit_bytes: int, reason: str
) -> tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]], str, list[str]]:
    """What a dead letter wraps of a record, no more than that in base64; the reason with what is left out; and that."""
    room = limit_bytes * 3 // 4
    left_out: list[str] = []
    key_bytes, value_bytes = len(key or b""), len(value or b"")
    # Kafka knows headers without a value. Names are not in base64: control characters take six bytes each.
    header_bytes = sum(len(to_json(name)) + len(text or b"") + _HEADER_ROOM_BYTES for name, text in headers)
    if value is not None and key_bytes + value_bytes + header_bytes > room:
        value = None
        left_out.append("the value")
    if headers and value is None and key_bytes + header_bytes > room:
        headers = ()
        left_out.append("the headers")
    if key is not None and key_bytes > max(room, MAX_KEY_BYTES):
        key = key[:MAX_KEY_BYTES]
        left_out.append("the rest of the key")
    if left_out:
        reason = f"{reason} (left out, since it is too large: {', '.join(left_out)})"
    return key, value, headers, reason, left_out


# ── the fold ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as its events tell it."""

    run_id: str
    state: RunState | None = None
    job_id: str = ""
    event_id: str = ""
    attempt: int = 0
    output: Any = None
    error: Failure | None = None
    sent: tuple[str, ...] = field(default=())

    def apply(self, event: RunEvent) -> RunView:
        """The run after `event`.

        Raises:
            ValueError: the run's state does not allow it, or it is another run's.
        """
        state, output, error, sent = _told(event)
        if event.run_id != self.run_id or state not in NEXT_STATES[self.state]:
            name = event.__event__.name
            raise ValueError(f"run {self.run_id} is {self.state}; {name} of {event.run_id} can't follow")
        return replace(
            self,
            state=state,
            job_id=event.job_id,
            event_id=event.event_id,
            attempt=event.attempt,
            output=output,
            error=error,
            sent=sent,
        )


def _told(event: RunEvent) -> tuple[RunState, Any, Failure | None, tuple[str, ...]]:
    match event:
        case RunSucceeded():
            return RunState.SUCCEEDED, event.output, None, tuple(event.sent)
        case RunRetrying():
            return RunState.RETRYING, None, event.error, ()
        case RunFailed():
            return RunState.FAILED, None, event.error, ()
    raise ValueError(f"{type(event).__qualname__} tells nothing of a run's state")
