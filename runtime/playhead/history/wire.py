"""What history answers as JSON values: the HTTP API's bodies, and what the commands print with `--json`. Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from playhead.history.chain import Chain, Node
from playhead.history.letters import dead_letter, headers_of, replay_run_id
from playhead.history.reading import Letter, Snapshot, StoredEvent, StoredRun, Told, is_deep
from playhead.history.states import RUN_STATES
from playhead.history.statistics import Span, Sums, as_wire, counts_as_of, event_sums, run_sums, state_as_of, total
from playhead.serde import NotJson, from_json, rfc3339

STARTED_RUNS_MAX = 500


def event_item(event: StoredEvent) -> dict[str, Any]:
    """An event in a list."""
    return {
        "id": event.id,
        "name": event.name,
        "time": rfc3339(event.at_ms),
        "key": event.key,
        "source": event.source,
        "causationId": event.cause,
        "correlationId": event.correlation,
        "sentBy": event.run_id,
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
    }


def event_shown(now: Snapshot, event: StoredEvent) -> dict[str, Any]:
    """One event, with payload, headers, the runs that it started, and the dead letters that came of it."""
    return {
        **event_item(event),
        "headers": [{"name": name, "value": value} for name, value in event.headers],
        **_value("payload", event.payload),
        "runs": [run_item(run) for run in now.runs(event_id=event.id, limit=STARTED_RUNS_MAX).items],
        "deadLetters": [letter.id for letter in now.letters_on(event.id)],
    }


def run_item(run: StoredRun) -> dict[str, Any]:
    """A run in a list."""
    return {
        "id": run.id,
        "job": run.job_id,
        "version": run.job_version,
        "eventId": run.event_id,
        "eventName": run.event_name,
        "state": run.state,
        "attempt": run.attempt,
        "startedAt": rfc3339(run.began_ms),
        "endedAt": None if run.ended_ms is None else rfc3339(run.ended_ms),
        "durationMs": run.duration_ms,
        "error": run.error,
    }


def run_shown(now: Snapshot, run: StoredRun, as_of_ms: int | None = None) -> dict[str, Any]:
    """One run: its attempts in their order, what it was given, what came of it and what it sent.

    Args:
        as_of_ms: what was told until then; its state is None where it had not begun.
    """
    told = now.told(run.id, until_ms=as_of_ms)
    last: Mapping[str, Any] = told[-1].body if told else {}
    event = now.event(run.event_id)
    shown: dict[str, Any] = {
        **run_item(run),
        "replayOf": last.get("replayOf"),
        **_value("input", None if event is None else event.payload),
        "output": last.get("output"),
        "failure": last.get("error"),
        "sent": [_sent(now, id_) for id_ in _list(last.get("sent"))],
        "attempts": [_attempt(one) for one in told],
        "deadLetters": [letter.id for letter in now.letters_of(run.id)],
    }
    if as_of_ms is not None:
        then = told[-1] if told else None
        ended = then is not None and then.state in ("succeeded", "failed")
        shown |= {
            "asOf": rfc3339(as_of_ms),
            "state": state_as_of(now, run.id, as_of_ms),
            "attempt": 0 if then is None else then.body.get("attempt", 0),
            "endedAt": rfc3339(then.at_ms) if then is not None and ended else None,
            "durationMs": 0.0 if then is None else then.body.get("durationMs", 0.0),
            "error": run.error if then is not None and then.body.get("error") else None,
            "deadLetters": [one.id for one in now.letters_of(run.id) if one.at_ms <= as_of_ms],
        }
    return shown


def _attempt(told: Told) -> dict[str, Any]:
    body = told.body
    return {
        "attempt": body.get("attempt"),
        "state": told.state,
        "startedAt": body.get("startedAt"),
        "toldAt": rfc3339(told.at_ms),
        "durationMs": body.get("durationMs"),
        "error": body.get("error"),
        "dueAt": body.get("dueAt"),
        "logs": _list(body.get("logs")),
    }


def _sent(now: Snapshot, event_id: object) -> dict[str, Any]:
    event = now.event(str(event_id))
    return {"id": str(event_id), "name": None if event is None else event.name}


def chain_shown(chain: Chain) -> dict[str, Any]:
    """The tree from the first event that is known down."""
    return {"root": _node(chain.root), "isCut": chain.is_cut}


def _node(node: Node) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "kind": node.kind,
        "id": node.id,
        "name": node.name,
        "time": None if node.at_ms is None else rfc3339(node.at_ms),
    }
    if node.kind == "run":
        shown |= {"state": node.state, "durationMs": node.duration_ms}
    return {**shown, "children": [_node(child) for child in node.children]}


def letter_item(letter: Letter) -> dict[str, Any]:
    """A dead letter in a list."""
    return {
        "id": letter.id,
        "job": letter.job_id,
        "state": letter.state,
        "time": rfc3339(letter.at_ms),
        "settledAt": None if letter.settled_ms is None else rfc3339(letter.settled_ms),
        "reason": letter.reason,
        "runId": letter.run_id,
        "eventId": letter.event_id,
        "eventName": letter.event_name,
        "replayRunId": (replay_run_id(letter) or None) if letter.state == "retried" else None,
    }


def letter_shown(letter: Letter) -> dict[str, Any]:
    """One dead letter, with the record that is in it; `record` is null where the letter can't be read."""
    told = dead_letter(letter)
    if told is None:
        return {**letter_item(letter), "attempts": 0, "failure": None, "record": None}
    record = {
        "topic": told.topic,
        "partition": told.partition,
        "offset": told.offset,
        "time": rfc3339(told.timestamp_ms),
        "headers": [{"name": name, "value": data.decode(errors="replace")} for name, data in headers_of(told)],
        "leftOut": told.left_out,
        **_value("value", told.value_bytes()),
        "key": None if (key := told.key_bytes()) is None else key.decode(errors="replace"),
    }
    failure = None if told.error is None else told.error.model_dump(by_alias=True)
    return {**letter_item(letter), "attempts": told.attempts, "failure": failure, "record": record}


