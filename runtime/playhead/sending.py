"""What a send answers, and where a send goes: to the log at once, or, inside a run, into the run's own commit.

What is due later goes to topic `delay`, as a timer; the scheduler sends it when its time has come.
"""

from __future__ import annotations

from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, Protocol

from playhead.broker.contract import Broker, TopicInfo
from playhead.errors import EventTooLarge
from playhead.events import Cause, OutgoingEvent
from playhead.records import Record
from playhead.timer import timer_record
from playhead.topics import DELAY, event_limit_bytes


class SentEvent(NamedTuple):
    """Where an event is. Inside a run `offset` is None: the event is written with the run, or not at all.

    An event that is due later is in topic `delay` until then: its id is the timer's, and `due_at` is when that fires.
    """

    id: str
    name: str
    topic: str
    partition: int
    offset: int | None
    due_at: datetime | None = None


class RunSends(Protocol):
    """The sends of a run: kept until the run ends, and committed with it."""

    async def send(self, event: OutgoingEvent) -> SentEvent:
        """Check the event against its topic and keep it.

        Raises:
            UnknownTopic, NotAuthorized, EventTooLarge, BrokerUnavailable.
        """
        ...


current_run_sends: ContextVar[RunSends | None] = ContextVar("playhead_run_sends", default=None)
"""Set while a run's function is on the stack, in its tasks and in its threads."""


async def fitting_topic(broker: Broker, prefix: str, event: OutgoingEvent) -> TopicInfo:
    """The topic that the event is written to, after checking that its own topic will take it.

    Raises:
        UnknownTopic, NotAuthorized, EventTooLarge, BrokerUnavailable.
    """
    name = prefix + event.entity
    topic = broker.known_topic(name) or await broker.topic(name)
    limit, size = event_limit_bytes(topic.max_message_bytes), event.size_bytes()
    if size > limit:
        raise EventTooLarge(event.name, size, limit)
    if event.due_ms is not None:
        return broker.known_topic(prefix + DELAY) or await broker.topic(prefix + DELAY)
    return topic


def record_of(
    event: OutgoingEvent, topic: str, partitions: int, source: str, now_ms: int, cause: Cause | None = None
) -> Record:
    """The record that the event is written as: itself, or the timer that sends it later."""
    write = event.to_record if event.due_ms is None else partial(timer_record, event)
    return write(topic, partitions, source, now_ms, cause)


def sent(event: OutgoingEvent, topic: str, partition: int, offset: int | None = None) -> SentEvent:
    """What the sender is told."""
    due_at = None if event.due_ms is None else datetime.fromtimestamp(event.due_ms / 1000, UTC)
    return SentEvent(event.id, event.name, topic, partition, offset, due_at)
