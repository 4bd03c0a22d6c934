"""Events: a name and a payload, plus the envelope that Playhead adds.

A service names an event in one of two ways, and both end up as the same record:

    send_event("user.created", {"email": "ada@example.com", "userId": "7"})
    send_event(UserCreated(email="ada@example.com", user_id="7"))

The second comes from the catalog: a class per event, whose fields have Python names in code and camelCase on the wire.
Where the catalog knows a name, a payload given by name is checked against it too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, Unpack

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from playhead.delay import Delay, When, when
from playhead.errors import InvalidEventName, InvalidInput, InvalidPayload, Poison
from playhead.ids import new_event_id
from playhead.records import Headers, Record, StoredRecord
from playhead.replay import replay_of
from playhead.serde import (
    CAUSATION,
    CE_ID,
    CE_SCHEMA,
    CE_SOURCE,
    CE_SUBJECT,
    CE_TIME,
    CE_TYPE,
    CORRELATION,
    DEPTH,
    JSON_HEADER,
    MAX_ID_CHARS,
    MINTED,
    MINTED_HEADER,
    NON_FINITE,
    REPLAY_ID,
    SENT_BY,
    SPEC_VERSION_HEADER,
    TRACEPARENT,
    NotJson,
    from_json,
    has_non_finite,
    plain_text,
    rfc3339,
    to_json,
)
from playhead.topics import RESERVED_ENTITIES, partition_for

MAX_NAME_CHARS = 128
MAX_KEY_BYTES = 1_024
MAX_CAUSATION_DEPTH = 64

_REPLACEMENT = "\ufffd"
"""What stands for bytes that are no UTF-8."""

_SEGMENT = re.compile(r"[a-z](?:-?[a-z0-9])*")


def entity_of(name: str) -> str:
    """The entity of an event: the part of its name before the first dot, which is also its topic."""
    return name.partition(".")[0]


def check_name(name: object, *, reserved_ok: bool = False) -> str:
    """Return the name if it keeps the convention: `entity.action`, lower case, dots between, no special characters.

    Args:
        reserved_ok: whether Playhead's own entities (`run`, `delay`, `dead-letter`) pass: one may listen to them, but
            not send them.

    Raises:
        InvalidEventName: says which rule is broken, and suggests a name that would pass.
    """
    if not isinstance(name, str):
        raise InvalidEventName(name, "it must be text.")
    if not name:
        raise InvalidEventName(name, "it is empty.")
    if len(name) > MAX_NAME_CHARS:
        raise InvalidEventName(name, f"it has {len(name)} characters; {MAX_NAME_CHARS} are allowed.")
    segments = name.split(".")
    if all(_SEGMENT.fullmatch(segment) for segment in segments):
        if len(segments) < 2:
            raise InvalidEventName(name, "it has no action; start with the entity, then a dot, then the action.")
        if segments[0] in RESERVED_ENTITIES and not reserved_ok:
            raise InvalidEventName(name, f"the entity {segments[0]!r} is Playhead's own; only Playhead sends it.")
        return name
    raise InvalidEventName(name, _broken_rule(name), _suggestion(name))


def _broken_rule(name: str) -> str:
    if name != name.lower():
        return "use lower case letters only."
    if any(not segment for segment in name.split(".")):
        return "a part between dots is empty."
    if re.search(r"[^a-z0-9.-]", name):
        return "use no special characters: letters, digits, hyphens, and dots between the parts."
    return "each part starts with a letter, and a hyphen stands between letters or digits."


def _suggestion(name: str) -> str | None:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", ".", name, count=1) if "." not in name else name
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", spaced).lower()
    parts = [re.sub(r"[^a-z0-9]+", "-", part).strip("-") for part in re.split(r"[./:]+", spaced)]
    parts = [re.sub(r"^[0-9-]+", "", part) for part in parts]
    if len(parts) == 1 and "-" in parts[0]:
        parts = list(parts[0].split("-", 1))
    candidate = ".".join(part for part in parts if part)
    try:
        return check_name(candidate)
    except InvalidEventName:
        return None


@dataclass(frozen=True, slots=True)
class EventSpec:
    """What the catalog says of an event beside its fields: `UserCreated.__event__`."""

    name: str
    key: str | None
    version: int

    @property
    def schema_uri(self) -> str:
        """Goes into `ce_dataschema`."""
        return f"urn:playhead:{self.name}:{self.version}"


class TypedEvent(BaseModel):
    """A payload with a schema. A catalog has one subclass per event:

        class UserCreated(TypedEvent, name="user.created", key="user_id"):
            email: str
            user_id: str

    Fields are camelCase on the wire and accepted under both names. Fields that the schema does not know are kept, so a
    job that was deployed before a field was added passes it on unharmed.

    Class arguments:
        name: the event's name.
        key: the field whose value is the record's key: events with the same key stay in order.
        version: of the schema, an integer that grows; it goes into `ce_dataschema`.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow", frozen=True)

    __event__: ClassVar[EventSpec]

    def __init_subclass__(
        cls, *, name: str = "", key: str | None = None, version: int = 1, **config: Unpack[ConfigDict]
    ) -> None:
        # pydantic hands class arguments on to __pydantic_init_subclass__; this signature is for type checkers.
        super().__init_subclass__(**config)

    @classmethod
    def __pydantic_init_subclass__(cls, *, name: str = "", key: str | None = None, version: int = 1, **_: Any) -> None:
        if not name:
            return  # a shared parent of several events
        check_name(name, reserved_ok=cls.__module__.startswith("playhead."))
        if key is not None and key not in cls.model_fields:
            raise InvalidInput(f"{cls.__qualname__}: key={key!r} is not one of its fields: {list(cls.model_fields)}.")
        cls.__event__ = EventSpec(name, key, version)
        known = _catalog.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            first, second = (f"{known.__module__}.{known.__qualname__}", f"{cls.__module__}.{cls.__qualname__}")
            raise InvalidInput(f"{name!r} is defined twice: {first} and {second}.")
        _catalog[name] = cls

    def to_wire(self) -> bytes:
        """The payload as JSON: camelCase, fields that are None left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


_catalog: dict[str, type[TypedEvent]] = {}


def catalog() -> Mapping[str, type[TypedEvent]]:
    """Every event class that has been imported, by name."""
    return dict(_catalog)


@dataclass(frozen=True, slots=True)
class OutgoingEvent:
    """An event that passed every check that needs no broker.

    `minted` tells whether Playhead made the id. `when` is when it is due, where that is not now; once that is counted
    from the moment of its sending, `due_ms` is the answer.
    """

    id: str
    name: str
    key: bytes
    value: bytes
    schema: str
    minted: bool
    when: When | None = None
    due_ms: int | None = None

    @property
    def entity(self) -> str:
        return entity_of(self.name)

    def sent_at(self, now_ms: int) -> OutgoingEvent:
        """This event, as it is when it is sent now: a delay counts from here.

        Raises:
            InvalidDelay: it is due too far ahead.
        """
        if self.when is None:
            return self
        return replace(self, when=None, due_ms=self.when.due_ms(now_ms))

    def size_bytes(self) -> int:
        """Key and value, with room for the headers."""
        return len(self.key) + len(self.value) + 512

    def to_record(self, topic: str, partitions: int, source: str, now_ms: int, cause: Cause | None = None) -> Record:
        """The record on the wire."""
        headers: Headers = [
            (CE_TYPE, self.name.encode()),  # first: a job decides by it whether the record is for it
            (CE_ID, self.id.encode()),
            SPEC_VERSION_HEADER,
            (CE_SOURCE, source.encode()),
            (CE_TIME, rfc3339(now_ms).encode()),
            JSON_HEADER,
        ]
        if self.minted:
            headers.append(MINTED_HEADER)
        if self.schema:
            headers.append((CE_SCHEMA, self.schema.encode()))
        if cause is None:
            headers.append((CORRELATION, self.id.encode()))
        else:
            headers += cause.headers()
        return Record(topic, partition_for(self.key, partitions), self.key, self.value, headers, now_ms)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an event was sent: the run that sent it, and the chain that it goes on with."""

    event_id: str
    correlation_id: str
    depth: int
    run_id: str
    traceparent: bytes | None = None

    def headers(self) -> Headers:
        headers = [
            (CAUSATION, self.event_id.encode()),
            (CORRELATION, self.correlation_id.encode()),
            (DEPTH, b"%d" % self.depth),
            (SENT_BY, self.run_id.encode()),
        ]
        if self.traceparent is not None:
            headers.append((TRACEPARENT, self.traceparent))
        return headers


