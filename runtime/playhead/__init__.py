"""Playhead: an event-sourced job runtime on Apache Kafka."""

from playhead.blocking import BlockingClient
from playhead.client import Client, send_event
from playhead.config import Settings
from playhead.events import Event, OutgoingEvent, TypedEvent, outgoing
from playhead.io import IO, RunInfo, SyncIO
from playhead.job import Job, event_trigger
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
    "OutgoingEvent",
    "RetryAfter",
    "RetryPolicy",
    "RunInfo",
    "SentEvent",
    "Settings",
    "SyncIO",
    "TypedEvent",
    "event_trigger",
    "outgoing",
    "send_event",
]
