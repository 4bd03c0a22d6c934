"""Jobs that run by the clock, from outside: when they are due, running them now, and taking their schedules back."""

from __future__ import annotations

from itertools import chain, islice
from typing import Any

from playhead.broker.contract import Broker, TopicInfo
from playhead.errors import UnknownSchedule
from playhead.ids import new_event_id
from playhead.job import occurrence_event
from playhead.records import Record
from playhead.schedule import schedule_from_wire
from playhead.serde import from_json, rfc3339
from playhead.timer import Timer, armed_record, read_moment, schedule_record, sent_now
from playhead.timers.listing import PendingTimers
from playhead.topics import DELAY, SCHEDULE

TIMES_MAX = 100
DEFAULT_TIMES = 5


async def listed(pending: PendingTimers, now_ms: int, times: int = DEFAULT_TIMES) -> list[dict[str, Any]]:
    """Each job's schedule, and the next moments that it is due.

    `armed` is False until a scheduler has taken the schedule up; `next` then goes by the time of asking. A first moment
    that has passed waits for a scheduler.

    Raises:
        As `PendingTimers.page`.
    """
    return [
        _row(job_id, declared, armed, now_ms, times)
        for job_id, (declared, armed) in (await pending.schedules()).items()
    ]


def _row(job_id: str, declared: dict[str, Any], armed: Timer | None, now_ms: int, times: int) -> dict[str, Any]:
    schedule = schedule_from_wire(declared["schedule"])
    first_ms = None if armed is None else _due_ms(armed)
    due_ms = schedule.times_after(now_ms) if first_ms is None else chain([first_ms], schedule.times_after(first_ms))
    return {
        "job": job_id,
        "schedule": schedule.describe(),
        "zone": declared["schedule"].get("zone"),
        "catchUp": declared.get("catchUp", "one"),
        "jitterMs": declared.get("jitterMs") or 0,
        "armed": armed is not None,
        "next": [rfc3339(due) for due in islice(due_ms, times)],
    }


def _due_ms(armed: Timer) -> int:
    """When the occurrence is due by its schedule: without the jitter."""
    try:
        told = from_json(armed.value or b"{}")
    except ValueError:
        return armed.due_ms
    due_ms = read_moment(told.get("dueAt")) if isinstance(told, dict) else None
    return armed.due_ms if due_ms is None else due_ms


async def run_now(broker: Broker, prefix: str, pending: PendingTimers, job_id: str, now_ms: int) -> dict[str, Any]:
    """Send an occurrence of the job's schedule that is due now; the next one is due when it was.

    Raises:
        UnknownSchedule: no job of this id has declared one.
        As `PendingTimers.page`.
    """
    await _check_known(pending, job_id)
    topic, event_id, name = await broker.topic(prefix + SCHEDULE), new_event_id(), occurrence_event(job_id)
    payload = {"jobId": job_id, "dueAt": rfc3339(now_ms), "previousDueAt": None}
    armed = armed_record(job_id, event_id, name, payload, now_ms, topic.name, topic.partitions, now_ms)
    return {
        "id": event_id,
        "event": name,
        **await _append(broker, sent_now(armed, topic.name, topic.partitions, now_ms)),
    }


async def take_back(broker: Broker, prefix: str, pending: PendingTimers, job_id: str, now_ms: int) -> None:
    """Let the job be due no more: also one that is gone from the code. What is being fired at this moment still comes.

    A worker that has the job declares its schedule again when it starts.

    Raises:
        UnknownSchedule: no job of this id has declared one.
        As `PendingTimers.page`.
    """
    await _check_known(pending, job_id)
    topic: TopicInfo = await broker.topic(prefix + DELAY)
    await _append(broker, schedule_record(job_id, None, topic.name, topic.partitions, now_ms))


async def _check_known(pending: PendingTimers, job_id: str) -> None:
    known = await pending.schedules()
    if job_id not in known:
        raise UnknownSchedule(job_id, list(known))


async def _append(broker: Broker, record: Record) -> dict[str, Any]:
    (appended,) = await broker.append([record])
    if isinstance(appended, Exception):
        raise appended
    return appended._asdict()
