"""The stream that open pages listen to, without a server."""

from __future__ import annotations

import asyncio
from itertools import count

from starlette.requests import Request
from starlette.responses import StreamingResponse

from playhead.dashboard.live import Pulse


async def test_page_that_comes_as_the_last_one_leaves_is_told() -> None:
    """Going from page to page does this: the old page's stream ends when the new one's begins."""
    pulse = Pulse(count().__next__)

    async def listen() -> StreamingResponse:
        answer = await pulse.stream(Request({"type": "http"}))
        assert isinstance(answer, StreamingResponse)
        return answer

    first = (await listen()).body_iterator.__aiter__()
    for _ in range(2):
        await anext(first)
    await first.aclose()  # type: ignore[attr-defined]
    second = (await listen()).body_iterator.__aiter__()
    async with asyncio.timeout(5):
        told = [str(await anext(second)) for _ in range(4)]
    assert [line.startswith("event: position") for line in told] == [False, True, True, True]
    await second.aclose()  # type: ignore[attr-defined]
    await pulse.close()
