"""Between HTTP and the pages: what a request asks, what is answered, and what every answer promises.

    request ──▶ guard (POST: is it from this site?) ──▶ page(Ask) ──▶ View ──▶ HTML + headers
                                                          └─ PlayheadError ──▶ a page that says so

Pages are plain functions and block (they ask a database), so each runs in a thread; those that ask the broker are
coroutines.
"""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast
from urllib.parse import parse_qsl, quote

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from playhead.clock import Clock
from playhead.dashboard import showing
from playhead.dashboard.addresses import Query
from playhead.errors import DatabaseUnavailable, InvalidInput, PlayheadError, Retriable

logger = structlog.get_logger("playhead.dashboard")

ASSETS = Path(__file__).parent / "assets"
FORM_BYTES_MAX = 2 * 1_048_576
THEMES = ("light", "dark")
NAVIGATION = (
    ("/", "Overview"),
    ("/events", "Events"),
    ("/runs", "Runs"),
    ("/jobs", "Jobs"),
    ("/timers", "Timers"),
    ("/dead-letters", "Dead letters"),
    ("/catalog", "Catalog"),
)
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a page is asked for."""

    query: Query
    path: Mapping[str, str]
    now_ms: float
    form: Mapping[str, list[str]] = field(default_factory=dict)

    def typed(self, name: str) -> str:
        """The last value of a field of the form that was sent."""
        return (self.form.get(name) or [""])[-1]


@dataclass(frozen=True, slots=True)
class View:
    """An answer: a template, and what it shows."""

    template: str
    facts: Mapping[str, Any]
    status: int = 200


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An answer: go there."""

    address: str


Answer: TypeAlias = View | Elsewhere
Page: TypeAlias = Callable[[Ask], Answer] | Callable[[Ask], Awaitable[Answer]]


class Problem(NamedTuple):
    """An error as a run's event or a dead letter tells it; what is not there is empty."""

    type: str
    message: str
    traceback: str

    @classmethod
    def of(cls, told: object) -> Problem | None:
        return cls(*(str(told.get(name) or "") for name in cls._fields)) if isinstance(told, dict) else None


class NoSuchPage(InvalidInput):
    """There is nothing at this address (yet)."""

    code = "PH701"
    remedy = "It may not have reached history yet, or retention took it. Look for it in the list."


class OtherSite(InvalidInput):
    """A form was sent from a page of another site, or by something that does not say where it comes from."""

    code = "PH702"
    remedy = "Open the dashboard itself; programs use the API under /api."


class Pages:
    """Renders pages, and wraps them for Starlette.

    Args:
        clock: tells what "ago" is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._assets: dict[str, str] = {}
        self._environment = Environment(
            loader=PackageLoader("playhead.dashboard"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            exact=showing.exact,
            duration=showing.duration,
            count=showing.count,
            rate=showing.rate,
            pretty=showing.pretty,
            as_text=showing.as_text,
            one_line=showing.one_line,
            short_id=showing.short_id,
            segment=partial(quote, safe=""),
        )
        self._environment.globals.update(
            navigation=NAVIGATION, asset=self.asset, percent=showing.percent, relative=showing.relative
        )

    def asset(self, name: str) -> str:
        """The address of an asset: it changes with what is in it, so browsers may keep it."""
        address = self._assets.get(name)
        if address is None:
            digest = hashlib.sha256((ASSETS / name).read_bytes()).hexdigest()[:12]
            address = self._assets[name] = f"/assets/{name}?v={digest}"
        return address

    def endpoint(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        """A page as an endpoint."""

        async def answer(request: Request) -> Response:
            now_ms = self._clock.time() * 1000
            path = quote(request.scope["path"])  # as links need it; `request.url` would end it at a `?` in an id
            query = Query.read(path, request.scope["query_string"])
            try:
                form = await read_form(request) if request.method == "POST" else {}
                ask = Ask(query, request.path_params, now_ms, form)
                if inspect.iscoroutinefunction(page):
                    given = await page(ask)
                else:
                    given = await run_in_threadpool(cast("Callable[[Ask], Answer]", page), ask)
            except PlayheadError as error:
                given = _refused(error)
            except RecursionError:
                given = _refused(InvalidInput("it is nested too deeply for a page.", remedy="Use the API under /api."))
            except SQLAlchemyError as error:
                logger.warning("history does not answer", path=query.path, error=str(error))
                given = _refused(DatabaseUnavailable("the database of history does not answer."))
            if isinstance(given, Elsewhere):
                return RedirectResponse(given.address, 303, HEADERS)
            return await run_in_threadpool(self._html, request, query, now_ms, given)

        return answer

    def _html(self, request: Request, query: Query, now_ms: float, view: View) -> Response:
        began = time.perf_counter()
        theme = request.cookies.get("playhead_theme")
        facts = {
            "query": query,
            "now_ms": now_ms,
            "ago": lambda at_ms: showing.ago(at_ms, now_ms),
            "theme": theme if theme in THEMES else "",
            "here": "/" + query.path.split("/")[1],
            **view.facts,
        }
        html = self._environment.get_template(view.template).render(facts)
        timing = {"Server-Timing": f"render;dur={(time.perf_counter() - began) * 1000:.1f}"}
        # JSON may name half of a surrogate pair, which no page can have: it stands there as it was escaped.
        return HTMLResponse(html.encode(errors="backslashreplace"), view.status, {**HEADERS, **timing})


def _refused(error: PlayheadError) -> View:
    return View("error.html", {"error": error}, status_of(error))


def status_of(error: PlayheadError) -> int:
    """The status of a page that could not be shown."""
    if isinstance(error, NoSuchPage):
        return 404
    if isinstance(error, OtherSite):
        return 403
    if isinstance(error, InvalidInput):
        return 422
    return 503 if isinstance(error, Retriable) else 502


async def read_form(request: Request) -> dict[str, list[str]]:
    """The fields of a form that was sent from this site.

    Raises:
        OtherSite: it was not.
        InvalidInput: it is too large, or no form.
    """
    check_same_site(request)
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise InvalidInput("this is no form.", remedy="Use the buttons of the dashboard, or the API under /api.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES_MAX:
            raise InvalidInput(f"the form is larger than {FORM_BYTES_MAX:,} bytes.", remedy="Send it through the API.")
    form: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=10_000):
            form.setdefault(name, []).append(value.replace("\r\n", "\n"))
    except ValueError as error:
        raise InvalidInput("the form can't be read.", remedy="Send it again.") from error
    return form


def check_same_site(request: Request) -> None:
    """Refuse what another site's page makes a browser send. Browsers say where a POST comes from.

    Raises:
        OtherSite: it is.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None and site != "same-origin":
        raise OtherSite("this was sent by a page of another site; nothing was done.")
    if site is None and (origin is None or origin.partition("://")[2] != request.headers.get("host")):
        raise OtherSite("this does not come from a page of this dashboard; nothing was done.")
