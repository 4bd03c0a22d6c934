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
from playhead.history.projection import fitting
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
MAX_DEPTH = 200
"""Of JSON that is shown as JSON."""


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
        name, key = asked(name), asked(key)
        names = self._names(name) if name and "." not in name else [name] if name else [""]
        if key:
            # A key that is the event's id is not stored twice.
            keyed = [[EVENT.c.key == key], [EVENT.c.key.is_(None), EVENT.c.id == key]]
            by_name = [EVENT.c.name.in_(names)] if name else []
            sources = [[*filters, *one, *by_name] for one in keyed]
        else:
            sources = [[*filters, EVENT.c.name == one] if one else filters for one in names]
        after = _read_cursor(cursor, _bigint)
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
        row = self.db.execute(
            sa.select(EVENT).where(EVENT.c.id == asked(event_id)).order_by(EVENT.c.place).limit(1)
        ).first()
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
                query = query.where(column == asked(wanted))
        if state and state != "succeeded":
            query = query.where(RUN.c.state != sa.text("'succeeded'"))  # as the partial index says it
        query = _newest(query, RUN.c.began_ms, RUN.c.id, _read_cursor(cursor, asked)).limit(limit + 1)
        runs = [StoredRun(*row) for row in self.db.execute(query)]
        return _page(runs, limit, lambda run: (run.began_ms, run.id))

    def run(self, run_id: str) -> StoredRun | None:
        """The run of this id."""
        row = self.db.execute(sa.select(RUN).where(RUN.c.id == asked(run_id))).first()
        return None if row is None else StoredRun(*row)

    def told(self, run_id: str, *, until_ms: int | None = None) -> list[Told]:
        """The events of a run in their order, one for each attempt that has ended.

        Args:
            until_ms: of the log's time, included.
        """
        query = sa.select(RUN_EVENT).where(RUN_EVENT.c.run_id == asked(run_id)).order_by(RUN_EVENT.c.place)
        found = []
        for row in self.db.execute(query):
            body = json_object(row.body)
            if is_deep(body):
                body = {}  # no engine's
            if row.name in STATE_AFTER and (until_ms is None or row.at_ms <= until_ms):
                found.append(Told(row.at_ms, STATE_AFTER[row.name], body))
        return found

    # ── dead letters ─────────────────────────────────────────────────────────────────────────────────────────────────

    def letters(self, *, state: str = "", job_id: str = "", cursor: str | None = None, limit: int = 50) -> Page[Letter]:
        """Dead letters, newest first. Raises as `events`."""
        query = sa.select(LETTER)
        if state:
            query = query.where(LETTER.c.state == asked(state))
        if job_id:
            query = query.where(LETTER.c.job_id == asked(job_id))
        query = _newest(query, LETTER.c.at_ms, LETTER.c.place, _read_cursor(cursor, _bigint)).limit(limit + 1)
        letters = [Letter(*row) for row in self.db.execute(query)]
        return _page(letters, limit, lambda letter: (letter.at_ms, letter.place))

    def letter(self, letter_id: str) -> Letter | None:
        """The dead letter of this id."""
        row = self.db.execute(
            sa.select(LETTER).where(LETTER.c.id == asked(letter_id)).order_by(LETTER.c.place).limit(1)
        ).first()
        return None if row is None else Letter(*row)

    def letter_place(self, letter: Letter) -> tuple[str, int, int]:
        """Topic, partition and offset of the letter itself."""
        topic, partition = self._part(letter.place)
        return topic, partition, letter.place & ((1 << OFFSET_BITS) - 1)

    def letters_of(self, run_id: str) -> list[Letter]:
        """The dead letters of a run: one, but for those of its replays."""
        return self._letters(LETTER.c.run_id == asked(run_id))

    def letters_on(self, event_id: str) -> list[Letter]:
        """The dead letters of an event: of runs on it, and of jobs that could not read it."""
        return self._letters(LETTER.c.event_id == asked(event_id))

    def _letters(self, which: sa.ColumnElement[bool]) -> list[Letter]:
        query = sa.select(LETTER).where(which)
        rows = self.db.execute(query.order_by(LETTER.c.at_ms, LETTER.c.place).limit(PAGE_MAX))
        return [Letter(*row) for row in rows]

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
    return urlsafe_b64encode(f"{at_ms}|{key}".encode()).decode().rstrip("=")


def _read_cursor(text: str | None, key_of: Callable[[str], Any]) -> tuple[int, Any] | None:
    """A time, and the key of a row of it: `key_of` its text."""
    if not text:
        return None
    try:
        at, key = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split("|", 1)
        return _bigint(at), key_of(key)
    except ValueError as error:
        raise InvalidInput(f"cursor {text[:60]!r} is none.", remedy="Give `next` of the page before.") from error


def _bigint(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError("it is in no column")
    return number


def asked(text: str) -> str:
    """What is asked for, as a column would have it: whatever came in an address or on a command line."""
    return fitting(text.encode(errors="replace").decode())


def _has(payload: bytes | None, wanted: Mapping[str, str]) -> bool:
    """Whether each field is there and is, as text or as JSON, what is wanted."""
    told = _any(payload)
    for path, text in wanted.items():
        value = told
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is None and text != "null":
            return False
        if value != text and not _same(value, _any(text.encode(errors="replace"))):
            return False
    return True


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON, where `true` is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def is_deep(value: Any) -> bool:
    """Whether JSON is nested deeper than an answer can be. What was read may be five times as deep."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            below
            for one in level
            if isinstance(one, dict | list)
            for below in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


def _any(data: bytes | None) -> Any:
    try:
        return from_json(data or b"null")
    except NotJson:
        return None
