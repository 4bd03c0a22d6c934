"""The shapes of what history answers, for /openapi.json. `playhead.history.wire` makes them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from playhead.http.schemas import ErrorAnswer

_NEXT = Field(description="The `cursor` of the next page; null at the end. A page that has it may have fewer items.")
_TIME = Field(examples=["2027-03-01T08:00:00.000Z"])
RunState = Literal["running", "retrying", "succeeded", "failed"]
LetterState = Literal["open", "retried", "discarded"]


class EventItem(BaseModel):
    """An event that was sent."""

    id: str
    name: str = Field(description="Empty where the record is no CloudEvent.", examples=["user.created"])
    time: str = Field(description="The log's.", examples=["2027-03-01T08:00:00.000Z"])
    key: str | None
    source: str
    causationId: str | None = Field(description="The event whose run sent this one.")
    correlationId: str = Field(description="The first event of its chain.")
    sentBy: str | None = Field(description="The run that sent it.")
    topic: str
    partition: int
    offset: int


class Header(BaseModel):
    """A header that is in no field. Where it is no UTF-8, its value is in base64."""

    name: str
    value: str


class Failed(BaseModel):
    """Why an attempt failed."""

    type: str = Field(examples=["ValueError"])
    message: str
    traceback: str = ""


class RunItem(BaseModel):
    """A job that worked on an event."""

    id: str
    job: str
    version: str
    eventId: str
    eventName: str
    state: RunState
    attempt: int
    startedAt: str = _TIME
    endedAt: str | None
    durationMs: float = Field(description="Of the last attempt.")
    error: str | None = Field(description="Type and message of the last attempt's.")


class ShownEvent(EventItem):
    """The same, with what is in it and what it started."""

    headers: list[Header]
    payload: Any = Field(description="null where it is no JSON; it is in `payloadBase64` then.")
    payloadBase64: str | None = None
    runs: list[RunItem]
    deadLetters: list[str] = Field(description="Of runs on it that failed, and of jobs that could not read it.")


class Attempt(BaseModel):
    """One try of a run that has ended."""

    attempt: int | None
    state: Literal["retrying", "succeeded", "failed"]
    startedAt: str | None
    toldAt: str
    durationMs: float | None
    error: Failed | None
    dueAt: str | None = Field(description="Where it is retrying: not before when.")
    logs: list[dict[str, Any]]


class SentItem(BaseModel):
    """An event that a run sent; `name` is null where history does not have it (yet), such as a timer."""

    id: str
    name: str | None


class ShownRun(BaseModel):
    """A run with its attempts. With `as_of`, as it was told of until then."""

    id: str
    job: str
    version: str
    eventId: str
    eventName: str
    state: RunState | None = Field(description="null where it had not begun at `as_of`.")
    attempt: int
    startedAt: str = _TIME
    endedAt: str | None
    durationMs: float
    error: str | None
    replayOf: str | None = Field(description="The run, or the dead letter, that it replays.")
    input: Any = Field(description="The event's payload.")
    inputBase64: str | None = None
    output: Any
    failure: Failed | None
    sent: list[SentItem]
    attempts: list[Attempt]
    deadLetters: list[str]
    asOf: str | None = None


class ChainNode(BaseModel):
    """An event, or a run; `name` is the event's or the job's. What is not in history has no time."""

    kind: Literal["event", "run"]
    id: str
    name: str
    time: str | None
    state: str | None = None
    durationMs: float | None = None
    children: list[ChainNode]


class ChainAnswer(BaseModel):
    """The tree from the first event that is known down. `isCut` where it has more nodes than are shown."""

    root: ChainNode
    isCut: bool


class EventsAnswer(BaseModel):
    """A page of events, newest first."""

    items: list[EventItem]
    next: str | None = _NEXT


class RunsAnswer(BaseModel):
    """A page of runs, the latest beginning first."""

    items: list[RunItem]
    next: str | None = _NEXT


class Came(BaseModel):
    """What runs came to. Percentiles are within a fifth."""

    succeeded: int
    failed: int
    retries: int
    successRate: float | None = Field(description="Of those that ended, from 0 to 1; null where none did.")
    perSecond: float = Field(description="Runs that ended.")
    p50Ms: float | None
    p95Ms: float | None
    p99Ms: float | None


class CameOfJob(Came):
    """Of one job."""

    job: str


class CameInStep(CameOfJob):
    """Of one job in one step, which begins `at`."""

    at: str = _TIME


class EventCount(BaseModel):
    """How many events of a name came in one step."""

    at: str = _TIME
    name: str
    count: int


class StatsAnswer(BaseModel):
    """Sums over whole steps. Steps in which nothing happened are left out."""

    since: str = _TIME
    until: str = _TIME
    stepSeconds: int
    total: Came
    jobs: list[CameOfJob]
    items: list[CameInStep]
    events: list[EventCount] = Field(description="Empty where one job is asked for.")


class JobCounts(BaseModel):
    """How many runs a job had, by state."""

    job: str
    running: int
    retrying: int
    succeeded: int
    failed: int


class CountsAnswer(BaseModel):
    """How it was at a moment (`as_of`), as far as it has been told of since."""

    asOf: str = _TIME
    items: list[JobCounts]


class LagOfPartition(BaseModel):
    """Null where the job has no checkpoint."""

    topic: str
    partition: int
    position: int | None
    end: int
    lag: int | None


class JobLag(BaseModel):
    """How many records no checkpoint of the job covers; null where it has never run."""

    job: str
    state: str = Field(description="Of its consumer group, Kafka's word.", examples=["stable"])
    members: int
    lag: int | None
    partitions: list[LagOfPartition]


class LagAnswer(BaseModel):
    """Every job that has ever run."""

    items: list[JobLag]


class LetterItem(BaseModel):
    """A record that could not be read, or a run that will not be tried again."""

    id: str
    job: str
    state: LetterState
    time: str = _TIME
    settledAt: str | None
    reason: str
    runId: str | None = Field(description="null where no run began.")
    eventId: str | None
    eventName: str | None
    replayRunId: str | None = Field(description="Of a letter that is retried: the run that works on it again.")


class LetterRecord(BaseModel):
    """The record, as it was."""

    topic: str
    partition: int
    offset: int
    time: str = _TIME
    key: str | None
    headers: list[Header]
    leftOut: list[str] = Field(description="What is too large for the letter. A retry reads it from the log again.")
    value: Any
    valueBase64: str | None = None


class ShownLetter(LetterItem):
    """The same, with the record that is in it."""

    attempts: int
    failure: Failed | None
    record: LetterRecord | None


class LettersAnswer(BaseModel):
    """A page of dead letters, newest first."""

    items: list[LetterItem]
    next: str | None = _NEXT


class SettledLetter(BaseModel):
    """What became of it. `runId` is that of the run that works on it again."""

    id: str
    outcome: Literal["retried", "discarded"]
    runId: str | None


class SettledAnswer(BaseModel):
    """It is done."""

    success: Literal[True]
    message: str
    result: SettledLetter


class ItemSettled(BaseModel):
    """This one is settled."""

    id: str
    success: Literal[True]
    result: SettledLetter


class ItemNotSettled(ErrorAnswer):
    """This one is not. `status` is what settling it alone would have answered."""

    id: str
    success: Literal[False]
    status: int = Field(ge=400, le=599)


class ManySettledAnswer(BaseModel):
    """A result for each, in their order."""

    results: list[ItemSettled | ItemNotSettled]
