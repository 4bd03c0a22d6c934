"""The page that sends an event: a form made of its schema, or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from playhead.client import Client
from playhead.dashboard.catalog import about, own_events, schema_of
from playhead.dashboard.forms import ROOT, Field, blame, form_of, payload, typed_of
from playhead.dashboard.web import Ask, View, status_of
from playhead.errors import InvalidDelay, InvalidEventName, InvalidPayload, PlayheadError
from playhead.sending import SentEvent

PayloadOf = Callable[[str], Any]
"""The payload of an event of history, by its id; None where it has none."""


class SendPages:
    """The form, and what becomes of it. What is wrong is said beside the field that it is about.

    Args:
        client: sends.
        payload_of: for "send one like it".
    """

    def __init__(self, client: Client, payload_of: PayloadOf) -> None:
        self._client = client
        self._payload_of = payload_of

    def form(self, ask: Ask) -> View:
        """An empty form, or one with what another event says."""
        name = ask.query.value("event")
        like = ask.query.value("like")
        value = self._payload_of(like) if like else None
        if name in own_events() and (value is None or isinstance(value, dict)):
            return _view(name, form=_form(name, {} if value is None else typed_of(value)))
        return _view(name, raw=_json({} if value is None else value))

    async def send(self, ask: Ask) -> View:
        """Send it, or change between form and JSON."""
        name, is_raw, do = ask.typed("event").strip(), ask.typed("mode") != "form", ask.typed("do")
        if is_raw:
            return await self._send_raw(ask, name, do)
        if name not in own_events():
            return _view(name, raw="{}", **_more(ask))
        form = _form(name, {path: values[-1] for path, values in ask.form.items() if path.startswith(f"{ROOT}/")})
        value = payload(form)
        if do == "raw":
            return _view(name, raw=_json(value), **_more(ask))
        if any(one.errors for one in form.walk()):
            return _view(name, status=422, form=form, **_more(ask))
        try:
            return _sent(await self._sent(ask, name, value))
        except InvalidPayload as error:
            return _view(name, status=422, form=form, problems=blame(form, error.fields), **_more(ask))
        except PlayheadError as error:
            return _view(name, form=form, **_refusal(error), **_more(ask))

    async def _send_raw(self, ask: Ask, name: str, do: str) -> View:
        raw = ask.typed("raw") or "{}"
        try:
            value = json.loads(raw)
        except ValueError as error:
            return _view(name, status=422, raw=raw, raw_errors=[f"it is not JSON: {error}"], **_more(ask))
        if do == "form" and name in own_events() and isinstance(value, dict):
            return _view(name, form=_form(name, typed_of(value)), **_more(ask))
        try:
            return _sent(await self._sent(ask, name, value))
        except InvalidPayload as error:
            errors = [f"{field}: {why}" if field else why for field, why in error.fields]
            return _view(name, status=422, raw=raw, raw_errors=errors, **_more(ask))
        except PlayheadError as error:
            return _view(name, raw=raw, **_refusal(error), **_more(ask))

    async def _sent(self, ask: Ask, name: str, value: Any) -> SentEvent:
        delay = ask.typed("delay").strip()
        try:
            seconds = float(delay) if delay else None
        except ValueError as error:
            raise InvalidDelay("delay", f"{delay[:40]!r} is no number of seconds.") from error
        return await self._client.send_event(
            name,
            value,
            id=ask.typed("id") or None,
            key=ask.typed("key") or None,
            delay=None if seconds is None else {"seconds": seconds},
        )


def _form(name: str, typed: dict[str, str]) -> Field:
    return form_of(schema_of(own_events()[name]), typed)


def _more(ask: Ask) -> dict[str, Any]:
    return {name: ask.typed(name) for name in ("key", "id", "delay")}


def _refusal(error: PlayheadError) -> dict[str, Any]:
    """Where an error is shown that is not about the payload."""
    said = {"status": status_of(error)}
    if isinstance(error, InvalidEventName):
        return {**said, "name_error": f"{error.rule} {error.remedy}"}
    if isinstance(error, InvalidDelay):
        return {**said, "delay_error": error.message}
    return {**said, "problems": [f"{error.message} {error.remedy}".strip()]}


def _view(name: str, *, status: int = 200, **facts: Any) -> View:
    model = own_events().get(name)
    shown = {
        "name": name,
        "names": list(own_events()),
        "known": model is not None,
        "about": "" if model is None else about(model),
        "form": None,
        "raw": "{}",
        "raw_errors": [],
        "problems": [],
        "name_error": "",
        "delay_error": "",
        "key": "",
        "id": "",
        "delay": "",
    }
    return View("send.html", {**shown, **facts}, status)


def _sent(sent: SentEvent) -> View:
    facts = [("Id", sent.id)]
    if sent.due_at is None:
        text = "It is in the log, on every in-sync replica. Its runs appear when they end."
        links = [(f"/events/{quote(sent.id, safe='')}", "Show it")]
        facts.append(("Place", f"{sent.topic}[{sent.partition}] @ {sent.offset}"))
    else:
        text = "It is a timer now."
        links = [("/timers", "Show the timers")]
        facts.append(("Due", sent.due_at.isoformat(timespec="seconds")))
    links.append((f"/send?event={sent.name}", "Send another"))
    return View(
        "done.html",
        {
            "title": f"Sent {sent.name}",
            "text": text,
            "facts": facts,
            "links": links,
            "problems": [],
            "back": "/events",
        },
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
