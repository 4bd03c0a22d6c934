"""What is in topic `delay`, record by record. Pure.

    key                        value                  who writes it
    timer/<mark>/<id>          an event, to be sent   whoever sends with `delay` or `at`; the scheduler, for a schedule
    cancel/<mark>/<id>         a request, an answer   whoever asks; the scheduler answers, and tombstones both
    schedule/<job>             a cron or an interval  the worker that hosts the job

The partition is that of <id>, or of <job>, as murmur2 has it: so a timer, what asks for it and what answers are in one
partition, one after the other. A timer is a CloudEvent in binary mode, as its event will be, with two headers more:
when it is due, and its event's key. Its own key is set once: <mark> is `-` where Playhead made the id, which never
comes again, and else one that is made for this record, so that a second timer of a chosen id overwrites nothing.

A timer's tombstone is the scheduler's alone, in the commit with what became of the timer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from playhead.errors import InvalidSchedule
from playhead.events import Cause, OutgoingEvent
from playhead.ids import new_event_id
from playhead.records import Headers, Record, StoredRecord
from playhead.schedule import MAX_DUE_MS, check_catch_up, check_jitter_ms, schedule_from_wire
from playhead.serde import (
    CE_ID,
    CE_TIME,
    CE_TYPE,
    DUE,
    JSON_HEADER,
    MAX_ID_CHARS,
    MINTED_HEADER,
    PARTITION_KEY,
    SCHEDULE,
    NotJson,
    from_json,
    own_headers,
    rfc3339,
    to_json,
)
from playhead.topics import partition_for

SCHEDULER_SOURCE = b"/playhead/scheduler"
"""`ce_source` of what the scheduler itself has to say."""
TIMER, CANCEL, SCHEDULED = "timer", "cancel", "schedule"
_NO_MARK = "-"
_REQUEST, _ANSWER = b"timer.cancel", b"timer.answer"
CANCELED, TOO_LATE, RESCHEDULED, KEPT = "canceled", "too_late", "rescheduled", "kept"


class Key(NamedTuple):
    """A record's key, read. `mark` is empty for a schedule, whose `id` is the job's."""

    kind: str
    mark: str
    id: str


def may_be_id(text: str) -> bool:
    """Whether it may be a timer's or a job's. The scheduler repeats it in what it writes, so it has a limit."""
    return 0 < len(text) <= MAX_ID_CHARS and text.encode(errors="replace").decode() == text


def read_key(key: bytes | None) -> Key | None:
    """None for a key that is none of the three."""
    kind, _, rest = (key or b"").decode(errors="replace").partition("/")
    mark, _, id_ = ("-", "", rest) if kind == SCHEDULED else rest.partition("/")
    if kind not in (TIMER, CANCEL, SCHEDULED) or not may_be_id(mark) or not may_be_id(id_):
        return None
    return Key(kind, "" if kind == SCHEDULED else mark, id_)


def _key(kind: str, mark: str, id_: str) -> bytes:
    return f"{kind}/{mark}/{id_}".encode()


class Timer(NamedTuple):
    """A pending timer: the event `id`, to be sent when the clock says `due_ms`. `key` is its record's."""

    id: str
    due_ms: int
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    @classmethod
    def of(cls, record: StoredRecord, key: Key) -> Timer | None:
        """None where the record has no due time that can be read."""
        due_ms = read_moment((dict(record.headers).get(DUE) or b"").decode(errors="replace"))
        if due_ms is None or record.key is None:
            return None
        return cls(key.id, due_ms, record.key, record.value, tuple(record.headers))

    def header(self, name: str) -> bytes | None:
        return next((text for header, text in self.headers if header == name), None)

    @property
    def name(self) -> str:
        """Of the event."""
        return (self.header(CE_TYPE) or b"").decode(errors="replace")

    @property
    def schedule(self) -> str:
        """The job whose schedule this is an occurrence of, or empty."""
        return (self.header(SCHEDULE) or b"").decode(errors="replace")

    @property
    def late_from_ms(self) -> int:
        """From when on it is late: since it was due, or was set if that was later. A schedule's: since it was due."""
        if self.schedule:
            return self.due_ms
        return max(self.due_ms, read_moment((self.header(CE_TIME) or b"").decode(errors="replace")) or 0)

    def payload(self) -> Any:
        """Of the event, for people: what is no JSON, as text."""
        try:
            return from_json(self.value or b"null")
        except NotJson:
            return (self.value or b"").decode(errors="replace")

    def event(self, topic: str, partitions: int, now_ms: int) -> Record:
        """The event, as it is sent now."""
        return _event(self.id, self.value, self.headers, topic, partitions, now_ms)

    def moved_to(self, id_: str, due_ms: int, topic: str, partitions: int, now_ms: int) -> Record:
        """The timer that takes this one's place. Moved, an occurrence is no schedule's: that goes on without it."""
        changed = {CE_ID: id_.encode(), DUE: rfc3339(due_ms).encode()}
        left_out = (MINTED_HEADER[0], SCHEDULE)
        headers = [(name, changed.get(name, text)) for name, text in self.headers if name not in left_out]
        headers.append(MINTED_HEADER)
        key = _key(TIMER, _NO_MARK, id_)
        return Record(topic, partition_for(id_.encode(), partitions), key, self.value, headers, now_ms)


def timer_record(
    event: OutgoingEvent, topic: str, partitions: int, source: str, now_ms: int, cause: Cause | None = None
) -> Record:
    """The record that sends `event` when it is due."""
    assert event.due_ms is not None
    plain = event.to_record(topic, partitions, source, now_ms, cause)
    key = _key(TIMER, _NO_MARK if event.minted else new_event_id(), event.id)
    headers = [*plain.headers, (DUE, rfc3339(event.due_ms).encode()), (PARTITION_KEY, event.key)]
    return plain._replace(partition=partition_for(event.id.encode(), partitions), key=key, headers=headers)


