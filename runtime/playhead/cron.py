"""Cron expressions: five fields, and the wall-clock times that they name. Pure; knows nothing of time zones.

    ┌──────── minute        0-59
    │ ┌────── hour          0-23
    │ │ ┌──── day of month  1-31, L (the month's last)
    │ │ │ ┌── month         1-12, JAN-DEC
    │ │ │ │ ┌ day of week   0-7 (0 and 7 are Sunday), SUN-SAT, 5L (the month's last Friday), 5#2 (its second)
    * * * * *

Each field takes `*`, numbers, names, ranges (`1-5`, `FRI-SUN`), steps (`*/10`, `8-18/2`, `5/15`: from 5 on) and lists
of these. `@hourly @daily @midnight @weekly @monthly @yearly @annually` stand for what they say.

The meaning is Debian's (crontab(5), and entry.c of its cron): where both day fields are restricted, either is enough;
where one of them begins with `*`, both have to match. `L`, `#` and `5/15` are common extensions.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, NamedTuple

from playhead.errors import InvalidSchedule

MAX_EXPRESSION_CHARS = 200

Direction = Literal[1, -1]

_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_ONE_DAY = timedelta(days=1)
_EVERY, _LAST = 0, -1  # which of a month's Fridays; 1 to 5 count them

# The calendar repeats after 400 years, weekdays included: what does not happen in them never does.
_CYCLE_BEGINS, _CYCLE_DAYS = date(2000, 1, 1), 146_097


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def numbers(self, term: str) -> range:
        """What `*`, `3`, `1-5`, `*/10`, `8-18/2` or `5/15` stands for.

        Raises:
            ValueError: it stands for nothing.
        """
        base, slash, step = term.partition("/")
        if base == "*":
            first, last = self.low, self.high
        else:
            begin, dash, end = base.partition("-")
            first = self.number(begin)
            last = self.number(end) if dash else self.high if slash else first
            if self is _WEEKDAY and last == 0 < first:
                last = 7  # FRI-SUN
        if last < first:
            raise ValueError(f"{self.name} {term!r} ends before it begins")
        if slash and not re.fullmatch(r"0*[1-9][0-9]{0,2}", step):
            raise ValueError(f"{self.name} {term!r} has no step from 1 to 999 after its slash")
        return range(first, last + 1, int(step) if slash else 1)

    def number(self, text: str) -> int:
        if text in self.names:
            return self.names.index(text) + self.low
        highest = 7 if self is _WEEKDAY else self.high
        if not re.fullmatch(r"[0-9]{1,4}", text) or not self.low <= int(text) <= highest:
            names = f", or a name from {self.names[0]} to {self.names[-1]}" if self.names else ""
            raise ValueError(f"{self.name} {text!r} is not from {self.low} to {highest}{names}")
        return int(text)


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12, ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"))
_WEEKDAY = _Field("day of week", 0, 6, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))
_FIELDS = (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)


def _plain(field: _Field, text: str) -> frozenset[int]:
    return frozenset(number for term in text.split(",") for number in field.numbers(term))


def _days_of_month(text: str) -> frozenset[int]:
    terms = text.split(",")
    plain = {number for term in terms if term != "L" for number in _DAY.numbers(term)}
    return frozenset(plain | ({_LAST} if "L" in terms else set()))


def _weekdays(text: str) -> frozenset[tuple[int, int]]:
    """(weekday, which of the month's), Sunday being 0."""
    found: set[tuple[int, int]] = set()
    for term in text.split(","):
        day, hash_sign, which = term.partition("#")
        if hash_sign:
            if which not in ("1", "2", "3", "4", "5"):
                raise ValueError(f"{_WEEKDAY.name} {term!r}: a month has a first to a fifth, # 1 to 5")
            found.add((_WEEKDAY.number(day) % 7, int(which)))
        elif len(term) > 1 and term.endswith("L"):
            found.add((_WEEKDAY.number(term[:-1]) % 7, _LAST))
        else:
            found.update((number % 7, _EVERY) for number in _WEEKDAY.numbers(term))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class CronExpression:
    """A parsed expression. Made by `parse_cron`.

    Attributes:
        times: the times of the day, as time since midnight on the wall clock, ascending.
        wildcard: minute or hour begins with `*`: the job goes by every minute that passes, not by a time of the day.
            Debian's cron treats the two kinds differently when the clock is set (MIN_STAR, HR_STAR in its sources).
    """

    times: tuple[timedelta, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[tuple[int, int]]
    both_days: bool
    wildcard: bool

    def falls_on(self, day: date) -> bool:
        """Whether it names times on this day."""
        if day.month not in self.months:
            return False
        left = monthrange(day.year, day.month)[1] - day.day
        weekday = day.isoweekday() % 7
        by_number = day.day in self.days or (left == 0 and _LAST in self.days)
        by_weekday = (
            (weekday, _EVERY) in self.weekdays
            or (weekday, (day.day + 6) // 7) in self.weekdays
            or (left < 7 and (weekday, _LAST) in self.weekdays)
        )
        return by_number and by_weekday if self.both_days else by_number or by_weekday

    def walls(self, start: datetime, direction: Direction) -> Iterator[datetime]:
        """The wall-clock times from `start` on (it included), ascending, or descending where `direction` is -1.

        They end with the years that a datetime has, 1 to 9999.
        """
        for day in self._days(start.date(), direction):
            midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 (a wall clock's, the zone is the caller's)
            times = self.times
            if day == start.date():
                since = start - midnight
                times = times[bisect_left(times, since) :] if direction > 0 else times[: bisect_right(times, since)]
            for time in times[::direction]:
                yield midnight + time

    def _days(self, day: date, direction: Direction) -> Iterator[date]:
        while True:
            if self.falls_on(day):
                yield day
            try:
                if day.month in self.months:
                    day += direction * _ONE_DAY
                elif direction > 0:
                    day += timedelta(days=monthrange(day.year, day.month)[1] - day.day + 1)
                else:
                    day -= timedelta(days=day.day)
            except OverflowError:
                return

    def ever_happens(self) -> bool:
        """Whether there is a day that it falls on."""
        return any(self.falls_on(_CYCLE_BEGINS + timedelta(number)) for number in range(_CYCLE_DAYS))


def parse_cron(expression: str) -> CronExpression:
    """Read a cron expression; upper and lower case are the same.

    Raises:
        InvalidSchedule: it can't be read (the message says which field), or it names no day that ever comes.
    """
    if not isinstance(expression, str) or len(expression) > MAX_EXPRESSION_CHARS:
        raise InvalidSchedule(f"a cron expression is a text of at most {MAX_EXPRESSION_CHARS} characters.")
    texts = _NICKNAMES.get(expression.strip().lower(), expression).upper().split()
    if len(texts) != len(_FIELDS):
        raise InvalidSchedule(
            f"cron {expression!r} has {len(texts)} fields, not 5.",
            remedy="Write minute, hour, day of month, month and day of week, or one of " + ", ".join(_NICKNAMES) + ".",
        )
    minute, hour, day, month, weekday = texts
    try:
        minutes, hours = _plain(_MINUTE, minute), _plain(_HOUR, hour)
        parsed = CronExpression(
            times=tuple(timedelta(hours=h, minutes=m) for h in sorted(hours) for m in sorted(minutes)),
            days=_days_of_month(day),
            months=_plain(_MONTH, month),
            weekdays=_weekdays(weekday),
            both_days=day.startswith("*") or weekday.startswith("*"),
            wildcard=minute.startswith("*") or hour.startswith("*"),
        )
    except ValueError as error:
        raise InvalidSchedule(f"cron {expression!r}: {error}.", remedy="Correct that field.") from error
    if not parsed.ever_happens():
        raise InvalidSchedule(
            f"cron {expression!r} never fires: no month it names has such a day.",
            remedy="Correct day of month or month.",
        )
    return parsed
