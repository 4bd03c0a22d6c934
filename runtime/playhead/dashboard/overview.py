"""The first page: how everything is now."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool

from playhead.dashboard.addresses import span_of
from playhead.dashboard.jobs import known_jobs
from playhead.dashboard.lags import Lags
from playhead.dashboard.reading import Reading
from playhead.dashboard.statistics import all_jobs, by_job, events_chart, runs_chart
from playhead.dashboard.web import Ask, View
from playhead.job import Job

FAILURES = 8
JOBS = 12
BEHIND = 10_000
"""A lag beyond this many events is shown as something to look at."""
EXAMPLE = """\
curl -X POST http://localhost:3002/trigger \\
  -H "Content-Type: application/json" \\
  -d '{"event": "test.event", "payload": {"message": "hello"}}'"""


class OverviewPage:
    """The page."""

    def __init__(self, reading: Reading, jobs: tuple[Job, ...], lags: Lags) -> None:
        self._reading, self._jobs, self._lags = reading, jobs, lags

    async def show(self, ask: Ask) -> View:
        """Everything at once: each query goes by an index or over sums."""
        await self._lags.refresh()
        return await run_in_threadpool(self._show, ask)

    def _show(self, ask: Ask) -> View:
        span = span_of(ask.query, ask.now_ms)
        buckets = span.buckets
        with self._reading.snapshot() as history:
            events = history.event_counts(buckets)
            counted, durations = history.run_counts(buckets), history.durations(buckets)
            failures = history.runs(state="failed", limit=FAILURES)[0]
            letters_open, retrying_now = history.letters_open(), history.retrying_now()
        total = all_jobs(counted, durations)
        lags = self._lags.known()
        jobs = known_jobs(self._jobs, by_job(counted, durations, buckets), lags)
        jobs.sort(key=lambda job: (-job.failed, -job.ended, job.id))
        events_total = sum(count for _, _, count in events)
        facts: dict[str, Any] = {
            "span": span,
            "notices": [{"kind": "bad", "text": text} for text in self._reading.complaints()],
            "events_total": events_total,
            "events_rate": events_total / span.seconds,
            "ended": total.ended,
            "ended_rate": total.ended / span.seconds,
            "succeeded": total.succeeded,
            "failed": total.failed,
            "retries": total.retries,
            "retrying_now": retrying_now,
            "p50_ms": total.p50_ms,
            "p95_ms": total.p95_ms,
            "p99_ms": total.p99_ms,
            "lag_total": lags.total,
            "lag_bad": (lags.total or 0) > BEHIND,
            "lag_note": lags.note,
            "letters_open": letters_open,
            "runs_chart": runs_chart(counted, buckets),
            "events_chart": events_chart(events, buckets),
            "jobs": jobs[:JOBS],
            "failures": failures,
            "example": EXAMPLE,
        }
        return View("overview.html", facts)