def armed_record(
    job_id: str, event_id: str, name: str, payload: Any, due_ms: int, topic: str, partitions: int, now_ms: int
) -> Record:
    """The timer of a schedule's next occurrence. Its id is the same whoever arms it, so its key needs no mark."""
    due, key = (DUE, rfc3339(due_ms).encode()), (PARTITION_KEY, job_id.encode())
    schedule = (SCHEDULE, job_id.encode())
    headers = own_headers(name.encode(), event_id.encode(), SCHEDULER_SOURCE, now_ms, due, key, schedule)
    partition = partition_for(job_id.encode(), partitions)
    return Record(topic, partition, _key(TIMER, _NO_MARK, event_id), to_json(payload), headers, now_ms)


def sent_now(armed: Record, topic: str, partitions: int, now_ms: int) -> Record:
    """The event of a timer that was never written."""
    key = read_key(armed.key)
    assert key is not None
    return _event(key.id, armed.value, armed.headers, topic, partitions, now_ms)


def _event(
    id_: str,
    value: bytes | None,
    timers: Sequence[tuple[str, bytes]],
    topic: str,
    partitions: int,
    now_ms: int,
) -> Record:
    key = id_.encode()
    headers: Headers = []
    for name, text in timers:
        if name == PARTITION_KEY:
            key = text
        else:
            headers.append((name, rfc3339(now_ms).encode()) if name == CE_TIME else (name, text))
    return Record(topic, partition_for(key, partitions), key, value, headers, now_ms)


def tombstone(key: bytes, topic: str, partition: int, now_ms: int) -> Record:
    """The end of whatever has this key."""
    return Record(topic, partition, key, None, [], now_ms)


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Request(NamedTuple):
    """Asks for timer `id` to be canceled; with `new_id` to be moved to `due_ms`, under that id."""

    key: bytes
    id: str
    new_id: str = ""
    due_ms: int = 0

    def record(self, topic: str, partitions: int, now_ms: int) -> Record:
        told = {"id": self.id, "newId": self.new_id, "dueMs": self.due_ms}
        partition = partition_for(self.id.encode(), partitions)
        return Record(topic, partition, self.key, to_json(told), [(CE_TYPE, _REQUEST)], now_ms)

    def answer(self, outcome: str, topic: str, partition: int, now_ms: int) -> list[Record]:
        """What became of it, and the end of both; who asked reads it from the log before it is compacted away."""
        told = to_json({"id": self.id, "newId": self.new_id, "outcome": outcome})
        answer = Record(topic, partition, self.key, told, [(CE_TYPE, _ANSWER)], now_ms)
        return [answer, tombstone(self.key, topic, partition, now_ms)]


def new_request(timer_id: str, *, new_id: str = "", due_ms: int = 0) -> Request:
    return Request(_key(CANCEL, new_event_id(), timer_id), timer_id, new_id, due_ms)


def read_request(record: StoredRecord) -> Request | None:
    """None where it is an answer, or nothing that can be read."""
    if dict(record.headers).get(CE_TYPE) != _REQUEST or record.key is None:
        return None
    told = _told(record)
    id_, new_id, due_ms = told.get("id"), told.get("newId") or "", told.get("dueMs") or 0
    if not isinstance(id_, str) or not isinstance(new_id, str) or not isinstance(due_ms, int):
        return None
    if not may_be_id(id_) or (new_id and not may_be_id(new_id)):
        return None
    return Request(record.key, id_, new_id, due_ms) if 0 <= due_ms <= MAX_DUE_MS else None


def read_answer(record: StoredRecord) -> str | None:
    """What became of a request: CANCELED, RESCHEDULED, KEPT or TOO_LATE; None where the record is no answer."""
    if dict(record.headers).get(CE_TYPE) != _ANSWER:
        return None
    outcome = _told(record).get("outcome")
    return outcome if isinstance(outcome, str) else None


def _told(record: StoredRecord) -> dict[str, Any]:
    try:
        told = from_json(record.value or b"{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


# ── schedules ────────────────────────────────────────────────────────────────────────────────────────────────────────


def schedule_record(job_id: str, told: dict[str, Any] | None, topic: str, partitions: int, now_ms: int) -> Record:
    """A job's schedule as its worker tells it; None: the job has none any more."""
    key, partition = f"{SCHEDULED}/{job_id}".encode(), partition_for(job_id.encode(), partitions)
    headers: Headers = [] if told is None else [(CE_TYPE, b"schedule.declared"), JSON_HEADER]
    return Record(topic, partition, key, None if told is None else to_json(told), headers, now_ms)


def is_declaration(value: bytes) -> bool:
    """Whether a schedule can be read from it, with all that goes with one."""
    try:
        told = from_json(value)
        schedule_from_wire(told["schedule"])
        check_catch_up(told.get("catchUp", "one"))
        check_jitter_ms(told.get("jitterMs", 0))
    except (ValueError, TypeError, LookupError, AttributeError, InvalidSchedule):
        return False
    return True


def parse_rfc3339(text: str) -> int:
    """Milliseconds since the epoch.

    Raises:
        ValueError: it is no such time.
    """
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def read_moment(text: object) -> int | None:
    """Milliseconds since the epoch, of RFC 3339 text; None where it is none, or beyond what can be written again."""
    try:
        millis = parse_rfc3339(text) if isinstance(text, str) else -1
    except (ValueError, OverflowError):
        return None
    return millis if 0 <= millis <= MAX_DUE_MS else None
