"""What can be asked of history: events, runs, what became of them, and how they hang together.

Every list goes by an index, newest first, and a cursor names the last row that was seen: rows that come meanwhile are
before it, so pages neither repeat nor skip. A snapshot answers all its questions of one moment.

    with history.snapshot() as now:
        page = now.runs(job_id="send-mail", state="failed", limit=50)
        more = now.runs(job_id="send-mail", state="failed", limit=50, cursor=page.next)
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, Row, Select, Table

from playhead.errors import InvalidInput
from playhead.history.schema import EVENT, LETTER, OFFSET_BITS, RUN, RUN_EVENT
from playhead.history.states import STATE_AFTER
from playhead.history.store import Part, parts_of
from playhead.records import Partition
from playhead.serde import NotJson, from_json, json_object

T = TypeVar("T")

PAGE_MAX = 500
SCANNED_EVENTS_MAX = 20_000
"""What one page looks at, where payloads have to be read: it may then have fewer than asked for, and go on."""
_SCAN_AT_ONCE = 500
_INTEGERS = 1 << 63
"""A database's go from the negative of that up to it."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows, and where to go on; `next` is None at the end."""

    items: list[T]
    next: str | None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as history keeps it. `headers` are those that are in no field: (name, text)."""

    place: int
    topic: str
    partition: int
    offset: int
    at_ms: int
    name: str
    id: str
    key: str | None
    source: str
    cause: str | None
    correlation: str
    run_id: str | None
    headers: Sequence[tuple[str, str]]
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as its events tell it: see the columns of `schema.RUN`."""

    id: str
    job_id: str
    job_version: str
    event_id: str
    event_name: str
    state: str
    attempt: int
    began_ms: int
    told_ms: int
    ended_ms: int | None
    duration_ms: float
    error: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a run: what an attempt came to. `body` is the event's payload."""

    at_ms: int
    state: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter; `state` is open, retried or discarded. `body` is the event's payload."""

    place: int
    id: str
    at_ms: int
    job_id: str
    reason: str
    run_id: str | None
    event_id: str | None
    event_name: str | None
    state: str
    settled_ms: int | None
    body: bytes


class Snapshots(Protocol):
    """Who answers questions to history. It blocks, and can be asked from any thread."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Questions that are all answered of the same moment."""
        ...


