"""The broker for a process that runs for long: it waits for one that is away, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from playhead.broker.contract import Broker
from playhead.cli.connection import connected
from playhead.config import Settings
from playhead.errors import BrokerUnavailable

_FIRST_WORD_SECONDS, _NEXT_WORD_SECONDS = 1.0, 3.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 5.0

logger = structlog.get_logger("playhead.process")


async def _nothing(broker: Broker) -> None:
    """What is done with a broker by who wants no more than to have it."""


@asynccontextmanager
async def awaited(settings: Settings, then: Callable[[Broker], Awaitable[None]] = _nothing) -> AsyncIterator[Broker]:
    """A broker that is started, however long it takes; stopped at the end.

    Args:
        then: done with it each time it was reached, such as a look at its topics. When the broker goes away meanwhile,
            all is tried again.

    Raises:
        Fatal, InvalidInput: what waiting does not mend, of the broker's start or of `then`.
    """
    async with AsyncExitStack() as held:
        why: list[BrokerUnavailable] = []
        saying = asyncio.create_task(_say_that_it_waits(settings.bootstrap_servers, why), name="say that it waits")
        try:
            broker = await _reached(settings, then, held, why)
        finally:
            saying.cancel()
        yield broker


async def _reached(
    settings: Settings, then: Callable[[Broker], Awaitable[None]], held: AsyncExitStack, why: list[BrokerUnavailable]
) -> Broker:
    """The broker, held by `held`. `why` gets the reason of the latest attempt that failed."""
    for pause in _pauses():
        async with AsyncExitStack() as attempt:
            try:
                broker = await attempt.enter_async_context(connected(settings))
                await then(broker)
            except BrokerUnavailable as error:
                why[:] = [error]
            else:
                held.push_async_exit(attempt.pop_all())
                return broker
        await asyncio.sleep(pause)
    raise AssertionError("the pauses do not end")


async def _say_that_it_waits(servers: str, why: list[BrokerUnavailable]) -> None:
    """An attempt takes as long as a send may, so this does not wait for the attempts' ends."""
    pause = _FIRST_WORD_SECONDS
    while True:
        await asyncio.sleep(pause)
        pause = _NEXT_WORD_SECONDS
        logger.warning("waiting for the broker", servers=servers, **({"error": why[0].message} if why else {}))


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
