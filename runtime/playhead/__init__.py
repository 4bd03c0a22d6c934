"""Playhead: an event-sourced job runtime on Apache Kafka.

Names are imported when they are first used (PEP 562), so that a command, or a service that needs a few of them, does
not wait for the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playhead.blocking import BlockingClient
    from playhead.client import Client, send_event
    from playhead.config import Settings
    from playhead.events import Event, OutgoingEvent, TypedEvent, outgoing
    from playhead.io import IO, RunInfo, SyncIO
    from playhead.job import Job, Occurrence, cron_trigger, event_trigger, interval_trigger
    from playhead.retry import NO_RETRY, NonRetriableError, RetryAfter, RetryPolicy
    from playhead.sending import SentEvent

__all__ = [
    "IO",
    "NO_RETRY",
    "BlockingClient",
    "Client",
    "Event",
    "Job",
    "NonRetriableError",
    "Occurrence",
    "OutgoingEvent",
    "RetryAfter",
    "RetryPolicy",
    "RunInfo",
    "SentEvent",
    "Settings",
    "SyncIO",
    "TypedEvent",
    "cron_trigger",
    "event_trigger",
    "interval_trigger",
    "outgoing",
    "send_event",
]

_HOMES = {
    "blocking": ("BlockingClient",),
    "client": ("Client", "send_event"),
    "config": ("Settings",),
    "events": ("Event", "OutgoingEvent", "TypedEvent", "outgoing"),
    "io": ("IO", "RunInfo", "SyncIO"),
    "job": ("Job", "Occurrence", "cron_trigger", "event_trigger", "interval_trigger"),
    "retry": ("NO_RETRY", "NonRetriableError", "RetryAfter", "RetryPolicy"),
    "sending": ("SentEvent",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'playhead' has no attribute {name!r}")
    value: object = getattr(import_module(f"playhead.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
