"""Ready or not: whether events can be sent, and whether somebody works on them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from playhead.broker.contract import Broker
from playhead.errors import PlayheadError


class Readiness(NamedTuple):
    """What a worker says of itself: what is missing until all of its tasks run, a phrase each; nothing when they do."""

    missing: tuple[str, ...] = ()


BrokerProbe: TypeAlias = Callable[[], Awaitable[bool]]
"""Asks the broker something now, and says whether it answered. It is cancelled when it takes too long."""
WorkerState: TypeAlias = Callable[[], Readiness]


def reaches(broker: Broker) -> BrokerProbe:
    """A probe of a broker that was started: it asks for the topics, which no cache answers."""

    async def probe() -> bool:
        await broker.topics()
        return True

    return probe


async def what_is_missing(probe: BrokerProbe, worker: WorkerState | None, seconds: float) -> list[str]:
    """What is not ready, a phrase each; empty when all is.

    Args:
        probe: whether the broker answers.
        worker: None where no worker belongs to this process, as in `playhead http`.
        seconds: how long the broker may take.
    """
    missing: list[str] = []
    try:
        async with asyncio.timeout(seconds):
            reached = await probe()
    except TimeoutError:
        missing.append(f"broker: no answer within {seconds:g} s")
    except PlayheadError as error:
        missing.append(f"broker: {error.message}")
    else:
        if not reached:
            missing.append("broker: not reached")
    if worker is not None:
        missing += worker().missing
    return missing
