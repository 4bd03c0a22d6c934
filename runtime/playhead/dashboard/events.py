"""Pages of events: the list, and one with everything that is known of it."""

from __future__ import annotations

from playhead.dashboard.addresses import span_of
from playhead.dashboard.catalog import own_events
from playhead.dashboard.overview import EXAMPLE
from playhead.dashboard.reading import Reading
from playhead.dashboard.web import Ask, NoSuchPage, View

PAGE_EVENTS = 50
RUNS_SHOWN = 100
FILTERS = ("name", "key", "field")


class EventPages:
    """The pages."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def list(self, ask: Ask) -> View:
        """Events, the newest first."""
        query, span = ask.query, span_of(ask.query, ask.now_ms, "24h")
        with self._reading.snapshot() as history:
            events, after = history.events(
                name=query.value("name"),
                key=query.value("key"),
                field=query.value("field"),
                equals=query.value("equals"),
                since_ms=span.since_ms,
                until_ms=span.until_ms,
                cursor=query.value("cursor"),
                limit=PAGE_EVENTS,
            )
        filtered = any(query.value(name) for name in FILTERS)
        shown = {"span": span, "events": events, "next": after, "filtered": filtered}
        return View("events.html", {**shown, "names": list(own_events()), "example": EXAMPLE})

    def one(self, ask: Ask) -> View:
        """One event."""
        event_id = ask.path["event_id"]
        with self._reading.snapshot() as history:
            event = history.event(event_id)
            if event is None:
                raise NoSuchPage(f"history has no event {event_id[:100]!r}.")
            runs, chain = history.runs(event_id=event_id, limit=RUNS_SHOWN)[0], history.chain(event_id)
        return View("event.html", {"event": event, "runs": runs, "chain": chain.roots, "chain_cut": chain.is_cut})
