"""Every metric that a process of Playhead shows, as a table; and what counts them: plain numbers.

    engine, group, scheduler, client ──▶ ints and histograms of their own
                                            │ asked when somebody scrapes
                                            ▼
                     samples() ──▶ `playhead.http.scrape` ──▶ Prometheus' text

Pure, and without `prometheus_client`, which a service that only sends need not have. What is in the table is in
[METRICS.md](METRICS.md) too. Whoever has something to tell takes a metric from here and gives samples of it.

No label is named `job`: Prometheus gives that name to the target that it scrapes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table.

    Attributes:
        name: as Prometheus shows it: base units, a counter with `_total`.
        labels: of few values each; never an id of an event, a run or a member.
        help: what it means.
        bounds: of a histogram, the upper bounds of its buckets in the metric's unit, ascending.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()

    def sample(self, value: float | Histogram, *labels: str) -> Sample:
        """Its value now, for these labels, in the order of the table.

        Raises:
            ValueError: these are not its labels, or this is not its kind of value.
        """
        if len(labels) != len(self.labels) or isinstance(value, Histogram) is not (self.kind == "histogram"):
            raise ValueError(f"{self.name} is a {self.kind} with the labels {self.labels}, not {value!r} of {labels}")
        return Sample(self, labels, value)

    def histogram(self) -> Histogram:
        """An empty one, with this metric's buckets."""
        return Histogram(self.bounds)


