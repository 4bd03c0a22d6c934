"""What the pages ask of history. Every question goes by an index or over sums, and has a limit."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from playhead.dashboard.charts import Buckets
from playhead.errors import InvalidInput
from playhead.history.schema import (
    DURATION,
    EVENT,
    EVENT_COUNT,
    LETTER,
    OFFSET_BITS,
    PART,
    RUN,
    RUN_COUNT,
    RUN_EVENT,
    SECONDS_PER_HOUR,
    SECONDS_PER_MINUTE,
)
from playhead.history.store import HistoryStore
from playhead.serde import NotJson, from_json

CHAIN_NODES_MAX = 200
CHAIN_UP_MAX = 64
_STATES = {"run.succeeded": "succeeded", "run.failed": "failed", "run.retrying": "retrying"}


@dataclass(slots=True)
class Node:
    """An event or a run of a chain."""

    kind: str
    id: str
    name: str
    state: str = ""
    at_ms: int | None = None
    duration_ms: float | None = None
    children: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Chain:
    roots: list[Node]
    is_cut: bool


class Problem(NamedTuple):
    """An error as it was told; what is not there is empty."""

    type: str
    message: str
    traceback: str

    @classmethod
    def of(cls, told: object) -> Problem | None:
        return cls(*(str(told.get(name) or "") for name in cls._fields)) if isinstance(told, dict) else None


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a run."""

    at_ms: int
    state: str
    body: dict[str, Any]

    def number(self, name: str) -> float:
        value = self.body.get(name)
        return float(value) if isinstance(value, int | float) else 0.0


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as history keeps it."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    name: str
    id: str
    key: str | None
    source: str
    cause: str | None
    correlation: str | None
    run_id: str | None
    headers: Sequence[tuple[str, str]]
    payload: bytes | None


