"""A task: partition p of each topic that a job reads, with the runs that it has going.

What was fetched waits in the task's buffer. `admit` takes it from there, in order: a record of another name is finished
as it is seen, from its headers alone; the others become runs, one key after the other, up to the window.

    buffer ──▶ admit ──▶ skipped         (another name, a repeated id, finished before a takeover)
                  └────▶ run ──▶ lane of its key ──▶ ready
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from playhead.broker.contract import Mark
from playhead.engine.dedupe import RecentIds
from playhead.engine.live import LiveRun, LiveState
from playhead.events import Event
from playhead.group.checkpoint import WINDOW_OFFSETS, Owner, encode, next_offset
from playhead.job import Job
from playhead.records import Partition, StoredRecord
from playhead.serde import CE_TYPE

HELD_BYTES_LIMIT = 32 * 1024 * 1024
"""The values of a task's live runs and of its buffer; beyond it the task admits, and fetches, no more."""
BUFFER_HIGH_RECORDS = 2_000
BUFFER_LOW_RECORDS = 500


def _possible_killers(concurrency: int, crashes: int) -> int:
    """How many runs have to end, one by one, before the others may run at once again.

    One crash may have come from outside. After a second in a row, what was going on then may have done it: as many runs
    as could be at once. Where that did not end it, each further crash doubles it.
    """
    return 0 if crashes < 2 else min(concurrency << min(crashes - 2, 11), WINDOW_OFFSETS)


class Progress:
    """How far one partition is: `position` is the next offset to admit, `live` the runs below it, in offset order."""

    __slots__ = (
        "buffer",
        "buffered_bytes",
        "fetched_to",
        "finished",
        "live",
        "paused",
        "position",
        "recent",
        "unproven_end",
    )

    def __init__(self, position: int, finished: Sequence[range], recent: RecentIds, unproven_end: int) -> None:
        self.position = position
        self.unproven_end = unproven_end
        """The offset before which lies whatever the owner before may have had going."""
        self.fetched_to = position
        self.finished = deque(finished)
        self.live: dict[int, LiveRun] = {}
        self.buffer: deque[StoredRecord] = deque()
        self.buffered_bytes = 0
        self.paused = True
        self.recent = recent
        """What came before the takeover is read back only once a chosen or foreign id turns up."""

    @property
    def lowest_unfinished(self) -> int:
        return next(iter(self.live), self.position)

    def finished_before(self, offset: int) -> bool:
        """Whether an owner before this one finished the offset. Asked in ascending order."""
        while self.finished and self.finished[0].stop <= offset:
            self.finished.popleft()
        return bool(self.finished) and offset in self.finished[0]

    def mark(self, owner: Owner, ending: frozenset[int] | set[int]) -> Mark:
        """The checkpoint as it will be when the runs at `ending` are committed."""
        unfinished = [offset for offset in self.live if offset not in ending]
        position = max(self.position, self.finished[-1].stop) if self.finished else self.position
        if self.finished:
            unfinished += self._not_yet_admitted(position)
        return Mark(next_offset(position, unfinished), encode(owner, position, unfinished))

    def _not_yet_admitted(self, end: int) -> Iterable[int]:
        """Offsets from the position on that no owner has finished: between the ranges of the owner before."""
        at = self.position
        for done in self.finished:
            yield from range(at, max(at, done.start))
            at = max(at, done.stop)
        yield from range(at, end)