class Histogram:
    """Counts values by bucket; it only grows. A `add` costs about a fifth of a microsecond."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    def add(self, value: float) -> None:
        """Count a value. A negative one (two machines' clocks) counts as nothing, so that the sum never falls."""
        if value > 0.0:
            self.counts[bisect_left(self.bounds, value)] += 1
            self.sum += value
        else:
            self.counts[0] += 1


class Sample(NamedTuple):
    """What a metric is now, for one set of labels."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Histogram


Samples: TypeAlias = Iterable[Sample]
Source: TypeAlias = Callable[[], Samples]
"""Gives what it counts; called in the event loop at each scrape, so it must not take long."""

_LATENCY_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    600.0,
    3600.0,
)
_COMMIT_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)
_LATENESS_SECONDS = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0, 3600.0),
)

# ── every process ────────────────────────────────────────────────────────────────────────────────────────────────────

BUILD = Metric(
    "playhead_build_info",
    "gauge",
    ("part", "version"),
    "Always 1: which part this process is, and which version of Playhead.",
)
READY = Metric("playhead_ready", "gauge", ("part",), "1 while the process has all it needs, as /readyz says; else 0.")
BROKER_UP = Metric(
    "playhead_broker_up",
    "gauge",
    ("part",),
    "1 if the broker answered when it was last asked (at a scrape, at most every 15 s).",
)
EVENTS_SENT = Metric(
    "playhead_events_sent_total",
    "counter",
    ("topic",),
    "Events in the log from this process's client and its committed runs; those for later are in topic delay.",
)
SENDS_FAILED = Metric(
    "playhead_sends_failed_total", "counter", ("code",), "Events that the client could not send, by the error's code."
)

# ── each group: a job's, or the scheduler's ──────────────────────────────────────────────────────────────────────────

GROUP_READY = Metric(
    "playhead_group_ready",
    "gauge",
    ("group",),
    "1 while this member has its tasks and works on them; 0 while it joins, restores, or stands still.",
)
TASKS = Metric("playhead_tasks", "gauge", ("group",), "Tasks (partitions) that this member works on.")
RECORDS_READ = Metric(
    "playhead_records_read_total", "counter", ("group",), "Records that were fetched, and handed to a task."
)
LAG = Metric(
    "playhead_lag_records",
    "gauge",
    ("group", "topic", "partition"),
    "Offsets from the first that is not finished to the end of what is committed. Asked at most every 15 s.",
)
TRANSACTION_AGE = Metric(
    "playhead_transaction_age_seconds",
    "gauge",
    ("group", "topic", "partition"),
    "For how long, as far as was seen, somebody's open transaction has held back what this group reads.",
)
COMMIT_OPEN = Metric(
    "playhead_commit_open_seconds",
    "gauge",
    ("group",),
    "How long this member's commit in flight has been under way; 0 if there is none.",
)
COMMITS = Metric(
    "playhead_commits_total",
    "counter",
    ("group", "outcome"),
    "Commits by their outcome: committed, fenced, refused or unknown.",
)
COMMIT_DURATION = Metric(
    "playhead_commit_duration_seconds",
    "histogram",
    ("group",),
    "From a commit's first request to its outcome.",
    _COMMIT_SECONDS,
)
COMMIT_RECORDS = Metric(
    "playhead_commit_records",
    "histogram",
    ("group",),
    "Records in a commit, without its checkpoints.",
    (0, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000),
)
REBALANCES = Metric(
    "playhead_rebalances_total",
    "counter",
    ("group",),
    "Assignments that this member was given: one for each generation of its group.",
)
TAKEOVERS = Metric(
    "playhead_takeovers_total",
    "counter",
    ("group",),
    "Tasks that this member took over, from another or from itself, and restored from the log.",
)
ISOLATIONS = Metric(
    "playhead_isolations_total",
    "counter",
    ("group",),
    "Times that no heartbeat was answered for two thirds of the session, so that all work was stopped.",
)
BROKER_AWAY = Metric(
    "playhead_broker_unavailable_total",
    "counter",
    ("group",),
    "Times that joining, fetching or a takeover found no broker that answers, and waited.",
)

# ── each job ─────────────────────────────────────────────────────────────────────────────────────────────────────────

RECORDS_SKIPPED = Metric(
    "playhead_records_skipped_total",
    "counter",
    ("job_id", "reason"),
    "Records that start no run: of another name (name), worked on before (seen), not wanted (filter).",
)
RUNS = Metric(
    "playhead_runs_total", "counter", ("job_id", "state"), "Runs whose end is in the log: succeeded or failed."
)
RETRIES = Metric(
    "playhead_retries_total", "counter", ("job_id",), "Failed attempts after which another follows, told in the log."
)
RUNS_HELD = Metric(
    "playhead_runs_held",
    "gauge",
    ("job_id", "state"),
    "Runs in memory: queued behind their key, ready, running, in backoff, or ended and not committed yet.",
)
START_LATENCY = Metric(
    "playhead_run_start_latency_seconds",
    "histogram",
    ("job_id",),
    "From an event's time in the log to the start of its run's first attempt here.",
    _LATENCY_SECONDS,
)
RUN_DURATION = Metric(
    "playhead_run_duration_seconds",
    "histogram",
    ("job_id",),
    "What an attempt's function took, however it ended.",
    _LATENCY_SECONDS,
)
OLDEST_RUN = Metric(
    "playhead_oldest_uncommitted_run_seconds",
    "gauge",
    ("job_id",),
    "Age, from its time in the log, of the oldest event whose run is in memory and not committed; 0 if there is none.",
)
DEAD_LETTERS = Metric(
    "playhead_dead_letters_total",
    "counter",
    ("job_id",),
    "Dead letters written: by a job, or by the scheduler (playhead.scheduler) of a timer that can't be sent.",
)

# ── the scheduler ────────────────────────────────────────────────────────────────────────────────────────────────────

TIMERS_PENDING = Metric("playhead_timers_pending", "gauge", (), "Timers that wait in the partitions of this scheduler.")
TIMER_LATENESS = Metric(
    "playhead_timer_lateness_seconds",
    "histogram",
    (),
    "From a timer's due time (from when it was set, if it was due over a second before) to its event in the log. "
    "Its count is the number of timers fired.",
    _LATENESS_SECONDS,
)
TIMERS_OVERDUE = Metric(
    "playhead_timers_overdue_seconds",
    "gauge",
    (),
    "For how long the first timer that was not taken up yet has been due; 0 if none is.",
)

# ── history ──────────────────────────────────────────────────────────────────────────────────────────────────────────

HISTORY_RECORDS = Metric(
    "playhead_history_records_total", "counter", (), "Records that this process has written into the history."
)
HISTORY_WRITE_DURATION = Metric(
    "playhead_history_write_duration_seconds",
    "histogram",
    (),
    "What a transaction of the history's database took.",
    _COMMIT_SECONDS,
)
HISTORY_LAG = Metric(
    "playhead_history_lag_records",
    "gauge",
    ("topic", "partition"),
    "Offsets from the next that history reads to the end of what is committed. Asked at most every 15 s.",
)
HISTORY_STOPPED = Metric(
    "playhead_history_stopped_partitions",
    "gauge",
    (),
    "Partitions that history does not read on, because the log has not what comes next there.",
)

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""The table, in its order."""
