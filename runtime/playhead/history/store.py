"""The database of history: rows and the offsets that they come from change in one transaction.

    positions ──▶ read on from there ──▶ write(rows, spans) ──▶ committed, or Moved: somebody else was here

A span says from which offset to which a partition was read. It is written only where the partition's position is still
the span's first: so two writers, or one that was thought dead, never write an offset twice.

A rebuild puts another generation in the place of this one. Reading follows by itself. Writing does when `follow` is
called; until then a write raises Moved, since its rows have places of the generation that is gone.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, exc

from playhead.errors import HistoryMisfit
from playhead.history.bulk import bulk_of
from playhead.history.databases import READS, Place, broken, place_of
from playhead.history.projection import Rows
from playhead.history.schema import FORMAT, META, OFFSET_BITS, PART
from playhead.records import Partition

ID, PREFIX, HORIZON = "id", "prefix", "horizon_ms"
"""In META: of this history, kept through rebuilds; whose topics; before when everything was pruned."""
_FOLLOW_ATTEMPTS = 5


class Span(NamedTuple):
    """Offsets that were read of a partition: first <= offset < next. Fewer records may have come of them."""

    first: int
    next: int


class Part(NamedTuple):
    """How far a partition was read; the columns of `part` by their names."""

    number: int
    next: int
    lost: int
    topic_id: str
    stopped: str | None


def parts_of(db: Connection) -> dict[Partition, Part]:
    """Every partition that this connection sees."""
    return {
        Partition(row.topic, row.partition): Part(row.number, row.next, row.lost, row.topic_id, row.stopped)
        for row in db.execute(sa.select(PART))
    }


class Moved(Exception):
    """A partition's position is not where the span begins, or a rebuild took this generation's place: another writer
    was here. Nothing was written."""


class HistoryStore:
    """One history database, for writing and reading; its methods block, and can be called from any thread.

    Args:
        url: `sqlite:////path/history.db`, `postgresql://…`; or its place.
        generation: this one, whichever is current; else the current one, which is made where there is none.

    Raises:
        HistoryMisfit: it is of another format, or no history.
        InvalidSetting, MissingExtra: the URL can't be used.
    """

    def __init__(self, url: str | Place, *, generation: int = 0) -> None:
        self.place = place_of(url) if isinstance(url, str) else url
        self._own_place = isinstance(url, str)
        self._fixed = generation
        self._lock = threading.Lock()
        if not generation and not self.place.current():
            self.place.make(1)
            _found(self.place, 1)
            self.place.begin(1)
        self._generation = generation or self.place.current()
        self._writing = self.place.engine(self._generation, writing=True)
        self._bulk = bulk_of(self._writing)
        self._parts: dict[Partition, Part] = {}
        self._reading_generation = 0
        self._reading: Engine | None = None
        try:
            self._check_format()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._writing.dispose()
        if self._reading is not None:
            self._reading.dispose()
        if self._own_place:
            self.place.close()

    @property
    def generation(self) -> int:
        """That is written to."""
        return self._generation

    def _check_format(self) -> None:
        try:
            found = self.meta("format")
        except exc.DBAPIError as error:
            if not self.place.is_broken(self._generation, error.orig):
                raise
            raise broken(self.place.name, error) from error
        except Moved:  # a rebuild came between
            self.follow()
            found = self.meta("format")
        if found != FORMAT:
            raise HistoryMisfit(
                f"the history in {self.place.name} has format {found or 'unknown'}; this Playhead writes {FORMAT}.",
                remedy="Build it again from the log: playhead history rebuild",
            )

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to the current generation whose queries all see the same state."""
        with self._begun() as db:
            yield db

    def _begun(self) -> Connection:
        """A connection in a transaction. The generation may be dropped between looking for it and beginning."""
        for attempt in range(_FOLLOW_ATTEMPTS):
            try:
                with ExitStack() as failing:
                    db = failing.enter_context(self._read_engine().connect())
                    db.begin()
                    failing.pop_all()
                    return db
            except exc.DBAPIError:
                if attempt == _FOLLOW_ATTEMPTS - 1 or not self.is_replaced(self._reading_generation):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _read_engine(self) -> Engine:
        current = self._fixed or self.place.current()
        with self._lock:
            if self._reading is None or self._reading_generation != current:
                if self._reading is not None:
                    self._reading.dispose()
                self._reading, self._reading_generation = self.place.engine(current), current
            return self._reading

    def is_replaced(self, generation: int) -> bool:
        """Whether another generation took the place of this one."""
        return not self._fixed and self.place.current() != generation

    def follow(self) -> None:
        """Write to the current generation from now on."""
        current = self._fixed or self.place.current()
        if current != self._generation:
            self._writing.dispose()
            self._writing, self._generation = self.place.engine(current, writing=True), current
        self._parts = {}

    @contextmanager
    def _looking(self) -> Iterator[Connection]:
        """At the generation that is written to."""
        with self._unless_replaced(), self._writing.connect() as db:
            yield db.execution_options(**{READS: True})

    @contextmanager
    def _unless_replaced(self) -> Iterator[None]:
        """What goes wrong in a generation that is dropped meanwhile is no error of the database."""
        try:
            yield
        except exc.DBAPIError as error:
            if self.is_replaced(self._generation):
                raise Moved(f"generation {self._generation} is gone") from error
            raise

    # ── what is kept beside the rows ─────────────────────────────────────────────────────────────────────────────────

    def meta(self, name: str) -> str:
        """Empty where it was never set."""
        with self._looking() as db:
            return db.scalar(sa.select(META.c.value).where(META.c.name == name)) or ""

    def set_meta(self, name: str, value: str) -> None:
        with self.transaction() as db:
            db.execute(sa.delete(META).where(META.c.name == name))
            db.execute(sa.insert(META).values(name=name, value=value))

    def claim(self, prefix: str) -> None:
        """Say that it holds the topics with this prefix.

        Raises:
            HistoryMisfit: it holds another installation's.
        """
        with self.transaction() as db:
            if not self.is_of(prefix, db):
                db.execute(sa.insert(META).values(name=PREFIX, value=prefix))

    def is_of(self, prefix: str, db: Connection) -> bool:
        """Whether it holds the topics with this prefix; False where nobody has said so yet.

        Raises:
            HistoryMisfit: it holds another installation's.
        """
        found = db.scalar(sa.select(META.c.value).where(META.c.name == PREFIX))
        if found not in (None, prefix):
            raise HistoryMisfit(
                f"the history in {self.place.name} is of the topics with the prefix {found!r}, not {prefix!r}.",
                remedy="Give each installation a database of its own: PLAYHEAD_HISTORY_DATABASE.",
            )
        return found is not None

    # ── partitions ───────────────────────────────────────────────────────────────────────────────────────────────────

    def parts(self) -> dict[Partition, Part]:
        """Every partition that was ever read, of the generation that is written to.

        Raises:
            Moved: it is gone.
        """
        with self._looking() as db:
            self._parts = parts_of(db)
        return dict(self._parts)

    def positions(self) -> dict[Partition, int]:
        """The next offset to read of every partition that was ever read, of the generation that is current."""
        with self.reading() as db:
            return {Partition(row.topic, row.partition): row.next for row in db.execute(sa.select(PART))}

    def begin(
        self,
        starts: Mapping[Partition, int],
        topic_ids: Mapping[str, str] | None = None,
        numbers: Mapping[Partition, int] | None = None,
    ) -> None:
        """Take up partitions that were not read before: they are read from these offsets on.

        Args:
            numbers: of those that had one in the generation before. Lists are in the order of places where times are
                the same, and a cursor is one of those: it stays what it was.
        """
        ids, kept = topic_ids or {}, numbers or {}
        with self.transaction() as db:
            self.place.hold(db)
            known = {Partition(row.topic, row.partition) for row in db.execute(sa.select(PART))}
            last = max(db.scalar(sa.select(sa.func.max(PART.c.number))) or 0, *kept.values(), 0)
            for partition in sorted(starts.keys() - known):
                if (number := kept.get(partition)) is None:
                    number = last = last + 1
                topic, at, start = partition.topic, partition.partition, starts[partition]
                row = {"number": number, "topic": topic, "partition": at, "next": start, "lost": start}
                db.execute(sa.insert(PART).values(**row, topic_id=ids.get(topic, "")))

    def base(self, partition: Partition) -> int:
        """The place of offset 0 of a partition that was begun."""
        part = self._parts.get(partition) or self.parts()[partition]
        return part.number << OFFSET_BITS

    def mark(self, why: Mapping[Partition, str | None]) -> None:
        """Note why partitions are not read, or that they are (None)."""
        with self.transaction() as db:
            for (topic, number), stopped in sorted(why.items()):
                here = (PART.c.topic == topic) & (PART.c.partition == number)
                db.execute(
                    sa.update(PART).where(here & PART.c.stopped.is_distinct_from(stopped)).values(stopped=stopped)
                )

    def skip(self, partition: Partition, span: Span) -> None:
        """Go on at the span's end: what is in it is lost, and counted.

        Raises:
            Moved: the partition is not at the span's beginning any more.
        """
        with self.transaction() as db:
            self._move(db, partition, span)
            here = (PART.c.topic == partition.topic) & (PART.c.partition == partition.partition)
            db.execute(sa.update(PART).where(here).values(lost=PART.c.lost + span.next - span.first, stopped=None))

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, rows: Rows, spans: Mapping[Partition, Span]) -> None:
        """Write what was read of these spans, and move the positions.

        Raises:
            Moved: nothing was written.
        """
        with self.transaction() as db:
            for partition, span in sorted(spans.items()):
                self._move(db, partition, span)
            if self.is_replaced(self._generation):  # asked while nobody can switch: a rebuild holds the positions
                raise Moved(f"generation {self._generation} was replaced")
            self._bulk.write(db, rows)

    def _move(self, db: Connection, partition: Partition, span: Span) -> None:
        number = self.base(partition) >> OFFSET_BITS
        here = (PART.c.number == number) & (PART.c.next == span.first)
        if db.execute(sa.update(PART).where(here).values(next=span.next)).rowcount != 1:
            raise Moved(f"{partition.topic}[{partition.partition}] is not at {span.first} any more")

    @contextmanager
    def held(self) -> Iterator[dict[Partition, int]]:
        """The positions, which nobody moves until the block ends."""
        with self.transaction() as db:
            self.place.hold(db)
            yield {Partition(row.topic, row.partition): row.next for row in db.execute(sa.select(PART))}

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that writes.

        Raises:
            Moved: the generation is gone.
        """
        with self._unless_replaced(), self._writing.begin() as db:
            yield db


def _found(place: Place, number: int, values: Mapping[str, str] | None = None) -> None:
    """Say in a generation that was just made what it is."""
    engine = place.engine(number, writing=True)
    told = {"format": FORMAT, ID: secrets.token_hex(8), **(values or {})}
    try:
        with engine.begin() as db:
            place.hold(db)
            if db.scalar(sa.select(META.c.value).where(META.c.name == ID)) is None:
                db.execute(sa.insert(META), [{"name": name, "value": value} for name, value in told.items()])
    finally:
        engine.dispose()


def new_generation(place: Place, number: int, values: Mapping[str, str]) -> HistoryStore:
    """A generation that is not current, empty, with these entries of META."""
    place.make(number)
    _found(place, number, values)
    return HistoryStore(place, generation=number)