class Snapshot:
    """Questions to one state of the database."""

    def __init__(self, db: Connection) -> None:
        self.db = db
        self._parts: dict[int, Partition] | None = None

    # ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def events(
        self,
        *,
        name: str = "",
        key: str = "",
        since_ms: int | None = None,
        until_ms: int | None = None,
        payload: Mapping[str, str] | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[StoredEvent]:
        """Events, newest first.

        Args:
            name: of the event, or an entity, which means all of its events.
            key: the record's.
            since_ms, until_ms: of the log's time, the second not included.
            payload: text by dotted path: the field there, written as text or as JSON, is that. Without other filters
                only the newest 20,000 are looked at for one page, which may then have fewer items and a cursor.

        Raises:
            InvalidInput: the cursor is none.
        """
        filters = _between(EVENT.c.at_ms, since_ms, until_ms)
        names = self._names(name) if name and "." not in name else [name] if name else [""]
        if key:
            # A key that is the event's id is not stored twice.
            keyed = [[EVENT.c.key == key], [EVENT.c.key.is_(None), EVENT.c.id == key]]
            by_name = [EVENT.c.name.in_(names)] if name else []
            sources = [[*filters, *one, *by_name] for one in keyed]
        else:
            sources = [[*filters, EVENT.c.name == one] if one else filters for one in names]
        after = _read_cursor(cursor, int)
        if not payload:
            return _page(self._events(sources, after, limit + 1), limit, lambda e: (e.at_ms, e.place))
        return self._events_with(payload, sources, after, limit)

    def _events(self, sources: Sequence[Sequence[Any]], after: tuple[int, Any] | None, limit: int) -> list[StoredEvent]:
        """The newest of several indexes' stretches, each read as far as it could be needed."""
        found = []
        for filters in sources:
            query = _newest(sa.select(EVENT).where(*filters), EVENT.c.at_ms, EVENT.c.place, after).limit(limit)
            found.append([self._event(row) for row in self.db.execute(query)])
        return list(islice(merge(*found, key=lambda e: (-e.at_ms, -e.place)), limit))

    def _events_with(
        self, wanted: Mapping[str, str], sources: Sequence[Sequence[Any]], after: tuple[int, Any] | None, limit: int
    ) -> Page[StoredEvent]:
        found: list[StoredEvent] = []
        for _ in range(SCANNED_EVENTS_MAX // _SCAN_AT_ONCE):
            looked_at = self._events(sources, after, _SCAN_AT_ONCE)
            for event in looked_at:
                if len(found) == limit:
                    return Page(found, _cursor(*after) if after else None)
                after = (event.at_ms, event.place)
                if _has(event.payload, wanted):
                    found.append(event)
            if len(looked_at) < _SCAN_AT_ONCE:
                return Page(found, None)
        return Page(found, _cursor(*after) if after else None)

    def _names(self, entity: str) -> list[str]:
        """The names of an entity's events: a look at the index for each."""
        names: list[str] = []
        last, end = f"{entity}.", f"{entity}/"  # '/' follows '.'
        while True:
            found = self.db.scalar(sa.select(sa.func.min(EVENT.c.name)).where(EVENT.c.name > last, EVENT.c.name < end))
            if found is None:
                return names
            names.append(found)
            last = found

    def event(self, event_id: str) -> StoredEvent | None:
        """The event of this id; the first, where an id was sent again."""
        row = self.db.execute(sa.select(EVENT).where(EVENT.c.id == event_id).order_by(EVENT.c.place).limit(1)).first()
        return None if row is None else self._event(row)

    def _event(self, row: Row[Any]) -> StoredEvent:
        topic, partition = self._part(row.place)
        headers = [(header[0], header[1] or "") for header in from_json(row.headers)]
        return StoredEvent(
            place=row.place,
            topic=topic,
            partition=partition,
            offset=row.place & ((1 << OFFSET_BITS) - 1),
            at_ms=row.at_ms,
            name=row.name,
            id=row.id,
            key=row.id if row.key is None else row.key,
            source=row.source,
            cause=row.cause,
            correlation=row.correlation or row.id,
            run_id=row.run_id,
            headers=headers,
            payload=row.payload,
        )

    def _part(self, place: int) -> Partition:
        if self._parts is None:
            self._parts = {part.number: partition for partition, part in parts_of(self.db).items()}
        return self._parts[place >> OFFSET_BITS]

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def runs(
        self,
        *,
        job_id: str = "",
        state: str = "",
        event_id: str = "",
        since_ms: int | None = None,
        until_ms: int | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[StoredRun]:
        """Runs, the latest beginning first. Raises as `events`.

        Args:
            since_ms, until_ms: of when it began, the second not included.
        """
        query = sa.select(RUN).where(*_between(RUN.c.began_ms, since_ms, until_ms))
        for column, wanted in ((RUN.c.job_id, job_id), (RUN.c.state, state), (RUN.c.event_id, event_id)):
            if wanted:
                query = query.where(column == wanted)
        if state and state != "succeeded":
            query = query.where(RUN.c.state != sa.text("'succeeded'"))  # as the partial index says it
        query = _newest(query, RUN.c.began_ms, RUN.c.id, _read_cursor(cursor, str)).limit(limit + 1)
        runs = [StoredRun(*row) for row in self.db.execute(query)]
        return _page(runs, limit, lambda run: (run.began_ms, run.id))

    def run(self, run_id: str) -> StoredRun | None:
        """The run of this id."""
        row = self.db.execute(sa.select(RUN).where(RUN.c.id == run_id)).first()
        return None if row is None else StoredRun(*row)

    def told(self, run_id: str, *, until_ms: int | None = None) -> list[Told]:
        """The events of a run in their order, one for each attempt that has ended.

        Args:
            until_ms: of the log's time, included.
        """
        query = sa.select(RUN_EVENT).where(RUN_EVENT.c.run_id == run_id).order_by(RUN_EVENT.c.place)
        found = []
        for row in self.db.execute(query):
            body = json_object(row.body)
            if row.name in STATE_AFTER and (until_ms is None or row.at_ms <= until_ms):
                found.append(Told(row.at_ms, STATE_AFTER[row.name], body))
        return found

    # ── dead letters ─────────────────────────────────────────────────────────────────────────────────────────────────

    def letters(self, *, state: str = "", job_id: str = "", cursor: str | None = None, limit: int = 50) -> Page[Letter]:
        """Dead letters, newest first. Raises as `events`."""
        query = sa.select(LETTER)
        if state:
            query = query.where(LETTER.c.state == state)
        if job_id:
            query = query.where(LETTER.c.job_id == job_id)
        query = _newest(query, LETTER.c.at_ms, LETTER.c.place, _read_cursor(cursor, int)).limit(limit + 1)
        letters = [Letter(*row) for row in self.db.execute(query)]
        return _page(letters, limit, lambda letter: (letter.at_ms, letter.place))

    def letter(self, letter_id: str) -> Letter | None:
        """The dead letter of this id."""
        row = self.db.execute(sa.select(LETTER).where(LETTER.c.id == letter_id).limit(1)).first()
        return None if row is None else Letter(*row)

    def letter_place(self, letter: Letter) -> tuple[str, int, int]:
        """Topic, partition and offset of the letter itself."""
        topic, partition = self._part(letter.place)
        return topic, partition, letter.place & ((1 << OFFSET_BITS) - 1)

    def letters_of(self, run_id: str) -> list[Letter]:
        """The dead letters of a run: one, but for those of its replays."""
        run = self.run(run_id)
        if run is None:
            return []
        query = sa.select(LETTER).where(LETTER.c.job_id == run.job_id, LETTER.c.at_ms >= run.began_ms)
        rows = self.db.execute(query.order_by(LETTER.c.at_ms).limit(PAGE_MAX))
        return [letter for row in rows if (letter := Letter(*row)).run_id == run_id]

    def count_open_letters(self) -> int:
        """How many dead letters nobody has retried or discarded."""
        return self._count(LETTER, LETTER.c.state == "open")

    def count_retrying(self) -> int:
        """How many runs wait for another attempt."""
        return self._count(RUN, RUN.c.state == "retrying", RUN.c.state != sa.text("'succeeded'"))

    def _count(self, table: Table, *filters: Any) -> int:
        return self.db.scalar(sa.select(sa.func.count()).select_from(table).where(*filters)) or 0

    # ── history itself ───────────────────────────────────────────────────────────────────────────────────────────────

    def parts(self) -> dict[Partition, Part]:
        """How far every partition was read."""
        return dict(sorted(parts_of(self.db).items()))


# ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _between(column: Any, since_ms: int | None, until_ms: int | None) -> list[Any]:
    since = [] if since_ms is None else [column >= since_ms]
    return since if until_ms is None else [*since, column < until_ms]


def _newest(query: Select[Any], at: Any, key: Any, after: tuple[int, Any] | None) -> Select[Any]:
    if after is not None:
        query = query.where(sa.tuple_(at, key) < sa.tuple_(*map(sa.literal, after)))
    return query.order_by(at.desc(), key.desc())


def _page(rows: list[T], limit: int, place: Callable[[T], tuple[int, Any]]) -> Page[T]:
    """Of one row more than asked for: the page, and the cursor of its last row where there is more."""
    return Page(rows[:limit], _cursor(*place(rows[limit - 1])) if len(rows) > limit else None)


def _cursor(at_ms: int, key: object) -> str:
    return urlsafe_b64encode(f"{at_ms}|{'#' if isinstance(key, int) else ''}{key}".encode()).decode().rstrip("=")


def _read_cursor(text: str | None, kind: type) -> tuple[int, Any] | None:
    """What `_cursor` gave, of a list whose rows have a key of this kind: other numbers, or text, no database compares.

    Raises:
        InvalidInput: it is none.
    """
    if not text:
        return None
    try:
        at, told = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split("|", 1)
        at_ms, key = int(at), int(told[1:]) if told.startswith("#") else told
    except ValueError as error:
        raise _no_cursor(text) from error
    numbers = [number for number in (at_ms, key) if isinstance(number, int)]
    if not isinstance(key, kind) or not all(-_INTEGERS <= number < _INTEGERS for number in numbers):
        raise _no_cursor(text)
    return at_ms, key


def _no_cursor(text: str) -> InvalidInput:
    return InvalidInput(f"cursor {text[:60]!r} is none.", remedy="Give `next` of the page before.")


def _has(payload: bytes | None, wanted: Mapping[str, str]) -> bool:
    """Whether each field is there and is, as text or as JSON, what is wanted."""
    told = _any(payload)
    for path, text in wanted.items():
        value = told
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is None and text != "null":
            return False
        if value != text and value != _any(text.encode()):
            return False
    return True


def _any(data: bytes | None) -> Any:
    try:
        return from_json(data or b"null")
    except NotJson:
        return None
