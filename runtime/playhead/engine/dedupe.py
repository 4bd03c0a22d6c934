"""Ids that Playhead did not make, remembered so that a second event with the same id starts no second run. Pure."""

from __future__ import annotations

from collections import deque
from hashlib import blake2b

MAX_IDS = 1_000_000


class RecentIds:
    """The chosen and foreign ids of one partition within the window, as 16-byte digests.

    Time is the records' own timestamps, so what is a duplicate is the same on every worker and after every restart.
    """

    __slots__ = ("_digests", "_order", "_window_ms")

    def __init__(self, window_seconds: float) -> None:
        self._window_ms = int(window_seconds * 1000)
        self._order: deque[tuple[int, bytes]] = deque()
        self._digests: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, event_id: str, timestamp_ms: int) -> bool:
        """Remember the id; False when it was seen within the window before."""
        self._forget(timestamp_ms)
        digest = blake2b(event_id.encode(), digest_size=16).digest()
        if digest in self._digests:
            return False
        self._digests.add(digest)
        self._order.append((timestamp_ms, digest))
        return True

    def _forget(self, now_ms: int) -> None:
        oldest = now_ms - self._window_ms
        while self._order and (self._order[0][0] < oldest or len(self._order) >= MAX_IDS):
            self._digests.discard(self._order.popleft()[1])
