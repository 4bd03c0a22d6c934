"""The endpoints for what is to be sent later, and for jobs that run by the clock."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from playhead.client import Client
from playhead.errors import TooLate
from playhead.http.answers import JsonAnswer, failure
from playhead.http.bodies import read_json
from playhead.http.envelope import move_from
from playhead.http.limits import Limits
from playhead.http.parameters import moment_ms, number, parameters
from playhead.serde import rfc3339_of
from playhead.timers import schedules
from playhead.timers.listing import PAGE_TIMERS_MAX, START, PendingTimers, read_cursor, shown

DEFAULT_PAGE_TIMERS = 100
_PAGE_PARAMETERS = frozenset({"limit", "cursor", "event", "since", "before"})
_SCHEDULES_PARAMETERS = frozenset({"times"})


class Timers:
    """What becomes of events that are to be sent later."""

    def __init__(self, client: Client, pending: PendingTimers, limits: Limits) -> None:
        self._client, self._pending, self._limits = client, pending, limits

    async def page(self, request: Request) -> Response:
        """What is pending, by due time."""
        asked = parameters(request, _PAGE_PARAMETERS)
        page = await self._pending.page(
            read_cursor(asked["cursor"]) if asked.get("cursor") else START,
            number(asked, "limit", DEFAULT_PAGE_TIMERS, 1, PAGE_TIMERS_MAX),
            name=asked.get("event", ""),
            since_ms=moment_ms(asked, "since") or 0,
            before_ms=moment_ms(asked, "before"),
        )
        items = [shown(timer) for timer in page.timers]
        return JsonAnswer({"items": items, "next": None if page.after is None else page.after.cursor()})

    async def show(self, request: Request) -> Response:
        """One timer, with its payload."""
        timer_id = request.path_params["timer_id"]
        timer = await self._pending.find(timer_id)
        if timer is None:
            error = TooLate(timer_id)
            error.remedy = "Its event, where it has fired, has the same id."
            return JsonAnswer(failure(error), 404)
        return JsonAnswer({**shown(timer), "payload": timer.payload()})

    async def cancel(self, request: Request) -> Response:
        """Cancel a timer. Either it never fires, or the answer is 409 and it has."""
        timer_id = request.path_params["timer_id"]
        if not await self._client.cancel_event(timer_id):
            raise TooLate(timer_id)
        message = f"Timer {timer_id} canceled"
        return JsonAnswer({"success": True, "message": message, "result": {"id": timer_id, "outcome": "canceled"}})

    async def move(self, request: Request) -> Response:
        """Move a timer to another moment, under a new id."""
        timer_id, limits = request.path_params["timer_id"], self._limits
        body = await read_json(request, limit_bytes=limits.event_body_bytes, seconds=limits.body_seconds)
        new_id, due_at = await self._client.reschedule_event(timer_id, **move_from(body))
        result = {"id": new_id, "outcome": "rescheduled", "dueAt": rfc3339_of(due_at)}
        return JsonAnswer({"success": True, "message": f"Timer {timer_id} rescheduled", "result": result})


class Schedules:
    """Jobs that run by the clock."""

    def __init__(self, client: Client, pending: PendingTimers) -> None:
        self._client, self._pending = client, pending

    async def all(self, request: Request) -> Response:
        """Every schedule, and when its job is due next."""
        asked = parameters(request, _SCHEDULES_PARAMETERS)
        times = number(asked, "times", schedules.DEFAULT_TIMES, 0, schedules.TIMES_MAX)
        return JsonAnswer({"items": await schedules.listed(self._pending, _now_ms(), times)})

    async def run(self, request: Request) -> Response:
        """Run a job now, beside its schedule."""
        job_id, prefix = request.path_params["job_id"], self._client.settings.topic_prefix
        sent = await schedules.run_now(await self._client.broker(), prefix, self._pending, job_id, _now_ms())
        offset = sent["offset"] if sent["offset"] >= 0 else None
        result = {"id": sent["id"], "topic": sent["topic"], "partition": sent["partition"], "offset": offset}
        return JsonAnswer({"success": True, "message": f"Event {sent['event']} sent", "result": result})

    async def take_back(self, request: Request) -> Response:
        """Let a job be due no more."""
        job_id, prefix = request.path_params["job_id"], self._client.settings.topic_prefix
        await schedules.take_back(await self._client.broker(), prefix, self._pending, job_id, _now_ms())
        return JsonAnswer({"success": True, "message": f"Schedule of job {job_id} taken back"})


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
