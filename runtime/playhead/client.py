"""The client: what services send with, and what jobs are declared on.

    client = Client("acme")

    async with client:                                   # in a service: connect now, flush and close at the end
        sent = await client.send_event("user.created", {"email": "ada@example.com"})

    @client.job(id="welcome", name="Welcome", version="1.0.0", trigger=event_trigger(UserCreated))
    async def welcome(payload: UserCreated, io: IO) -> None: ...

A send answers only when the event is in the log of every in-sync replica. Inside a run it goes into the run's commit.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, Unpack, overload
from weakref import WeakKeyDictionary

from playhead.broker.contract import Appended, Broker
from playhead.clock import SYSTEM_CLOCK, Clock
from playhead.config import Settings
from playhead.delay import Delay, when
from playhead.errors import BrokerUnavailable, InvalidDelay, InvalidInput, InvalidJob, PlayheadError, TimerKept, TooLate
from playhead.events import OutgoingEvent, TypedEvent, outgoing
from playhead.ids import new_event_id
from playhead.io import IO, SyncIO
from playhead.job import (
    EventTrigger,
    Job,
    JobOptions,
    Occurrence,
    ScheduleTrigger,
    Start,
    Trigger,
    check_options,
    occurrence_event,
)
from playhead.metrics import EVENTS_SENT, SENDS_FAILED, Samples
from playhead.retry import RetryPolicy
from playhead.sending import SentEvent, current_run_sends, fitting_topic, record_of, sent
from playhead.timer import CANCELED, KEPT, RESCHEDULED, Request, may_be_id, new_request
from playhead.timers.asking import ask
from playhead.topics import DELAY

P = TypeVar("P")
R = TypeVar("R")

JobFunction: TypeAlias = (
    Callable[[P, IO], Coroutine[Any, Any, Any]] | Callable[[P, SyncIO], Any] | Callable[[P, None], Any]
)
"""An async function, a plain one, which runs in a thread, or one that runs in a process and gets no `io`."""


class Declare(Protocol[P]):
    """Takes the function of a job whose payload is a P, and gives it back."""

    @overload
    def __call__(
        self, function: Callable[[P, IO], Coroutine[Any, Any, R]]
    ) -> Callable[[P, IO], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[[P, SyncIO], R]) -> Callable[[P, SyncIO], R]: ...
    @overload
    def __call__(self, function: Callable[[P, None], R]) -> Callable[[P, None], R]: ...


_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_open_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Client]] = WeakKeyDictionary()


class Client:
    """A named source of events, and a list of jobs.

    Args:
        id: names the service; events carry it as their source, `/playhead/<id>`.
        settings: how to reach the broker; from the environment where not given.
        broker: a broker that the caller starts and stops (tests, the worker); else the client makes its own.
    """

    def __init__(
        self,
        id: str,
        *,
        settings: Settings | None = None,
        broker: Broker | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not _CLIENT_ID.fullmatch(id):
            raise InvalidInput(f"client id {id!r}: letters, digits, dot, hyphen, underscore; at most 64.")
        self.id = id
        self.source = f"/playhead/{id}"
        self.jobs: dict[str, Job] = {}
        self._settings = settings
        self._given_broker = broker
        self._broker: Broker | None = None
        self._clock = clock
        self._connecting: asyncio.Task[Broker] | None = None
        self._closed = False
        self._sent: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            self._settings = Settings.from_env()
        return self._settings

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Connect. Sending does it too, at the first event; a service that starts its client fails early instead.

        Raises:
            BrokerUnavailable, BrokerTooOld.
        """
        self._closed = False
        await self._connected()

    async def close(self) -> None:
        """Wait for what is being sent, and close the connections. Sending raises RuntimeError until `start`."""
        self._closed = True
        if self._connecting is not None and not self._connecting.done():
            await asyncio.wait({self._connecting})  # else its connections would stay open
        broker, self._broker = self._broker, None
        if broker is None:
            return
        opened = _open_clients.get(asyncio.get_running_loop(), [])
        if self in opened:
            opened.remove(self)
        if broker is not self._given_broker:
            await broker.stop()

    async def __aenter__(self) -> Client:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def broker(self) -> Broker:
        """The broker that it sends to; connects where it has not yet.

        Raises:
            BrokerUnavailable, BrokerTooOld.
        """
        return await self._connected()

    async def _connected(self) -> Broker:
        if self._broker is not None:
            return self._broker
        if self._closed:  # connecting again would leave connections open that nobody closes
            raise RuntimeError("this client is closed; start() opens it again")
        # One attempt for all who wait: with one of its own, each would wait for those of all before it.
        attempt = self._connecting
        if attempt is None or attempt.done():
            attempt = self._connecting = asyncio.create_task(self._connect(), name=f"connect {self.id}")
        await asyncio.wait({attempt})
        return attempt.result()

    async def _connect(self) -> Broker:
        broker = self._given_broker
        if broker is None:
            # Imported here: a program that only declares jobs or types needs no Kafka client.
            from playhead.broker.kafka import KafkaBroker

            broker = KafkaBroker(self.settings)
            await broker.start()
        self._broker = broker
        _open_clients.setdefault(asyncio.get_running_loop(), []).append(self)
        return broker

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def send_event(
        self,
        event: str | TypedEvent,
        payload: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        key: str | None = None,
        delay: Delay | None = None,
        at: datetime | str | None = None,
    ) -> SentEvent:
        """Send one event, now or later.

        Args:
            event: a name, with `payload`; or a typed event, which has its own.
            id: an idempotency key, kept as the event's id: sending it twice with the same key starts one run per job
                (within the job's `dedupe_window`, an hour by default). Who sent it does not count: two services must
                not use the same ids.
            key: events with the same key stay in order, and are worked on one after the other.
            delay: a timedelta, or numbers by unit: `{"hours": 24}`.
            at: an aware datetime, or ISO 8601 text with its zone. Not together with `delay`.

        Returns:
            Where it is. With `delay` or `at` it is a timer: its id is what `cancel_event` takes, `due_at` is when it is
            sent: never earlier on the scheduler's clock. A delay of 0 and a moment that has passed are due at once.

        Raises:
            InvalidEventName, InvalidPayload, InvalidDelay, EventTooLarge, UnknownTopic, NotAuthorized: nothing was
                written.
            BrokerUnavailable: no answer within `send_timeout_seconds`; it may have been written.
        """
        out = outgoing(event, payload, id=id, key=key, delay=delay, at=at)
        run_sends = current_run_sends.get()
        if run_sends is not None:
            return await run_sends.send(out)
        (result,) = await self.send_all([out])
        if isinstance(result, Exception):
            raise result
        return result

    async def send_events(
        self, events: Iterable[TypedEvent | OutgoingEvent | tuple[str, Mapping[str, Any]]]
    ) -> list[SentEvent | PlayheadError]:
        """Send many events at once; a result per event, in their order. Those of one key keep their order."""
        prepared: list[OutgoingEvent | PlayheadError] = []
        for event in events:
            try:
                if isinstance(event, OutgoingEvent):
                    prepared.append(event)
                else:
                    prepared.append(outgoing(*event) if isinstance(event, tuple) else outgoing(event))
            except PlayheadError as error:
                prepared.append(error)
        return await self.send_all(prepared)

    async def send_all(self, events: Iterable[OutgoingEvent | PlayheadError]) -> list[SentEvent | PlayheadError]:
        """Append prepared events; what was refused already keeps its place."""
        results: list[SentEvent | PlayheadError] = []
        records, places = [], []
        now_ms = int(self._clock.time() * 1000)
        away: BrokerUnavailable | None = None
        for event in events:
            if isinstance(event, PlayheadError):
                results.append(event)
                continue
            if away is not None:  # the batch waits for the broker once, not each of its events
                results.append(away)
                continue
            try:
                event = event.sent_at(now_ms)
                broker = await self._connected()
                topic = await fitting_topic(broker, self.settings.topic_prefix, event)
            except BrokerUnavailable as error:
                results.append(away := error)
                continue
            except PlayheadError as error:
                results.append(error)
                continue
            record = record_of(event, topic.name, topic.partitions, self.source, now_ms)
            places.append(len(results))
            records.append(record)
            results.append(sent(event, record.topic, record.partition))
        if records:
            for place, appended in zip(places, await (await self._connected()).append(records), strict=True):
                results[place] = _result(results[place], appended)
        for result in results:
            if isinstance(result, SentEvent):
                self._sent[result.topic] += 1
            else:
                self._failed[result.code] += 1
        return results

    def samples(self) -> Samples:
        """What it has sent, for /metrics."""
        for topic, count in self._sent.items():
            yield EVENTS_SENT.sample(count, topic)
        for code, count in self._failed.items():
            yield SENDS_FAILED.sample(count, code)

    # ── timers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def cancel_event(self, timer_id: str) -> bool:
        """Cancel a timer: True where it never fires, False where it has fired (or was canceled before, or never was).

        The scheduler decides, so exactly one of the two wins. It does so at once, also inside a run.

        Raises:
            SchedulerSilent: no scheduler answered within `send_timeout_seconds`; the request stays in the log.
            UnknownTopic, NotAuthorized, BrokerUnavailable.
        """
        return may_be_id(timer_id) and await self._ask_scheduler(new_request(timer_id)) == CANCELED

    async def reschedule_event(
        self, timer_id: str, *, delay: Delay | None = None, at: datetime | str | None = None
    ) -> tuple[str, datetime]:
        """Move a timer to another moment: its new id, and when it is due. The old one never fires.

        Raises:
            TooLate: it has fired, or was canceled before; nothing was changed.
            TimerKept: the broker refuses it in its new place; it is due when it was.
            InvalidDelay: neither or both are given, or one can't be used.
            SchedulerSilent, UnknownTopic, NotAuthorized, BrokerUnavailable: as `cancel_event`.
        """
        wanted = when(delay, at)
        if wanted is None:
            raise InvalidDelay("delay", "it is missing: say when the event is to be sent instead.")
        due_ms = wanted.due_ms(int(self._clock.time() * 1000))
        if not may_be_id(timer_id):
            raise TooLate(timer_id)
        request = new_request(timer_id, new_id=new_event_id(), due_ms=due_ms)
        outcome = await self._ask_scheduler(request)
        if outcome != RESCHEDULED:
            raise TimerKept(timer_id) if outcome == KEPT else TooLate(timer_id)
        return request.new_id, datetime.fromtimestamp(due_ms / 1000, UTC)

    async def _ask_scheduler(self, request: Request) -> str:
        broker = await self._connected()
        topic = self.settings.topic_prefix + DELAY
        return await ask(broker, topic, request, self._clock, self.settings.send_timeout_seconds)

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def job(
        self, *, id: str, name: str, version: str, trigger: Trigger[P], **options: Unpack[JobOptions]
    ) -> Declare[P]:
        """Declare the decorated function as a job. The arguments are those of `define_job`, less `run`."""

        def declare(function: Callable[[P, Any], R]) -> Callable[[P, Any], R]:
            self.define_job(id=id, name=name, version=version, trigger=trigger, run=function, **options)
            return function

        return declare

    def define_job(
        self,
        *,
        id: str,
        name: str,
        version: str,
        trigger: Trigger[P],
        run: JobFunction[P],
        **options: Unpack[JobOptions],
    ) -> Job:
        """Declare a job: one consumer group, one run for each event that its trigger names.

        Args:
            id: names the consumer group; changing it makes a new group.
            name: for people.
            version: of the code; kept with each run.
            trigger: `event_trigger(...)`, `cron_trigger(...)` or `interval_trigger(...)`.
            run: `async def (payload, io)`, or a plain function, which runs in a thread (or in a process, with
                `executor="process"`, for work that needs the CPU; it must then be importable and gets `io=None`).
            concurrency: how many runs a worker has going at once.
            order: "key": events with the same key are worked on one after the other; "none": all at once.
            retry: when a failed attempt is tried again; four attempts with growing delays by default.
            timeout: of one attempt, in seconds or as a timedelta.
            start: where a new group begins: "now", "earliest", or an aware datetime.
            dedupe_window: for how long ids that a caller chose are remembered.

        Raises:
            InvalidJob: the definition contradicts itself, or the id is taken.
        """
        if id in self.jobs:
            raise InvalidJob(f"job id {id!r} is defined twice; the id names the consumer group, so it must be unique.")
        check_options(id, options)
        job = _job(id, name, version, trigger, run, **options)
        self.jobs[id] = job
        return job


