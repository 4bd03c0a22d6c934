"""What /openapi.json says of each endpoint: summaries, shapes, examples, and every status with its reason."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import PlainTextResponse

from playhead.http.answers import MAY_BE_WRITTEN
from playhead.http.limits import DEFAULT_LIMITS, RETRY_AFTER_SECONDS
from playhead.http.schemas import (
    Alive,
    BatchAnswer,
    BatchRequest,
    BatchUnavailable,
    DoneAnswer,
    ErrorAnswer,
    MissingAnswer,
    MoveRequest,
    Ready,
    SchedulesAnswer,
    SettleRequest,
    ShownTimer,
    TimerAnswer,
    TimersAnswer,
    TriggerAnswer,
    TriggerRequest,
)
from playhead.timers.listing import PAGE_TIMERS_MAX
from playhead.timers.schedules import TIMES_MAX

_REF = "#/components/schemas/{model}"
_JSON = "application/json"

_EVENT: Final = {"event": "user.created", "payload": {"email": "ada@example.com", "name": "Ada", "userId": "7"}}
_LOCATION: Final = {"id": "01997f3e-5b7a-7000-9c1d-6a8f5a0c1b2d", "topic": "user", "partition": 2, "offset": 1042}
_WRONG_NAME: Final = {
    "error": "event name 'UserCreated': use lower case letters only.",
    "code": "PH101",
    "rule": "use lower case letters only.",
    "suggestion": "user.created",
    "remedy": "Did you mean 'user.created'?",
}
_WRONG_PAYLOAD: Final = {
    "error": "payload of 'user.created': email: Field required.",
    "code": "PH102",
    "fields": [{"field": "email", "error": "Field required"}],
    "remedy": "Correct the fields named; the catalog has the schema.",
}
_WRONG_DELAY: Final = {
    "error": "delay.hours: it is negative.",
    "code": "PH109",
    "fields": [{"field": "delay.hours", "error": "it is negative."}],
    "remedy": 'Give one of them: delay={"hours": 24}, or at="2027-03-01T09:00:00+01:00".',
}
_NO_TOPIC: Final = {
    "error": "topic 'usr' does not exist.",
    "code": "PH104",
    "topic": "usr",
    "remedy": "Create it: playhead topics create usr",
}
_AWAY: Final = {
    "error": "no broker answers at 127.0.0.1:9092.",
    "code": "PH201",
    "remedy": MAY_BE_WRITTEN,
}

RETRY_AFTER: Final = {
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "schema": {"type": "integer", "examples": [RETRY_AFTER_SECONDS]},
    }
}


def answer(
    description: str, model: Any = ErrorAnswer, *, headers: dict[str, Any] | None = None, **examples: dict[str, Any]
) -> dict[str, Any]:
    """One status of an endpoint."""
    described: dict[str, Any] = {"description": description, "model": model}
    if examples:
        described["content"] = {_JSON: {"examples": {name: {"value": value} for name, value in examples.items()}}}
    if headers:
        described["headers"] = headers
    return described


def request(model: type[BaseModel], **examples: dict[str, Any]) -> dict[str, Any]:
    """The body that an endpoint takes."""
    named = {name: {"value": value} for name, value in examples.items()}
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"required": True, "content": {_JSON: {"schema": schema, "examples": named}}}


SHARED: Final[dict[int | str, dict[str, Any]]] = {
    408: answer(f"The body did not arrive within {DEFAULT_LIMITS.body_seconds:g} s."),
    415: answer("Another content type than JSON, another charset than UTF-8, or an encoded body."),
    500: answer("A fault in Playhead. The server's log has it."),
}

TRIGGER: Final[dict[str, Any]] = {
    "operation_id": "trigger",
    "summary": "Send one event",
    "description": "Answers when every in-sync replica has the event. With `id` or Idempotency-Key it may be repeated.",
    "tags": ["events"],
    "response_description": "The event is in the log.",
    "response_model": TriggerAnswer,
    "responses": {
        200: answer(
            "The event is in the log.",
            TriggerAnswer,
            sent={"success": True, "message": "Event user.created sent", "result": _LOCATION},
        ),
        400: answer(
            "No event, or it is empty; or the body is not JSON.",
            MissingAnswer | ErrorAnswer,
            missing={"error": "Missing required fields"},
        ),
        413: answer(
            f"The event is larger than its topic takes, or the body than {DEFAULT_LIMITS.event_body_bytes:,} bytes."
        ),
        422: answer(
            "The name, the payload or a field can't be taken; the answer names the rule or the fields.",
            name=_WRONG_NAME,
            payload=_WRONG_PAYLOAD,
            topic=_NO_TOPIC,
            delay=_WRONG_DELAY,
        ),
        503: answer(
            "The broker is away. The event is not acknowledged; it may have been written.",
            headers=RETRY_AFTER,
            away=_AWAY,
        ),
        502: answer("The broker refuses the server's credentials, or is too old: somebody has to act."),
        **SHARED,
    },
    "openapi_extra": {
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The event's id, as the body's `id`; ASCII, bare or in double quotes.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        ],
        "requestBody": request(
            TriggerRequest,
            event=_EVENT,
            idempotent={**_EVENT, "id": "signup-7", "key": "7"},
            later={**_EVENT, "delay": {"hours": 24}},
        ),
    },
}

BATCH: Final[dict[str, Any]] = {
    "operation_id": "sendEvents",
    "summary": "Send many events",
    "description": f"At most {DEFAULT_LIMITS.batch_events:,} events and {DEFAULT_LIMITS.batch_body_bytes:,} bytes. "
    "Events are taken one by one, not all or nothing; those with the same key keep their order.",
    "tags": ["events"],
    "response_description": "All events are in the log.",
    "response_model": BatchAnswer,
    "responses": {
        200: answer(
            "All events are in the log.", BatchAnswer, sent={"results": [{"success": True, "result": _LOCATION}]}
        ),
        207: answer(
            "Some events, or all, are not acknowledged: each result says why.",
            BatchAnswer,
            mixed={
                "results": [{"success": True, "result": _LOCATION}, {"success": False, **_WRONG_NAME, "status": 422}]
            },
        ),
        400: answer("No `events`; or the body is not JSON.", MissingAnswer | ErrorAnswer),
        413: answer("Too many events, or too many bytes."),
        422: answer("The body as a whole can't be taken."),
        503: answer(
            "The broker is away. No event is acknowledged; some may have been written.",
            BatchUnavailable,
            headers=RETRY_AFTER,
            away={**_AWAY, "results": [{"success": False, **_AWAY, "status": 503}]},
        ),
        **SHARED,
    },
    "openapi_extra": {"requestBody": request(BatchRequest, events={"events": [_EVENT, {**_EVENT, "id": "signup-8"}]})},
}

_ASKING: Final[dict[int | str, dict[str, Any]]] = {
    409: answer("Too late: it has fired, was canceled before, or never was. Nothing was changed."),
    503: answer("No scheduler answered in time, or the broker is away.", headers=RETRY_AFTER),
    500: SHARED[500],
}
_TIMER_ID: Final = {
    "name": "timer_id",
    "in": "path",
    "required": True,
    "description": "The id that the event was sent with, or was given.",
    "schema": {"type": "string"},
}

CANCEL: Final[dict[str, Any]] = {
    "operation_id": "cancelTimer",
    "summary": "Cancel an event that is to be sent later",
    "description": "The scheduler decides: exactly one of firing and canceling wins, and the answer tells which.",
    "tags": ["timers"],
    "response_description": "It never fires.",
    "response_model": TimerAnswer,
    "responses": _ASKING,
    "openapi_extra": {"parameters": [_TIMER_ID]},
}

MOVE: Final[dict[str, Any]] = {
    "operation_id": "moveTimer",
    "summary": "Send an event at another moment",
    "description": "The timer is canceled and another takes its place, in one commit; the answer has its id.",
    "tags": ["timers"],
    "response_description": "It was moved.",
    "response_model": TimerAnswer,
    "responses": {
        **_ASKING,
        400: answer("The body is not JSON."),
        413: answer("The body is too large."),
        422: answer("`delay` or `at` can't be used; the answer names the field."),
        **SHARED,
    },
    "openapi_extra": {"parameters": [_TIMER_ID], "requestBody": request(MoveRequest, later={"delay": {"hours": 2}})},
}

_READING: Final[dict[int | str, dict[str, Any]]] = {
    503: answer("Topic `delay` is still being read, or the broker is away.", headers=RETRY_AFTER),
    500: SHARED[500],
}
_JOB_ID: Final = {
    "name": "job_id",
    "in": "path",
    "required": True,
    "description": "The job's id.",
    "schema": {"type": "string"},
}
_NO_SCHEDULE: Final = answer("No job of this id has declared a schedule, or it was taken back.")


def parameter(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """One parameter of the query."""
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


TIMERS: Final[dict[str, Any]] = {
    "operation_id": "listTimers",
    "summary": "What is to be sent later, by due time",
    "description": "Timers that come or go meanwhile do not move the others: no page has one twice, or leaves one out.",
    "tags": ["timers"],
    "response_description": "A page.",
    "response_model": TimersAnswer,
    "responses": {**_READING, 422: answer("A parameter is unknown or can't be used; the answer names it.")},
    "openapi_extra": {
        "parameters": [
            parameter("limit", "At most so many.", type="integer", minimum=1, maximum=PAGE_TIMERS_MAX, default=100),
            parameter("cursor", "`next` of the page before.", type="string"),
            parameter("event", "Only events of this name.", type="string"),
            parameter("since", "Only what is due then or later; ISO 8601 with its zone.", type="string"),
            parameter("before", "Only what is due before.", type="string"),
        ]
    },
}

TIMER: Final[dict[str, Any]] = {
    "operation_id": "showTimer",
    "summary": "An event that is to be sent later, with its payload",
    "tags": ["timers"],
    "response_description": "It is pending.",
    "response_model": ShownTimer,
    "responses": {**_READING, 404: answer("It has fired, was canceled, or never was.")},
    "openapi_extra": {"parameters": [_TIMER_ID]},
}

SCHEDULES: Final[dict[str, Any]] = {
    "operation_id": "listSchedules",
    "summary": "Jobs that run by the clock, and when they are due next",
    "tags": ["schedules"],
    "response_description": "All of them, by job.",
    "response_model": SchedulesAnswer,
    "responses": {**_READING, 422: answer("A parameter is unknown or can't be used; the answer names it.")},
    "openapi_extra": {
        "parameters": [
            parameter("times", "So many next times of each.", type="integer", minimum=0, maximum=TIMES_MAX, default=5)
        ]
    },
}

RUN_NOW: Final[dict[str, Any]] = {
    "operation_id": "runNow",
    "summary": "Run a job that runs by the clock now, beside its schedule",
    "tags": ["schedules"],
    "response_description": "An occurrence that is due now is in the log.",
    "response_model": TriggerAnswer,
    "responses": {**_READING, 404: _NO_SCHEDULE},
    "openapi_extra": {"parameters": [_JOB_ID]},
}

TAKE_BACK: Final[dict[str, Any]] = {
    "operation_id": "takeBackSchedule",
    "summary": "Let a job be due no more",
    "description": "Also one that is gone from the code. A worker that has the job declares it again when it starts.",
    "tags": ["schedules"],
    "response_description": "It is due no more; what is being fired at this moment still comes.",
    "response_model": DoneAnswer,
    "responses": {**_READING, 404: _NO_SCHEDULE},
    "openapi_extra": {"parameters": [_JOB_ID]},
}

ALIVE: Final[dict[str, Any]] = {
    "operation_id": "healthz",
    "summary": "Is the process alive",
    "tags": ["health"],
    "response_description": "Always, while the process answers.",
    "response_model": Alive,
}

READY: Final[dict[str, Any]] = {
    "operation_id": "readyz",
    "summary": "Can events be sent, and do the worker's tasks run",
    "tags": ["health"],
    "response_description": "All is there.",
    "response_model": Ready,
    "responses": {
        503: answer(
            "Something is missing; the answer names it.",
            headers=RETRY_AFTER,
            away={
                "error": "not ready: broker: no answer within 2 s.",
                "code": "PH612",
                "missing": ["broker: no answer within 2 s"],
                "remedy": "Wait; if it stays, look at what is named.",
            },
        )
    },
}

SCRAPE: Final[dict[str, Any]] = {
    "operation_id": "metrics",
    "summary": "What this process counts, for Prometheus",
    "description": "In the text format of Prometheus, or of OpenMetrics for who asks for it.",
    "tags": ["health"],
    "response_description": "The metrics; see METRICS.md.",
    "response_class": PlainTextResponse,
}

INDEX: Final[dict[str, Any]] = {
    "operation_id": "index",
    "summary": "The endpoints, as text",
    "tags": ["health"],
    "response_description": "The endpoints.",
    "response_class": PlainTextResponse,
}


def with_requests(document: dict[str, Any]) -> dict[str, Any]:
    """Add what FastAPI does not see: the shapes of requests, and what all that change something refuse.

    Doing it again changes nothing.
    """
    models = [(model, "validation") for model in (TriggerRequest, BatchRequest, MoveRequest, SettleRequest)]
    _, definitions = models_json_schema(models, ref_template=_REF)  # type: ignore[arg-type]  # list is invariant
    document["components"]["schemas"].update(definitions["$defs"])
    error = {_JSON: {"schema": {"$ref": _REF.format(model=ErrorAnswer.__name__)}}}
    for methods in document["paths"].values():
        for operation in (one for method, one in methods.items() if method != "get"):
            operation["responses"]["403"] = {"description": "A page of another site sent it.", "content": error}
    return document
