"""Schedules: one occurrence of each is armed, as a timer; it is the scheduler that arms the next, when it fires. Pure.

    armed(D1) ──▶ fires: events of what is due by now, tombstone of D1, armed(D2) ──▶ …       one commit each

The next is strictly after the last, whatever the clock does; an occurrence has an id of its own, made of the job and
the due time, so even one that was armed twice is one event. Due times are the schedule's; jitter moves the timer alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import count
from typing import Any

from playhead.broker.contract import TopicInfo
from playhead.job import occurrence_event
from playhead.records import Record
from playhead.schedule import Schedule, due_times, jittered, schedule_from_wire
from playhead.serde import json_object, rfc3339, to_json
from playhead.timer import Timer, armed_record, read_moment, sent_now
from playhead.topics import partition_for


def occurrence_id(job_id: str, due_ms: int, partitions: int) -> str:
    """The same, whoever arms it.

    Its partition is the job's, where its timer is: who has only the id of a timer looks and asks in the partition that
    the id has.
    """
    home = partition_for(job_id.encode(), partitions)
    ids = (blake2b(f"{job_id}\0{due_ms}\0{n}".encode(), digest_size=16).hexdigest() for n in count())
    return next(id_ for id_ in ids if partition_for(id_.encode(), partitions) == home)


def digest(declared: Mapping[str, Any]) -> str:
    """Changes when what was declared changes."""
    return blake2b(to_json(dict(sorted(declared.items()))), digest_size=8).hexdigest()


def _armed(
    job_id: str, declared: Mapping[str, Any], due_ms: int, previous_ms: int | None, delay: TopicInfo, now_ms: int
) -> Record:
    payload = {
        "jobId": job_id,
        "dueAt": rfc3339(due_ms),
        "previousDueAt": None if previous_ms is None else rfc3339(previous_ms),
        "declared": digest(declared),
    }
    fires_ms = jittered(job_id, due_ms, int(declared.get("jitterMs") or 0))
    id_ = occurrence_id(job_id, due_ms, delay.partitions)
    return armed_record(job_id, id_, occurrence_event(job_id), payload, fires_ms, delay.name, delay.partitions, now_ms)


def _payload(timer: Timer) -> dict[str, Any]:
    """What was armed. Anybody may write to the topic: what can't be read says nothing."""
    return json_object(timer.value)


def rearm(
    job_id: str, declared: Mapping[str, Any] | None, armed: Sequence[Timer], delay: TopicInfo, now_ms: int
) -> tuple[list[Timer], list[Record]]:
    """What is to be done so that what is armed is what is declared: timers to end, and records to write."""
    if declared is None:
        return list(armed), []
    wanted = digest(declared)
    if len(armed) == 1 and _payload(armed[0]).get("declared") == wanted:
        return [], []
    previous = [read_moment(_payload(timer).get("previousDueAt")) for timer in armed]
    last_ms = max((due_ms for due_ms in previous if due_ms is not None), default=None)
    schedule = _schedule(declared)
    # Nothing follows a moment at the end of time, which only junk tells: it must not end the schedule.
    due_ms = schedule.next_after(max(now_ms, last_ms or 0)) or schedule.next_after(now_ms)
    if due_ms is None:
        return list(armed), []
    id_ = occurrence_id(job_id, due_ms, delay.partitions)
    record = _armed(job_id, declared, due_ms, last_ms, delay, now_ms)
    # The same occurrence keeps its key: its old record is overwritten by the new one, and must not be tombstoned.
    return [timer for timer in armed if timer.id != id_], [record]


def fire_schedule(
    timer: Timer, declared: Mapping[str, Any] | None, topic: TopicInfo, delay: TopicInfo, now_ms: int
) -> tuple[list[Record], int]:
    """The records of an occurrence that is due: events, and the next occurrence. Also how many were passed over."""
    if declared is None:
        return [], 0  # its job has no schedule any more
    job_id, due_ms, previous_ms = timer.schedule, *_moments(timer)
    schedule = _schedule(declared)
    firing, passed_over = due_times(schedule, due_ms - 1, max(now_ms, due_ms), declared.get("catchUp", "one"))
    records: list[Record] = []
    for due in firing:
        occurrence = _armed(job_id, declared, due, previous_ms, delay, now_ms)
        records.append(sent_now(occurrence, topic.name, topic.partitions, now_ms))
        previous_ms = due
    return records + _next(job_id, declared, due_ms, previous_ms, delay, now_ms), passed_over


def arm_next(timer: Timer, declared: Mapping[str, Any] | None, delay: TopicInfo, now_ms: int) -> list[Record]:
    """The next occurrence, where this one is canceled or can't be sent: what becomes of one ends no schedule."""
    if declared is None:
        return []
    due_ms, previous_ms = _moments(timer)
    return _next(timer.schedule, declared, due_ms, previous_ms, delay, now_ms)


def _moments(timer: Timer) -> tuple[int, int | None]:
    """When an occurrence was due by its schedule, and the one before it."""
    armed = _payload(timer)
    due_ms = read_moment(armed.get("dueAt"))
    return timer.due_ms if due_ms is None else due_ms, read_moment(armed.get("previousDueAt"))


def _next(
    job_id: str, declared: Mapping[str, Any], due_ms: int, previous_ms: int | None, delay: TopicInfo, now_ms: int
) -> list[Record]:
    """What arms the occurrence after this moment, and after now; none where there is none."""
    next_ms = _schedule(declared).next_after(max(now_ms, due_ms))
    return [] if next_ms is None else [_armed(job_id, declared, next_ms, previous_ms, delay, now_ms)]


def _schedule(declared: Mapping[str, Any]) -> Schedule:
    return schedule_from_wire(declared["schedule"])
