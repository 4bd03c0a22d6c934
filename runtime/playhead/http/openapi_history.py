"""What /openapi.json says of the endpoints for what happened."""

from __future__ import annotations

from typing import Any, Final

from playhead.history.reading import PAGE_MAX
from playhead.history.states import LETTER_STATES, RUN_STATES
from playhead.http.history import DEFAULT_PAGE_ITEMS
from playhead.http.history_schemas import (
    ChainAnswer,
    CountsAnswer,
    EventsAnswer,
    LagAnswer,
    LettersAnswer,
    ManySettledAnswer,
    RunsAnswer,
    SettledAnswer,
    ShownEvent,
    ShownLetter,
    ShownRun,
    StatsAnswer,
)
from playhead.http.openapi import RETRY_AFTER, SHARED, answer, parameter, request
from playhead.http.schemas import SettleRequest

_ASKED: Final[dict[int | str, dict[str, Any]]] = {
    422: answer("A parameter is unknown or can't be used; the answer names it."),
    500: SHARED[500],
    502: answer("The database is no history, or of another format: somebody has to act."),
    503: answer("There is no history, or its database does not answer.", headers=RETRY_AFTER),
}
_MISSING: Final = answer("History has none of this id (yet).")
_SINCE = parameter("since", "Only from then on; ISO 8601 with its zone.", type="string")
_UNTIL = parameter("until", "Only before then.", type="string")
_JOB = parameter("job", "Only of this job.", type="string")
_PAGE: Final = [
    parameter("limit", "At most so many.", type="integer", minimum=1, maximum=PAGE_MAX, default=DEFAULT_PAGE_ITEMS),
    parameter("cursor", "`next` of the page before.", type="string"),
]


def _id(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


def _get(
    operation: str,
    summary: str,
    tag: str,
    model: Any,
    *given: dict[str, Any],
    missing: bool = False,
    description: str = "",
) -> dict[str, Any]:
    return {
        "operation_id": operation,
        "summary": summary,
        **({"description": description} if description else {}),
        "tags": [tag],
        "response_description": summary + ".",
        "response_model": model,
        "responses": {**_ASKED, **({404: _MISSING} if missing else {})},
        "openapi_extra": {"parameters": list(given)},
    }


EVENTS: Final = _get(
    "listEvents",
    "Events that were sent, newest first",
    "events",
    EventsAnswer,
    parameter("name", "Only of this name.", type="string"),
    parameter("entity", "Only of this entity. Not together with `name`.", type="string"),
    parameter("key", "Only with this key.", type="string"),
    _SINCE,
    _UNTIL,
    {
        **parameter(
            "payload", "Only where the field at this dotted path is that: `payload.address.city=Rome`.", type="object"
        ),
        "style": "form",
        "explode": True,
    },
    *_PAGE,
    description="Rows that come meanwhile do not move the others: no page has one twice, or leaves one out.",
)
EVENT: Final = _get(
    "showEvent",
    "One event, with its payload, headers and the runs that it started",
    "events",
    ShownEvent,
    _id("event_id", "The event's id."),
    missing=True,
)
CHAIN: Final = _get(
    "showChain",
    "What caused an event, and all that it caused, as a tree",
    "events",
    ChainAnswer,
    _id("event_id", "The event's id."),
    missing=True,
)
RUNS: Final = _get(
    "listRuns",
    "Runs, the latest beginning first",
    "runs",
    RunsAnswer,
    _JOB,
    parameter("state", "Only in this state.", type="string", enum=list(RUN_STATES)),
    parameter("event_id", "Only on the event of this id.", type="string"),
    _SINCE,
    _UNTIL,
    *_PAGE,
    description="A run is here from the end of its first attempt on.",
)
RUN: Final = _get(
    "showRun",
    "One run: attempts with log lines, input, output, error, what it sent",
    "runs",
    ShownRun,
    _id("run_id", "The run's id."),
    parameter("as_of", "As it was then; ISO 8601 with its zone.", type="string"),
    missing=True,
)
STATS: Final = _get(
    "stats",
    "Success and failure, throughput and durations, by job and time",
    "runs",
    StatsAnswer | CountsAnswer,
    _SINCE,
    _UNTIL,
    parameter("step", "Seconds: whole minutes, above an hour whole hours.", type="integer", minimum=60),
    _JOB,
    parameter("as_of", "How many runs there were then, by job and state. Not with since, until, step.", type="string"),
    description="The last hour where no span is given.",
)
LAG: Final[dict[str, Any]] = {
    **_get("lag", "How far each job is behind, partition by partition", "runs", LagAnswer, _JOB),
    "responses": {
        **_ASKED,
        502: answer("The broker refuses."),
        503: answer("The broker is away.", headers=RETRY_AFTER),
    },
}
LETTERS: Final = _get(
    "listDeadLetters",
    "Dead letters, newest first",
    "dead letters",
    LettersAnswer,
    parameter("state", "Only in this state.", type="string", enum=list(LETTER_STATES)),
    _JOB,
    *_PAGE,
)
LETTER: Final = _get(
    "showDeadLetter",
    "One dead letter, with the record that is in it",
    "dead letters",
    ShownLetter,
    _id("letter_id", "The letter's id."),
    missing=True,
)


def _settle(operation: str, summary: str, done: str) -> dict[str, Any]:
    return {
        **_get(operation, summary, "dead letters", SettledAnswer, _id("letter_id", "The letter's id."), missing=True),
        "response_description": done,
        "responses": {
            **_ASKED,
            404: _MISSING,
            409: answer("It was retried or discarded before."),
            410: answer("What it is of was too large for it, and is not in the log any more."),
            503: answer(
                "There is no history, or the broker is away. Asking again starts no second run.", headers=RETRY_AFTER
            ),
        },
    }


def _settle_many(operation: str, summary: str, done: str) -> dict[str, Any]:
    return {
        **_get(operation, summary, "dead letters", ManySettledAnswer),
        "response_description": done,
        "responses": {
            **_ASKED,
            207: answer("Some are not, or none: each result says why.", ManySettledAnswer),
            400: answer("The body is not JSON."),
            413: answer("The body is too large."),
            **SHARED,
        },
        "openapi_extra": {"requestBody": request(SettleRequest, two={"ids": ["01997f3e-5b7a-7000-9c1d-6a8f5a0c1b2d"]})},
    }


RETRY: Final = _settle(
    "retryDeadLetter", "Let the letter's job work on its record again", "A new run starts; `runId` is its id."
)
DISCARD: Final = _settle("discardDeadLetter", "Settle the letter; nobody works on it", "It is discarded.")
RETRY_MANY: Final = _settle_many("retryDeadLetters", "The same for many", "All are retried.")
DISCARD_MANY: Final = _settle_many("discardDeadLetters", "Settle many; nobody works on them", "All are discarded.")
