"""What is pending, as anybody can read it: stores that follow topic `delay`, brought up to its end for each question.

    question ──▶ what was appended since the last one is read into the stores ──▶ a query by index

They are a cache like the scheduler's, in files of their own. Only the first question (or one after half a day) reads
much; it may be answered with TimersUnread, and what it began goes on.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import structlog

from playhead.broker.contract import Broker, Partition, TopicInfo
from playhead.clock import SYSTEM_CLOCK, Clock
from playhead.errors import InvalidInput, TimersUnread
from playhead.records import StoredRecord
from playhead.serde import PARTITION_KEY, rfc3339
from playhead.timer import Timer, may_be_id
from playhead.timers.store import COMMIT_RECORDS, Place, StoreBroken, TimerStore, delete_retention_ms, open_store
from playhead.topics import partition_for

T = TypeVar("T")

PAGE_TIMERS_MAX = 1_000
SCANNED_TIMERS_MAX = 10_000
"""What one page looks at, where only some names are wanted: it may then have fewer than asked for, and go on."""
CACHE_KIB = 32 * 1024
_FOR_EVER_MS = 1 << 62
_LOOK_TIMERS = 500


class Position(NamedTuple):
    """Of a timer among all of the topic. Timers that come or go do not move the others."""

    due_ms: int
    partition: int
    offset: int

    def cursor(self) -> str:
        """As text, for whoever asks for the next page."""
        return urlsafe_b64encode("-".join(map(str, self)).encode()).decode().rstrip("=")


START = Position(-1, -1, -1)


def read_cursor(text: str) -> Position:
    """What `Position.cursor` gave.

    Raises:
        InvalidInput: it is none.
    """
    try:
        position = Position(*map(int, urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split("-")))
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"cursor {text[:60]!r} is none.", remedy="Give `next` of the page before.") from error
    if not all(0 <= number < _FOR_EVER_MS for number in position):
        raise InvalidInput(f"cursor {text[:60]!r} is none.", remedy="Give `next` of the page before.")
    return position


class Page(NamedTuple):
    """Timers by due time, and where to go on; `after` is None at the end."""

    timers: Sequence[Timer]
    after: Position | None


def shown(timer: Timer) -> dict[str, Any]:
    """A timer as the HTTP API and the command line show it, without its payload."""
    return {
        "id": timer.id,
        "event": timer.name,
        "key": (timer.header(PARTITION_KEY) or b"").decode(errors="replace"),
        "dueAt": rfc3339(timer.due_ms),
        "schedule": timer.schedule or None,
    }


class PendingTimers:
    """The pending timers of one installation, in local stores.

    Args:
        broker: gives it, once it is there.
        topic: `delay`, prefix included.
        folder: for the stores, this process's alone; None keeps them in memory.
        wait_seconds: how long a question waits for the stores to be brought up to the end; None: as long as it takes.
    """

    def __init__(
        self,
        broker: Callable[[], Awaitable[Broker]],
        topic: str,
        *,
        folder: Path | None,
        wait_seconds: float | None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._broker = broker
        self._topic = topic
        self._folder = folder
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._stores: dict[int, TimerStore] = {}
        self._info: TopicInfo | None = None
        self._whole = False
        """Whether the stores have been brought up to an end since they were opened."""
        self._ends: dict[int, int] = {}
        self._fresh_ms = 0
        """When the stores were as the log was."""
        self._one_at_a_time = asyncio.Lock()
        self._queued: asyncio.Task[None] | None = None
        self._rounds: set[asyncio.Task[None]] = set()

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def page(
        self,
        after: Position = START,
        limit: int = 100,
        *,
        name: str = "",
        since_ms: int = 0,
        before_ms: int | None = None,
    ) -> Page:
        """The next timers behind `after`, by due time.

        Args:
            limit: at most so many. With `name` there may be fewer, even none, before the end.
            name: of the event; all where it is empty.
            since_ms: only those that are due then or later.
            before_ms: only those that are due before.

        Raises:
            TimersUnread: the topic is still being read.
            UnknownTopic, NotAuthorized, BrokerUnavailable, StoreUnusable.
        """
        until_ms = _FOR_EVER_MS if before_ms is None else before_ms - 1
        return await self._ask(lambda: self._page(max(after, Position(since_ms, -1, -1)), limit, name, until_ms))

    async def find(self, timer_id: str) -> Timer | None:
        """The timer of this id. Raises as `page`."""

        def find() -> Timer | None:
            if not may_be_id(timer_id):
                return None
            return self._stores[partition_for(timer_id.encode(), len(self._stores))].find(timer_id)

        return await self._ask(find)

    async def schedules(self) -> dict[str, tuple[dict[str, Any], Timer | None]]:
        """For each job that runs by the clock what it declared, and the occurrence that is armed. Raises as `page`."""

        def schedules() -> dict[str, tuple[dict[str, Any], Timer | None]]:
            return {
                job_id: (declared, next(iter(store.armed(job_id)), None))
                for store in self._stores.values()
                for job_id, declared in store.schedules().items()
            }

        return dict(sorted((await self._ask(schedules)).items()))

    async def _ask(self, query: Callable[[], T]) -> T:
        """The answer of the stores, as of a moment after this was called."""
        while True:
            await self._caught_up()
            async with self._one_at_a_time:
                if not self._whole:  # a later round has begun anew, and failed
                    continue
                try:
                    return await _in_thread(query)
                except StoreBroken as error:
                    self._forget(error)

    def _page(self, after: Position, limit: int, name: str, until_ms: int) -> Page:
        found: list[Timer] = []
        looked = 0
        while True:
            at_once = _LOOK_TIMERS if name else limit + 1
            rows = self._rows(after, until_ms, at_once)
            for position, timer in rows:
                if len(found) == limit or looked == SCANNED_TIMERS_MAX:
                    return Page(found, after)
                looked += 1
                after = position
                if not name or timer.name == name:
                    found.append(timer)
            if len(rows) < at_once:
                return Page(found, None)

    def _rows(self, after: Position, until_ms: int, limit: int) -> list[tuple[Position, Timer]]:
        """The next ones of all partitions: of each as many as there could be, so that none is missed."""
        rows: list[tuple[Position, Timer]] = []
        for number, store in self._stores.items():
            # Behind `after`: at its moment, only what comes after it in the order of partitions and offsets.
            offset = after.offset if number == after.partition else -1 if number > after.partition else _FOR_EVER_MS
            for place, timer in store.due(until_ms, Place(after.due_ms, offset), limit):
                rows.append((Position(place.due_ms, number, place.at), timer))
        rows.sort(key=lambda row: row[0])
        return rows[:limit]

    # ── following ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _caught_up(self) -> None:
        """Wait until what was in the log when this was called is in the stores."""
        # A round that goes on already may have passed what was appended just now; the next one has not begun.
        if self._queued is None:
            self._queued = asyncio.create_task(self._round(), name="read timers")
            self._rounds.add(self._queued)
            self._queued.add_done_callback(self._rounds.discard)
        queued = self._queued
        done, _ = await asyncio.wait({queued}, timeout=self._wait_seconds)
        if not done:
            read = sum(store.position for store in self._stores.values())
            raise TimersUnread(read, max(read, sum(self._ends.values())))
        queued.result()

    async def _round(self) -> None:
        try:
            async with self._one_at_a_time:
                self._queued = None
                try:
                    await self._read_on()
                except StoreBroken as error:
                    self._forget(error)
                    await self._read_on()
        finally:
            if self._queued is asyncio.current_task():
                self._queued = None

    async def _read_on(self) -> None:
        broker = await self._broker()
        topic, now_ms = await broker.topic(self._topic), int(self._clock.time() * 1000)
        # Who was not asked for long may have missed a tombstone that was compacted away; for how long, a clock that was
        # set back does not tell.
        stale = abs(now_ms - self._fresh_ms) > delete_retention_ms(topic) // 2
        if stale or self._info is None or (topic.id, topic.partitions) != (self._info.id, self._info.partitions):
            self._close()
            for number in range(topic.partitions):
                self._stores[number] = open_store(self._folder, topic, number, now_ms, cache_kib=CACHE_KIB)
            self._info = topic
        bounds = await broker.bounds([Partition(topic.name, number) for number in range(topic.partitions)])
        self._ends = {partition.partition: end for partition, (_, end) in bounds.items()}
        for partition, (start, end) in bounds.items():
            await self._read_partition(broker, topic, partition, start, end)
        self._fresh_ms, self._whole = now_ms, True

    async def _read_partition(
        self, broker: Broker, topic: TopicInfo, partition: Partition, start: int, end: int
    ) -> None:
        store, now_ms = self._stores[partition.partition], int(self._clock.time() * 1000)
        if store.position > end:  # the log lost its tail
            self._whole = False
            store.close()
            store = open_store(self._folder, topic, partition.partition, now_ms, anew=True, cache_kib=CACHE_KIB)
            self._stores[partition.partition] = store
        if store.position == end:
            return

        written = store.position

        async def fold(records: Sequence[StoredRecord]) -> None:
            nonlocal written
            position = records[-1].offset + 1
            commit = position - written >= COMMIT_RECORDS
            await _in_thread(partial(store.apply, records, position, now_ms, commit=commit))
            written = position if commit else written

        await broker.read(partition, max(store.position, start), end, fold)
        store.apply((), end, now_ms)

    def _forget(self, error: StoreBroken) -> None:
        logger = structlog.get_logger("playhead.timers")
        logger.warning("a store of timers is broken; it is thrown away and rebuilt from the log", error=str(error))
        self._close()

    def _close(self) -> None:
        for store in self._stores.values():
            store.close()
        self._stores.clear()
        self._info, self._whole = None, False

    async def close(self) -> None:
        """Stop reading, and close the stores."""
        for going in list(self._rounds):
            going.cancel()
        await asyncio.gather(*self._rounds, return_exceptions=True)
        async with self._one_at_a_time:
            self._close()


async def _in_thread(work: Callable[[], T]) -> T:
    """Whoever else is on this event loop goes on meanwhile. What has begun is waited for, also when cancelled."""
    going = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(going)
    except asyncio.CancelledError:
        await asyncio.wait({going})  # nobody may close the store under it
        raise
