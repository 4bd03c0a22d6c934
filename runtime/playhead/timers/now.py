"""Runs a job that runs by the clock now, beside its schedule."""

from __future__ import annotations

from typing import Any

from playhead.broker.contract import Broker
from playhead.errors import InvalidJob
from playhead.ids import new_event_id
from playhead.job import occurrence_event
from playhead.serde import rfc3339
from playhead.timer import armed_record, sent_now
from playhead.timers.listing import read_pending
from playhead.topics import DELAY, SCHEDULE


async def run_now(broker: Broker, prefix: str, job_id: str, now_ms: int) -> dict[str, Any]:
    """Send an occurrence of the job's schedule that is due now; the next one is due when it was.

    Raises:
        InvalidJob: no job of this id has declared a schedule.
        UnknownTopic, NotAuthorized, BrokerUnavailable.
    """
    pending = await read_pending(broker, prefix + DELAY)
    known = pending.schedules()
    pending.close()
    if job_id not in known:
        those = ", ".join(sorted(known)) or "none"
        raise InvalidJob(f"job {job_id!r} has declared no schedule; jobs that have: {those}.")
    topic, event_id, name = await broker.topic(prefix + SCHEDULE), new_event_id(), occurrence_event(job_id)
    payload = {"jobId": job_id, "dueAt": rfc3339(now_ms), "previousDueAt": None}
    armed = armed_record(job_id, event_id, name, payload, now_ms, topic.name, topic.partitions, now_ms)
    (appended,) = await broker.append([sent_now(armed, topic.name, topic.partitions, now_ms)])
    if isinstance(appended, Exception):
        raise appended
    return {"id": event_id, "event": name, **appended._asdict()}
