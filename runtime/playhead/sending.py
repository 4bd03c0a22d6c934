"""What a send answers, and where a send goes: to the log at once, or, inside a run, into the run's own commit."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple, Protocol

from playhead.broker.contract import Broker, TopicInfo
from playhead.errors import EventTooLarge
from playhead.events import OutgoingEvent
from playhead.topics import event_limit_bytes


class SentEvent(NamedTuple):
    """Where an event is. Inside a run `offset` is None: the event is written with the run, or not at all."""

    id: str
    name: str
    topic: str
    partition: int
    offset: int | None


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
    """The event's topic, after checking that the event fits.

    Raises:
        UnknownTopic, NotAuthorized, EventTooLarge, BrokerUnavailable.
    """
    name = prefix + event.entity
    topic = broker.known_topic(name) or await broker.topic(name)
    limit, size = event_limit_bytes(topic.max_message_bytes), event.size_bytes()
    if size > limit:
        raise EventTooLarge(event.name, size, limit)
    return topic
