from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from playhead.cli.asking import time_cell
from playhead.cli.showing import as_json, as_line, read_event
from playhead.events import outgoing
from playhead.records import StoredRecord
from playhead.run import Failure, RunFailed, RunRetrying, RunSucceeded
from playhead.serde import rfc3339, to_json

NOON_MS = 1_795_521_600_000
NOW = datetime.fromtimestamp(NOON_MS / 1000, UTC).astimezone()


class Stored(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def stored(name: str, payload: object, *, key: str | None = None) -> StoredRecord:
    record = outgoing("a.b", {}, key=key).to_record("topic", 4, "/playhead/test", NOON_MS)
    headers = [(k, name.encode() if k == "ce_type" else v) for k, v in record.headers]
    value = payload if isinstance(payload, bytes) else to_json(payload)
    return Stored(name.split(".")[0], 2, 17, NOON_MS, record.key, value, headers)


def line(record: StoredRecord, now: datetime = NOW) -> str:
    event = read_event(record)
    assert event is not None
    return as_line(event, now).plain


RUN = {
    "run_id": "r-1",
    "job_id": "welcome",
    "job_version": "1.0.0",
    "event_id": "e-1",
    "event_name": "user.created",
    "task": 1,
    "lease": 1,
    "started_at": "2026-11-24T12:00:00Z",
    "duration_ms": 3.14,
}


FAR_MS = 9_007_199_254_740_993
"""A time that a foreign producer may give its record, and no datetime can hold."""


class TestLine:
    def test_event_of_a_year_that_no_calendar_has_is_shown(self) -> None:
        shown = line(stored("user.created", {})._replace(timestamp=FAR_MS))  # type: ignore[attr-defined]
        assert shown.startswith("287396-10-12T08:59:00.993Z  user.created")

    def test_event_shows_time_name_place_key_and_payload(self) -> None:
        shown = line(stored("user.created", {"userId": "7"}, key="7"))
        assert f"{NOW:%H:%M:%S}.000  user.created" in shown
        assert 'user/2@17  7  {"userId": "7"}' in shown

    def test_key_that_is_only_the_id_is_not_repeated(self) -> None:
        record = stored("user.created", {})
        event = read_event(record)
        assert event is not None
        assert line(record).count(event.id) == 1

    def test_another_day_is_named(self) -> None:
        assert line(stored("user.created", {}), NOW.replace(year=2027)).startswith("2026-11-24 ")

    def test_run_shows_job_duration_and_output(self) -> None:
        event = RunSucceeded(**RUN, attempt=1, output={"ok": 1})
        shown = line(stored("run.succeeded", event.model_dump(by_alias=True)))
        assert 'run.succeeded       welcome  3.14 ms  {"ok": 1}  on user.created e-1' in shown

    def test_failed_run_shows_attempt_and_error(self) -> None:
        failure = Failure(type="shop.errors.CardRefused", message="no funds")
        shown = line(stored("run.failed", RunFailed(**RUN, attempt=3, error=failure).model_dump(by_alias=True)))
        assert "attempt 3  CardRefused: no funds" in shown

    def test_run_that_is_tried_again_shows_when(self) -> None:
        failure = Failure(type="ValueError", message="x")
        event = RunRetrying(**RUN, attempt=1, error=failure, due_at="2026-11-24T12:00:01Z")
        assert "ValueError: x  again at 2026-11-24T12:00:01Z" in line(
            stored("run.retrying", event.model_dump(by_alias=True))
        )

    def test_dead_letter_shows_origin_and_reason(self) -> None:
        payload = {"jobId": "welcome", "topic": "user", "partition": 3, "offset": 5, "reason": "not JSON"}
        assert "welcome  user/3@5  not JSON" in line(stored("dead-letter.created", payload))

    def test_payload_that_is_no_json_is_said_to_be_none(self) -> None:
        assert "(not JSON" in line(stored("user.created", b"{"))

    def test_control_characters_do_not_reach_the_terminal(self) -> None:
        nasty = "\x1b[31mred\x9b\r"
        records = [
            stored("user.created", {"name": nasty}, key=nasty),
            stored("run.failed", {"jobId": nasty, "error": {"type": nasty, "message": nasty}}),
            stored("dead-letter.created", {"jobId": nasty, "reason": nasty}),
        ]
        for record in records:
            assert line(record).isprintable()


class TestJson:
    def test_everything_that_is_known(self) -> None:
        event = read_event(stored("user.created", {"userId": "7"}, key="7"))
        assert event is not None
        assert as_json(event) == {
            "id": event.id,
            "name": "user.created",
            "time": "2026-11-24T12:00:00.000Z",
            "source": "/playhead/test",
            "topic": "user",
            "partition": 2,
            "offset": 17,
            "key": "7",
            "correlationId": event.id,
            "causationId": None,
            "causationDepth": 0,
            "payload": {"userId": "7"},
        }


def test_record_that_is_no_cloud_event_is_none() -> None:
    assert read_event(Stored("user", 0, 0, 0, None, b"x", [])) is None
    assert read_event(Stored("user", 0, 0, 0, None, b"x", [("ce_type", b"a.b"), ("ce_id", b"")])) is None


def test_cell_of_a_time_that_no_calendar_has_is_its_text() -> None:
    assert time_cell(rfc3339(FAR_MS)).plain == "287396-10-12T08:59:00.993Z"
    assert time_cell(rfc3339(NOON_MS)).plain.endswith(f"{NOW:%H:%M:%S}")
