"""How late timers fire: from the moment that they are due to the commit that has their event in the log."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

BUCKETS_MS: Sequence[float] = (1, 2, 3, 4, 5, 7.5, 10, 15, 25, 50, 100, 250, 500, 1_000, 5_000, 60_000)
"""Upper bounds."""


class Lateness:
    """A histogram that only grows; what fires after an outage is in it like any other."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_MS) + 1)
        self.sum_ms = 0.0
        self.max_ms = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    def add(self, late_ms: float) -> None:
        self.counts[bisect_left(BUCKETS_MS, late_ms)] += 1
        self.sum_ms += late_ms
        self.max_ms = max(self.max_ms, late_ms)

    def prometheus(self, name: str = "playhead_timer_lateness_seconds") -> str:
        """The histogram in Prometheus' text format 0.0.4."""
        lines = [f"# HELP {name} From a timer's due time to its event in the log.", f"# TYPE {name} histogram"]
        total = 0
        for bound, count in zip((*BUCKETS_MS, None), self.counts, strict=True):
            total += count
            edge = "+Inf" if bound is None else f"{bound / 1000:g}"
            lines.append(f'{name}_bucket{{le="{edge}"}} {total}')
        return "\n".join([*lines, f"{name}_sum {self.sum_ms / 1000:.6f}", f"{name}_count {total}", ""])
