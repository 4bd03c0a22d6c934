"""From records to rows. Pure: what a record says, and nothing else, decides what its rows are.

    entity topics ──▶ event, event_count
    run           ──▶ run_event, run, run_count, duration
    dead-letter   ──▶ letter, settlement

A record that is no CloudEvent is an event without a name. What can't be read in `run` or `dead-letter` has no row, and
nothing stops the projection.

But for replays. Such a copy is written for one job alone, and says nothing that the original did not: with a row of its
own an event would be counted, listed and found by its id twice, and a run that a job listens to would end twice. That
something was replayed, the replay's run tells (`replayOf`), and its dead letter is `retried`.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from playhead.history.schema import SECONDS_PER_HOUR, SECONDS_PER_MINUTE
from playhead.history.states import SETTLED_BY, STATE_AFTER
from playhead.records import StoredRecord
from playhead.replay import replay_of
from playhead.serde import (
    CAUSATION,
    CE_ID,
    CE_SOURCE,
    CE_TYPE,
    CORRELATION,
    JSON_HEADER,
    MAX_ID_CHARS,
    SENT_BY,
    SPEC_VERSION_HEADER,
    json_object,
    shortened,
    to_json,
)
from playhead.timer import read_moment
from playhead.topics import DEAD_LETTER, RUN

MAX_ERROR_CHARS = 500
MAX_TEXT_BYTES = 1_280
"""Of a text in a column of its own; bodies have all of it. An entry of PostgreSQL's indexes takes 2,704 bytes, and may
be of two such texts."""
MAX_DURATION_MS = 1e12

_IN_COLUMNS = frozenset({CE_ID, CE_TYPE, CE_SOURCE, CAUSATION, CORRELATION, SENT_BY})
_USUAL = frozenset({SPEC_VERSION_HEADER, JSON_HEADER})
_ENDED = frozenset({"succeeded", "failed"})

BUCKETS_PER_DOUBLING = 4


def duration_bucket(duration_ms: float) -> int:
    """Which bucket a duration is counted in: four to each doubling, from a microsecond on, so within a fifth of it."""
    return max(0, math.ceil(BUCKETS_PER_DOUBLING * math.log2(max(duration_ms * 1000, 1.0))))


def bucket_end_ms(bucket: int) -> float:
    """The longest duration that is counted in this bucket, milliseconds."""
    return float(2 ** (bucket / BUCKETS_PER_DOUBLING) / 1000)


@dataclass(slots=True)
class Rows:
    """What some records say. The tuples are rows of the tables of the same names, in the order of their columns."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    runs: list[tuple[Any, ...]] = field(default_factory=list)
    """The run after each of its events, in their order."""
    run_events: list[tuple[Any, ...]] = field(default_factory=list)
    letters: list[tuple[Any, ...]] = field(default_factory=list)
    settlements: list[tuple[Any, ...]] = field(default_factory=list)
    event_counts: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    run_counts: Counter[tuple[int, int, str, str]] = field(default_factory=Counter)
    durations: Counter[tuple[int, int, str, int]] = field(default_factory=Counter)


def project(records: Iterable[StoredRecord], entity: str, base: int, rows: Rows) -> None:
    """Add the rows of these records of one partition.

    Args:
        entity: whose topic it is.
        base: the place of offset 0 of the partition.
    """
    if entity == RUN:
        _project_runs(records, base, rows)
    elif entity == DEAD_LETTER:
        _project_letters(records, base, rows)
    else:
        _project_events(records, base, rows)


