"""Jobs: what a user declares with `@client.job(...)`. Pure; the engine runs them."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any, Generic, Literal, TypeAlias, TypedDict, TypeVar, overload

from playhead.errors import InvalidJob, InvalidSchedule
from playhead.events import Event, TypedEvent, check_name, entity_of
from playhead.retry import RetryPolicy
from playhead.schedule import CatchUp, CronSchedule, IntervalSchedule, Schedule, check_catch_up, check_jitter_ms
from playhead.topics import SCHEDULE

P = TypeVar("P")
E = TypeVar("E", bound=TypedEvent)

_JOB_ID = re.compile(r"[a-z](?:-?[a-z0-9])*")
MAX_JOB_ID_CHARS = 100
MAX_DEDUPE_WINDOW_SECONDS = 30 * 86_400

Filter: TypeAlias = Callable[[P], bool] | Mapping[str, Any]


class Trigger(Generic[P]):
    """What starts a job's runs, whose function is then given a P."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class EventTrigger(Trigger[P]):
    """Starts a run for each event of this name that passes the filter. Made by `event_trigger`."""

    name: str
    model: type[TypedEvent] | None
    filter: Filter[P] | None = None

    @property
    def entity(self) -> str:
        return entity_of(self.name)

    def payload_of(self, event: Event) -> Any:
        """What the job's function is given: a catalog object for a class, a dict for a name.

        Raises:
            Poison: the payload can't be read.
        """
        return event.payload() if self.model is None else event.typed_payload(self.model)

    def accepts(self, payload: Any) -> bool:
        """Whether the payload passes the filter."""
        condition = self.filter
        if condition is None:
            return True
        if isinstance(condition, Mapping):
            values = payload.model_dump(by_alias=True) if isinstance(payload, TypedEvent) else payload
            return all(_matches(values.get(name), wanted) for name, wanted in condition.items())
        return bool(condition(payload))


def _matches(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, list | tuple | set | frozenset) else bool(value == wanted)


@overload
def event_trigger(event: type[E], *, filter: Filter[E] | None = None) -> EventTrigger[E]: ...
@overload
def event_trigger(event: str, *, filter: Filter[Any] | None = None) -> EventTrigger[Any]: ...
def event_trigger(event: str | type[TypedEvent], *, filter: Filter[Any] | None = None) -> EventTrigger[Any]:
    """Start a run for each event of this name.

    Args:
        event: a name, or a class of the catalog: then the function gets that class.
        filter: a function of the payload, or a mapping from field (as on the wire) to a value or a list of values.

    Raises:
        InvalidEventName: the name breaks the convention.
        InvalidJob: the filter can't be used.
    """
    wanted: Any = filter  # whatever a caller gives: checked here, and not narrowed to what no trigger takes
    if filter is not None and not callable(filter) and not isinstance(filter, Mapping):
        raise InvalidJob(f"filter is a function or a mapping of fields to values, not {type(filter).__name__}.")
    if isinstance(event, str):
        return EventTrigger(check_name(event, reserved_ok=True), None, wanted)
    if not hasattr(event, "__event__"):
        what = getattr(event, "__qualname__", repr(event))
        raise InvalidJob(f"{what} has no name: class X(TypedEvent, name='entity.action').")
    if isinstance(filter, Mapping):
        _check_wire_names(filter, event)
    return EventTrigger(event.__event__.name, event, wanted)


def _check_wire_names(names: Iterable[str], event: type[TypedEvent]) -> None:
    """Refuse Python's name of a field that is called otherwise on the wire: no event would ever pass."""
    for name in names:
        field = event.model_fields.get(name)
        if field is not None and field.alias is not None and field.alias != name:
            raise InvalidJob(
                f"filter asks {event.__qualname__} for {name!r}, which is {field.alias!r} on the wire.",
                remedy=f"Write {field.alias!r}.",
            )


class Occurrence(TypedEvent):
    """What a cron job or an interval job is given: one due time of its schedule.

    `due_at` is the schedule's own time, whenever the run starts; `previous_due_at` the one that fired before, if any.
    """

    job_id: str
    due_at: datetime
    previous_due_at: datetime | None = None


def occurrence_event(job_id: str) -> str:
    """The event that an occurrence is: each scheduled job has one of its own, in topic `schedule`."""
    return f"{SCHEDULE}.{job_id}"


@dataclass(frozen=True, slots=True)
class ScheduleTrigger(Trigger[Occurrence]):
    """Starts a run whenever the schedule is due. Made by `cron_trigger` and `interval_trigger`."""

    schedule: Schedule
    catch_up: CatchUp = "one"
    jitter_ms: int = 0

    def to_wire(self) -> dict[str, Any]:
        """What the scheduler is told."""
        return {"schedule": self.schedule.to_wire(), "catchUp": self.catch_up, "jitterMs": self.jitter_ms}


def cron_trigger(
    expression: str, *, timezone: str = "UTC", catch_up: CatchUp = "one", jitter: timedelta | float = 0.0
) -> ScheduleTrigger:
    """Start a run whenever the cron expression is due. The function is given an `Occurrence`.

    Args:
        expression: five fields, or `@daily` and the like; `playhead/cron.py` shows them.
        timezone: IANA name. A time that a change of the clock skips fires at the end of the gap; one that comes twice
            fires the first time.
        catch_up: after an outage, of what is more than a minute late: "skip" runs none, "one" the latest, "all" the
            newest 1,000.
        jitter: up to so much later, a timedelta or seconds; the same for each due time wherever it is computed.

    Raises:
        InvalidSchedule.
    """
    return _scheduled(CronSchedule(expression, timezone), catch_up, jitter)