# ── sums ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def stats_shown(now: Snapshot, span: Span, job_id: str = "") -> dict[str, Any]:
    """What runs came to: all together, by job, by job and step; and how many events came, by name and step."""
    runs, step = run_sums(now, span, job_id), span.step
    seconds = span.end - span.begin
    by_job: dict[str, list[Sums]] = {}
    for (_, job), sums in runs.items():
        by_job.setdefault(job, []).append(sums)
    events = [] if job_id else sorted(event_sums(now, span).items())
    return {
        "since": rfc3339(span.begin * 1000),
        "until": rfc3339(span.end * 1000),
        "stepSeconds": step,
        "total": as_wire(total(runs.values()), seconds),
        "jobs": [{"job": job, **as_wire(total(sums), seconds)} for job, sums in sorted(by_job.items())],
        "items": [{"at": rfc3339(at * 1000), "job": job, **as_wire(runs[at, job], step)} for at, job in sorted(runs)],
        "events": [{"at": rfc3339(at * 1000), "name": name, "count": count} for (at, name), count in events],
    }


def counts_shown(now: Snapshot, as_of_ms: int, job_id: str = "") -> dict[str, Any]:
    """How many runs there were at a moment, by job and state."""
    counts = counts_as_of(now, as_of_ms)
    items = [
        {"job": job, **{state: found.get(state, 0) for state in RUN_STATES}}
        for job, found in counts.items()
        if job_id in ("", job)
    ]
    return {"asOf": rfc3339(as_of_ms), "items": items}


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _value(name: str, data: bytes | None) -> dict[str, Any]:
    """A record's value as JSON; where it is none, or nested too deep, beside it in base64."""
    if data is None:
        return {name: None}
    with suppress(NotJson):
        value = from_json(data)
        if not is_deep(value):
            return {name: value}
    return {name: None, f"{name}Base64": b64encode(data).decode()}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else []
