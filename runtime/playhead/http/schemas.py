"""The shapes of requests and answers, for /openapi.json. `envelope` reads requests, and takes its names from here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from playhead.events import MAX_NAME_CHARS
from playhead.http.limits import DEFAULT_LIMITS
from playhead.serde import MAX_ID_CHARS

_CLOSED = ConfigDict(extra="forbid")
_AT = "ISO 8601 with its zone: send it then, at once where that has passed. Not together with `delay`."


class DelayParts(BaseModel):
    """How long from now, by unit; the parts are added up. At most a hundred years."""

    model_config = _CLOSED

    weeks: float = Field(default=0, ge=0)
    days: float = Field(default=0, ge=0)
    hours: float = Field(default=0, ge=0, examples=[24])
    minutes: float = Field(default=0, ge=0)
    seconds: float = Field(default=0, ge=0)
    milliseconds: float = Field(default=0, ge=0)


class TriggerRequest(BaseModel):
    """One event."""

    model_config = _CLOSED

    event: str = Field(
        max_length=MAX_NAME_CHARS,
        pattern=r"^[a-z](-?[a-z0-9])*(\.[a-z](-?[a-z0-9])*)+$",
        description="Its name: the entity, a dot, the action; lower case.",
        examples=["user.created"],
    )
    payload: dict[str, Any] | None = Field(
        default=None,
        description="Its data, a JSON object; {} where it is missing. Checked where the catalog knows the event.",
        examples=[{"email": "ada@example.com", "name": "Ada", "userId": "7"}],
    )
    id: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_ID_CHARS,
        description="An idempotency key, kept as the event's id: sent twice, it starts one run per job. "
        "Made by Playhead where it is missing. The header Idempotency-Key means the same.",
        examples=["signup-7"],
    )
    key: str | None = Field(
        default=None,
        description="Events with the same key stay in order. At most 1,024 bytes.",
        examples=["7"],
    )
    delay: DelayParts | None = Field(
        default=None, description="Send it so much later. Its id is then the timer's. Not together with `at`."
    )
    at: str | None = Field(default=None, description=_AT, examples=["2027-03-01T09:00:00+01:00"])


class MoveRequest(BaseModel):
    """When a timer is to fire instead: one of the two."""

    model_config = _CLOSED

    delay: DelayParts | None = None
    at: str | None = Field(default=None, description=_AT, examples=["2027-03-01T09:00:00+01:00"])


class BatchRequest(BaseModel):
    """Many events. They are taken one by one: some may be sent and others refused."""

    model_config = _CLOSED

    events: list[TriggerRequest] = Field(max_length=DEFAULT_LIMITS.batch_events)


class Location(BaseModel):
    """Where the event is in the log."""

    id: str = Field(description="The event's id.", examples=["01997f3e-5b7a-7000-9c1d-6a8f5a0c1b2d"])
    topic: str = Field(examples=["user"])
    partition: int = Field(ge=0, examples=[2])
    offset: int | None = Field(
        ge=0,
        examples=[1042],
        description="null where the event is in the log and the broker no longer knows at which offset: its first "
        "answer was lost, and the request was repeated.",
    )
    dueAt: str | None = Field(
        default=None,
        description="Of an event that is sent later: when. It is in topic `delay` until then. Missing otherwise.",
        examples=["2027-03-01T08:00:00Z"],
    )


class TriggerAnswer(BaseModel):
    """The event is in the log of every in-sync replica."""

    success: Literal[True]
    message: str = Field(examples=["Event user.created sent"])
    result: Location


class TimerPlace(BaseModel):
    """The timer."""

    id: str
    outcome: Literal["canceled", "rescheduled"]
    dueAt: str | None = Field(default=None, description="When it fires now. Missing where it was canceled.")


class TimerAnswer(BaseModel):
    """The timer never fires; where it was moved, `id` is the new one's."""

    success: Literal[True]
    message: str = Field(examples=["Timer 01997f3e-5b7a-7000-9c1d-6a8f5a0c1b2d canceled"])
    result: TimerPlace


