"""The dashboard as routes: which page is at which address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from playhead.client import Client
from playhead.clock import SYSTEM_CLOCK, Clock
from playhead.dashboard.catalog import CatalogPages
from playhead.dashboard.events import EventPages
from playhead.dashboard.jobs import JobPages
from playhead.dashboard.lags import Lags
from playhead.dashboard.letters import LetterPages
from playhead.dashboard.live import Pulse
from playhead.dashboard.overview import OverviewPage
from playhead.dashboard.runs import RunPages
from playhead.dashboard.sending import SendPages
from playhead.dashboard.timers import TimerPages
from playhead.dashboard.web import ASSETS, HEADERS, Page, Pages
from playhead.history.letters import Letters
from playhead.history.reading import Snapshots
from playhead.job import Job
from playhead.serde import NotJson, from_json
from playhead.timers.listing import PendingTimers

_KEPT_SECONDS = 31_536_000


class Dashboard:
    """The pages of one installation.

    Args:
        history: what the pages show.
        client: sends events and cancels timers.
        jobs: those of this project, for the catalog, and for the lag.
        clock: tells what "ago" is.
    """

    def __init__(
        self,
        history: Snapshots,
        client: Client,
        *,
        jobs: Sequence[Job] = (),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._history, self._client = history, client
        self._jobs, self._clock = tuple(jobs), clock
        self._lags = Lags(client, clock)
        self._pulse = Pulse(self._position)

    @asynccontextmanager
    async def open_until(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Serve within the block, and let go of open pages as soon as `stop` is set: the server waits for them then."""

        async def let_go() -> None:
            await stop.wait()
            await self.close()

        waiting = asyncio.create_task(let_go(), name="dashboard stop")
        try:
            yield
        finally:
            waiting.cancel()
            await asyncio.wait({waiting})
            await self.close()

    async def close(self) -> None:
        """End the streams of open pages, so that a server that stops need not wait for them."""
        await self._pulse.close()
        await self._lags.close()

    def _position(self) -> object:
        """Differs after history moved."""
        with self._history.snapshot() as now:
            return now.parts()

    def _payload(self, event_id: str) -> Any:
        with self._history.snapshot() as now:
            event = now.event(event_id)
        try:
            return None if event is None else from_json(event.payload or b"null")
        except NotJson:
            return None

    def routes(self, pending: PendingTimers) -> list[BaseRoute]:
        """Every page, for the HTTP server's application."""
        history, jobs = self._history, self._jobs
        overview, events = OverviewPage(history, jobs, self._lags), EventPages(history)
        runs, job_pages = RunPages(history, jobs), JobPages(history, jobs, self._lags)
        timers, letters = (
            TimerPages(self._client, pending),
            LetterPages(history, jobs, Letters(history, self._client, self._clock)),
        )
        catalog, sending = CatalogPages(jobs), SendPages(self._client, self._payload)
        pages: list[tuple[str, str, Page]] = [
            ("GET", "/", overview.show),
            ("GET", "/events", events.index),
            ("GET", "/events/{event_id:path}", events.one),
            ("GET", "/runs", runs.index),
            ("GET", "/runs/{run_id:path}", runs.one),
            ("GET", "/jobs", job_pages.index),
            ("GET", "/jobs/{job_id:path}", job_pages.one),
            ("GET", "/timers", timers.index),
            ("GET", "/timers/{timer_id:path}/cancel", timers.confirm),
            ("POST", "/timers/{timer_id:path}/cancel", timers.cancel),
            ("GET", "/dead-letters", letters.index),
            ("GET", "/dead-letters/retry", letters.confirm_retry),
            ("GET", "/dead-letters/discard", letters.confirm_discard),
            ("POST", "/dead-letters/retry", letters.retry),
            ("POST", "/dead-letters/discard", letters.discard),
            ("GET", "/dead-letters/{letter_id:path}", letters.one),
            ("GET", "/catalog", catalog.index),
            ("GET", "/catalog/{name}", catalog.one),
            ("GET", "/send", sending.form),
            ("POST", "/send", sending.send),
        ]
        wrapped = Pages(self._clock)
        return [
            *(Route(path, wrapped.endpoint(page), methods=[method]) for method, path, page in pages),
            Route("/live", self._pulse.stream, methods=["GET"]),
            Mount("/assets", Assets(directory=ASSETS)),
        ]


class Assets(StaticFiles):
    """Files of the wheel. Their addresses change with them, so browsers keep them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update({**HEADERS, "Cache-Control": f"public, max-age={_KEPT_SECONDS}, immutable"})
        return response
