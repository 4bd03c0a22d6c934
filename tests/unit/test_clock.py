"""Waiting with a bound, on a clock that a test moves."""

from __future__ import annotations

import asyncio

import pytest

from playhead.clock import deadline, within
from playhead.testing import VirtualClock


class TestWithin:
    async def test_says_yes_as_soon_as_it_comes(self) -> None:
        clock, came = VirtualClock(), asyncio.Event()
        waiting = asyncio.create_task(within(clock, 10, came.wait()))
        await clock.advance(9)
        assert not waiting.done()
        came.set()
        assert await waiting is True
        assert clock.next_due is None

    async def test_says_no_when_the_time_is_over_and_cancels_what_it_waited_for(self) -> None:
        clock, came = VirtualClock(), asyncio.Event()
        wanted = asyncio.ensure_future(came.wait())
        waiting = asyncio.create_task(within(clock, 10, wanted))
        await clock.advance(10)
        assert await waiting is False
        assert wanted.cancelled()

    async def test_what_has_come_already_needs_no_time(self) -> None:
        clock, came = VirtualClock(), asyncio.Event()
        came.set()
        assert await asyncio.wait_for(within(clock, 10, came.wait()), 5) is True


class TestDeadline:
    async def test_body_that_ends_in_time_is_left_alone(self) -> None:
        clock = VirtualClock()
        async with deadline(clock, 10):
            await asyncio.sleep(0)
        assert clock.next_due is None
        await clock.advance(20)

    async def test_body_that_takes_too_long_is_cancelled(self) -> None:
        clock, cancelled = VirtualClock(), []

        async def slow() -> None:
            try:
                async with deadline(clock, 10):
                    await clock.sleep(100)
            except TimeoutError:
                cancelled.append(clock.monotonic())

        going = asyncio.create_task(slow())
        await clock.advance(11)
        await going
        assert cancelled == [10]

    async def test_cancellation_from_outside_stays_one(self) -> None:
        clock = VirtualClock()

        async def slow() -> None:
            async with deadline(clock, 10):
                await clock.sleep(100)

        going = asyncio.create_task(slow())
        await clock.advance(1)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