def outgoing(
    event: str | TypedEvent,
    payload: Mapping[str, Any] | None = None,
    *,
    id: str | None = None,
    key: str | None = None,
    delay: Delay | None = None,
    at: datetime | str | None = None,
) -> OutgoingEvent:
    """Check an event as far as that can be done without a broker.

    Args:
        event: a name, with `payload`; or a typed event, which has its own.
        id: an idempotency key: a second event with the same id starts no second run within a job's `dedupe_window`.
        key: events with the same key stay in order. A typed event has its own; without one the id spreads the load.
        delay, at: when it is due, where that is not now.

    Raises:
        InvalidEventName, InvalidPayload, InvalidDelay, InvalidInput.
    """
    if isinstance(event, TypedEvent):
        spec: EventSpec | None = getattr(event, "__event__", None)
        if spec is None:
            raise InvalidInput(f"{type(event).__qualname__} has no name: class X(TypedEvent, name='entity.action').")
        if payload is not None:
            raise InvalidInput(f"{spec.name!r} was given as a typed event; it takes no second payload.")
        name = check_name(spec.name)
        value = _typed_value(name, event)
    else:
        name = check_name(event)
        model = _catalog.get(name)
        spec = model.__event__ if model is not None else None
        event, value = _checked(name, {} if payload is None else payload, model)
    if key is None and spec is not None and spec.key is not None:
        found = getattr(event, spec.key)
        key = None if found is None else str(found)
    minted = id is None
    event_id = new_event_id() if id is None else _checked_id(id)
    key_bytes = event_id.encode() if key is None else _checked_key(name, key)
    schema = spec.schema_uri if spec is not None else ""
    return OutgoingEvent(event_id, name, key_bytes, value, schema, minted, when(delay, at))


