"""Pages of events: the list, and one with everything that is known of it."""

from __future__ import annotations

from playhead.dashboard.addresses import span_of
from playhead.dashboard.catalog import own_events
from playhead.dashboard.overview import EXAMPLE
from playhead.dashboard.web import Ask, NoSuchPage, View
from playhead.errors import InvalidInput
from playhead.history.chain import chain_of
from playhead.history.reading import Snapshots

PAGE_EVENTS = 50
RUNS_SHOWN = 100
FILTERS = ("name", "key", "field")


class EventPages:
    """The pages."""

    def __init__(self, history: Snapshots) -> None:
        self._history = history

    def index(self, ask: Ask) -> View:
        """Events, the newest first."""
        query, span = ask.query, span_of(ask.query, ask.now_ms, "24h")
        if query.value("equals") and not query.value("field"):
            raise InvalidInput("a value is given, but no payload field.", remedy="Name the field that it equals, too.")
        with self._history.snapshot() as now:
            page = now.events(
                name=query.value("name"),
                key=query.value("key"),
                payload={query.value("field"): query.value("equals")} if query.value("field") else None,
                since_ms=span.since_ms,
                until_ms=span.until_ms,
                cursor=query.value("cursor"),
                limit=PAGE_EVENTS,
            )
        filtered = any(query.value(name) for name in FILTERS)
        shown = {"span": span, "events": page.items, "next": page.next, "filtered": filtered}
        return View("events.html", {**shown, "names": list(own_events()), "example": EXAMPLE})

    def one(self, ask: Ask) -> View:
        """One event."""
        event_id = ask.path["event_id"]
        with self._history.snapshot() as now:
            event = now.event(event_id)
            if event is None:
                raise NoSuchPage(f"history has no event {event_id[:100]!r}.")
            runs, chain = now.runs(event_id=event_id, limit=RUNS_SHOWN).items, chain_of(now, event_id)
            letters = now.letters_on(event_id)
        shown = {"runs": runs, "letters": letters, "chain": [chain.root], "chain_cut": chain.is_cut}
        return View("event.html", {"event": event, **shown})
