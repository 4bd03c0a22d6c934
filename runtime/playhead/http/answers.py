"""Answers: JSON bodies, and which status each error gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from playhead.errors import (
    AlreadySettled,
    BrokerUnavailable,
    EventTooLarge,
    InvalidDelay,
    InvalidEventName,
    InvalidInput,
    InvalidPayload,
    NotAuthorized,
    NotInHistory,
    NotReplayable,
    PlayheadError,
    Retriable,
    TooLate,
    UnknownSchedule,
    UnknownTopic,
)
from playhead.http.limits import MAX_ERROR_CHARS, MAX_FIELDS_NAMED, RETRY_AFTER_SECONDS
from playhead.http.refusals import MissingFields, Refusal, named

logger = structlog.get_logger("playhead.http")

MISSING_FIELDS: Final = {"error": "Missing required fields"}
"""The guide's answer, to the letter: no code, no remedy."""
GIVE_ONE_TIME = 'Give one of them: "delay": {"hours": 24}, or "at": "2027-03-01T09:00:00+01:00".'
MAY_BE_WRITTEN = (
    "Send it again later. It may have been written: with an `id` of your own (or Idempotency-Key) that is harmless."
)

_STATUSES: Final[tuple[tuple[type[PlayheadError], int], ...]] = (
    (EventTooLarge, 413),
    (NotAuthorized, 502),  # these are the server's credentials: nothing that the caller sends could change it
    (TooLate, 409),
    (UnknownSchedule, 404),
    (NotInHistory, 404),
    (AlreadySettled, 409),
    (NotReplayable, 410),
    (InvalidInput, 422),
    (Retriable, 503),
    (PlayheadError, 502),  # the broker answers but can't be used until a person acts (BrokerTooOld, TopicMisfit)
)


class JsonAnswer(Response):
    """A JSON body, encoded by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        try:
            return orjson.dumps(content, option=orjson.OPT_UTC_Z)
        except orjson.JSONEncodeError:  # deeper than it goes, as a long chain of causes is
            return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def status_of(error: PlayheadError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, Refusal):
        return error.status
    return next(status for kind, status in _STATUSES if isinstance(error, kind))


def failure(error: PlayheadError) -> dict[str, Any]:
    """The error as a JSON object: `error`, `code`, what it knows, `remedy`."""
    match error:
        case BrokerUnavailable():
            remedy = MAY_BE_WRITTEN
        case InvalidDelay():
            remedy = GIVE_ONE_TIME
        case _:
            remedy = error.remedy or "Correct what is named, and send it again."
    message = error.message
    if len(message) > MAX_ERROR_CHARS:
        message = message[:MAX_ERROR_CHARS] + "…"
    return {"error": message, "code": error.code, **_details(error), "remedy": remedy}


def error_answer(error: PlayheadError) -> Response:
    """The whole answer for an error: status, headers, body. What a person has to act on is logged."""
    if isinstance(error, MissingFields):
        return JsonAnswer(MISSING_FIELDS, error.status)
    status = status_of(error)
    report(error, status)
    return JsonAnswer(failure(error), status, headers_of(error))


def report(error: PlayheadError, status: int) -> None:
    """Log what the operator has to know; a caller's mistakes are the caller's."""
    if status == 503:
        logger.warning("not done, and not acknowledged", error=error.message, code=error.code, remedy=error.remedy)
    elif status > 500:
        logger.error("the broker refused", error=error.message, code=error.code, remedy=error.remedy)


def headers_of(error: PlayheadError) -> dict[str, str]:
    """Headers that the error's answer needs."""
    if isinstance(error, Retriable):
        return {"retry-after": str(RETRY_AFTER_SECONDS)}
    if isinstance(error, Refusal) and error.closes:
        return {"connection": "close"}
    return {}


def _details(error: PlayheadError) -> Mapping[str, Any]:
    if isinstance(error, Refusal):
        return error.details()
    if isinstance(error, InvalidEventName):
        return {"rule": error.rule, "suggestion": error.suggestion}
    if isinstance(error, InvalidPayload):
        return {"fields": named(error.fields[:MAX_FIELDS_NAMED])}
    if isinstance(error, InvalidDelay):
        return {"fields": named([(error.field, error.why)])}
    if isinstance(error, EventTooLarge):
        return {"sizeBytes": error.size_bytes, "limitBytes": error.limit_bytes}
    if isinstance(error, UnknownTopic):
        return {"topic": error.topic}
    return {}


# ── answers that no PlayheadError stands behind ──────────────────────────────────────────────────────────────────────


def unexpected() -> Response:
    """500, without internals: they are in the log."""
    return _answer(500, "PH600", "internal error.", "Report it; the server's log has the traceback.")


def stopping() -> Response:
    """503 for what was still going on when the server's grace ran out."""
    headers = {"retry-after": str(RETRY_AFTER_SECONDS)}
    return _answer(503, "PH613", "the server is stopping.", MAY_BE_WRITTEN, headers=headers)


def not_ready(missing: list[str]) -> Response:
    """503 with what is missing."""
    return _answer(
        503,
        "PH612",
        "not ready: " + "; ".join(missing) + ".",
        "Wait; if it stays, look at what is named.",
        headers={"retry-after": str(RETRY_AFTER_SECONDS)},
        missing=missing,
    )


async def routing_error(request: Request, error: Exception) -> Response:
    """404 and 405 (and what later endpoints raise as HTTPException), as JSON."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _answer(404, "PH610", "no such endpoint.", "GET /openapi.json lists the endpoints.")
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        return _answer(405, "PH611", "method not allowed.", f"Use {allow}.", headers=error.headers)
    return _answer(error.status_code, "PH600", str(error.detail), "", headers=error.headers)


async def playhead_error(request: Request, error: Exception) -> Response:
    """What an endpoint raised on purpose."""
    assert isinstance(error, PlayheadError)
    return error_answer(error)


def _answer(
    status: int, code: str, error: str, remedy: str, *, headers: Mapping[str, str] | None = None, **details: Any
) -> Response:
    return JsonAnswer({"error": error, "code": code, **details, "remedy": remedy}, status, headers)
