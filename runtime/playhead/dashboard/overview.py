"""The first page: how everything is now."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool

from playhead.dashboard.addresses import span_of
from playhead.dashboard.jobs import known_jobs
from playhead.dashboard.lags import Lags
from playhead.dashboard.statistics import JobSums, by_job, events_chart, runs_chart
from playhead.dashboard.web import Ask, View
from playhead.history.reading import Snapshot, Snapshots
from playhead.history.statistics import event_sums, run_sums, total
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

    def __init__(self, history: Snapshots, jobs: tuple[Job, ...], lags: Lags) -> None:
        self._history, self._jobs, self._lags = history, jobs, lags

    async def show(self, ask: Ask) -> View:
        """Everything at once: each query goes by an index or over sums."""
        await self._lags.refresh()
        return await run_in_threadpool(self._show, ask)

    def _show(self, ask: Ask) -> View:
        span = span_of(ask.query, ask.now_ms)
        with self._history.snapshot() as now:
            events, sums = event_sums(now, span.steps), run_sums(now, span.steps)
            failures = now.runs(state="failed", limit=FAILURES).items
            letters_open, retrying_now = now.count_open_letters(), now.count_retrying()
            notices = _stopped(now)
        whole = JobSums.of("", total(sums.values()))
        lags = self._lags.known()
        jobs = known_jobs(self._jobs, by_job(sums, span.steps), lags)
        jobs.sort(key=lambda job: (-job.failed, -job.ended, job.id))
        events_total = sum(events.values())
        facts: dict[str, Any] = {
            "span": span,
            "notices": notices,
            "events_total": events_total,
            "events_rate": events_total / span.seconds,
            "ended": whole.ended,
            "ended_rate": whole.ended / span.seconds,
            "succeeded": whole.succeeded,
            "failed": whole.failed,
            "retries": whole.retries,
            "retrying_now": retrying_now,
            "p50_ms": whole.p50_ms,
            "p95_ms": whole.p95_ms,
            "p99_ms": whole.p99_ms,
            "lag_total": lags.total,
            "lag_bad": (lags.total or 0) > BEHIND,
            "lag_note": lags.note,
            "letters_open": letters_open,
            "runs_chart": runs_chart(sums, span.steps),
            "events_chart": events_chart(events, span.steps),
            "jobs": jobs[:JOBS],
            "failures": failures,
            "example": EXAMPLE,
        }
        return View("overview.html", facts)


def _stopped(now: Snapshot) -> list[str]:
    """What history does not read on: what the page shows is then not all that happened."""
    stopped = [(partition, part.stopped) for partition, part in now.parts().items() if part.stopped is not None]
    return [f"History stands still in {p.topic}[{p.partition}]: {why}" for p, why in stopped]
