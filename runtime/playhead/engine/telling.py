"""The records that tell what happened to a run: `run.*` events and dead letters. Pure.

Written out by hand instead of through the catalog's classes, since there is one for every run; a test reads each with
its class (`playhead.run`).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import orjson
from pydantic import BaseModel

from playhead.broker.contract import TopicInfo
from playhead.engine.live import LiveRun
from playhead.events import short_text
from playhead.ids import new_event_id
from playhead.job import Job
from playhead.records import Record
from playhead.run import MAX_OUTPUT_BYTES, Failure, fitting
from playhead.sending import record_of
from playhead.serde import CAUSATION, CE_ID, CORRELATION, DEPTH, MINTED_HEADER, own_headers, rfc3339
from playhead.topics import event_limit_bytes


class UnfitOutput(Exception):
    """What a job returned can't be kept with its run."""


@dataclass(frozen=True, slots=True)
class Narrator:
    """Tells of the runs of one job. `run_topic` and `dead_letter_topic` say where."""

    job: Job
    source: bytes
    run_topic: TopicInfo
    dead_letter_topic: TopicInfo
    now_ms: Callable[[], int]

    def succeeded(self, run: LiveRun, output: Any, duration_ms: float) -> Record:
        """`run.succeeded`.

        Raises:
            UnfitOutput: the output has no JSON form, or is too large.
        """
        told = self._told(run, duration_ms)
        told["output"] = output
        told["sent"] = [event.id for event, _, _ in run.sends] if run.sends else ()
        try:
            value = orjson.dumps(told, default=_plain, option=orjson.OPT_NON_STR_KEYS)
        except TypeError as error:
            raise UnfitOutput(f"what the job returned has no JSON form: {error}") from error
        # Measured only where it may be too large: the whole record is an upper bound for the output in it.
        if len(value) > MAX_OUTPUT_BYTES:
            size = len(orjson.dumps(output, default=_plain, option=orjson.OPT_NON_STR_KEYS))
            if size > MAX_OUTPUT_BYTES:
                raise UnfitOutput(f"what the job returned is {size:,} bytes; {MAX_OUTPUT_BYTES:,} are kept with a run")
        return self._record(run, b"run.succeeded", value, self.run_topic)

    def retrying(self, run: LiveRun, failure: Failure, duration_ms: float, due_ms: int) -> Record:
        """`run.retrying`."""
        told = self._told(run, duration_ms)
        told["error"] = failure.model_dump(by_alias=True)
        told["dueAt"] = rfc3339(due_ms)
        return self._record(run, b"run.retrying", orjson.dumps(told, default=str), self.run_topic)

    def failed(self, run: LiveRun, failure: Failure, duration_ms: float) -> Record:
        """`run.failed`."""
        told = self._told(run, duration_ms)
        told["error"] = failure.model_dump(by_alias=True)
        return self._record(run, b"run.failed", orjson.dumps(told, default=str), self.run_topic)

    def dead_letter(self, run: LiveRun, reason: str, failure: Failure | None, *, minimal: bool = False) -> Record:
        """`dead-letter.created`: for a run that will not be tried again, or a record that could not be read.

        Args:
            minimal: leave out all that may be large.
        """
        record, topic = run.record, self.dead_letter_topic
        limit_bytes = 0 if minimal else event_limit_bytes(topic.max_message_bytes)
        key, value, headers, reason, left_out = fitting(record.key, record.value, record.headers, limit_bytes, reason)
        told = {
            "jobId": self.job.id,
            "reason": reason,
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestampMs": record.timestamp,
            "key": _base64(key),
            "value": _base64(value),
            "headers": [(name, _base64(text) or "") for name, text in headers],
            "runId": run.id if run.attempt else "",
            "attempts": run.attempt,
            "leftOut": left_out,
            "error": failure.model_dump(by_alias=True) if failure else None,
        }
        return self._record(run, b"dead-letter.created", orjson.dumps(told), topic)

    def sends(self, run: LiveRun) -> list[Record]:
        """What the run sent, in its order."""
        if not run.sends:
            return []
        now_ms, source, cause = self.now_ms(), self.source.decode(), run.cause
        return [record_of(event, topic, partitions, source, now_ms, cause) for event, topic, partitions in run.sends]

    def _told(self, run: LiveRun, duration_ms: float) -> dict[str, Any]:
        event = run.event
        told = {
            "runId": run.id,
            "jobId": self.job.id,
            "jobVersion": self.job.version,
            "eventId": event.id,
            "eventName": self.job.trigger.name,
            "task": run.task.number,
            "attempt": run.attempt,
            "lease": run.task.owner.lease,
            "startedAt": rfc3339(run.started_ms),
            "durationMs": duration_ms,
            "logs": run.logs,
        }
        if event.replay is not None:
            told["replayOf"] = event.replay.of
        return told

    def _record(self, run: LiveRun, name: bytes, value: bytes, topic: TopicInfo) -> Record:
        now_ms, cause = self.now_ms(), run.event.headers
        event_id = short_text(cause.get(CE_ID) or b"")
        headers = own_headers(
            name,
            new_event_id().encode(),
            self.source,
            now_ms,
            MINTED_HEADER,
            (CAUSATION, event_id),
            (CORRELATION, short_text(cause.get(CORRELATION) or event_id)),
            (DEPTH, b"%d" % (run.event.depth + 1) if DEPTH in cause else b"1"),
        )
        return Record(topic.name, run.task.number % topic.partitions, run.id.encode(), value, headers, now_ms)


def _plain(value: Any) -> Any:
    """What orjson does not know: catalog objects as on the wire, sets as lists."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, set | frozenset):
        return list(value)
    raise TypeError(f"{type(value).__qualname__} is not JSON")


def _base64(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()