class PendingTimer(BaseModel):
    """An event that is to be sent later."""

    id: str = Field(examples=["01997f3e-5b7a-7000-9c1d-6a8f5a0c1b2d"])
    event: str = Field(description="Its name.", examples=["user.created"])
    key: str = Field(description="The key that it will have.")
    dueAt: str = Field(examples=["2027-03-01T08:00:00.000Z"])
    schedule: str | None = Field(description="The job whose schedule it is an occurrence of.")


class ShownTimer(PendingTimer):
    """The same, with what is in it."""

    payload: Any


class TimersAnswer(BaseModel):
    """A page, by due time."""

    items: list[PendingTimer]
    next: str | None = Field(
        description="The `cursor` of the next page; null at the end. A page that has it may have fewer items than "
        "`limit`, also none, where only one name was asked for."
    )


class JobSchedule(BaseModel):
    """A job that runs by the clock."""

    job: str = Field(examples=["report"])
    schedule: str = Field(description="For people.", examples=["cron 0 9 * * 1-5 in Europe/Berlin"])
    zone: str | None = Field(description="Of a cron; null for an interval.", examples=["Europe/Berlin"])
    catchUp: Literal["skip", "one", "all"] = Field(description="What becomes of occurrences that were missed.")
    jitterMs: int = Field(ge=0, description="Up to so much later each of them fires.")
    armed: bool = Field(description="Whether a scheduler has taken it up.")
    next: list[str] = Field(
        description="When it is due next, without jitter. A first moment that has passed waits for a scheduler.",
        examples=[["2027-03-01T08:00:00.000Z"]],
    )


class SchedulesAnswer(BaseModel):
    """Every job that has declared a schedule."""

    items: list[JobSchedule]


class DoneAnswer(BaseModel):
    """It is done."""

    success: Literal[True]
    message: str


class SettleRequest(BaseModel):
    """Dead letters to retry or to discard."""

    model_config = _CLOSED

    ids: list[str] = Field(min_length=1, max_length=500, examples=[["01997f3e-5b7a-7000-9c1d-6a8f5a0c1b2d"]])


class MissingAnswer(BaseModel):
    """There is no event, or it is empty."""

    error: Literal["Missing required fields"]


class FieldError(BaseModel):
    """An offending field."""

    field: str = Field(description="Its path with dots, as on the wire.", examples=["email"])
    error: str = Field(examples=["Field required"])


class ErrorAnswer(BaseModel):
    """What is wrong and what to do. Beyond these four fields, an error says what it knows, such as `fields`."""

    error: str = Field(description="What is wrong, for people.")
    code: str = Field(pattern=r"^PH\d{3}$", description="Stable. ERRORS.md lists PH1 to PH5; the API's README, PH6.")
    remedy: str = Field(description="What can be done about it.")
    rule: str | None = Field(default=None, description="The naming rule that is broken (PH101).")
    suggestion: str | None = Field(default=None, description="A name that would pass (PH101).")
    fields: list[FieldError] | None = Field(default=None, description="The offending fields (PH102, PH109, PH607).")
    topic: str | None = Field(default=None, description="The topic that does not exist (PH104).")
    sizeBytes: int | None = Field(default=None, description="Size of the event (PH103).")
    limitBytes: int | None = Field(default=None, description="What is taken at most (PH103, PH604).")
    limitEvents: int | None = Field(default=None, description="Events that a batch takes (PH605).")
    missing: list[str] | None = Field(default=None, description="What is not ready (PH612).")


class ItemSent(BaseModel):
    """The event in this place is in the log."""

    success: Literal[True]
    result: Location


class ItemFailed(ErrorAnswer):
    """The event in this place is not acknowledged. `status` is what POST /trigger would have answered."""

    success: Literal[False]
    status: int = Field(ge=400, le=599, examples=[422])


class BatchAnswer(BaseModel):
    """A result per event, in their order."""

    results: list[ItemSent | ItemFailed]


class BatchUnavailable(ErrorAnswer):
    """No event of the batch is acknowledged, because the broker is away."""

    results: list[ItemFailed]


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Ready(BaseModel):
    """Everything that this process knows of is there."""

    status: Literal["ready"]
