"""Pages of jobs: how often they run, how long they take, how far they are behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.concurrency import run_in_threadpool

from playhead.dashboard.addresses import span_of
from playhead.dashboard.lags import Known, Lags
from playhead.dashboard.statistics import JobSums, by_job, durations_chart, runs_chart
from playhead.dashboard.web import Ask, NoSuchPage, View
from playhead.history.reading import Snapshots
from playhead.history.statistics import run_sums
from playhead.job import Job

FAILURES = 12


def known_jobs(jobs: Sequence[Job], sums: Mapping[str, JobSums], lags: Known) -> list[JobSums]:
    """Those of this project, and those that history knows by their runs."""
    rows = {job.id: JobSums(job.id) for job in jobs} | dict(sums)
    for job_id, row in rows.items():
        row.lag = lags.of(job_id)
    for job in jobs:
        row = rows[job.id]
        row.name = job.name
        row.trigger = job.schedule.schedule.describe() if job.schedule is not None else job.trigger.name
    return list(rows.values())


class JobPages:
    """The pages."""

    def __init__(self, history: Snapshots, jobs: Sequence[Job], lags: Lags) -> None:
        self._history, self._jobs, self._lags = history, jobs, lags

    async def index(self, ask: Ask) -> View:
        """All jobs, by id."""
        await self._lags.refresh()
        return await run_in_threadpool(self._index, ask)

    def _index(self, ask: Ask) -> View:
        span = span_of(ask.query, ask.now_ms)
        with self._history.snapshot() as now:
            sums = run_sums(now, span.steps)
        jobs = sorted(known_jobs(self._jobs, by_job(sums, span.steps), self._lags.known()), key=lambda job: job.id)
        return View("jobs.html", {"span": span, "jobs": jobs})

    async def one(self, ask: Ask) -> View:
        """One job over time."""
        await self._lags.refresh()
        return await run_in_threadpool(self._one, ask)

    def _one(self, ask: Ask) -> View:
        job_id, span = ask.path["job_id"], span_of(ask.query, ask.now_ms)
        lags = self._lags.known()
        with self._history.snapshot() as now:
            sums = run_sums(now, span.steps, job_id)
            failures = now.runs(state="failed", job_id=job_id, limit=FAILURES).items
            known = bool(sums) or bool(failures) or bool(now.runs(job_id=job_id, limit=1).items)
        declared = next((job for job in self._jobs if job.id == job_id), None)
        if declared is None and not known:
            raise NoSuchPage(f"no job {job_id[:100]!r} is known.")
        rows = by_job(sums, span.steps) or {job_id: JobSums(job_id)}
        (job,) = known_jobs([] if declared is None else [declared], rows, lags)
        facts = {
            "span": span,
            "job": job,
            "runs_chart": runs_chart(sums, span.steps),
            "durations_chart": durations_chart(sums, span.steps),
            "failures": failures,
            "lag": lags.partitions(job_id),
            "lag_note": lags.why_not or "No worker has run it yet.",
            "facts": [] if declared is None else _facts(declared),
        }
        return View("job.html", facts)


def _facts(job: Job) -> list[tuple[str, str]]:
    timeout = job.attempt_timeout_seconds
    return [
        ("Version", job.version),
        ("Runs", job.schedule.schedule.describe() if job.schedule is not None else f"on {job.trigger.name}"),
        ("At once", f"{job.concurrency} in a worker"),
        ("Order", "one after the other for a key" if job.order == "key" else "none"),
        ("Attempts", str(job.retry.max_attempts)),
        ("Timeout", "none" if timeout is None else f"{timeout:g} s for an attempt"),
    ]
