"""Time, injected: whoever needs it takes a `Clock`, so a test decides when time passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

LOOK_AGAIN_SECONDS = 0.25
"""How soon it is noticed that the machine's clock was set forward."""


class Clock(Protocol):
    """The time of day, a monotonic time for measuring, and waiting."""

    def time(self) -> float:
        """Seconds since the epoch, UTC. May jump when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment. Never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` have passed on this clock."""
        ...

    def announce(self, was_set: Callable[[], None]) -> float:
        """Call `was_set` whenever the time of day is set, if this clock can tell.

        Returns:
            After how many seconds whoever waits for a time of day has to look again, since the clock can't tell; else
            infinity.
        """
        ...


class SystemClock:
    """The machine's own clock."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def announce(self, was_set: Callable[[], None]) -> float:
        return LOOK_AGAIN_SECONDS


SYSTEM_CLOCK = SystemClock()


async def within(clock: Clock, seconds: float, wanted: Awaitable[object]) -> bool:
    """Wait for `wanted`, at most for `seconds`, and say whether it came; it is cancelled where it did not."""
    timer, waiting = asyncio.ensure_future(clock.sleep(seconds)), asyncio.ensure_future(wanted)
    try:
        await asyncio.wait((timer, waiting), return_when=asyncio.FIRST_COMPLETED)
        return waiting.done()
    finally:
        timer.cancel()
        waiting.cancel()
        await asyncio.gather(timer, waiting, return_exceptions=True)


@asynccontextmanager
async def deadline(clock: Clock, seconds: float, expired: Callable[[], None] | None = None) -> AsyncIterator[None]:
    """Cancel the body after `seconds`, and raise TimeoutError: `asyncio.timeout` on an injected clock.

    Args:
        expired: called at that moment; the body may not listen to its cancellation.
    """
    going = True

    def expire(timer: asyncio.Future[None]) -> None:
        if going and not timer.cancelled():
            timeout.reschedule(0.0)
            if expired is not None:
                expired()

    async with asyncio.timeout(None) as timeout:
        timer = asyncio.ensure_future(clock.sleep(seconds))
        timer.add_done_callback(expire)
        try:
            yield
        finally:
            going = False
            timer.cancel()
