"""Time that a test moves."""

from __future__ import annotations

import asyncio
import math

import pytest

from playhead.testing.virtual_clock import START, VirtualClock, drain


class TestAdvancing:
    """Sleepers wake in the order in which they are due, one moment after the other."""

    async def test_sleeper_wakes_when_its_time_has_come_and_not_before(self) -> None:
        clock = VirtualClock()
        sleeper = asyncio.create_task(clock.sleep(10))
        await clock.advance(9.999)
        assert not sleeper.done()
        await clock.advance(0.001)
        assert sleeper.done()

    async def test_sleepers_wake_in_due_order_whatever_order_they_came_in(self) -> None:
        clock = VirtualClock()
        woken: list[tuple[float, float]] = []

        async def sleep(seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append((seconds, clock.monotonic()))

        sleepers = [asyncio.create_task(sleep(seconds)) for seconds in (3, 1, 2, 1)]
        await clock.advance(10)
        assert woken == [(1, 1), (1, 1), (2, 2), (3, 3)]
        assert all(sleeper.done() for sleeper in sleepers)

    async def test_sleep_after_sleep_is_measured_from_the_moment_it_woke(self) -> None:
        clock = VirtualClock()
        moments: list[float] = []

        async def tick() -> None:
            for _ in range(5):
                await clock.sleep(2)
                moments.append(clock.monotonic())

        ticking = asyncio.create_task(tick())
        await clock.advance(100)
        assert moments == [2, 4, 6, 8, 10]
        assert clock.monotonic() == 100
        await ticking

    async def test_what_a_sleeper_sets_off_is_done_before_the_next_one_wakes(self) -> None:
        clock = VirtualClock()
        done: list[str] = []

        async def work(name: str) -> None:
            await clock.sleep(1 if name == "first" else 1.001)
            for _ in range(500):
                await asyncio.sleep(0)
            done.append(f"{name} at {clock.monotonic()}")

        working = [asyncio.create_task(work(name)) for name in ("second", "first")]
        await clock.advance(5)
        assert done == ["first at 1.0", "second at 1.001"]
        await asyncio.gather(*working)

    async def test_sleeper_that_was_cancelled_is_forgotten(self) -> None:
        clock = VirtualClock()
        sleeper = asyncio.create_task(clock.sleep(10))
        await drain()
        assert clock.next_due == 10
        sleeper.cancel()
        await drain()
        assert clock.next_due is None
        await clock.advance(20)

    async def test_sleep_of_no_time_needs_no_advance(self) -> None:
        await VirtualClock().sleep(0)
        await VirtualClock().sleep(-1)

    async def test_time_does_not_go_back(self) -> None:
        with pytest.raises(ValueError, match="does not go back"):
            await VirtualClock().advance(-1)

    async def test_moment_that_has_passed_changes_nothing(self) -> None:
        clock = VirtualClock()
        await clock.advance(10)
        await clock.advance_to(5)
        assert clock.monotonic() == 10


class TestTimeOfDay:
    """It begins at a fixed moment, moves with the clock, and can be set."""

    async def test_day_begins_at_the_same_moment_each_time(self) -> None:
        assert VirtualClock().time() == START
        assert VirtualClock(1_000.0).time() == 1_000

    async def test_day_goes_on_with_the_clock(self) -> None:
        clock = VirtualClock(1_000.0)
        await clock.advance(60)
        assert (clock.time(), clock.monotonic()) == (1_060, 60)

    @pytest.mark.parametrize("seconds", [3_600, -3_600])
    async def test_jump_moves_the_day_and_wakes_nobody(self, seconds: float) -> None:
        clock = VirtualClock(10_000.0)
        sleeper = asyncio.create_task(clock.sleep(60))
        await drain()
        clock.jump(seconds)
        await clock.advance(59)
        assert not sleeper.done()
        assert (clock.time(), clock.monotonic()) == (10_059 + seconds, 59)
        await clock.advance(1)
        assert sleeper.done()


class TestDraining:
    """The event loop runs until nothing is ready."""

    async def test_chain_of_a_thousand_turns_is_run_to_its_end(self) -> None:
        turns = 0

        async def chain() -> None:
            nonlocal turns
            for _ in range(1_000):
                await asyncio.sleep(0)
                turns += 1

        running = asyncio.create_task(chain())
        await drain()
        assert turns == 1_000
        await running

    async def test_what_spins_for_ever_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("playhead.testing.virtual_clock.DRAIN_ROUNDS_MAX", 1_000)

        loop = asyncio.get_running_loop()
        spinning = True

        def spin() -> None:
            if spinning:
                loop.call_soon(spin)

        spin()
        with pytest.raises(RuntimeError, match="busy"):
            await drain()
        spinning = False


class TestAnnouncing:
    """Who waits for a time of day is told when it is set, and need not look."""

    async def test_jump_is_told_and_time_that_passes_is_not(self) -> None:
        clock, told = VirtualClock(), list[float]()
        assert clock.announce(lambda: told.append(clock.time())) == math.inf
        await clock.advance(1_000_000)
        assert told == []
        clock.jump(-60)
        assert told == [clock.time()]

    async def test_sleep_without_end_leaves_nothing_behind_when_it_is_cancelled(self) -> None:
        clock = VirtualClock()
        sleeping = asyncio.create_task(clock.sleep(math.inf))
        await clock.advance(1e12)
        assert not sleeping.done()
        sleeping.cancel()
        await clock.advance(1)
        assert clock.next_due is None
