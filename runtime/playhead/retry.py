"""When a failed attempt is tried again. Pure: an attempt's number and a random number go in, a delay comes out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

MAX_DELAY_SECONDS = 366 * 86_400.0


def checked_delay(seconds: float) -> float:
    """A delay that a retry can wait for: at most a year, and never less than none.

    Raises:
        ValueError: it is none.
    """
    if not seconds <= MAX_DELAY_SECONDS:
        raise ValueError(f"a retry waits for a year at most, not for {seconds:g} s")
    return max(0.0, seconds)


def _restored(kind: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
    return kind.__new__(kind, *arguments)


class _Travelling(Exception):
    """Comes out of a process as it went in, whatever arguments the `__init__` of its class takes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args), self.__dict__


class NonRetriableError(_Travelling):
    """Raised by a job: do not try this run again; it fails now and goes to the dead letters."""


class RetryAfter(_Travelling):
    """Raised by a job: try this run again, but not before `delay`.

    Args:
        delay: a timedelta, or seconds; at most a year.
        reason: kept with the run.
    """

    def __init__(self, delay: timedelta | float, reason: str = "") -> None:
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        self.delay_seconds = checked_delay(seconds)
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
