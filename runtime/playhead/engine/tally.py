"""What the runs of one job come to, counted in this worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from playhead.engine.live import LiveRun
from playhead.group.work import Ending
from playhead.metrics import (
    DEAD_LETTERS,
    RECORDS_SKIPPED,
    RETRIES,
    RUN_DURATION,
    RUNS,
    START_LATENCY,
    Histogram,
    Samples,
)


@dataclass(slots=True)
class JobTally:
    """Counts of one job, from its worker's start on."""

    skipped_name: int = 0
    skipped_seen: int = 0
    skipped_filter: int = 0
    succeeded: int = 0
    failed: int = 0
    retries: int = 0
    dead_letters: int = 0
    start_latency: Histogram = field(default_factory=START_LATENCY.histogram)
    duration: Histogram = field(default_factory=RUN_DURATION.histogram)
    sent: Counter[str] = field(default_factory=Counter)
    """Events of committed runs, by topic."""

    def committed(self, endings: Sequence[Ending]) -> None:
        """Count what a commit has put into the log."""
        ended = 0
        for run, _, final, _ in endings:
            if not final:
                continue
            ended += 1
            if run.lost:
                self._count_lost(run)
            elif run.sends:
                self.sent.update(topic for _, topic, _ in run.sends)
        self.retries += len(endings) - ended
        self.succeeded += ended

    def _count_lost(self, run: LiveRun) -> None:
        self.succeeded -= 1
        self.dead_letters += 1
        if run.attempt:  # of a record that can't be read no run began, and none has failed
            self.failed += 1

    def samples(self, job_id: str) -> Samples:
        yield RECORDS_SKIPPED.sample(self.skipped_name, job_id, "name")
        yield RECORDS_SKIPPED.sample(self.skipped_seen, job_id, "seen")
        yield RECORDS_SKIPPED.sample(self.skipped_filter, job_id, "filter")
        yield RUNS.sample(self.succeeded, job_id, "succeeded")
        yield RUNS.sample(self.failed, job_id, "failed")
        yield RETRIES.sample(self.retries, job_id)
        yield DEAD_LETTERS.sample(self.dead_letters, job_id)
        yield START_LATENCY.sample(self.start_latency, job_id)
        yield RUN_DURATION.sample(self.duration, job_id)
