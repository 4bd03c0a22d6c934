"""Ids that Playhead did not make, remembered so that a second event with the same id starts no second run. Pure.

What is a repetition is a matter of the records' timestamps alone, never of a worker's clock: an event is one where its
id was seen before it in the log with a timestamp no older than one window before its own. Of an id that was seen more
than once the latest timestamp counts. So every owner tells the same, whatever its clock says and whenever it looks.

A producer writes what timestamps it likes. One far in the future hides the events of its own id until then, and no
others: forgetting goes by the middle of the last timestamps, which a few that are far off do not move. (Kafka's
`message.timestamp.after.max.ms` refuses them; an hour ahead by default since Kafka 4.)

Ids are kept for two windows, so events may come up to a window out of order and are still judged alike by everyone.
"""

from __future__ import annotations

import heapq
from collections import deque
from hashlib import blake2b
from itertools import count

MAX_IDS = 1_000_000
_LAST_TIMESTAMPS = 15


class RecentIds:
    """The chosen and foreign ids of one partition within the window, as 16-byte digests."""

    __slots__ = ("_known_since_ms", "_last", "_last_ms", "_numbers", "_oldest", "_window_ms")

    def __init__(self, window_seconds: float) -> None:
        self._window_ms = int(window_seconds * 1000)
        self._known_since_ms: float = float("inf")
        self._last_ms: dict[bytes, int] = {}
        self._oldest: list[tuple[int, int, bytes]] = []
        """A heap with one entry for each id: (a timestamp of it, a number, its digest)."""
        self._numbers = count()
        self._last: deque[int] = deque(maxlen=_LAST_TIMESTAMPS)

    def __len__(self) -> int:
        return len(self._last_ms)

    def can_judge(self, timestamp_ms: int) -> bool:
        """Whether all ids are known that an event of this timestamp may repeat."""
        return timestamp_ms - self._window_ms >= self._known_since_ms

    def begin_reading(self, timestamp_ms: int) -> int:
        """From which timestamp on ids have to be read back and added, so that events around this one can be judged."""
        self._last.clear()  # what is read again counts once
        return timestamp_ms - 2 * self._window_ms

    def read_back(self, since_ms: int) -> None:
        """All ids in the log from this timestamp on have been added."""
        self._known_since_ms = min(self._known_since_ms, since_ms)

    def add(self, event_id: str, timestamp_ms: int) -> bool:
        """Remember the id; False when it was seen within the window before."""
        self._forget(timestamp_ms)
        digest = blake2b(event_id.encode(), digest_size=16).digest()
        last_ms = self._last_ms.get(digest)
        if last_ms is None:
            heapq.heappush(self._oldest, (timestamp_ms, next(self._numbers), digest))
        if last_ms is None or timestamp_ms > last_ms:
            self._last_ms[digest] = timestamp_ms
        return last_ms is None or last_ms < timestamp_ms - self._window_ms

    def _forget(self, timestamp_ms: int) -> None:
        self._last.append(timestamp_ms)
        middle_ms = sorted(self._last)[(len(self._last) - 1) // 2]
        oldest_ms = middle_ms - 2 * self._window_ms
        oldest, last_ms = self._oldest, self._last_ms
        while oldest and (oldest[0][0] < oldest_ms or len(oldest) >= MAX_IDS):
            seen_ms, _, digest = oldest[0]
            if last_ms[digest] > seen_ms:  # it was seen again since
                heapq.heapreplace(oldest, (last_ms[digest], next(self._numbers), digest))
            else:
                heapq.heappop(oldest)
                del last_ms[digest]
