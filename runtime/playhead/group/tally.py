"""What a member counts: what it reads and commits, and how its group moves."""

from __future__ import annotations

from dataclasses import dataclass, field

from playhead.broker.contract import Committed, Fenced, Outcome, Refused, Unknown
from playhead.metrics import (
    BROKER_AWAY,
    COMMIT_DURATION,
    COMMIT_OPEN,
    COMMIT_RECORDS,
    COMMITS,
    ISOLATIONS,
    REBALANCES,
    RECORDS_READ,
    TAKEOVERS,
    Histogram,
    Samples,
)

_OUTCOMES: dict[type[Outcome], str] = {
    Committed: "committed",
    Fenced: "fenced",
    Refused: "refused",
    Unknown: "unknown",
}


@dataclass(slots=True)
class GroupTally:
    """Counts of one member, from its start on."""

    records_read: int = 0
    rebalances: int = 0
    takeovers: int = 0
    isolations: int = 0
    broker_away: int = 0
    commits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_OUTCOMES.values(), 0))
    commit_seconds: Histogram = field(default_factory=COMMIT_DURATION.histogram)
    commit_records: Histogram = field(default_factory=COMMIT_RECORDS.histogram)
    commit_since: float | None = None
    """When the commit in flight began, on the clock's monotonic time."""

    def commit_begins(self, now: float) -> None:
        self.commit_since = now

    def commit_ended(self, outcome: Outcome | None, records: int, now: float) -> None:
        """Count it; None where it ended by an error or was cancelled, so that nobody knows."""
        began, self.commit_since = self.commit_since, None
        if outcome is None or began is None:
            return
        self.commits[_OUTCOMES[type(outcome)]] += 1
        self.commit_seconds.add(now - began)
        self.commit_records.add(records)

    def samples(self, group: str, now: float) -> Samples:
        """All of it, at this moment of the clock's monotonic time."""
        yield RECORDS_READ.sample(self.records_read, group)
        yield REBALANCES.sample(self.rebalances, group)
        yield TAKEOVERS.sample(self.takeovers, group)
        yield ISOLATIONS.sample(self.isolations, group)
        yield BROKER_AWAY.sample(self.broker_away, group)
        for outcome, count in self.commits.items():
            yield COMMITS.sample(count, group, outcome)
        yield COMMIT_DURATION.sample(self.commit_seconds, group)
        yield COMMIT_RECORDS.sample(self.commit_records, group)
        yield COMMIT_OPEN.sample(0.0 if self.commit_since is None else now - self.commit_since, group)