def _project_events(records: Iterable[StoredRecord], base: int, rows: Rows) -> None:
    minutes: Counter[tuple[int, str]] = Counter()
    for record in records:
        headers = dict(record.headers)
        if replay_of(headers) is not None:
            continue
        id_ = _text(headers.get(CE_ID))
        name = _text(headers.get(CE_TYPE))
        key = None if record.key is None else fitting(record.key.decode(errors="replace"))
        correlation = _text(headers.get(CORRELATION))
        at_ms = record.timestamp
        rows.events.append(
            (
                base + record.offset,
                at_ms,
                name,
                id_,
                None if key == id_ else key,
                _text(headers.get(CE_SOURCE)),
                _text(headers.get(CAUSATION)) or None,
                None if correlation == id_ else correlation or None,
                _text(headers.get(SENT_BY)) or None,
                _other_headers(record.headers),
                record.value,
            )
        )
        minutes[at_ms // 60_000, name] += 1
    for (minute, name), count in minutes.items():
        for step, at in _steps(minute):
            rows.event_counts[step, at, name] += count


def _project_runs(records: Iterable[StoredRecord], base: int, rows: Rows) -> None:
    for record in records:
        headers = dict(record.headers)
        if replay_of(headers) is not None:
            continue
        name = _text(headers.get(CE_TYPE))
        told = json_object(record.value)
        run_id = _string(told, "runId")
        if not run_id:
            continue
        at_ms = record.timestamp
        rows.run_events.append((run_id, base + record.offset, at_ms, name, record.value))
        state = STATE_AFTER.get(name)
        if state is None:
            continue
        job_id, duration_ms = _string(told, "jobId"), _number(told.get("durationMs"))
        began_ms = read_moment(told.get("startedAt"))
        rows.runs.append(
            (
                run_id,
                job_id,
                _string(told, "jobVersion"),
                _string(told, "eventId"),
                _string(told, "eventName"),
                state,
                int(min(_number(told.get("attempt")), 2**31 - 1)),
                at_ms if began_ms is None else began_ms,
                at_ms,
                at_ms if state in _ENDED else None,
                duration_ms,
                _error(told.get("error")),
            )
        )
        for step, at in _steps(at_ms // 60_000):
            rows.run_counts[step, at, job_id, state] += 1
            if state in _ENDED:
                rows.durations[step, at, job_id, duration_bucket(duration_ms)] += 1


def _project_letters(records: Iterable[StoredRecord], base: int, rows: Rows) -> None:
    for record in records:
        headers = dict(record.headers)
        if replay_of(headers) is not None:
            continue
        name, told = _text(headers.get(CE_TYPE)), json_object(record.value)
        if name == "dead-letter.created":
            wrapped = _wrapped_headers(told.get("headers"))
            rows.letters.append(
                (
                    base + record.offset,
                    _text(headers.get(CE_ID)),
                    record.timestamp,
                    _string(told, "jobId"),
                    _string(told, "reason"),
                    _string(told, "runId") or None,
                    wrapped.get(CE_ID),
                    wrapped.get(CE_TYPE),
                    "open",
                    None,
                    record.value or b"",
                )
            )
        elif (state := SETTLED_BY.get(name)) is not None:
            rows.settlements.append((_string(told, "letterId"), base + record.offset, record.timestamp, state))


def _steps(minute: int) -> Sequence[tuple[int, int]]:
    at = minute * SECONDS_PER_MINUTE
    return (SECONDS_PER_MINUTE, at), (SECONDS_PER_HOUR, at - at % SECONDS_PER_HOUR)


def fitting(text: str) -> str:
    """As a column has it: without NUL, for PostgreSQL, and short enough for an index. Playhead's own texts are so."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if len(text) > MAX_TEXT_BYTES // 4 and len(text.encode()) > MAX_TEXT_BYTES:
        text = text.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")
    return text


def _text(data: bytes | None) -> str:
    """A header's text, as long as an id may be: foreign ones may say anything."""
    return fitting(data.decode(errors="replace")[:MAX_ID_CHARS]) if data else ""


def _string(told: dict[str, Any], name: str) -> str:
    value = told.get(name)
    return fitting(value) if isinstance(value, str) else ""


def _number(value: object) -> float:
    """A number that is none of its kind counts as 0: NaN can't be here, it has no JSON form."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(min(max(value, 0), MAX_DURATION_MS)) + 0.0  # so that -0.0, which SQLite has not, is 0.0


def _error(error: object) -> str | None:
    if not isinstance(error, dict):
        return None
    words = [value for name in ("type", "message") if isinstance(value := error.get(name), str)]
    return fitting(shortened(": ".join(words), MAX_ERROR_CHARS))


def _other_headers(headers: Sequence[tuple[str, bytes]]) -> bytes:
    """Those that are in no column: [name, text], or [name, base64, true] where they are no UTF-8."""
    others: list[Sequence[Any]] = []
    for header in headers:
        name, data = header
        if name in _IN_COLUMNS or header in _USUAL:
            continue
        try:
            others.append((name, None if data is None else data.decode()))
        except UnicodeDecodeError:
            others.append((name, b64encode(data).decode(), True))
    return to_json(others)


def _wrapped_headers(pairs: object) -> dict[str, str]:
    """Id and name of the event that a dead letter is of, as far as they can be read."""
    found: dict[str, str] = {}
    for pair in pairs if isinstance(pairs, list) else ():
        if isinstance(pair, list) and len(pair) == 2 and pair[0] in (CE_ID, CE_TYPE) and isinstance(pair[1], str):
            try:
                found[pair[0]] = _text(b64decode(pair[1]))
            except ValueError:
                continue
    return found
