"""Pages of dead letters: the list, one, and trying again or giving up, for one or many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool

from playhead.dashboard.web import Answer, Ask, NoSuchPage, Problem, View, status_of
from playhead.errors import InvalidInput, PlayheadError
from playhead.history.letters import Letters, dead_letter, headers_of
from playhead.history.reading import Snapshots
from playhead.history.states import LETTER_STATES
from playhead.job import Job

PAGE_LETTERS = 50
MANY_MAX = 200
_NAMED = 8


class LetterPages:
    """The pages."""

    def __init__(self, history: Snapshots, jobs: Sequence[Job], letters: Letters) -> None:
        self._history = history
        self._job_ids = sorted(job.id for job in jobs)
        self._letters = letters

    def index(self, ask: Ask) -> View:
        """Dead letters, the newest first; those that are open unless others are asked for."""
        chosen = ask.query.choice("state", (*LETTER_STATES, "any")) or "open"
        with self._history.snapshot() as now:
            page = now.letters(
                state="" if chosen == "any" else chosen,
                job_id=ask.query.value("job"),
                cursor=ask.query.value("cursor"),
                limit=PAGE_LETTERS,
            )
        filtered = bool(ask.query.value("state") or ask.query.value("job"))
        shown = {"letters": page.items, "next": page.next, "filtered": filtered, "chosen_state": chosen}
        return View("letters.html", {**shown, "jobs": self._job_ids})

    def one(self, ask: Ask) -> View:
        """One dead letter, with the record that is in it."""
        letter_id = ask.path["letter_id"]
        with self._history.snapshot() as now:
            letter = now.letter(letter_id)
        if letter is None:
            raise NoSuchPage(f"history has no dead letter {letter_id[:100]!r}.")
        told = dead_letter(letter)
        facts: dict[str, Any] = {
            "letter": letter,
            "error": None,
            "value": None,
            "key": None,
            "headers": (),
            "attempts": 0,
            "place": "not told",
        }
        if told is not None:
            key = told.key_bytes()
            facts |= {
                "error": Problem.of(None if told.error is None else told.error.model_dump()),
                "value": told.value_bytes(),
                "key": None if key is None else key.decode(errors="replace"),
                "headers": [(name, text.decode(errors="replace")) for name, text in headers_of(told)],
                "attempts": told.attempts,
                "place": f"{told.topic}[{told.partition}] @ {told.offset}",
            }
        return View("letter.html", facts)

    def confirm_retry(self, ask: Ask) -> View:
        """Ask before letters are retried."""
        return self._question("retry", _chosen(ask.query.values("id")))

    def confirm_discard(self, ask: Ask) -> View:
        """Ask before letters are discarded."""
        return self._question("discard", _chosen(ask.query.values("id")))

    async def retry(self, ask: Ask) -> Answer:
        """Retry them."""
        return await self._settled("retry", ask)

    async def discard(self, ask: Ask) -> Answer:
        """Discard them."""
        return await self._settled("discard", ask)

    async def _settled(self, verb: str, ask: Ask) -> Answer:
        ids = _chosen(ask.form.get("id", ()))
        try:
            results = await (self._letters.retry(ids) if verb == "retry" else self._letters.discard(ids))
        except PlayheadError as error:
            return await run_in_threadpool(self._question, verb, ids, error)
        problems = [f"{id_}: {error.message} {error.remedy}" for id_, error in zip(ids, results, strict=True) if error]
        good = len(ids) - len(problems)
        word = "retried" if verb == "retry" else "discarded"
        text = f"{_letters(good)} {'is' if good == 1 else 'are'} {word}."
        if verb == "retry" and good:
            text += " New runs appear when they end."
        facts = {"title": word.capitalize(), "text": text, "facts": [], "problems": problems, "links": []}
        return View("done.html", {**facts, "back": "/dead-letters"}, 200 if good else 409)

    def _question(self, verb: str, ids: list[str], error: PlayheadError | None = None) -> View:
        is_retry, it = verb == "retry", "it" if len(ids) == 1 else "them"
        what = (
            "The job works on the same record again, in a new run."
            if is_retry
            else f"Nobody will be asked to look at {it} again."
        )
        facts: dict[str, Any] = {
            "title": f"{verb.capitalize()} {_letters(len(ids))}?",
            "question": what,
            "items": self._named(ids[:_NAMED]),
            "more": max(0, len(ids) - _NAMED),
            "ids": ids,
            "action": f"/dead-letters/{verb}",
            "back": "/dead-letters" if len(ids) > 1 else f"/dead-letters?{urlencode({'state': 'open'})}",
            "verb": verb.capitalize(),
            "danger": not is_retry,
            "error": error,
        }
        return View("confirm.html", facts, 200 if error is None else status_of(error))

    def _named(self, ids: Sequence[str]) -> list[str]:
        """What these letters are, for people; the id of those that history does not know."""
        with self._history.snapshot() as now:
            letters = [now.letter(one) for one in ids]
        return [f"{one.job_id}: {one.reason}" if one else id_ for one, id_ in zip(letters, ids, strict=True)]


def _chosen(ids: Sequence[str]) -> list[str]:
    chosen = list(dict.fromkeys(ids))
    if not chosen:
        raise InvalidInput("no dead letter is chosen.", remedy="Tick those that you mean.")
    if len(chosen) > MANY_MAX:
        raise InvalidInput(f"{len(chosen)} dead letters are too many at once.", remedy=f"Choose up to {MANY_MAX}.")
    return chosen


def _letters(number: int) -> str:
    return "1 dead letter" if number == 1 else f"{number} dead letters"