def _checked(name: str, payload: object, model: type[TypedEvent] | None) -> tuple[Any, bytes]:
    if not isinstance(payload, Mapping):
        raise InvalidPayload(name, [("", f"it must be a JSON object, not {type(payload).__name__}")])
    try:
        if model is None:
            return payload, to_json(dict(payload))
        typed = model.model_validate(dict(payload))
        value = to_json(typed.model_dump(mode="json", by_alias=True, exclude_unset=True))
    except ValidationError as error:
        raise InvalidPayload(name, invalid_fields(error)) from error
    except ValueError as error:  # no JSON: NotJson, or pydantic's own, for a circle or for what it does not know
        raise InvalidPayload(name, [("", plain_text(error))]) from error
    _refuse_non_finite(name, value, payload)
    return typed, value


def _refuse_non_finite(name: str, value: bytes, payload: Mapping[str, Any]) -> None:
    """pydantic writes NaN as null. Where that word is not in the JSON, which is most often, nothing needs a search."""
    if b"null" in value and has_non_finite(payload):
        raise InvalidPayload(name, [("", NON_FINITE)])


def _typed_value(name: str, event: TypedEvent) -> bytes:
    try:
        value = event.to_wire()
    except ValueError as error:
        raise InvalidPayload(name, [("", plain_text(error))]) from error
    if b"null" in value:
        _refuse_non_finite(name, value, event.model_dump())
    return value


def _checked_key(name: str, key: object) -> bytes:
    if not isinstance(key, str):
        raise InvalidInput(f"key of {name!r} is text, not {type(key).__name__}.")
    try:
        key_bytes = key.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"key of {name!r} is no text that UTF-8 has: {key!r}.") from error
    if len(key_bytes) > MAX_KEY_BYTES:
        raise InvalidInput(f"key of {name!r} has {len(key_bytes)} bytes; {MAX_KEY_BYTES} are allowed.")
    return key_bytes


def _checked_id(event_id: object) -> str:
    if not isinstance(event_id, str) or not event_id or len(event_id) > MAX_ID_CHARS or not event_id.isprintable():
        raise InvalidInput(f"an id is 1 to {MAX_ID_CHARS} printable characters, not {event_id!r}.")
    return event_id


def invalid_fields(error: ValidationError) -> Sequence[tuple[str, str]]:
    """(dotted path, message) of each field that pydantic complains about."""
    return [(".".join(str(part) for part in item["loc"]), item["msg"]) for item in error.errors(include_url=False)]


