"""Waiting in tests: for a condition, up to a deadline. The only place where a test lets time pass."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable

_POLL_SECONDS = 0.01
_DEADLINE_SECONDS = 10.0


async def wait_until(condition: Callable[[], bool | Awaitable[bool]], *, seconds: float = _DEADLINE_SECONDS) -> None:
    """Return as soon as `condition()` is true; other tasks go on meanwhile. It may be a coroutine function.

    Raises:
        AssertionError: it was still false after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        holds = condition()
        if inspect.isawaitable(holds):
            holds = await holds
        if holds:
            return
        assert time.monotonic() < deadline, f"the condition did not hold within {seconds:g} s"
        await asyncio.sleep(_POLL_SECONDS)


def block_until(condition: Callable[[], bool], *, seconds: float = _DEADLINE_SECONDS) -> None:
    """The same for a test without an event loop.

    Raises:
        AssertionError: it was still false after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not hold within {seconds:g} s"
        threading.Event().wait(_POLL_SECONDS)
