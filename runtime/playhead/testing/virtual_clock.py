"""Time that moves only when a test says so."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from itertools import count

START = 1_767_225_600.0
"""2026-01-01T00:00:00Z: the time of day at which a virtual clock starts unless told otherwise."""

DRAIN_ROUNDS_MAX = 1_000_000
"""Turns of the event loop after which something that is still busy is taken to spin."""

DRAIN_ROUNDS_BLIND = 200
"""Turns given to an event loop that does not tell whether it has anything left to do (uvloop)."""


class VirtualClock:
    """A `Clock` that a test moves.

    `advance` wakes whoever sleeps in the order in which they are due, one moment after the other, and lets the event
    loop run dry after each: code that sleeps again from a moment on, measures its next sleep from there. What does not
    live on the event loop (threads, sockets) is not waited for.
    """

    def __init__(self, start: float = START) -> None:
        self._monotonic = 0.0
        self._wall = start  # the time of day at monotonic 0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()
        self._announced_to: list[Callable[[], None]] = []

    def time(self) -> float:
        """Seconds since the epoch, UTC."""
        return self._wall + self._monotonic

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Return once the clock has been moved by `seconds`; after a turn of the loop if that is not positive."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        if seconds == math.inf:
            await woken
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._numbers), woken))
        await woken

    @property
    def next_due(self) -> float | None:
        """When the next sleeper is due, on the monotonic time; None if nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():  # it was cancelled
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        if seconds < 0:
            raise ValueError("time does not go back; see jump")
        await self.advance_to(self._monotonic + seconds)

    async def advance_to(self, monotonic: float) -> None:
        """Let time pass until `monotonic()` is this."""
        await drain()
        while (due := self.next_due) is not None and due <= monotonic:
            self._monotonic = max(self._monotonic, due)
            while self.next_due == due:
                heapq.heappop(self._sleepers)[2].set_result(None)
            await drain()
        self._monotonic = max(self._monotonic, monotonic)
        await drain()

    def jump(self, seconds: float) -> None:
        """Set the time of day forward or back, as an operator does: `monotonic` and those who sleep do not notice."""
        self._wall += seconds
        for was_set in self._announced_to:
            was_set()

    def announce(self, was_set: Callable[[], None]) -> float:
        """See `Clock.announce`. Who waits for a time of day need not look in between, so a quiet year costs nothing."""
        self._announced_to.append(was_set)
        return math.inf


async def drain() -> None:
    """Let the event loop run until nothing on it is ready any more.

    asyncio's own loops keep what is ready in a queue, which is empty when this task alone is left. A loop that does not
    show its queue gets `DRAIN_ROUNDS_BLIND` turns.

    Raises:
        RuntimeError: something is ready again and again, without end.
    """
    loop = asyncio.get_running_loop()
    for turn in range(DRAIN_ROUNDS_MAX):
        await asyncio.sleep(0)
        ready = getattr(loop, "_ready", None)
        if not ready if ready is not None else turn >= DRAIN_ROUNDS_BLIND:
            return
    raise RuntimeError(f"after {DRAIN_ROUNDS_MAX:,} turns of the event loop something is still busy")
