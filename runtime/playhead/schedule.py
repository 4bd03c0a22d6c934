"""Schedules: when a job that waits for no event is due. Pure: a time goes in, the next one comes out.

All times are whole milliseconds since the Unix epoch. Nothing is due before 1970 or after the year 9998.

A cron goes by the wall clock of its zone. When that clock is set, Debian's rules hold (cron(8), and the cases 1 to 3 in
main() of its cron.c), which tell two kinds apart:

    fixed time    30 2 * * *      skipped by the clock: fires at the end of the gap, once, however many times it skipped
                                  shown twice: fires the first time only
    wildcard      */10 * * * *    (minute or hour begins with `*`) fires whenever the clock shows such a time, so every
                                  ten minutes that really pass; what the clock skips is not made up for

Where Debian fires each skipped time at the end of the gap, Playhead fires there once. Debian ignores changes of more
than three hours; here the rules hold for any (a country that changes sides of the date line).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from hashlib import blake2b
from itertools import count
from typing import Any, Literal, get_args

from playhead.cron import CronExpression, Direction, parse_cron
from playhead.errors import InvalidSchedule
from playhead.zones import EPOCH, MILLISECOND, end_of_gap, moments_of, offset_at, wall_at, zone_named

_DAY_MS = 86_400_000

MAX_DUE_MS = 253_370_764_799_999  # the last of the year 9998: a datetime ends a year later
MIN_INTERVAL_MS = 1_000
MAX_INTERVAL_MS = 36_525 * _DAY_MS  # a hundred years
MAX_JITTER_MS = _DAY_MS
MAX_PASSED_OVER = 10_000

CatchUp = Literal["skip", "one", "all"]

_UNITS = (("day", _DAY_MS), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000))


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """Due when the clock on the wall of `zone` shows a time that `expression` names (see `playhead.cron`).

    Args:
        expression: five fields, or a nickname such as `@daily`.
        zone: an IANA name, such as "Europe/Berlin".

    Raises:
        InvalidSchedule: the expression can't be read or never fires, or the zone is unknown.
    """

    expression: str
    zone: str = "UTC"
    _cron: CronExpression = field(init=False, repr=False, compare=False)
    _zone: tzinfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cron", parse_cron(self.expression))
        object.__setattr__(self, "expression", " ".join(self.expression.split()))
        object.__setattr__(self, "_zone", zone_named(self.zone))

    def next_after(self, ms: int) -> int | None:
        """The first due time strictly after `ms`, or None if there is never another."""
        return next(self.times_after(ms), None)

    def times_after(self, ms: int) -> Iterator[int]:
        """The due times strictly after `ms`, ascending."""
        return self._times(max(ms, -1), 1)

    def times_until(self, ms: int) -> Iterator[int]:
        """The due times up to `ms`, it included, descending."""
        return self._times(min(ms, MAX_DUE_MS) + 1, -1)

    def to_wire(self) -> dict[str, Any]:
        """As JSON; `schedule_from_wire` reads it."""
        return {"kind": "cron", "expression": self.expression, "zone": self.zone}

    def describe(self) -> str:
        """For people: `cron 0 9 * * 1-5 in Europe/Berlin`."""
        return f"cron {self.expression} in {self.zone}"

    def _times(self, beyond: int, direction: Direction) -> Iterator[int]:
        if not -1 <= beyond <= MAX_DUE_MS + 1:
            return
        for due in self._in_order(beyond, direction):
            if not 0 <= due <= MAX_DUE_MS:
                return
            # Several skipped times come to one due time, the end of the gap.
            if (due - beyond) * direction > 0:
                yield due
                beyond = due

    def _in_order(self, start_ms: int, direction: Direction) -> Iterator[int]:
        """Due times in order, from some that are not beyond `start_ms` on.

        Where the clock shows an hour twice, the wall times come once and the due times twice. The farther one waits
        until the nearer ones of the whole hour are through.
        """
        waiting: deque[int] = deque()
        for wall in self._cron.walls(self._wall(start_ms, direction), direction):
            nearer, *farther = self._due(wall)[::direction] or (None,)
            while waiting and nearer is not None and (waiting[0] - nearer) * direction <= 0:
                yield waiting.popleft()
            if nearer is not None:
                yield nearer
            waiting.extend(farther)
        yield from waiting

    def _wall(self, ms: int, direction: Direction) -> datetime:
        """What the clock shows at `ms`; if it is set within a day such that it shows times again, the first of them."""
        ms = min(max(ms, 0), MAX_DUE_MS)
        repeated = offset_at(ms, self._zone) - offset_at(ms + direction * _DAY_MS, self._zone)
        return wall_at(ms, self._zone) - max(repeated * direction, timedelta(0)) * direction

    def _due(self, wall: datetime) -> tuple[int, ...]:
        """When it is due because of this wall time: once, or not at all, or twice."""
        moments = moments_of(wall, self._zone)
        if self._cron.wildcard:
            return moments
        return moments[:1] or (end_of_gap(wall, self._zone),)


@dataclass(frozen=True, slots=True)
class IntervalSchedule:
    """Due every `every_ms` milliseconds, whatever clocks on walls show.

    Args:
        every_ms: from a second to a hundred years.
        anchor_ms: a time that is due, and with it the others; 0 aligns them with the Unix epoch, so that every hour is
            on the hour (in UTC).

    Raises:
        InvalidSchedule: one of the two is no whole number or out of its range.
    """

    every_ms: int
    anchor_ms: int = 0

    def __post_init__(self) -> None:
        if not _is_whole(self.every_ms) or not MIN_INTERVAL_MS <= self.every_ms <= MAX_INTERVAL_MS:
            raise InvalidSchedule(
                f"an interval of {self.every_ms!r} ms: it is a whole number from 1 second to 100 years.",
                remedy="Correct the interval.",
            )
        if not _is_whole(self.anchor_ms) or not 0 <= self.anchor_ms <= MAX_DUE_MS:
            raise InvalidSchedule(
                f"an anchor of {self.anchor_ms!r} ms: it is a whole number from 0 (1970) to {MAX_DUE_MS:,} (9998).",
                remedy="Correct the anchor.",
            )

    @classmethod
    def of(cls, every: timedelta | float, anchor: datetime | None = None) -> IntervalSchedule:
        """From a timedelta or seconds, rounded to milliseconds, and a time with a zone.

        Raises:
            InvalidSchedule: the interval is no number or out of its range, or the anchor has no time zone.
        """
        seconds = every.total_seconds() if isinstance(every, timedelta) else every
        # Before rounding: NaN fails the comparison, and what is just too short stays too short.
        if not isinstance(seconds, int | float) or not MIN_INTERVAL_MS <= seconds * 1_000 <= MAX_INTERVAL_MS:
            raise InvalidSchedule(
                f"an interval of {every!r}: it is a timedelta or seconds, from 1 second to 100 years.",
                remedy="Correct the interval.",
            )
        if anchor is not None and anchor.tzinfo is None:
            raise InvalidSchedule(f"anchor {anchor!r} has no time zone.", remedy="Give it one, such as datetime.UTC.")
        return cls(round(seconds * 1_000), 0 if anchor is None else (anchor - EPOCH) // MILLISECOND)

    def next_after(self, ms: int) -> int | None:
        """The first due time strictly after `ms`, or None if there is never another."""
        return next(self.times_after(ms), None)

    def times_after(self, ms: int) -> Iterator[int]:
        """The due times strictly after `ms`, ascending."""
        ms = max(ms, -1)
        return _while_valid(count(ms + self.every_ms - (ms - self.anchor_ms) % self.every_ms, self.every_ms))

    def times_until(self, ms: int) -> Iterator[int]:
        """The due times up to `ms`, it included, descending."""
        ms = min(ms, MAX_DUE_MS)
        return _while_valid(count(ms - (ms - self.anchor_ms) % self.every_ms, -self.every_ms))

    def to_wire(self) -> dict[str, Any]:
        """As JSON; `schedule_from_wire` reads it."""
        return {"kind": "interval", "everyMs": self.every_ms, "anchorMs": self.anchor_ms}

    def describe(self) -> str:
        """For people: `every 5 minutes`, `every hour in step with 2026-01-01T00:30:00+00:00`."""
        name, unit_ms = next((unit for unit in _UNITS if self.every_ms % unit[1] == 0), _UNITS[-1])
        text = f"every {name}" if self.every_ms == unit_ms else f"every {self.every_ms / unit_ms:.15g} {name}s"
        if self.anchor_ms % self.every_ms:
            text += f" in step with {(EPOCH + self.anchor_ms * MILLISECOND).isoformat()}"
        return text


Schedule = CronSchedule | IntervalSchedule


def schedule_from_wire(wire: Mapping[str, Any]) -> Schedule:
    """What `to_wire` of a schedule gave; keys of a later version are passed over.

    Raises:
        InvalidSchedule: it is no schedule that this version knows.
    """
    try:
        if wire["kind"] == "cron":
            return CronSchedule(wire["expression"], wire["zone"])
        if wire["kind"] == "interval":
            return IntervalSchedule(wire["everyMs"], wire["anchorMs"])
    except KeyError as missing:
        raise InvalidSchedule(f"the schedule {dict(wire)!r} lacks {missing}.") from missing
    raise InvalidSchedule(f"no schedule is of kind {wire['kind']!r}: 'cron' and 'interval' are.")


def check_catch_up(catch_up: str) -> None:
    """Raises InvalidSchedule if it is none of the policies."""
    if catch_up not in get_args(CatchUp):
        raise InvalidSchedule(f"catch_up is 'skip', 'one' or 'all', not {catch_up!r}.", remedy="Choose one of them.")


def due_times(
    schedule: Schedule,
    last_ms: int,
    now_ms: int,
    catch_up: CatchUp,
    *,
    missed_after_ms: int = 60_000,
    limit: int = 1_000,
) -> tuple[list[int], int]:
    """Which occurrences after `last_ms`, up to `now_ms`, fire now, and how many are passed over.

    An occurrence that is more than `missed_after_ms` late is missed. Those on time all fire. A clock that was set back
    behind `last_ms` has nothing due.

    Args:
        last_ms: the due time that fired or was passed over last.
        catch_up: of the missed, "skip" fires none, "one" the newest, "all" the newest `limit`.

    Returns:
        The due times that fire, oldest first; and the number passed over. Counting stops at `MAX_PASSED_OVER`, which
        then means that many or more: the work is bounded, however long nobody looked.

    Raises:
        InvalidSchedule: `catch_up` is none of the policies.
    """
    check_catch_up(catch_up)
    still_wanted = {"skip": 0, "one": 1, "all": max(limit, 0)}[catch_up]
    firing: list[int] = []
    passed_over = 0
    for due in schedule.times_until(now_ms):
        if due <= last_ms or passed_over == MAX_PASSED_OVER:
            break
        missed = now_ms - due > missed_after_ms
        if missed and still_wanted == 0:
            passed_over += 1
            continue
        still_wanted -= missed
        firing.append(due)
    return firing[::-1], passed_over


def check_jitter_ms(jitter_ms: int) -> None:
    """Raises InvalidSchedule if it is no whole number from 0 to a day."""
    if not _is_whole(jitter_ms) or not 0 <= jitter_ms <= MAX_JITTER_MS:
        raise InvalidSchedule(
            f"a jitter of {jitter_ms!r} ms: it is a whole number from 0 to {MAX_JITTER_MS:,} (a day).",
            remedy="Correct the jitter.",
        )


def jittered(job_id: str, due_ms: int, jitter_ms: int) -> int:
    """`due_ms` and a part of `jitter_ms` more, so that jobs that are due together do not all start together.

    The part is from 0 to `jitter_ms`, both included, spread evenly, and the same on every machine and after every
    restart: a digest of job and due time.

    Raises:
        InvalidSchedule: the jitter is negative, or more than a day.
    """
    check_jitter_ms(jitter_ms)
    digest = blake2b(f"{job_id}\0{due_ms}".encode(), digest_size=8).digest()
    return due_ms + int.from_bytes(digest, "big") % (jitter_ms + 1)


def _while_valid(times: Iterator[int]) -> Iterator[int]:
    for due in times:
        if not 0 <= due <= MAX_DUE_MS:
            return
        yield due


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)