def _job(
    id: str,
    name: str,
    version: str,
    trigger: Trigger[Any],
    run: Callable[..., Any],
    *,
    concurrency: int = 100,
    order: Literal["key", "none"] = "key",
    retry: RetryPolicy | None = None,
    timeout: timedelta | float | None = None,
    start: Start = "now",
    executor: Literal["thread", "process"] = "thread",
    dedupe_window: timedelta | float = 3600.0,
) -> Job:
    schedule = trigger if isinstance(trigger, ScheduleTrigger) else None
    if schedule is not None:
        trigger = EventTrigger(occurrence_event(id), Occurrence)
    if not isinstance(trigger, EventTrigger):
        raise InvalidJob(f"job {id!r}: trigger is event_trigger(...), cron_trigger(...) or interval_trigger(...).")
    return Job(
        id=id,
        name=name,
        version=version,
        trigger=trigger,
        schedule=schedule,
        function=run,
        concurrency=concurrency,
        order=order,
        retry=retry if retry is not None else RetryPolicy(),
        attempt_timeout_seconds=None if timeout is None else _seconds(timeout),
        start=start,
        executor=executor,
        dedupe_window_seconds=_seconds(dedupe_window),
    )


async def send_event(
    event: str | TypedEvent,
    payload: Mapping[str, Any] | None = None,
    *,
    id: str | None = None,
    key: str | None = None,
    delay: Delay | None = None,
    at: datetime | str | None = None,
) -> SentEvent:
    """Send one event: inside a run with the run, else through the client that is open in this event loop.

    Where none is open, one is made from the environment and stays open until the process ends. See `Client.send_event`.
    """
    opened = _open_clients.get(asyncio.get_running_loop())
    client = opened[-1] if opened else Client("default")
    return await client.send_event(event, payload, id=id, key=key, delay=delay, at=at)


def _result(result: SentEvent | PlayheadError, appended: Appended | Exception) -> SentEvent | PlayheadError:
    assert isinstance(result, SentEvent)
    if isinstance(appended, Appended):
        return result._replace(partition=appended.partition, offset=appended.offset)
    if isinstance(appended, PlayheadError):
        return appended
    raise appended


def _seconds(value: timedelta | float) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
