"""The HTTP API as an ASGI application.

    server ──▶ Outermost ──▶ FastAPI's routing ──▶ PlainRoute ──▶ endpoint(request)
               500, HEAD       404, 405             PlayheadError → its status

Endpoints read the request themselves (`bodies`, `envelope`): a body is parsed once, its size is counted while it
arrives, and the guide's exact answers are given. FastAPI routes and writes /openapi.json from what `openapi` declares.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from playhead.client import Client
from playhead.errors import NoHistory, PlayheadError
from playhead.history.letters import Letters
from playhead.history.reading import Snapshot, Snapshots
from playhead.http import openapi, openapi_history
from playhead.http.answers import playhead_error, routing_error
from playhead.http.dead_letters import DeadLetters
from playhead.http.endpoints import Health, Sending, index
from playhead.http.history import Asked, Events, Runs, Stats
from playhead.http.limits import DEFAULT_LIMITS, Limits
from playhead.http.outermost import Outermost
from playhead.http.readiness import BrokerProbe, WorkerState
from playhead.http.refusals import OtherSite
from playhead.http.scrape import Scrape, installed_version
from playhead.http.timers import Schedules, Timers
from playhead.timers.listing import PendingTimers
from playhead.topics import DELAY


class PlainRoute(APIRoute):
    """A route whose endpoint takes the request and gives the answer, with nothing of FastAPI's between.

    What changes something is refused to pages of other sites: not all of it has a body, whose content type would keep
    them out. Programs say neither of the two headers; browsers say where a POST comes from.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        if (self.methods or set()) <= {"GET"}:
            return endpoint

        async def unless_of_another_site(request: Request) -> Response:
            site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
            if site is None and origin is not None:
                site = "same-origin" if origin.partition("://")[2] == request.headers.get("host") else "cross-site"
            if site not in (None, "same-origin", "none"):
                raise OtherSite
            return await endpoint(request)

        return unless_of_another_site


class Api(FastAPI):
    """FastAPI, whose description also holds the requests that the endpoints read by themselves."""

    def openapi(self) -> dict[str, Any]:
        return openapi.with_requests(super().openapi())


def create_app(
    client: Client,
    *,
    broker_reached: BrokerProbe,
    worker: WorkerState | None = None,
    limits: Limits = DEFAULT_LIMITS,
    timers_folder: Path | None = None,
    history: Snapshots | None = None,
    pages: Callable[[PendingTimers], Sequence[BaseRoute]] | None = None,
) -> FastAPI:
    """The application. The client stays the caller's: it is not opened or closed here.

    Args:
        client: sends the events. It need not be connected yet; while the broker is away, sends are answered with 503.
        broker_reached: asks the broker something now, for /readyz; see `reaches`.
        worker: what the worker beside this server says of itself, for /readyz; None where there is none.
        limits: what is taken at most.
        timers_folder: for a local cache of topic `delay`, this process's alone; None keeps it in memory. Nothing is
            read before somebody asks for timers or schedules.
        history: what happened, for who asks; without, those questions are answered with 503. It stays the caller's.
        pages: makes the routes of the dashboard, which shows what is pending too; they come behind those of the API.
            Without it, `/` lists the endpoints.
    """
    topic, wait_seconds = client.settings.topic_prefix + DELAY, limits.timers_seconds
    pending = PendingTimers(client.broker, topic, folder=timers_folder, wait_seconds=wait_seconds)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        await pending.close()

    # No /docs, no /redoc: FastAPI's pages load their scripts from a CDN.
    app = Api(
        title="Playhead",
        version=installed_version(),
        summary="Send events; jobs run on them.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=life,
        exception_handlers={PlayheadError: playhead_error, HTTPException: routing_error},
    )
    app.add_middleware(Outermost)
    sending, health = Sending(client, limits), Health(broker_reached, worker, limits)
    scrape = Scrape("http", [client.samples], probe=broker_reached, state=worker, limit_seconds=limits.ready_seconds)
    timers, schedules = Timers(client, pending, limits), Schedules(client, pending)
    routes = APIRouter(route_class=PlainRoute)
    routes.add_api_route("/trigger", sending.trigger, methods=["POST"], **openapi.TRIGGER)
    routes.add_api_route("/api/events", sending.batch, methods=["POST"], **openapi.BATCH)
    _add_history(routes, client, _NoHistory() if history is None else history, limits)
    routes.add_api_route("/api/timers", timers.page, methods=["GET"], **openapi.TIMERS)
    routes.add_api_route("/api/timers/{timer_id:path}", timers.show, methods=["GET"], **openapi.TIMER)
    routes.add_api_route("/api/timers/{timer_id:path}", timers.cancel, methods=["DELETE"], **openapi.CANCEL)
    routes.add_api_route("/api/timers/{timer_id:path}", timers.move, methods=["PATCH"], **openapi.MOVE)
    routes.add_api_route("/api/schedules", schedules.all, methods=["GET"], **openapi.SCHEDULES)
    routes.add_api_route("/api/schedules/{job_id}/run", schedules.run, methods=["POST"], **openapi.RUN_NOW)
    routes.add_api_route("/api/schedules/{job_id}", schedules.take_back, methods=["DELETE"], **openapi.TAKE_BACK)
    routes.add_api_route("/healthz", health.alive, methods=["GET"], **openapi.ALIVE)
    routes.add_api_route("/readyz", health.ready, methods=["GET"], **openapi.READY)
    routes.add_api_route("/metrics", scrape.answer, methods=["GET"], **openapi.SCRAPE)
    if pages is None:
        routes.add_api_route("/", index, methods=["GET"], **openapi.INDEX)
    app.include_router(routes)
    if pages is not None:
        app.router.routes.extend(pages(pending))
    return app


def _add_history(routes: APIRouter, client: Client, history: Snapshots, limits: Limits) -> None:
    ask = Asked(history)
    events, runs, stats = Events(ask), Runs(ask), Stats(ask, client)
    letters, described = DeadLetters(ask, Letters(history, client), limits), openapi_history
    event, letter = "/api/events/{event_id:path}", "/api/dead-letters/{letter_id:path}"
    # What is longer first: an id may have slashes in it.
    routes.add_api_route("/api/events", events.page, methods=["GET"], **described.EVENTS)
    routes.add_api_route(f"{event}/chain", events.chain, methods=["GET"], **described.CHAIN)
    routes.add_api_route(event, events.show, methods=["GET"], **described.EVENT)
    routes.add_api_route("/api/runs", runs.page, methods=["GET"], **described.RUNS)
    routes.add_api_route("/api/runs/{run_id:path}", runs.show, methods=["GET"], **described.RUN)
    routes.add_api_route("/api/stats", stats.sums, methods=["GET"], **described.STATS)
    routes.add_api_route("/api/lag", stats.lag, methods=["GET"], **described.LAG)
    routes.add_api_route("/api/dead-letters", letters.page, methods=["GET"], **described.LETTERS)
    routes.add_api_route("/api/dead-letters/retry", letters.retry_many, methods=["POST"], **described.RETRY_MANY)
    routes.add_api_route("/api/dead-letters/discard", letters.discard_many, methods=["POST"], **described.DISCARD_MANY)
    routes.add_api_route(f"{letter}/retry", letters.retry, methods=["POST"], **described.RETRY)
    routes.add_api_route(f"{letter}/discard", letters.discard, methods=["POST"], **described.DISCARD)
    routes.add_api_route(letter, letters.show, methods=["GET"], **described.LETTER)


class _NoHistory:
    """Of an API that was given none."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        raise NoHistory("this installation", "is not known to this process")
