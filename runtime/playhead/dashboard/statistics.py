"""Sums of history as pages show them: a row per job, and charts. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from playhead.dashboard.charts import Chart, lines, spark, stacked
from playhead.history.statistics import PERCENTILES, Span, Sums, total

STATES = (("succeeded", "succeeded"), ("failed", "failed"))


@dataclass(slots=True)
class JobSums:
    """What the runs of a job (or of all) came to in a stretch of time."""

    id: str
    name: str = ""
    trigger: str = ""
    succeeded: int = 0
    failed: int = 0
    retries: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    lag: int | None = None
    spark: str = ""

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed

    @classmethod
    def of(cls, job_id: str, sums: Sums) -> JobSums:
        row = cls(job_id, succeeded=sums.succeeded, failed=sums.failed, retries=sums.retries)
        row.p50_ms, row.p95_ms, row.p99_ms = (sums.percentile_ms(share) for _, share in PERCENTILES)
        return row


def by_job(sums: Mapping[tuple[int, str], Sums], steps: Span) -> dict[str, JobSums]:
    """A row for each job, by its id."""
    found: defaultdict[str, dict[int, Sums]] = defaultdict(dict)
    for (at, job_id), one in sums.items():
        found[job_id][at] = one
    rows = {}
    for job_id, by_time in found.items():
        rows[job_id] = JobSums.of(job_id, total(by_time.values()))
        rows[job_id].spark = spark([by_time[at].ended if at in by_time else 0 for at in steps.times])
    return rows


def runs_chart(sums: Mapping[tuple[int, str], Sums], steps: Span) -> Chart:
    """Ends of runs over time, failures on top."""
    counts: Counter[tuple[int, str]] = Counter()
    for (at, _), one in sums.items():
        counts[at, "succeeded"] += one.succeeded
        counts[at, "failed"] += one.failed
    return stacked("Runs that ended", steps, STATES, counts)


def events_chart(sums: Mapping[tuple[int, str], int], steps: Span) -> Chart:
    """Events over time."""
    counts: Counter[tuple[int, str]] = Counter()
    for (at, _), count in sums.items():
        counts[at, "count"] += count
    return stacked("Events", steps, (("count", "events"),), counts)


def durations_chart(sums: Mapping[tuple[int, str], Sums], steps: Span) -> Chart:
    """Percentiles of a job's durations over time."""
    measured = {}
    for (at, _), one in sums.items():
        for name, share in PERCENTILES:
            value = one.percentile_ms(share)
            if value is not None:
                measured[at, name] = value
    return lines("Durations", steps, [(name, name) for name, _ in PERCENTILES], measured)
