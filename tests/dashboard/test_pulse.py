"""The stream that open pages listen to, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import count
from typing import cast

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from playhead.dashboard import live
from playhead.dashboard.live import Pulse


async def listen(pulse: Pulse) -> AsyncGenerator[str, None]:
    """What a page that is let in is told."""
    answer = await pulse.stream(Request({"type": "http"}))
    assert isinstance(answer, StreamingResponse)
    return cast("AsyncGenerator[str, None]", answer.body_iterator)


async def test_page_that_comes_as_the_last_one_leaves_is_told() -> None:
    """Going from page to page does this: the old page's stream ends when the new one's begins."""
    pulse = Pulse(count().__next__)
    first = await listen(pulse)
    for _ in range(2):
        await anext(first)
    await first.aclose()
    second = await listen(pulse)
    async with asyncio.timeout(5):
        told = [await anext(second) for _ in range(4)]
    assert [line.startswith("event: position") for line in told] == [False, True, True, True]
    await second.aclose()
    await pulse.close()


async def test_many_that_come_at_once_are_not_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LISTENERS_MAX", 2)
    pulse = Pulse(lambda: 0)
    pages = [await listen(pulse) for _ in range(3)]
    told = [await anext(page, None) for page in pages]
    assert [line is not None for line in told] == [True, True, False]
    refused = await pulse.stream(Request({"type": "http"}))
    assert refused.status_code == 503
    for page in pages:
        await page.aclose()
    await (await listen(pulse)).aclose()
    await pulse.close()
