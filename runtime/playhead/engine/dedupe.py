"""Ids that Playhead did not make, remembered so that a second event with the same id starts no second run. Pure."""

from __future__ import annotations

from collections import deque
from hashlib import blake2b

MAX_IDS = 1_000_000


class RecentIds:
    """The chosen and foreign ids of one partition within the window, as 16-byte digests.

    Time is the records' own timestamps, and the window lies before each event, repetitions counted: so what is a
    repetition can be told from the events of one window, by every owner, after every restart.
    """

    __slots__ = ("_last_ms", "_order", "_window_ms")

    def __init__(self, window_seconds: float) -> None:
        self._window_ms = int(window_seconds * 1000)
        self._order: deque[tuple[int, bytes]] = deque()
        self._last_ms: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._last_ms)

    def add(self, event_id: str, timestamp_ms: int) -> bool:
        """Remember the id; False when it was seen within the window before."""
        oldest_ms = timestamp_ms - self._window_ms
        self._forget(oldest_ms)
        digest = blake2b(event_id.encode(), digest_size=16).digest()
        last_ms = self._last_ms.get(digest)
        self._last_ms[digest] = timestamp_ms
        self._order.append((timestamp_ms, digest))
        return last_ms is None or last_ms < oldest_ms

    def _forget(self, oldest_ms: int) -> None:
        order, last_ms = self._order, self._last_ms
        while order and (order[0][0] < oldest_ms or len(order) >= MAX_IDS):
            seen_ms, digest = order.popleft()
            if last_ms.get(digest) == seen_ms:  # else it was seen again since
                del last_ms[digest]
