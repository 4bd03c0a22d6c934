"""What an address asks for: filters, where in a list, and which stretch of time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode

from playhead.errors import InvalidInput
from playhead.history.statistics import Span

MINUTE, HOUR, DAY = 60, 3_600, 86_400
RANGES = (
    ("15m", 15 * MINUTE, MINUTE, "the last 15 minutes"),
    ("1h", HOUR, MINUTE, "the last hour"),
    ("6h", 6 * HOUR, 5 * MINUTE, "the last 6 hours"),
    ("24h", DAY, HOUR, "the last 24 hours"),
    ("7d", 7 * DAY, 3 * HOUR, "the last 7 days"),
    ("30d", 30 * DAY, 12 * HOUR, "the last 30 days"),
)
DEFAULT_RANGE = "1h"
BUCKETS_MAX = 120
_STEPS = (MINUTE, 5 * MINUTE, HOUR, 3 * HOUR, 12 * HOUR, DAY, 7 * DAY, 30 * DAY, 365 * DAY)
"""Those below an hour are sums of minutes, and only asked for of ten hours at most: others would be many rows."""
_FIELD = "%Y-%m-%dT%H:%M:%S"
YEARS = range(1970, 2200)


@dataclass(frozen=True, slots=True)
class Query:
    """The query of an address; the last of each name counts."""

    path: str
    pairs: Sequence[tuple[str, str]]

    @classmethod
    def read(cls, path: str, query: bytes) -> Query:
        return cls(path, [pair for pair in parse_qsl(query.decode("latin-1")) if pair[1]])

    def value(self, name: str) -> str:
        return next((value for key, value in reversed(self.pairs) if key == name), "")

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.pairs if key == name]

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of several words; empty where it is not asked for.

        Raises:
            InvalidInput: it is another.
        """
        chosen = self.value(name)
        if chosen and chosen not in choices:
            raise InvalidInput(f"{name} {chosen[:20]!r} is none.", remedy=f"Choose one of {', '.join(choices)}.")
        return chosen

    def having(self, **changes: str | None) -> str:
        """The address with these values instead; None takes one away."""
        pairs = [(name, value) for name, value in self.pairs if name not in changes]
        pairs += [(name, value) for name, value in changes.items() if value is not None]
        return f"{self.path}?{urlencode(pairs)}" if pairs else self.path


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """A stretch of time, from `since` up to `until`: seconds since the epoch."""

    name: str
    words: str
    since: int
    until: int
    step: int

    choices = tuple((name, words) for name, _, _, words in RANGES)

    @property
    def seconds(self) -> int:
        return max(1, self.until - self.since)

    @property
    def since_ms(self) -> int:
        return self.since * 1000

    @property
    def until_ms(self) -> int:
        return self.until * 1000

    @property
    def steps(self) -> Span:
        """What a chart shows: whole steps, the last one with `until` in it."""
        return Span.of(self.since, self.until, self.step)

    @property
    def since_field(self) -> str:
        return datetime.fromtimestamp(self.since, UTC).strftime(_FIELD)

    @property
    def until_field(self) -> str:
        return datetime.fromtimestamp(self.until, UTC).strftime(_FIELD)


def span_of(query: Query, now_ms: float, default: str = DEFAULT_RANGE) -> TimeSpan:
    """The stretch that an address asks for.

    Raises:
        InvalidInput: a moment can't be read, or the end comes before the beginning.
    """
    now = int(now_ms // 1000) + 1
    if query.value("since") or query.value("until"):
        until = _moment(query.value("until")) if query.value("until") else now
        since = _moment(query.value("since")) if query.value("since") else until - HOUR
        if since >= until:
            raise InvalidInput("the time range ends before it begins.", remedy="Choose an earlier beginning.")
        step = next((step for step in _STEPS if (until - since) / step <= BUCKETS_MAX), _STEPS[-1])
        words = f"{_short(since)} to {_short(until)} UTC"
        return TimeSpan("custom", words, since, until, step)
    wanted = query.value("range") or default
    for name, seconds, step, words in RANGES:
        if name == wanted:
            until = now + -now % MINUTE
            return TimeSpan(name, words, until - seconds, until, step)
    known = ", ".join(name for name, *_ in RANGES)
    raise InvalidInput(f"time range {wanted[:20]!r} is none of {known}.", remedy="Choose one of them.")


def _moment(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{text[:40]!r} is no moment.", remedy="Write it as 2027-03-01T09:00:00.") from error
    if at.year not in YEARS:
        raise InvalidInput(f"the year {at.year} is out of reach.", remedy="Choose a moment of this century.")
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _short(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%d %b %H:%M")
