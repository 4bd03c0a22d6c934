"""The endpoints for what happened: events, runs, sums, and how far the jobs are behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from playhead.client import Client
from playhead.errors import InvalidInput, NotInHistory
from playhead.group.lag import GroupLag, job_lags
from playhead.history import wire
from playhead.history.chain import chain_of
from playhead.history.reading import PAGE_MAX, Snapshot, Snapshots
from playhead.history.states import RUN_STATES
from playhead.history.statistics import STEPS_MAX, Span
from playhead.http.answers import JsonAnswer
from playhead.http.parameters import choice, moment_ms, number, parameters, words
from playhead.http.refusals import InvalidFields

T = TypeVar("T")

DEFAULT_PAGE_ITEMS = 50
DEFAULT_SPAN_SECONDS = 3_600
STEPS_SECONDS = (60, 300, 3_600, 86_400)
"""What `step` is where it is not given: the shortest with which a span has at most so many steps."""
DEFAULT_STEPS_MAX = 120
_PAYLOAD = "payload."


class Asked:
    """Questions to history, each answered in a thread of one moment."""

    def __init__(self, history: Snapshots) -> None:
        self._history = history

    async def __call__(self, question: Callable[[Snapshot], T]) -> T:
        def ask() -> T:
            with self._history.snapshot() as now:
                return question(now)

        return await asyncio.to_thread(ask)


class Events:
    """What was sent."""

    def __init__(self, ask: Asked) -> None:
        self._ask = ask

    async def page(self, request: Request) -> Response:
        """Events, newest first."""
        known = frozenset({"name", "entity", "key", "since", "until", "cursor", "limit"})
        asked = parameters(request, known, prefix=_PAYLOAD)
        name, entity, key = words(asked, "name", "entity", "key")
        if name and entity:
            raise InvalidFields([("entity", "not together with `name`")])
        if (name and "." not in name) or "." in entity:
            raise InvalidFields([("name" if name else "entity", "a name has a dot, and an entity has none")])
        since_ms, until_ms = moment_ms(asked, "since"), moment_ms(asked, "until")
        payload = {path.removeprefix(_PAYLOAD): text for path, text in asked.items() if path.startswith(_PAYLOAD)}
        limit, cursor = _limit(asked), asked.get("cursor")

        def events(now: Snapshot) -> dict[str, Any]:
            page = now.events(
                name=name or entity,
                key=key,
                since_ms=since_ms,
                until_ms=until_ms,
                payload=payload,
                cursor=cursor,
                limit=limit,
            )
            return {"items": [wire.event_item(event) for event in page.items], "next": page.next}

        return JsonAnswer(await self._ask(events))

    async def show(self, request: Request) -> Response:
        """One event, with its payload and the runs that it started."""
        parameters(request, frozenset())
        event_id = request.path_params["event_id"]

        def shown(now: Snapshot) -> dict[str, Any]:
            event = now.event(event_id)
            if event is None:
                raise NotInHistory("event", event_id)
            return wire.event_shown(now, event)

        return JsonAnswer(await self._ask(shown))

    async def chain(self, request: Request) -> Response:
        """What caused it, and what it caused."""
        parameters(request, frozenset())
        event_id = request.path_params["event_id"]

        def shown(now: Snapshot) -> dict[str, Any]:
            if now.event(event_id) is None:
                raise NotInHistory("event", event_id)
            return wire.chain_shown(chain_of(now, event_id))

        return JsonAnswer(await self._ask(shown))


class Runs:
    """What jobs did."""

    def __init__(self, ask: Asked) -> None:
        self._ask = ask

    async def page(self, request: Request) -> Response:
        """Runs, the latest beginning first."""
        asked = parameters(request, frozenset({"job", "state", "event_id", "since", "until", "cursor", "limit"}))
        job, event_id = words(asked, "job", "event_id")
        state = choice(asked, "state", RUN_STATES)
        since_ms, until_ms = moment_ms(asked, "since"), moment_ms(asked, "until")
        limit, cursor = _limit(asked), asked.get("cursor")

        def runs(now: Snapshot) -> dict[str, Any]:
            page = now.runs(
                job_id=job,
                state=state,
                event_id=event_id,
                since_ms=since_ms,
                until_ms=until_ms,
                cursor=cursor,
                limit=limit,
            )
            return {"items": [wire.run_item(run) for run in page.items], "next": page.next}

        return JsonAnswer(await self._ask(runs))

    async def show(self, request: Request) -> Response:
        """One run: its attempts, what it was given and what came of it, now or at a moment."""
        as_of_ms = moment_ms(parameters(request, frozenset({"as_of"})), "as_of")
        run_id = request.path_params["run_id"]

        def shown(now: Snapshot) -> dict[str, Any]:
            run = now.run(run_id)
            if run is None:
                raise NotInHistory("run", run_id)
            return wire.run_shown(now, run, as_of_ms)

        return JsonAnswer(await self._ask(shown))


class Stats:
    """What it comes to."""

    def __init__(self, ask: Asked, client: Client) -> None:
        self._ask, self._client = ask, client

    async def sums(self, request: Request) -> Response:
        """Rates, throughput and durations over a span; or how many runs there were at a moment."""
        asked = parameters(request, frozenset({"since", "until", "step", "job", "as_of"}))
        (job,) = words(asked, "job")
        as_of_ms = moment_ms(asked, "as_of")
        if as_of_ms is not None:
            if beside := [name for name in ("since", "until", "step") if name in asked]:
                raise InvalidFields([(name, "not together with `as_of`") for name in beside])
            return JsonAnswer(await self._ask(lambda now: wire.counts_shown(now, as_of_ms, job)))
        span = _span(asked)
        return JsonAnswer(await self._ask(lambda now: wire.stats_shown(now, span, job)))

    async def lag(self, request: Request) -> Response:
        """How far each job is behind, partition by partition. It asks the broker, not history."""
        asked = parameters(request, frozenset({"job"}))
        (job,) = words(asked, "job")
        lags = await job_lags(await self._client.broker(), self._client.settings.topic_prefix, job)
        return JsonAnswer({"items": [_lag_item(job_id, lag) for job_id, lag in lags.items()]})


def _lag_item(job_id: str, lag: GroupLag) -> dict[str, Any]:
    return {
        "job": job_id,
        "state": lag.state,
        "members": lag.members,
        "lag": lag.lag,
        "partitions": [one._asdict() for one in lag.partitions],
    }


def _limit(asked: Mapping[str, str]) -> int:
    return number(asked, "limit", DEFAULT_PAGE_ITEMS, 1, PAGE_MAX)


def _span(asked: Mapping[str, str]) -> Span:
    until_ms, since_ms = moment_ms(asked, "until"), moment_ms(asked, "since")
    until = time.time() if until_ms is None else until_ms / 1000
    since = until - DEFAULT_SPAN_SECONDS if since_ms is None else since_ms / 1000
    if since >= until:
        raise InvalidFields([("since", "it is not before `until`")])
    long = next((step for step in STEPS_SECONDS if (until - since) / step <= DEFAULT_STEPS_MAX), STEPS_SECONDS[-1])
    step = number(asked, "step", long, 60, 999_999_999)
    try:
        return Span.of(since, until, step)
    except InvalidInput as error:
        limits = f"whole minutes, above an hour whole hours, and at most {STEPS_MAX:,} of them"
        raise InvalidFields([("step", f"{error.message.rstrip('.')}: {limits}")]) from error
