"""A partition of topic `delay` in the hands of this scheduler.

The store is the fold of what was read. Between a commit and the moment in which its tombstones are read back, the store
still holds what has fired: `gone` tells. A timer is looked at once, in the order of firing; `cursor` is how far that
is.

    due time ──────────▶
    fired, read back │ gone, in the store yet │ cursor │ due later …

What comes with a place before the cursor takes it back there; `gone` then tells what was taken up already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from playhead.broker.contract import Mark
from playhead.group.checkpoint import Owner, encode
from playhead.records import Partition, StoredRecord
from playhead.timer import CANCEL, SCHEDULED, Request, Timer, read_key
from playhead.timers.store import Place, StoreBroken, TimerStore, Unwanted

START = Place(-1, -1)


class TimerTask:
    """Implements `playhead.group.work.OwnedTask`."""

    def __init__(
        self, number: int, owner: Owner, partition: Partition, store: TimerStore, now_ms: Callable[[], int]
    ) -> None:
        self.number = number
        self.owner = owner
        self.partition = partition
        self.store = store
        self.moved = False
        self.alive = True
        self.broken: StoreBroken | None = None
        """Why the store takes nothing more."""
        self.cursor = START
        self.gone: set[bytes] = set()
        """Keys of timers that a commit, gathered or in the log, ends."""
        self.answering: set[bytes] = set()
        """Keys of requests, and of unwanted records, that a commit answers."""
        self.gathered = 0
        """How many endings wait for their commit."""
        self.schedules_changed = True
        """Whether what is armed has to be compared with what is declared."""
        self._asked_changed = True
        self._next_due_ms: int | None = 0
        """When the first timer behind the cursor is due, at the earliest: most looks need no query."""
        self._now_ms = now_ms

    @property
    def partitions(self) -> Collection[Partition]:
        return (self.partition,)

    def fetched_to(self, partition: Partition) -> int:
        return self.store.position

    def unfinished_from(self, partition: Partition) -> int:
        return self.store.position

    def resumed(self) -> None:
        """Nothing is ever paused: what is read goes to the store."""

    def marks(self, ending: Mapping[Any, set[int]]) -> dict[Partition, Mark]:
        """The offset tells how far it was read; what is pending, the log itself tells."""
        at = self.store.position
        return {self.partition: Mark(at, encode(self.owner, at, ()))}

    def take(self, partition: Partition, records: Sequence[StoredRecord]) -> None:
        """Fold what was read. A tombstone that comes back ends what was `gone` for it."""
        records = [record for record in records if record.offset >= self.store.position]
        if not records:
            return
        try:
            placed = self.store.apply(records, records[-1].offset + 1, self._now_ms())
        except StoreBroken as error:
            self.broken = error
            return
        for place in placed:
            self._look_from(place)
        for record in records:
            key = read_key(record.key)
            if key is None:
                continue
            self.schedules_changed = self.schedules_changed or key.kind == SCHEDULED
            if record.value is not None:
                # A timer that is not new to the store may be one to be ended.
                self._asked_changed = self._asked_changed or key.kind == CANCEL or len(placed) < len(records)
            else:
                self.gone.discard(record.key or b"")
                self.answering.discard(record.key or b"")
        self.moved = True

    def _look_from(self, place: Place) -> None:
        """A timer in this place is to be looked at (again)."""
        if place <= self.cursor:
            self.cursor = Place(place.due_ms, place.at - 1)
        if self._next_due_ms is None or place.due_ms < self._next_due_ms:
            self._next_due_ms = place.due_ms

    def due(self, now_ms: int, limit: int) -> list[tuple[Place, Timer]]:
        """The next timers that are due, and that no commit ends yet; each is given out once."""
        found: list[tuple[Place, Timer]] = []
        while not found and self._next_due_ms is not None and self._next_due_ms <= now_ms:
            rows = self.store.due(now_ms, self.cursor, limit)
            if rows:
                self.cursor = rows[-1][0]
            self._next_due_ms = self.store.next_due_ms(self.cursor)
            found = [(place, timer) for place, timer in rows if timer.key not in self.gone]
        return found

    def put_back(self, timers: Sequence[tuple[Place, Timer]]) -> None:
        """They could not be taken up; give them out once more."""
        self._look_from(timers[0][0])

    def keep(self, timers: Sequence[Timer]) -> None:
        """No commit ends them after all."""
        for timer in timers:
            self.gone.discard(timer.key)
            self._look_from(Place(timer.due_ms, 0))

    def next_due_ms(self) -> int | None:
        """When to look again; a moment that has passed means now."""
        return self._next_due_ms

    def pending(self, timer_id: str) -> Timer | None:
        """A timer that no commit has ended yet."""
        timer = self.store.find(timer_id)
        return None if timer is None or timer.key in self.gone else timer

    def asked(self) -> list[Request | Unwanted]:
        """What no commit answers yet."""
        if not self._asked_changed:
            return []
        self._asked_changed = False
        return [asked for asked in self.store.asked() if asked.key not in self.answering]


class Told:
    """What an ending is of: the timers that it ends. Implements `playhead.group.work.Item`.

    Attributes:
        due_ms: when the timer was due that fired; None where none did.
        buried: whether its timer ends as a dead letter.
        moving: the request that its timer be moved.
    """

    __slots__ = ("buried", "due_ms", "moving", "task", "timers")

    progress: None = None
    offset = -1

    def __init__(
        self, task: TimerTask, timers: Sequence[Timer], due_ms: int | None, buried: bool, moving: Request | None
    ) -> None:
        self.task = task
        self.timers = timers
        self.due_ms = due_ms
        self.buried = buried
        self.moving = moving

    @property
    def dropped(self) -> bool:
        return not self.task.alive
