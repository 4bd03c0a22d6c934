"""Pages of timers: what is to be sent later, and the jobs that run by the clock."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from playhead.client import Client
from playhead.dashboard.web import Answer, Ask, View, status_of
from playhead.errors import PlayheadError, Retriable, TooLate
from playhead.timer import Timer, read_moment
from playhead.timers import schedules
from playhead.timers.listing import START, PendingTimers, read_cursor

PAGE_TIMERS = 50
_TIMES = 3


class TimerPages:
    """The pages. Pending timers come from topic `delay`, not from history."""

    def __init__(self, client: Client, pending: PendingTimers) -> None:
        self._client = client
        self._pending = pending

    async def index(self, ask: Ask) -> View:
        """What is pending, and what is due by the clock."""
        cursor = ask.query.value("cursor")
        after = read_cursor(cursor) if cursor else START
        shown: dict[str, Any] = {"timers": [], "next": None, "schedules": [], "notice": ""}
        try:
            page = await self._pending.page(after, PAGE_TIMERS, name=ask.query.value("name"))
            shown["timers"] = [_row(timer) for timer in page.timers]
            shown["next"] = None if page.after is None else page.after.cursor()
            listed = await schedules.listed(self._pending, int(ask.now_ms), _TIMES)
            shown["schedules"] = [_schedule(row) for row in listed]
        except Retriable as error:  # the rest of the page is still of use
            shown["notice"] = f"{error.message} {error.remedy}".strip()
        return View("timers.html", shown)

    async def confirm(self, ask: Ask) -> View:
        """Ask before a timer is canceled."""
        timer_id = ask.path["timer_id"]
        timer = await self._pending.find(timer_id)
        if timer is None:
            raise TooLate(timer_id)
        question = f"{timer.name} is to be sent later. It will never be."
        if timer.schedule:
            question += " The job's schedule goes on with the occurrence after it."
        return _question(timer_id, question)

    async def cancel(self, ask: Ask) -> Answer:
        """Cancel it: the scheduler answers which of the two came first."""
        timer_id = ask.path["timer_id"]
        try:
            if not await self._client.cancel_event(timer_id):
                raise TooLate(timer_id)
        except PlayheadError as error:
            return _question(timer_id, "It may be sent all the same.", error)
        said = {"title": "Canceled", "text": "It is never sent.", "facts": [("Timer", timer_id)], "problems": []}
        return View("done.html", {**said, "links": [], "back": "/timers"})


def _question(timer_id: str, question: str, error: PlayheadError | None = None) -> View:
    facts = {
        "title": "Cancel this timer?",
        "question": question,
        "items": [timer_id],
        "more": 0,
        "ids": [],
        "action": f"/timers/{quote(timer_id, safe='')}/cancel",
        "back": "/timers",
        "verb": "Cancel the timer",
        "danger": True,
        "error": error,
    }
    return View("confirm.html", facts, 200 if error is None else status_of(error))


def _row(timer: Timer) -> dict[str, Any]:
    return {"id": timer.id, "name": timer.name, "due_ms": timer.due_ms, "payload": timer.payload()}


def _schedule(row: dict[str, Any]) -> dict[str, Any]:
    moments = [read_moment(at) for at in row["next"]]
    return {**row, "catch_up": row["catchUp"], "next": [at for at in moments if at is not None]}