class Task:
    """One task of one job, in the hands of this worker. See the module's drawing."""

    def __init__(self, job: Job, number: int, owner: Owner, name: bytes) -> None:
        self.job = job
        self.job_id = job.id
        self.number = number
        self.owner = owner
        self.progress: dict[Partition, Progress] = {}
        self.alive = True
        self.moved = False
        """Whether something has finished that no commit tells of yet."""
        self.unproven = _possible_killers(job.concurrency, owner.crashes)
        """How many runs start one by one, before the others may run at once."""
        self._name = name
        self._keeps_order = job.order == "key"
        self._lanes: dict[bytes, deque[LiveRun] | None] = {}
        """Each key that is held, with the runs that wait for it, if any."""
        self._held_bytes = 0

    @property
    def named_run(self) -> LiveRun | None:
        """The run of which the checkpoint says that it has started alone."""
        alone = self.owner.alone
        if alone is None:
            return None
        return next((p.live[alone.offset] for p in self.progress.values() if alone.offset in p.live), None)

    @property
    def awaits_named_run(self) -> bool:
        """Whether that run is still to be admitted."""
        alone = self.owner.alone
        if alone is None or self._held_bytes > HELD_BYTES_LIMIT:
            return False
        return any(p.position <= alone.offset < p.unproven_end for p in self.progress.values())

    @property
    def partitions(self) -> Collection[Partition]:
        return self.progress.keys()

    def resumed(self) -> None:
        for progress in self.progress.values():
            progress.paused = False

    @property
    def live_runs(self) -> Iterable[LiveRun]:
        return (run for progress in self.progress.values() for run in progress.live.values())

    # ── admitting ────────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, partition: Partition, records: Sequence[StoredRecord]) -> None:
        """Keep what was fetched until it is admitted."""
        progress = self.progress[partition]
        if records[0].offset < progress.fetched_to:  # fetched before and after a rebalance
            records = [record for record in records if record.offset >= progress.fetched_to]
            if not records:
                return
        progress.fetched_to = records[-1].offset + 1
        progress.buffer.extend(records)
        progress.buffered_bytes += sum(len(record.value or b"") for record in records)

    def fetched_to(self, partition: Partition) -> int:
        """The next offset to fetch."""
        return self.progress[partition].fetched_to

    def admit(self, ready: deque[LiveRun]) -> Progress | None:
        """Admit what the buffers hold, as far as the limits go, and add to `ready` what may start.

        Returns:
            A partition whose recent ids have to be read before it can go on, if any.
        """
        for progress in self.progress.values():
            if progress.buffer and not self._admit(progress, ready):
                return progress
        return None

    def _admit(self, progress: Progress, ready: deque[LiveRun]) -> bool:
        """False where the next record's id can't be judged before the recent ids are known."""
        buffer, live = progress.buffer, progress.live
        first = next(iter(live), None)
        while buffer and self._held_bytes <= HELD_BYTES_LIMIT:
            record = buffer[0]
            offset = record.offset
            if first is not None and offset >= first + WINDOW_OFFSETS:
                break
            size = len(record.value or b"")
            event = self._event_for_job(record)
            if event is None:
                self.moved = True
            else:
                remembered = event.may_repeat
                if remembered and not progress.recent.can_judge(record.timestamp):
                    return False
                if self._is_new(progress, event, remembered):
                    run = LiveRun(self, progress, record, event)
                    live[offset] = run
                    if first is None:
                        first = offset
                    self._held_bytes += size
                    self._enter_lane(run, ready)
                else:
                    self.moved = True
            buffer.popleft()
            progress.buffered_bytes -= size
            progress.position = offset + 1
        return True

    def _event_for_job(self, record: StoredRecord) -> Event | None:
        """None where the record is of another name (in nearly all cases its first header tells), or another job's."""
        headers, name = record.headers, self._name
        if headers and headers[0][0] == CE_TYPE and headers[0][1] != name:
            return None
        by_name = dict(headers)
        # A record without a type is no CloudEvent; its run ends as a dead letter when it starts.
        if by_name.get(CE_TYPE, name) != name:
            return None
        event = Event(record, by_name)
        return event if event.replay is None or event.replay.job_id == self.job_id else None

    def _is_new(self, progress: Progress, event: Event, remembered: bool) -> bool:
        """Whether the event starts a run: its id is no repetition, and no owner before this one finished it."""
        record = event.record
        repeated = remembered and not progress.recent.add(event.unique_id, record.timestamp)
        return not progress.finished_before(record.offset) and not repeated

    def wants_pause(self, progress: Progress) -> bool | None:
        """Whether fetching should pause (True), go on (False), or stay as it is (None)."""
        if len(progress.buffer) > BUFFER_HIGH_RECORDS or progress.buffered_bytes > HELD_BYTES_LIMIT:
            return True
        if len(progress.buffer) < BUFFER_LOW_RECORDS and progress.buffered_bytes < HELD_BYTES_LIMIT // 2:
            return False
        return None

    # ── order ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _enter_lane(self, run: LiveRun, ready: deque[LiveRun]) -> None:
        """A key is held from its run's start until it ends; what comes behind it waits."""
        key = run.record.key
        if key is not None and self._keeps_order:
            lanes = self._lanes
            if key in lanes:
                lane = lanes[key]
                if lane is None:
                    lane = lanes[key] = deque()
                lane.append(run)
                return
            lanes[key] = None
        run.to(LiveState.READY)
        ready.append(run)

    def leave_lane(self, run: LiveRun, ready: deque[LiveRun]) -> None:
        """The run has ended: the next of its key may start."""
        key = run.record.key
        if key is None or not self._keeps_order:
            return
        lane = self._lanes[key]
        if lane:
            follower = lane.popleft()
            follower.to(LiveState.READY)
            ready.append(follower)
        else:
            del self._lanes[key]

    # ── committing ───────────────────────────────────────────────────────────────────────────────────────────────────

    def marks(self, ending: Mapping[Progress, set[int]]) -> dict[Partition, Mark]:
        """The checkpoints of all of the task's partitions, as they will be when the runs at `ending` are committed."""
        none: frozenset[int] = frozenset()
        return {
            partition: progress.mark(self.owner, ending.get(progress, none))
            for partition, progress in self.progress.items()
        }

    def forget(self, run: LiveRun, *, committed: bool) -> None:
        """The run's end is in the log, or (not `committed`) it never was one: its offset is finished."""
        self.moved = self.moved or not committed
        del run.progress.live[run.offset]
        self._held_bytes -= len(run.record.value or b"")
        if self.unproven:
            self.unproven -= 1
        if self.owner.crashes and all(p.lowest_unfinished >= p.unproven_end for p in self.progress.values()):
            # All that was going on at the last crash has ended well. Not sooner: what ends beside it proves nothing.
            self.unproven = 0
            self.owner = replace(self.owner, crashes=0)
            self.moved = True

    def drop(self) -> None:
        """The task is another's now: stop its runs, and forget them."""
        self.alive = False
        for run in list(self.live_runs):
            run.drop()
        self.progress.clear()
        self._lanes.clear()
