"""Asking the scheduler: a request is appended to the timer's partition, and its answer read from there.

offset     40         41          42          43
         request    (others)    answer     tombstone
            └── who asks reads on from here, committed records only, until the answer comes
"""

from __future__ import annotations

from collections.abc import Sequence

from playhead.broker.contract import Broker, Partition
from playhead.clock import Clock
from playhead.errors import SchedulerSilent
from playhead.records import StoredRecord
from playhead.timer import Request, read_answer

_LOOK_SECONDS = 0.01


async def ask(broker: Broker, topic: str, request: Request, clock: Clock, limit_seconds: float) -> str:
    """What became of the request: CANCELED, RESCHEDULED, KEPT or TOO_LATE (`playhead.timer`).

    Raises:
        SchedulerSilent: no answer came within `limit_seconds`.
        UnknownTopic, NotAuthorized, BrokerUnavailable: the request may not be in the log.
    """
    info = broker.known_topic(topic) or await broker.topic(topic)
    now_ms = int(clock.time() * 1000)
    (appended,) = await broker.append([request.record(topic, info.partitions, now_ms)])
    if isinstance(appended, Exception):
        raise appended
    partition = Partition(topic, appended.partition)
    outcomes: list[str] = []

    async def look(records: Sequence[StoredRecord]) -> None:
        for record in records:
            if record.key == request.key and (outcome := read_answer(record)) is not None:
                outcomes.append(outcome)

    at, deadline = max(appended.offset, 0), clock.monotonic() + limit_seconds
    while True:
        _, end = (await broker.bounds([partition]))[partition]
        if end > at:
            await broker.read(partition, at, end, look)
            at = end
        if outcomes:
            return outcomes[0]
        if clock.monotonic() >= deadline:
            # Who asks again about a timer that was moved is told that it is too late: its old id is gone.
            moved = f" If the timer is moved after all, its id is {request.new_id}." if request.new_id else ""
            raise SchedulerSilent(f"no scheduler answered within {limit_seconds:g} s.{moved}")
        await clock.sleep(_LOOK_SECONDS)
