"""When an event is due: after a delay, or at a moment. Pure: the time of day is handed in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeAlias

from playhead.errors import InvalidDelay

Delay: TypeAlias = timedelta | Mapping[str, float]
"""A timedelta, or numbers by unit: {"hours": 24}."""

UNITS_MS: Mapping[str, int] = {
    "weeks": 604_800_000,
    "days": 86_400_000,
    "hours": 3_600_000,
    "minutes": 60_000,
    "seconds": 1_000,
    "milliseconds": 1,
}
MAX_AHEAD_MS = 100 * 366 * 86_400_000
"""A hundred years. What is to happen later than that is a mistake in a unit."""


class When(NamedTuple):
    """One of the two: so long after the event was sent, or at this moment. Milliseconds; `at_ms` since the epoch."""

    delay_ms: int | None = None
    at_ms: int | None = None

    def due_ms(self, now_ms: int) -> int:
        """When it is due, for an event that is sent now.

        Raises:
            InvalidDelay: `at` is more than a hundred years ahead.
        """
        if self.delay_ms is not None:
            return now_ms + self.delay_ms
        assert self.at_ms is not None
        if self.at_ms - now_ms > MAX_AHEAD_MS:
            raise InvalidDelay("at", "it is more than a hundred years ahead.")
        return self.at_ms


def when(delay: Delay | None, at: datetime | str | None) -> When | None:
    """What the caller's words mean; None where there are none.

    A delay of 0 and a moment that has passed are due at once.

    Raises:
        InvalidDelay: both are given, or one can't be read.
    """
    if delay is not None and at is not None:
        raise InvalidDelay("delay", "it was given together with `at`; an event has one of them.")
    if delay is not None:
        return When(delay_ms=_delay_ms(delay))
    if at is not None:
        return When(at_ms=_at_ms(at))
    return None


def _delay_ms(delay: object) -> int:
    if isinstance(delay, timedelta):
        total = delay / timedelta(milliseconds=1)
    elif isinstance(delay, Mapping):
        if not delay:
            raise InvalidDelay("delay", f"it names no unit; use {', '.join(UNITS_MS)}.")
        total = sum(_part_ms(unit, number) for unit, number in delay.items())
    else:
        what = type(delay).__name__
        raise InvalidDelay("delay", f'it must be numbers by unit, such as {{"hours": 24}}, or a timedelta; not {what}.')
    if total < 0:
        raise InvalidDelay("delay", "it is negative.")
    if total > MAX_AHEAD_MS:
        raise InvalidDelay("delay", "it is more than a hundred years.")
    return math.ceil(total)  # never early


def _part_ms(unit: object, number: object) -> float:
    field = f"delay.{unit}"
    if unit not in UNITS_MS:
        raise InvalidDelay(field, f"there is no such unit; use {', '.join(UNITS_MS)}.")
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise InvalidDelay(field, f"it must be a number, not {type(number).__name__}.")
    if isinstance(number, float) and not math.isfinite(number):  # an int may be beyond every float
        raise InvalidDelay(field, "it is NaN or infinite.")
    if number < 0:
        raise InvalidDelay(field, "it is negative.")
    return min(number, MAX_AHEAD_MS + 1) * UNITS_MS[str(unit)]


def _at_ms(at: object) -> int:
    if isinstance(at, str):
        text = at
        try:
            at = datetime.fromisoformat(text)
        except ValueError as error:
            raise InvalidDelay(
                "at", f"{text[:60]!r} is no ISO 8601 time, such as 2027-03-01T09:00:00+01:00."
            ) from error
    if not isinstance(at, datetime):
        raise InvalidDelay("at", f"it must be ISO 8601 text, or a datetime; not {type(at).__name__}.")
    if at.utcoffset() is None:
        raise InvalidDelay("at", "it has no time zone; write it as 2027-03-01T09:00:00+01:00, or with Z for UTC.")
    try:
        since = at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    except OverflowError as error:
        raise InvalidDelay("at", "it is beyond the years that a datetime can tell.") from error
    return max(0, math.ceil(since / timedelta(milliseconds=1)))  # before 1970 is as good as 1970: at once