def interval_trigger(
    every: timedelta | float,
    *,
    anchor: datetime | None = None,
    catch_up: CatchUp = "one",
    jitter: timedelta | float = 0.0,
) -> ScheduleTrigger:
    """Start a run each time this much has passed. The function is given an `Occurrence`.

    Args:
        every: a timedelta or seconds; at least a second.
        anchor: an aware datetime that is a due time; all others are in step with it. Without: 1970-01-01T00:00:00Z.
        catch_up, jitter: as `cron_trigger`.

    Raises:
        InvalidSchedule.
    """
    return _scheduled(IntervalSchedule.of(every, anchor), catch_up, jitter)


def _scheduled(schedule: Schedule, catch_up: CatchUp, jitter: timedelta | float) -> ScheduleTrigger:
    check_catch_up(catch_up)
    seconds = jitter.total_seconds() if isinstance(jitter, timedelta) else float(jitter)
    if not math.isfinite(seconds):
        raise InvalidSchedule(f"a jitter of {seconds} s.", remedy="Give a timedelta, or seconds.")
    jitter_ms = round(seconds * 1000)
    check_jitter_ms(jitter_ms)
    return ScheduleTrigger(schedule, catch_up, jitter_ms)


Start = Literal["now", "earliest"] | datetime


class JobOptions(TypedDict, total=False):
    """What a job may be told beside its id, name, version and trigger; `Client.define_job` says what each means."""

    concurrency: int
    order: Literal["key", "none"]
    retry: RetryPolicy | None
    timeout: timedelta | float | None
    start: Start
    executor: Literal["thread", "process"]
    dedupe_window: timedelta | float


def check_options(job_id: str, options: Iterable[str]) -> None:
    """Refuse what is no option of a job.

    Raises:
        InvalidJob: it names the nearest that is one.
    """
    known = list(JobOptions.__annotations__)
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            remedy = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(known)}."
            raise InvalidJob(f"job {job_id!r}: there is no option {name!r}.", remedy=remedy)


@dataclass(frozen=True, slots=True)
class Job:
    """A job: one consumer group. Every field but the function has a limit or a meaning that `client.job` documents."""

    id: str
    name: str
    version: str
    trigger: EventTrigger[Any]
    function: Callable[..., Any]
    concurrency: int = 100
    order: Literal["key", "none"] = "key"
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    attempt_timeout_seconds: float | None = None
    start: Start = "now"
    executor: Literal["thread", "process"] = "thread"
    dedupe_window_seconds: float = 3600.0
    schedule: ScheduleTrigger | None = None
    """Where it runs by the clock; `trigger` is then on its own occurrences."""

    def __post_init__(self) -> None:
        if not _JOB_ID.fullmatch(self.id) or len(self.id) > MAX_JOB_ID_CHARS:
            raise InvalidJob(
                f"job id {self.id!r}: lower case letters, digits and hyphens, starting with a letter, "
                f"at most {MAX_JOB_ID_CHARS} characters."
            )
        if not callable(self.function):
            raise InvalidJob(f"job {self.id!r}: run={self.function!r} is no function.")
        wanted: Any = self  # whatever a caller gave, and not what the types say
        if not isinstance(wanted.name, str) or not isinstance(wanted.version, str):
            raise InvalidJob(f"job {self.id!r}: name and version are text.")
        if not isinstance(wanted.retry, RetryPolicy):
            raise InvalidJob(
                f"job {self.id!r}: retry is a RetryPolicy, not {self.retry!r}.",
                remedy="Write retry=RetryPolicy(max_attempts=3), or NO_RETRY.",
            )
        if self.concurrency < 1:
            raise InvalidJob(f"job {self.id!r}: concurrency is at least 1, not {self.concurrency}.")
        if self.attempt_timeout_seconds is not None and not self.attempt_timeout_seconds > 0:
            raise InvalidJob(f"job {self.id!r}: timeout is more than 0 seconds.")
        if not 0 <= self.dedupe_window_seconds <= MAX_DEDUPE_WINDOW_SECONDS:
            raise InvalidJob(f"job {self.id!r}: dedupe_window is from 0 to {MAX_DEDUPE_WINDOW_SECONDS // 86_400} days.")
        if self.order not in ("key", "none"):
            raise InvalidJob(f"job {self.id!r}: order is 'key' or 'none', not {self.order!r}.")
        if self.executor not in ("thread", "process"):
            raise InvalidJob(f"job {self.id!r}: executor is 'thread' or 'process', not {self.executor!r}.")
        if isinstance(self.start, datetime) and self.start.tzinfo is None:
            raise InvalidJob(f"job {self.id!r}: start={self.start!r} has no time zone.")
        if self.start not in ("now", "earliest") and not isinstance(self.start, datetime):
            raise InvalidJob(f"job {self.id!r}: start is 'now', 'earliest' or a datetime, not {self.start!r}.")
        if self.executor == "process" and self.is_async:
            raise InvalidJob(f"job {self.id!r}: executor='process' is for plain functions; this one is async.")
        self._check_signature()

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    def _check_signature(self) -> None:
        try:
            inspect.signature(self.function).bind("payload", "io")
        except TypeError as error:
            raise InvalidJob(f"job {self.id!r}: its function takes (payload, io): {error}.") from error
        except ValueError:
            return  # a builtin without a signature
