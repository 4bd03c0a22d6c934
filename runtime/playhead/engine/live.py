"""A run while it lives in memory: from the record that triggers it to the records that tell how it ended.

                 ┌──────────── key held by another ────────────┐
                 ▼                                             │
    (admitted) QUEUED ──▶ READY ──▶ RUNNING ──▶ ENDED ──▶ (committed)
                            ▲          │
                            └ BACKOFF ◀┘ attempt failed, another follows

Only `LiveRun.to` moves a run along these arrows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import Enum, IntEnum, auto
from typing import TYPE_CHECKING, Any

from playhead.events import Cause, Event, OutgoingEvent
from playhead.ids import run_id
from playhead.records import StoredRecord

if TYPE_CHECKING:
    from playhead.engine.task import Progress, Task


class LiveState(IntEnum):
    """Where a run is in the drawing above. An IntEnum, whose hash and comparison cost a tenth of an Enum's."""

    QUEUED = auto()
    READY = auto()
    RUNNING = auto()
    BACKOFF = auto()
    ENDED = auto()
    DROPPED = auto()


class Refusal(Enum):
    """After one refusal a run tells that it has failed; after a second, the least that there is to tell."""

    FAILURE = auto()
    MINIMAL = auto()


_NEXT: Mapping[LiveState, frozenset[LiveState]] = {
    LiveState.QUEUED: frozenset({LiveState.READY, LiveState.DROPPED}),
    LiveState.READY: frozenset({LiveState.RUNNING, LiveState.ENDED, LiveState.DROPPED}),
    LiveState.RUNNING: frozenset({LiveState.BACKOFF, LiveState.ENDED, LiveState.DROPPED}),
    LiveState.BACKOFF: frozenset({LiveState.READY, LiveState.ENDED, LiveState.DROPPED}),
    LiveState.ENDED: frozenset({LiveState.DROPPED}),
    LiveState.DROPPED: frozenset(),
}


class LiveRun:
    """One run in memory. Its task owns it; what the task does not own any more is DROPPED, and no one hears of it."""

    __slots__ = (
        "_cause",
        "attempt",
        "event",
        "id",
        "logs",
        "offset",
        "progress",
        "record",
        "refused",
        "sends",
        "started_at",
        "started_ms",
        "starts_alone",
        "state",
        "task",
        "work",
    )

    def __init__(self, task: Task, progress: Progress, record: StoredRecord, event: Event) -> None:
        self.task = task
        self.progress = progress
        self.record = record
        self.event = event
        replay = event.replay
        self.id = run_id(task.job_id, event.id, task.number, "" if replay is None else replay.id)
        self.offset = record.offset
        self.attempt = 0
        self.state = LiveState.QUEUED
        self.work: asyncio.Task[None] | None = None
        self.sends: list[tuple[OutgoingEvent, str, int]] = []
        self.logs: list[dict[str, Any]] = []
        self.refused: Refusal | None = None
        """What it tells, where the broker has refused what it told before."""
        self.started_ms = 0
        self.starts_alone = 0
        self.started_at = 0.0
        self._cause: Cause | None = None

    def to(self, state: LiveState) -> None:
        """Move on; an arrow that is not in the drawing is a mistake in the engine."""
        if state not in _NEXT[self.state]:
            raise AssertionError(f"run {self.id}: {self.state.name} -> {state.name}")
        self.state = state

    @property
    def cause(self) -> Cause:
        """What the events that this run sends, and the records about it, say of their origin."""
        if self._cause is None:
            event = self.event
            self._cause = Cause(event.id, event.correlation_id, event.depth + 1, self.id, event.traceparent)
        return self._cause

    @property
    def dropped(self) -> bool:
        return self.state is LiveState.DROPPED

    def drop(self) -> None:
        """The task is gone: stop the function, and forget the run."""
        self.to(LiveState.DROPPED)
        if self.work is not None:
            self.work.cancel()
