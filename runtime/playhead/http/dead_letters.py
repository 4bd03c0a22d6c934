"""The endpoints for dead letters: the list, one, and settling one or many."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from playhead.errors import NotInHistory, PlayheadError
from playhead.history import wire
from playhead.history.letters import SETTLED_AT_ONCE_MAX, Letters, replay_run_id
from playhead.history.reading import PAGE_MAX, Snapshot
from playhead.history.states import LETTER_STATES
from playhead.http.answers import JsonAnswer, failure, report, status_of
from playhead.http.bodies import read_json
from playhead.http.history import DEFAULT_PAGE_ITEMS, Asked
from playhead.http.limits import Limits
from playhead.http.parameters import choice, number, parameters, words
from playhead.http.refusals import InvalidFields
from playhead.http.schemas import SettleRequest

Settle = Callable[[Sequence[str]], Awaitable[Sequence[PlayheadError | None]]]


class DeadLetters:
    """What could not be read, and runs that will not be tried again."""

    def __init__(self, ask: Asked, letters: Letters, limits: Limits) -> None:
        self._ask, self._letters, self._limits = ask, letters, limits

    async def page(self, request: Request) -> Response:
        """Dead letters, newest first."""
        asked = parameters(request, frozenset({"state", "job", "cursor", "limit"}))
        state, (job,) = choice(asked, "state", LETTER_STATES), words(asked, "job")
        limit, cursor = number(asked, "limit", DEFAULT_PAGE_ITEMS, 1, PAGE_MAX), asked.get("cursor")

        def letters(now: Snapshot) -> dict[str, Any]:
            page = now.letters(state=state, job_id=job, cursor=cursor, limit=limit)
            return {"items": [wire.letter_item(letter) for letter in page.items], "next": page.next}

        return JsonAnswer(await self._ask(letters))

    async def show(self, request: Request) -> Response:
        """One dead letter, with the record that is in it."""
        parameters(request, frozenset())
        letter_id = request.path_params["letter_id"]

        def shown(now: Snapshot) -> dict[str, Any]:
            letter = now.letter(letter_id)
            if letter is None:
                raise NotInHistory("dead letter", letter_id)
            return wire.letter_shown(letter)

        return JsonAnswer(await self._ask(shown))

    async def retry(self, request: Request) -> Response:
        """Let a letter's job work on its record again."""
        return await self._settled(request, self._letters.retry, "retried")

    async def discard(self, request: Request) -> Response:
        """Settle a letter; nobody works on it."""
        return await self._settled(request, self._letters.discard, "discarded")

    async def retry_many(self, request: Request) -> Response:
        """The same for many, with a result for each."""
        return await self._all_settled(request, self._letters.retry, "retried")

    async def discard_many(self, request: Request) -> Response:
        """The same for many, with a result for each."""
        return await self._all_settled(request, self._letters.discard, "discarded")

    async def _settled(self, request: Request, settle: Settle, outcome: str) -> Response:
        parameters(request, frozenset())
        letter_id = request.path_params["letter_id"]
        (error,) = await settle([letter_id])
        if error is not None:
            raise error
        result = await self._ask(lambda now: _settled_item(now, letter_id, outcome))
        return JsonAnswer({"success": True, "message": f"Dead letter {letter_id} {outcome}", "result": result})

    async def _all_settled(self, request: Request, settle: Settle, outcome: str) -> Response:
        parameters(request, frozenset())
        limits = self._limits
        ids = _ids(await read_json(request, limit_bytes=limits.event_body_bytes, seconds=limits.body_seconds))
        errors = await settle(ids)

        def results(now: Snapshot) -> list[dict[str, Any]]:
            return [
                {"id": id_, "success": True, "result": _settled_item(now, id_, outcome)}
                if error is None
                else {"id": id_, "success": False, **failure(error), "status": status_of(error)}
                for id_, error in zip(ids, errors, strict=True)
            ]

        failed = [error for error in errors if error is not None]
        for error in {error.code: error for error in failed}.values():
            report(error, status_of(error))
        return JsonAnswer({"results": await self._ask(results)}, 207 if failed else 200)


def _settled_item(now: Snapshot, letter_id: str, outcome: str) -> dict[str, Any]:
    letter = now.letter(letter_id)
    run = replay_run_id(letter) if letter is not None and outcome == "retried" else ""
    return {"id": letter_id, "outcome": outcome, "runId": run or None}


def _ids(body: Any) -> list[str]:
    """The ids of a request's body, each once."""
    if not isinstance(body, dict):
        raise InvalidFields([("", "it must be an object with `ids`")])
    if unknown := sorted(body.keys() - SettleRequest.model_fields.keys()):
        raise InvalidFields([(name, "no such field; known: ids") for name in unknown[:20]])
    ids = body.get("ids")
    if not isinstance(ids, list) or not all(isinstance(one, str) and one for one in ids):
        raise InvalidFields([("ids", "it is a list of ids")])
    ids = list(dict.fromkeys(ids))
    if not 0 < len(ids) <= SETTLED_AT_ONCE_MAX:
        raise InvalidFields([("ids", f"from 1 to {SETTLED_AT_ONCE_MAX} of them")])
    return ids