def short_text(data: bytes) -> bytes:
    """What a foreign header says, as UTF-8 and at most as long as an id: what is carried on has a limit."""
    return (
        data if len(data) <= MAX_ID_CHARS and data.isascii() else data.decode(errors="replace")[:MAX_ID_CHARS].encode()
    )


class Event:
    """An event as it was read: its envelope, decoded when asked for, and its payload."""

    __slots__ = ("headers", "id", "record", "replay")

    def __init__(self, record: StoredRecord, headers: Mapping[str, bytes]) -> None:
        self.record = record
        self.headers = headers
        self.id = self._text(CE_ID)
        self.replay = replay_of(headers) if REPLAY_ID in headers else None  # there is one of these for every record

    def _text(self, name: str) -> str:
        # Kafka knows headers without a value.
        return (self.headers.get(name) or b"").decode(errors="replace")

    def check(self) -> None:
        """Raise Poison where the record is no CloudEvent in binary mode."""
        if not self.id or CE_TYPE not in self.headers:
            raise Poison("the record is no CloudEvent in binary mode: it lacks the header ce_id or ce_type.")
        if not self.has_id:
            raise Poison(f"ce_id is no text in UTF-8 of at most {MAX_ID_CHARS} characters.")

    @property
    def has_id(self) -> bool:
        """Whether it has an id that tells it from any other: a second one with the same is a repetition."""
        text = self.id
        if _REPLACEMENT in text and text.encode() != self.headers[CE_ID]:
            return False  # no UTF-8: other bytes may read the same
        return 0 < len(text) <= MAX_ID_CHARS

    @property
    def may_repeat(self) -> bool:
        """Whether another record may be the same: its id is not Playhead's, or it is a replay, which may be written
        twice where the first answer was lost."""
        return (self.replay is not None or MINTED not in self.headers) and self.has_id and bool(self.name)

    @property
    def unique_id(self) -> str:
        """What repeats where the event does: a replay repeats no event, only itself."""
        return self.id if self.replay is None else f"{self.id}\0{self.replay.id}"

    @property
    def name(self) -> str:
        return self._text(CE_TYPE)

    @property
    def source(self) -> str:
        return self._text(CE_SOURCE)

    @property
    def time(self) -> str:
        """When it happened, RFC 3339."""
        return self._text(CE_TIME)

    @property
    def subject(self) -> str:
        return self._text(CE_SUBJECT)

    @property
    def minted(self) -> bool:
        return MINTED in self.headers

    @property
    def correlation_id(self) -> str:
        """Id of the first event of the chain; the event's own where it starts one."""
        return short_text(self.headers.get(CORRELATION) or self.headers.get(CE_ID) or b"").decode()

    @property
    def causation_id(self) -> str:
        """Id of the event whose run sent this one, or empty."""
        return short_text(self.headers.get(CAUSATION) or b"").decode()

    @property
    def depth(self) -> int:
        text = self.headers.get(DEPTH) or b"0"
        return int(text) if text.isdigit() and len(text) < 6 else 0

    @property
    def traceparent(self) -> bytes | None:
        found = self.headers.get(TRACEPARENT)
        return found if found is not None and len(found) <= MAX_ID_CHARS else None

    @property
    def key(self) -> str | None:
        key = self.record.key
        return None if key is None else key.decode(errors="replace")

    def payload(self) -> Any:
        """The payload as plain JSON values."""
        value = self.record.value
        if value is None:
            raise Poison("the record has no value.")
        try:
            return from_json(value)
        except NotJson as error:
            raise Poison(str(error)) from error

    def typed_payload(self, model: type[TypedEvent]) -> TypedEvent:
        """The payload as its catalog class."""
        value = self.record.value
        if value is None:
            raise Poison("the record has no value.")
        try:
            # What model_validate_json calls; its checks of arguments that are never given cost as much again.
            return model.__pydantic_validator__.validate_json(value)  # type: ignore[no-any-return]
        except ValidationError as error:
            fields = "; ".join(f"{path or '(payload)'}: {why}" for path, why in invalid_fields(error))
            raise Poison(f"the payload does not fit {model.__qualname__}: {fields}.") from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            why = f"{type(error).__qualname__}: {plain_text(error)}"
            raise Poison(f"a validator of {model.__qualname__} raised {why}.") from error
