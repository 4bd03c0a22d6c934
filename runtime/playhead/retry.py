"""When a failed attempt is tried again. Pure: an attempt's number and a random number go in, a delay comes out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

MAX_DELAY_SECONDS = 366 * 86_400.0


class NonRetriableError(Exception):
    """Raised by a job: do not try this run again; it fails now and goes to the dead letters."""


class RetryAfter(Exception):
    """Raised by a job: try this run again, but not before `delay`.

    Args:
        delay: a timedelta, or seconds; at most a year.
        reason: kept with the run.
    """

    def __init__(self, delay: timedelta | float, reason: str = "") -> None:
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        if not seconds <= MAX_DELAY_SECONDS:
            raise ValueError(f"a retry waits for a year at most, not for {seconds:g} s")
        self.delay_seconds = max(0.0, seconds)
        super().__init__(reason or f"retry after {self.delay_seconds:g} s")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with jitter.

    The delay after attempt n is `initial_seconds * factor ** (n - 1)`, at most `max_seconds`, then spread evenly over
    ± `jitter` of itself, so that runs which failed together do not come back together.
    """

    max_attempts: int = 4
    initial_seconds: float = 1.0
    factor: float = 2.0
    max_seconds: float = 60.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}; it counts the first try, so it is at least 1")
        if not (0 <= self.initial_seconds <= MAX_DELAY_SECONDS and 0 <= self.max_seconds <= MAX_DELAY_SECONDS):
            raise ValueError("initial_seconds is from 0 to a year, and so is max_seconds")
        if not (self.factor >= 1 and 0 <= self.jitter <= 1):
            raise ValueError("factor is >= 1, jitter is from 0 to 1")

    def delay_seconds(self, attempt: int, random: float) -> float | None:
        """How long to wait after failed attempt number `attempt` (from 1), or None when it was the last.

        Args:
            random: a number from 0 up to 1, which the caller draws.
        """
        if attempt >= self.max_attempts:
            return None
        # The exponent is bounded so that a large attempt number can't overflow a float.
        delay = min(self.initial_seconds * self.factor ** min(attempt - 1, 64), self.max_seconds)
        return delay * (1 + self.jitter * (2 * random - 1))


NO_RETRY = RetryPolicy(max_attempts=1)