class Reading:
    """History, for the pages."""

    def __init__(self, store: HistoryStore) -> None:
        self._store = store

    def position(self) -> object:
        """Differs after history moved."""
        return sorted(self._store.positions().items())

    def payload(self, event_id: str) -> Any:
        """An event's, or None."""
        with self.snapshot() as history:
            event = history.event(event_id)
        try:
            return None if event is None else from_json(event.payload or b"null")
        except NotJson:
            return None

    def complaints(self) -> list[str]:
        return []

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Questions that are all answered of the same moment."""
        with self._store.reading() as db:
            yield Snapshot(db)


class Snapshot:
    def __init__(self, db: Connection) -> None:
        self._db = db
        self._parts: dict[int, tuple[str, int]] | None = None

    def event_counts(self, buckets: Buckets) -> list[tuple[int, str, int]]:
        t = EVENT_COUNT.c
        at = (t.at - t.at % buckets.step).label("bucket")
        q = sa.select(at, t.name, sa.func.sum(t.count)).where(self._of(t, buckets)).group_by(at, t.name)
        return [tuple(r) for r in self._db.execute(q)]

    def run_counts(self, buckets: Buckets, job_id: str = "") -> list[tuple[int, str, str, int]]:
        t = RUN_COUNT.c
        at = (t.at - t.at % buckets.step).label("bucket")
        q = sa.select(at, t.job_id, t.state, sa.func.sum(t.count)).where(self._of(t, buckets))
        if job_id:
            q = q.where(t.job_id == job_id)
        return [tuple(r) for r in self._db.execute(q.group_by(at, t.job_id, t.state))]

    def durations(self, buckets: Buckets, job_id: str = "") -> list[tuple[int, str, int, int]]:
        t = DURATION.c
        at = (t.at - t.at % buckets.step).label("b")
        q = sa.select(at, t.job_id, t.bucket, sa.func.sum(t.count)).where(self._of(t, buckets))
        if job_id:
            q = q.where(t.job_id == job_id)
        return [tuple(r) for r in self._db.execute(q.group_by(at, t.job_id, t.bucket))]

    @staticmethod
    def _of(t: Any, buckets: Buckets) -> Any:
        step = SECONDS_PER_MINUTE if buckets.step < SECONDS_PER_HOUR else SECONDS_PER_HOUR
        return (t.step == step) & (t.at >= buckets.start) & (t.at < buckets.end)

    def events(
        self,
        *,
        name: str = "",
        key: str = "",
        field: str = "",
        equals: str = "",
        since_ms: int,
        until_ms: int,
        cursor: str = "",
        limit: int,
    ) -> tuple[list[StoredEvent], str | None]:
        t = EVENT.c
        q = sa.select(EVENT).where(t.at_ms >= since_ms, t.at_ms < until_ms)
        if name:
            q = q.where(t.name == name if "." in name else t.name.like(f"{name}.%"))
        if key:
            q = q.where(t.key == key)
        if field:
            q = q.where(sa.func.json_extract(t.payload, f"$.{field}") == equals)
        if cursor:
            q = q.where(sa.tuple_(t.at_ms, t.place) < sa.tuple_(*map(sa.literal, _uncursor(cursor))))
        rows = self._db.execute(q.order_by(t.at_ms.desc(), t.place.desc()).limit(limit + 1)).all()
        more = len(rows) > limit
        return [self._event(r) for r in rows[:limit]], _cursor(
            rows[limit - 1].at_ms, rows[limit - 1].place
        ) if more else None

    def event(self, event_id: str) -> StoredEvent | None:
        row = self._db.execute(sa.select(EVENT).where(EVENT.c.id == event_id).limit(1)).first()
        return None if row is None else self._event(row)

    def _event(self, row: Any) -> StoredEvent:
        if self._parts is None:
            self._parts = {r.number: (r.topic, r.partition) for r in self._db.execute(sa.select(PART))}
        topic, partition = self._parts[row.place >> OFFSET_BITS]
        headers = [(h[0], h[1] or "") for h in from_json(row.headers)]
        return StoredEvent(
            topic,
            partition,
            row.place & ((1 << OFFSET_BITS) - 1),
            row.at_ms,
            row.name,
            row.id,
            row.key,
            row.source,
            row.cause,
            row.correlation,
            row.run_id,
            headers,
            row.payload,
        )

    def runs(
        self,
        *,
        state: str = "",
        job_id: str = "",
        event_id: str = "",
        since_ms: int | None = None,
        until_ms: int | None = None,
        cursor: str = "",
        limit: int,
    ) -> tuple[list[Any], str | None]:
        t = RUN.c
        q = sa.select(RUN)
        if since_ms is not None and not event_id:
            q = q.where(t.began_ms >= since_ms, t.began_ms < until_ms)
        for column, value in ((t.state, state), (t.job_id, job_id), (t.event_id, event_id)):
            if value:
                q = q.where(column == value)
        if cursor:
            q = q.where(sa.tuple_(t.began_ms, t.id) < sa.tuple_(*map(sa.literal, _uncursor(cursor))))
        rows = self._db.execute(q.order_by(t.began_ms.desc(), t.id.desc()).limit(limit + 1)).all()
        more = len(rows) > limit
        return list(rows[:limit]), _cursor(rows[limit - 1].began_ms, rows[limit - 1].id) if more else None

    def run(self, run_id: str) -> Any:
        return self._db.execute(sa.select(RUN).where(RUN.c.id == run_id)).first()

    def told(self, run_id: str) -> list[Told]:
        found = []
        for row in self._db.execute(
            sa.select(RUN_EVENT).where(RUN_EVENT.c.run_id == run_id).order_by(RUN_EVENT.c.place)
        ):
            try:
                body = from_json(row.body)
            except NotJson:
                continue
            if row.name in _STATES and isinstance(body, dict):
                found.append(Told(row.at_ms, _STATES[row.name], body))
        return found

    def sent(self, ids: Sequence[str]) -> list[Any]:
        known = {
            r.id: r
            for r in self._db.execute(
                sa.select(EVENT.c.id, EVENT.c.name, EVENT.c.at_ms).where(EVENT.c.id.in_(ids[:200]))
            )
        }
        return [known.get(i) or Node("event", i, "") for i in ids[:200]]

    def letters_of(self, run_id: str) -> list[Any]:
        t = LETTER.c
        run = self.run(run_id)
        return [
            r
            for r in self._db.execute(
                sa.select(LETTER).where(t.job_id == run.job_id, t.at_ms >= run.began_ms).order_by(t.at_ms).limit(200)
            )
            if r.run_id == run_id
        ]

    def letters(self, *, state: str, job_id: str = "", cursor: str = "", limit: int) -> tuple[list[Any], str | None]:
        t = LETTER.c
        q = sa.select(LETTER)
        if state:
            q = q.where(t.state == state)
        if job_id:
            q = q.where(t.job_id == job_id)
        if cursor:
            q = q.where(sa.tuple_(t.at_ms, t.place) < sa.tuple_(*map(sa.literal, _uncursor(cursor))))
        rows = self._db.execute(q.order_by(t.at_ms.desc(), t.place.desc()).limit(limit + 1)).all()
        return list(rows[:limit]), _cursor(rows[limit - 1].at_ms, rows[limit - 1].place) if len(rows) > limit else None

    def letter(self, letter_id: str) -> Any:
        return self._db.execute(sa.select(LETTER).where(LETTER.c.id == letter_id).limit(1)).first()

    def letters_open(self) -> int:
        return self._db.scalar(sa.select(sa.func.count()).select_from(LETTER).where(LETTER.c.state == "open")) or 0

    def retrying_now(self) -> int:
        return self._db.scalar(sa.select(sa.func.count()).select_from(RUN).where(RUN.c.state == "retrying")) or 0

    def chain(self, event_id: str) -> Chain:
        top, seen = event_id, {event_id}
        for _ in range(CHAIN_UP_MAX):
            cause = self._db.scalar(sa.select(EVENT.c.cause).where(EVENT.c.id == top).limit(1))
            if not cause or cause in seen:
                break
            seen.add(cause)
            top = cause
        row = self._db.execute(sa.select(EVENT.c.name, EVENT.c.at_ms).where(EVENT.c.id == top).limit(1)).first()
        root = Node("event", top, row.name if row else "", at_ms=row.at_ms if row else None)
        level, count = [root], 1
        while level and count < CHAIN_NODES_MAX:
            nodes = {n.id: n for n in level}
            runs: dict[str, Node] = {}
            for r in self._db.execute(
                sa.select(RUN).where(RUN.c.event_id.in_(nodes)).order_by(RUN.c.began_ms).limit(CHAIN_NODES_MAX)
            ):
                runs[r.id] = Node("run", r.id, r.job_id, r.state, r.began_ms, r.duration_ms)
                nodes[r.event_id].children.append(runs[r.id])
            level = []
            for e in self._db.execute(
                sa.select(EVENT.c.id, EVENT.c.name, EVENT.c.at_ms, EVENT.c.cause, EVENT.c.run_id)
                .where(EVENT.c.cause.in_(nodes))
                .order_by(EVENT.c.at_ms)
                .limit(CHAIN_NODES_MAX)
            ):
                node = Node("event", e.id, e.name, at_ms=e.at_ms)
                (runs.get(e.run_id) or nodes[e.cause]).children.append(node)
                level.append(node)
            count += len(runs) + len(level)
        return Chain([root], bool(level))


def _cursor(*parts: object) -> str:
    return base64.urlsafe_b64encode("|".join(map(str, parts)).encode()).decode().rstrip("=")


def _uncursor(text: str) -> tuple[int, Any]:
    try:
        at, _, rest = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition("|")
        return int(at), int(rest) if rest.isdigit() else rest
    except ValueError as error:
        raise InvalidInput(f"cursor {text[:60]!r} is none.", remedy="Begin again at the first page.") from error
