"""The stream that tells open pages that history moved: server-sent events with nothing in them but a position.

    history ◀── asked every half second, once for all pages, while somebody looks ── Pulse ──▶ every open page

What a page shows it asks for itself, so a page that missed a hundred events is as well off as one that missed one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from playhead.dashboard.web import HEADERS

POLL_SECONDS = 0.5
BEAT_SECONDS = 10.0
"""After so long without news a comment is sent: else proxies cut the line, and nobody notices one that is dead."""
LISTENERS_MAX = 500
_RETRY_MS = 2_000


class Pulse:
    """Where history is, for everybody who listens.

    Args:
        position: something that differs after history moved; blocks.
    """

    def __init__(self, position: Callable[[], object]) -> None:
        self._position = position
        self._current = ""
        self._moved = asyncio.Condition()
        self._listeners = 0
        self._polling: asyncio.Task[None] | None = None
        self._closed = False

    async def close(self) -> None:
        """End the streams: a server that stops would wait for them. Pages connect again to its successor."""
        self._closed = True
        async with self._moved:
            self._moved.notify_all()

    async def stream(self, request: Request) -> Response:
        """GET /live."""
        if self._listeners >= LISTENERS_MAX:
            return PlainTextResponse("too many pages are open", 503, {"Retry-After": "10"})
        headers = {**HEADERS, "X-Accel-Buffering": "no"}
        return StreamingResponse(self._events(), media_type="text/event-stream", headers=headers)

    async def _events(self) -> AsyncIterator[str]:
        if self._listeners >= LISTENERS_MAX:  # many who came at once were let in before one of them was counted
            return
        self._listeners += 1
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll(), name="dashboard pulse")
        try:
            yield f"retry: {_RETRY_MS}\n\n"
            told = ""
            while not self._closed:
                if self._current != told:
                    told = self._current
                    yield f"event: position\ndata: {told}\n\n"
                    continue
                try:
                    async with asyncio.timeout(BEAT_SECONDS), self._moved:
                        await self._moved.wait_for(lambda: self._closed or self._current != told)  # noqa: B023 -- called at once
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self._listeners -= 1
            if self._listeners == 0 and self._polling is not None:
                self._polling.cancel()
                self._polling = None  # whoever comes before it has ended needs another one

    async def _tell(self, position: str) -> None:
        if position != self._current:
            async with self._moved:
                self._current = position
                self._moved.notify_all()

    async def _poll(self) -> None:
        while not self._closed:
            try:
                current = repr(await run_in_threadpool(self._position))
            except Exception as error:  # noqa: BLE001 -- whatever a database says, the pages say it too
                current = f"away: {error}"
            await self._tell(hashlib.sha256(current.encode()).hexdigest()[:16])
            await asyncio.sleep(POLL_SECONDS)
