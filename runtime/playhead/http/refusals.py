"""What this API itself refuses, before any broker is asked. The rest of the errors come from `playhead.errors`.

    InvalidInput
    └── Refusal                 has the status that it is answered with
        ├── MissingFields           400  no event, or an empty one
        ├── BodyNotJson             400  the body is not JSON
        ├── BodyTooSlow             408  the body did not arrive in time
        ├── BodyTooLarge            413  the body is larger than the endpoint takes
        ├── BatchTooLong            413  more events than one batch takes
        ├── UnsupportedBody         415  another content type, charset or encoding
        ├── InvalidFields           422  a field is unknown, or of the wrong type
        ├── OtherSite               403  a page of another site made a browser send it
        ├── IdConflict              422  Idempotency-Key and `id` disagree
        └── UnsafeJson              422  JSON that could not be carried unchanged

Their codes are PH601 to PH609, and PH614; PH610 to PH613 and PH600 belong to answers that no request alone decides
(`answers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from playhead.errors import InvalidInput


class Refusal(InvalidInput):
    """The request can't be taken as it is; nothing was written."""

    status: ClassVar[int] = 422
    closes = False
    """Whether the connection is closed after the answer: the rest of the body is not wanted."""

    def details(self) -> Mapping[str, Any]:
        """Facts beside the message, for programs."""
        return {}


class MissingFields(Refusal):
    """No event, or an empty one. The message is the guide's, to the letter."""

    code, status = "PH601", 400
    remedy = "Give at least `event`, such as 'user.created'."

    def __init__(self) -> None:
        super().__init__("Missing required fields")


class BodyNotJson(Refusal):
    """The body is not JSON in UTF-8."""

    code, status = "PH602", 400
    remedy = 'Send a JSON object in UTF-8, such as {"event": "user.created", "payload": {}}.'

    def __init__(self, why: str) -> None:
        super().__init__(f"the body is not JSON: {why}.")


class BodyTooSlow(Refusal):
    """The body did not arrive in time."""

    code, status, closes = "PH603", 408, True
    remedy = "Send the whole body at once."

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the body did not arrive within {seconds:g} s.")


class BodyTooLarge(Refusal):
    """The body is larger than the endpoint takes."""

    code, status = "PH604", 413
    remedy = "Store the data elsewhere and send a reference, or divide the batch."

    def __init__(self, limit_bytes: int, *, closes: bool = False) -> None:
        self.limit_bytes, self.closes = limit_bytes, closes
        super().__init__(f"the body is larger than {limit_bytes:,} bytes.")

    def details(self) -> Mapping[str, Any]:
        return {"limitBytes": self.limit_bytes}


class BatchTooLong(Refusal):
    """More events than one batch takes."""

    code, status = "PH605", 413
    remedy = "Divide the batch."

    def __init__(self, events: int, limit_events: int) -> None:
        self.limit_events = limit_events
        super().__init__(f"{events:,} events; a batch takes {limit_events:,}.")

    def details(self) -> Mapping[str, Any]:
        return {"limitEvents": self.limit_events}


class UnsupportedBody(Refusal):
    """Another content type, charset or encoding than plain JSON in UTF-8."""

    code, status = "PH606", 415
    remedy = "Send JSON, with the header Content-Type: application/json."


class InvalidFields(Refusal):
    """A field of the request is unknown, or of the wrong type. (Fields of a payload are InvalidPayload's.)"""

    code = "PH607"
    remedy = "Correct the fields named; /openapi.json has the schema."

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self.fields = tuple(fields)
        super().__init__("; ".join(f"{field}: {why}" for field, why in fields) + ".")

    def details(self) -> Mapping[str, Any]:
        return {"fields": named(self.fields)}


class OtherSite(Refusal):
    """A page of another site made a browser send it. Nothing was done."""

    code, status = "PH614", 403
    remedy = "Call the API from a program, or from a page that this server's own address serves."

    def __init__(self) -> None:
        super().__init__("this was sent by a page of another site; nothing was done.")


class IdConflict(Refusal):
    """Idempotency-Key and `id` disagree, so it is open which of them is meant."""

    code = "PH608"
    remedy = "Send one of them, or the same value in both."

    def __init__(self, header: str, field: str) -> None:
        super().__init__(f"Idempotency-Key {header!r} and id {field!r} differ.")


class UnsafeJson(Refusal):
    """JSON that could not be carried unchanged."""

    code = "PH609"
    remedy = "Send integers beyond 64 bits as text, and nest less deeply."


def named(fields: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Offending fields as the answer names them."""
    return [{"field": field, "error": why} for field, why in fields]
