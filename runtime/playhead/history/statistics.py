"""Sums over time: how many runs ended and how, how long they took, and how it was at a moment of the past.

All but the last minutes of a moment come from sums that the projection keeps, so a year costs what its hours cost.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from playhead.errors import InvalidInput
from playhead.history.projection import bucket_end_ms
from playhead.history.reading import Snapshot, asked
from playhead.history.schema import (
    DURATION,
    EVENT_COUNT,
    RUN,
    RUN_COUNT,
    RUN_EVENT,
    SECONDS_PER_HOUR,
    SECONDS_PER_MINUTE,
)

PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
STEPS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in steps, seconds since the epoch, by the log's time: begin <= t < end, whole steps.

    Raises:
        InvalidInput: the step is no whole number of minutes, or there are more than 1,000 of them.
    """

    begin: int
    end: int
    step: int

    def __post_init__(self) -> None:
        if self.step < SECONDS_PER_MINUTE or self.step % SECONDS_PER_MINUTE:
            raise InvalidInput(f"a step of {self.step} s: it is a whole number of minutes.")
        if self.step > SECONDS_PER_HOUR and self.step % SECONDS_PER_HOUR:
            raise InvalidInput(f"a step of {self.step} s: above an hour it is a whole number of hours.")
        if not 0 < self.end - self.begin <= STEPS_MAX * self.step:
            raise InvalidInput(
                f"from one to {STEPS_MAX:,} steps of {self.step} s can be asked for.",
                remedy="Ask for longer steps, or a shorter time.",
            )

    @classmethod
    def of(cls, since: float, until: float, step: int) -> Span:
        """The whole steps that cover a stretch."""
        begin = int(since) - int(since) % step
        return cls(begin, int(-(-until // step)) * step, step)

    @property
    def times(self) -> range:
        """Where the steps begin."""
        return range(self.begin, self.end, self.step)

    @property
    def sums_step(self) -> int:
        """Of the sums that are read: hours as soon as they will do."""
        by_hour = self.step % SECONDS_PER_HOUR == 0 and self.begin % SECONDS_PER_HOUR == 0
        return SECONDS_PER_HOUR if by_hour else SECONDS_PER_MINUTE


@dataclass(slots=True)
class Sums:
    """What runs came to."""

    succeeded: int = 0
    failed: int = 0
    retries: int = 0
    durations: Counter[int] = field(default_factory=Counter)
    """How many took how long, by `projection.duration_bucket`."""

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed

    @property
    def success_rate(self) -> float | None:
        """Of those that ended, from 0 to 1; None where none did."""
        return self.succeeded / self.ended if self.ended else None

    def count(self, state: str, count: int) -> None:
        if state == "succeeded":
            self.succeeded += count
        elif state == "failed":
            self.failed += count
        elif state == "retrying":
            self.retries += count

    def percentile_ms(self, share: float) -> float | None:
        """The duration that this share of the runs did not exceed, within a fifth; None where none ended."""
        left = share * sum(self.durations.values())
        for bucket in sorted(self.durations):
            left -= self.durations[bucket]
            if left <= 0:
                return bucket_end_ms(bucket)
        return None


def run_sums(now: Snapshot, span: Span, job_id: str = "") -> dict[tuple[int, str], Sums]:
    """By (begin of the step, job): what its runs came to. Steps in which nothing happened are left out."""
    sums: defaultdict[tuple[int, str], Sums] = defaultdict(Sums)
    for at, job, state, count in _summed(now, RUN_COUNT, span, job_id, RUN_COUNT.c.job_id, RUN_COUNT.c.state):
        sums[at, job].count(state, count)
    for at, job, bucket, count in _summed(now, DURATION, span, job_id, DURATION.c.job_id, DURATION.c.bucket):
        sums[at, job].durations[bucket] += count
    return dict(sums)


def event_sums(now: Snapshot, span: Span) -> dict[tuple[int, str], int]:
    """By (begin of the step, name): how many events."""
    rows = _summed(now, EVENT_COUNT, span, "", EVENT_COUNT.c.name)
    return {(at, name): count for at, name, count in rows}


def _summed(now: Snapshot, table: Any, span: Span, job_id: str, *by: Any) -> Iterable[Any]:
    columns = table.c
    at = (columns.at - (columns.at - span.begin) % span.step).label("begin")
    query = sa.select(at, *by, sa.func.sum(columns.count)).where(
        columns.step == span.sums_step, columns.at >= span.begin, columns.at < span.end
    )
    if job_id:
        query = query.where(columns.job_id == asked(job_id))
    for row in now.db.execute(query.group_by(at, *by)):
        yield (*row[:-1], int(row[-1]))


def total(sums: Iterable[Sums]) -> Sums:
    """Of several together."""
    whole = Sums()
    for one in sums:
        whole.succeeded += one.succeeded
        whole.failed += one.failed
        whole.retries += one.retries
        whole.durations.update(one.durations)
    return whole


# ── as it was ────────────────────────────────────────────────────────────────────────────────────────────────────────


def counts_as_of(now: Snapshot, at_ms: int) -> dict[str, dict[str, int]]:
    """By job and state how many runs there were at a moment, as far as they have been told of since.

    Succeeded and failed: those that had ended. Retrying: had failed, and waited for another attempt or were in one.
    Running: had begun and nothing of them was told yet.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    hour, minute = (at_ms // 1000 // step * step for step in (SECONDS_PER_HOUR, SECONDS_PER_MINUTE))
    for step, begin, end in ((SECONDS_PER_HOUR, 0, hour), (SECONDS_PER_MINUTE, hour, minute)):
        c = RUN_COUNT.c
        query = sa.select(c.job_id, c.state, sa.func.sum(c.count)).where(c.step == step, c.at >= begin, c.at < end)
        for job_id, state, count in now.db.execute(query.group_by(c.job_id, c.state)):
            counts[job_id][state] += int(count)
    for states in counts.values():
        del states["retrying"]  # those are attempts
    ended = sa.select(RUN.c.job_id, RUN.c.state, sa.func.count())
    ended = ended.where(RUN.c.ended_ms >= minute * 1000, RUN.c.ended_ms <= at_ms).group_by(RUN.c.job_id, RUN.c.state)
    for job_id, state, count in now.db.execute(ended):
        counts[job_id][state] += count
    for job_id, state, count in map(tuple, now.db.execute(_under_way(at_ms))):
        counts[job_id][state] += count
    return {job_id: dict(sorted(states.items())) for job_id, states in sorted(counts.items()) if states}


def _under_way(at_ms: int) -> Any:
    """Runs that had begun and not ended, by job and by whether anything was told of them."""
    told = sa.exists().where(RUN_EVENT.c.run_id == RUN.c.id, RUN_EVENT.c.at_ms <= at_ms)
    state = sa.case((told, "retrying"), else_="running").label("state_then")
    ended_later = sa.select(RUN.c.job_id, state).where(RUN.c.ended_ms > at_ms, RUN.c.began_ms <= at_ms)
    not_ended = sa.select(RUN.c.job_id, state).where(
        RUN.c.state == "retrying", RUN.c.state != sa.text("'succeeded'"), RUN.c.began_ms <= at_ms
    )
    under_way = ended_later.union_all(not_ended).subquery()
    columns = under_way.c
    return sa.select(columns.job_id, columns.state_then, sa.func.count()).group_by(columns.job_id, columns.state_then)


def state_as_of(now: Snapshot, run_id: str, at_ms: int) -> str | None:
    """A run's state at a moment; None where it had not begun."""
    told = now.told(run_id, until_ms=at_ms)
    if told:
        return told[-1].state
    run = now.run(run_id)
    return "running" if run is not None and run.began_ms <= at_ms else None


def as_wire(sums: Sums, seconds: float) -> Mapping[str, Any]:
    """Sums as they are shown to others: rates, throughput a second, percentiles in milliseconds."""
    return {
        "succeeded": sums.succeeded,
        "failed": sums.failed,
        "retries": sums.retries,
        "successRate": sums.success_rate,
        "perSecond": sums.ended / seconds,
        **{f"{name}Ms": sums.percentile_ms(share) for name, share in PERCENTILES},
    }
