"""Sums of history as pages show them: totals, charts, a row per job. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from playhead.dashboard.charts import Buckets, Chart, lines, spark, stacked
from playhead.history.projection import bucket_end_ms

STATES = (("succeeded", "succeeded"), ("failed", "failed"))
PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


@dataclass(slots=True)
class JobSums:
    """What the runs of a job (or of all) came to in a stretch of time."""

    id: str = ""
    name: str = ""
    trigger: str = ""
    succeeded: int = 0
    failed: int = 0
    retries: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    lag: int | None = None
    by_bucket: Counter[int] = field(default_factory=Counter)
    spark: str = ""

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed

    def add(self, at: int, state: str, count: int) -> None:
        if state == "succeeded":
            self.succeeded += count
        elif state == "failed":
            self.failed += count
        elif state == "retrying":
            self.retries += count
            return
        self.by_bucket[at] += count

    def measure(self, durations: Mapping[int, int]) -> None:
        """Take the percentiles of durations that are counted in buckets of length."""
        self.p50_ms, self.p95_ms, self.p99_ms = (percentile(durations, share) for _, share in PERCENTILES)


def percentile(durations: Mapping[int, int], share: float) -> float | None:
    """The duration that this share of the runs did not exceed, within a fifth; None where none was counted."""
    total = sum(durations.values())
    if not total:
        return None
    left = share * total
    for bucket in sorted(durations):
        left -= durations[bucket]
        if left <= 0:
            return bucket_end_ms(bucket)
    return bucket_end_ms(max(durations))


def by_job(
    counted: Iterable[tuple[int, str, str, int]], durations: Iterable[tuple[int, str, int, int]], buckets: Buckets
) -> dict[str, JobSums]:
    """A job's sums, by its id.

    Args:
        counted: (bucket's beginning, job, state, count).
        durations: (bucket's beginning, job, length's bucket, count).
    """
    jobs: dict[str, JobSums] = {}
    lengths: dict[str, Counter[int]] = defaultdict(Counter)
    for at, job_id, state, count in counted:
        jobs.setdefault(job_id, JobSums(job_id)).add(at, state, count)
    for _, job_id, bucket, count in durations:
        lengths[job_id][bucket] += count
    for job_id, job in jobs.items():
        job.measure(lengths[job_id])
        job.spark = spark([job.by_bucket[at] for at in buckets.times])
    return jobs


def all_jobs(counted: Iterable[tuple[int, str, str, int]], durations: Iterable[tuple[int, str, int, int]]) -> JobSums:
    """The sums of all jobs together."""
    total, lengths = JobSums(), Counter[int]()
    for at, _, state, count in counted:
        total.add(at, state, count)
    for _, _, bucket, count in durations:
        lengths[bucket] += count
    total.measure(lengths)
    return total


def runs_chart(counted: Iterable[tuple[int, str, str, int]], buckets: Buckets) -> Chart:
    """Ends of runs over time, failures on top."""
    sums: Counter[tuple[int, str]] = Counter()
    for at, _, state, count in counted:
        sums[at, state] += count
    return stacked("Runs that ended", buckets, STATES, sums)


def events_chart(counted: Sequence[tuple[int, str, int]], buckets: Buckets) -> Chart:
    """Events over time."""
    sums: Counter[tuple[int, str]] = Counter()
    for at, _, count in counted:
        sums[at, "count"] += count
    return stacked("Events", buckets, (("count", "events"),), sums)


def durations_chart(durations: Iterable[tuple[int, str, int, int]], buckets: Buckets) -> Chart:
    """Percentiles over time."""
    lengths: dict[int, Counter[int]] = defaultdict(Counter)
    for at, _, bucket, count in durations:
        lengths[at][bucket] += count
    measured = {}
    for at, counts in lengths.items():
        for kind, share in PERCENTILES:
            value = percentile(counts, share)
            if value is not None:
                measured[at, kind] = value
    return lines("Durations", buckets, [(kind, kind) for kind, _ in PERCENTILES], measured)
