"""Time zones: what the clocks on their walls show, and when. Pure but for the zone data that `zoneinfo` reads once.

A moment is in milliseconds since the Unix epoch; a wall time is a datetime without a zone. When a clock is set forward
it skips wall times, when it is set back it shows some twice (PEP 495 calls these the gap and the fold).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

from playhead.errors import InvalidSchedule

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

_WALL_EPOCH = EPOCH.replace(tzinfo=None)


def zone_named(name: str) -> tzinfo:
    """The zone of an IANA name.

    Raises:
        InvalidSchedule: there is no such zone; the remedy has the nearest name.
    """
    if name == "UTC":
        return UTC  # even where the machine has no zone data
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError, AttributeError) as error:
        raise InvalidSchedule(f"time zone {name!r} is unknown.", remedy=_remedy(str(name))) from error


def _remedy(name: str) -> str:
    """The nearest name, whether the continent was left out or a letter is wrong."""
    known = sorted(available_timezones())
    names = {zone.rpartition("/")[2].casefold(): zone for zone in known} | {zone.casefold(): zone for zone in known}
    if not names:
        return "This machine has no time zone data: pip install tzdata."
    near = get_close_matches(name.strip().replace(" ", "_").casefold(), names, n=1)
    return f"Did you mean {names[near[0]]!r}?" if near else "Use an IANA name, such as 'Europe/Berlin'."


def offset_at(ms: int, zone: tzinfo) -> timedelta:
    """How far the clock is ahead of UTC at a moment."""
    return (EPOCH + ms * MILLISECOND).astimezone(zone).utcoffset() or timedelta(0)


def wall_at(ms: int, zone: tzinfo) -> datetime:
    """What the clock shows at a moment."""
    return (EPOCH + ms * MILLISECOND).astimezone(zone).replace(tzinfo=None)


def moments_of(wall: datetime, zone: tzinfo) -> tuple[int, ...]:
    """When the clock shows `wall`: once, as a rule; twice, or not at all, when it is set."""
    shown = (wall - _WALL_EPOCH) // MILLISECOND
    first, second = (shown - offset // MILLISECOND for offset in _offsets_of(wall, zone))
    if first == second:
        return (first,)
    return (first, second) if first < second else ()


def end_of_gap(wall: datetime, zone: tzinfo) -> int:
    """The moment when the clock is set such that it skips `wall`, which it does skip."""
    before, after = _offsets_of(wall, zone)
    shown = (wall - _WALL_EPOCH) // MILLISECOND
    earlier, later = shown - after // MILLISECOND, shown - before // MILLISECOND
    while earlier + 1 < later:  # `zoneinfo` does not tell its transitions, so halve the way to it
        middle = (earlier + later) // 2
        if offset_at(middle, zone) == after:
            later = middle
        else:
            earlier = middle
    return later


def _offsets_of(wall: datetime, zone: tzinfo) -> tuple[timedelta, timedelta]:
    """The offsets before and after the clock is set, where `wall` is in a gap or a fold; else the offset, twice."""
    local = wall.replace(tzinfo=zone)
    none = timedelta(0)
    return local.utcoffset() or none, local.replace(fold=1).utcoffset() or none
