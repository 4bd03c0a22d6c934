"""History's process: it writes what is in the log into the database until it is told to stop.

              ┌───────── a new generation of the group, a failed write, a rebuilt database ─────────┐
              ▼                                                                                     │
JOINING ──▶ RESTORING ── positions from the database, seek ──▶ RUNNING ─────────────────────────────┘
              ▲                                                   │
              └── AWAY (the database, or the broker) ◀────────────┘          each ──▶ STOPPED

and from each ──▶ JOINING, where topics came or went.

The group only divides the partitions; the offsets are the database's. So a write by who was thought dead is Moved, and
every process on one database, whichever it is, goes on where the rows end.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

import structlog
from sqlalchemy import exc

from playhead.broker.contract import Broker, Epoch, Membership
from playhead.clock import SYSTEM_CLOCK, Clock
from playhead.config import Settings
from playhead.errors import BrokerUnavailable, CheckpointLost, HistoryStopped, UnknownTopic
from playhead.group.log_ends import LogEnds
from playhead.history.databases import why
from playhead.history.positions import look, partitions_of
from playhead.history.pruning import prune_from_time_to_time
from playhead.history.scribe import Scribe
from playhead.history.store import ID, HistoryStore, Moved, Span
from playhead.metrics import (
    HISTORY_LAG,
    HISTORY_RECORDS,
    HISTORY_STOPPED,
    HISTORY_WRITE_DURATION,
    Samples,
)
from playhead.records import Partition, StoredRecord

GROUP = "playhead.history."
"""Of one database; its id follows."""
FETCH_MAX_RECORDS = 5_000
IDLE_SECONDS = 5.0
"""After that long without records a partition's position is moved past the markers at the log's end."""
_LOOK_SECONDS = 1.0
_RETRY_SECONDS, _MAX_RETRY_SECONDS = 0.5, 10.0

_AWAY = (exc.OperationalError, exc.InterfaceError, BrokerUnavailable)
"""What passes by itself: a database or a broker that does not answer."""


class Phase(Enum):
    JOINING = auto()
    RESTORING = auto()
    RUNNING = auto()
    AWAY = auto()
    STOPPED = auto()


_NEXT = {
    Phase.JOINING: {Phase.RESTORING, Phase.AWAY, Phase.STOPPED},
    Phase.RESTORING: {Phase.RUNNING, Phase.AWAY, Phase.JOINING, Phase.STOPPED},
    Phase.RUNNING: {Phase.RESTORING, Phase.AWAY, Phase.JOINING, Phase.STOPPED},
    Phase.AWAY: {Phase.RESTORING, Phase.JOINING, Phase.STOPPED},
    Phase.STOPPED: set(),
}


class Historian:
    """Writes the partitions that the group gives it. Several share them where the database is PostgreSQL.

    Args:
        broker: started.
        store: this process's way to the database; closed by whoever made it.
        retention_days: what is older is deleted from the database; None keeps all of it.
    """

    def __init__(
        self,
        broker: Broker,
        store: HistoryStore,
        *,
        settings: Settings | None = None,
        clock: Clock = SYSTEM_CLOCK,
        retention_days: float | None = None,
    ) -> None:
        self._settings = settings if settings is not None else Settings.from_env()
        self._prefix = self._settings.topic_prefix
        self._broker, self._store, self._clock = broker, store, clock
        self._retention_days = retention_days
        self._logger = structlog.get_logger("playhead.history").bind(part="history")
        self._stopping = asyncio.Event()
        self._phase = Phase.JOINING
        self._membership: Membership | None = None
        self._joined: frozenset[str] = frozenset()
        self._topics: dict[str, int] = {}
        """Those that were joined and are there, with how many partitions they had when it was last looked."""
        self._rejoin = False
        self._epoch: Epoch | None = None
        self._restored: object = None
        """The epoch whose partitions are sought; another object than `_epoch` where they have to be."""
        self._positions: dict[Partition, int] = {}
        self._heard: dict[Partition, float] = {}
        """When records last came, on the monotonic clock; not in here once its position is past all markers."""
        self._stopped: dict[Partition, HistoryStopped] = {}
        self._ends = LogEnds(broker, clock)
        self._again = asyncio.Event()
        """Set when the partitions have to be restored, or the group joined anew."""
        self._scribe = Scribe(store, self._prefix, clock, self._again.set)

    # ── what others see ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def ready(self) -> bool:
        """Whether all of its partitions are read."""
        return self._phase is Phase.RUNNING and not self._stopped

    @property
    def written(self) -> int:
        """How many records this process has written."""
        return self._scribe.written

    def status(self) -> dict[str, dict[str, Any]]:
        """Its phase, its partitions, and why some are not read, as a worker tells those of its jobs."""
        phase = self._phase.name.lower()
        stopped = {f"{p.topic}[{p.partition}]": str(why) for p, why in sorted(self._stopped.items())}
        if stopped and self._phase is Phase.RUNNING:
            phase = f"degraded, {' '.join(stopped.values())}"
        tasks = sorted(self._epoch.tasks) if self._epoch is not None else []
        return {"history": {"phase": phase, "tasks": tasks, "stopped": stopped}}

    async def look(self) -> None:
        """Ask the broker what `samples` tells of the lag, seldom.

        Raises:
            UnknownTopic, NotAuthorized, BrokerUnavailable.
        """
        await self._ends.look(self._positions)

    def samples(self) -> Samples:
        """What it counts."""
        yield HISTORY_RECORDS.sample(self._scribe.written)
        yield HISTORY_WRITE_DURATION.sample(self._scribe.writes)
        yield HISTORY_STOPPED.sample(len(self._stopped))
        for partition, position in self._positions.items():
            end = self._ends.committed(partition)
            if end is not None:
                yield HISTORY_LAG.sample(max(0, end - position), partition.topic, str(partition.partition))

    def stop(self) -> None:
        """Finish the write in flight and leave the group. `run` returns afterwards."""
        self._stopping.set()

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Write until `stop`.

        Raises:
            HistoryMisfit: the database is another installation's.
            Fatal, NotAuthorized: a person has to act.
        """
        await asyncio.to_thread(self._store.claim, self._prefix)
        group = self._prefix + GROUP + await asyncio.to_thread(self._store.meta, ID)
        duties = [asyncio.create_task(self.loop(group)), asyncio.create_task(self._look_around())]
        if self._retention_days is not None:
            pruning = prune_from_time_to_time(self._store, self._retention_days, self._clock, self._scribe.pen)
            duties.append(asyncio.create_task(pruning))
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait({stopped, *duties}, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()  # a duty ends only by an error
        finally:
            for task in (stopped, *duties):
                task.cancel()
            await asyncio.gather(stopped, *duties, return_exceptions=True)
            await self._leave()
            self._to(Phase.STOPPED)

    async def loop(self, group: str) -> None:
        """Again and again; what is away is waited for."""
        wait_seconds, failed_at = _RETRY_SECONDS, -math.inf
        while True:
            try:
                await self.run_once(group)
            except _AWAY as error:
                # A round may end well although nothing can be written, as on a full disk: that ends no trouble.
                lasts = self._clock.monotonic() - failed_at < 2 * _MAX_RETRY_SECONDS
                wait_seconds = min(wait_seconds * 2, _MAX_RETRY_SECONDS) if lasts else _RETRY_SECONDS
                failed_at = self._clock.monotonic()
                what, told = ("database", why(error)) if isinstance(error, exc.DBAPIError) else ("broker", str(error))
                self._logger.warning(f"the {what} is away; waiting", error=told, retry_in_seconds=wait_seconds)
                self._to(Phase.AWAY)
                self._restored = None
                await self._clock.sleep(wait_seconds)
            except (Moved, CheckpointLost, UnknownTopic) as error:
                self._logger.info("looking again where to go on", reason=str(error))
                self._restored = None
                await self._clock.sleep(_RETRY_SECONDS)

    async def run_once(self, group: str) -> None:
        """One round:

        1. join, where the topics are not those that were joined;
        2. restore the partitions, where the group, the database or a failure has changed what is known of them;
        3. wait for records, and hand them to the scribe, as soon as it has room.
        """
        if self._rejoin:
            await self._leave()
        if self._membership is None:
            await self._join(group)
        self._again.clear()
        if (failure := self._scribe.failure) is not None:
            await self._scribe.drop()
            self._restored = None
            raise failure
        epoch = self._epoch
        if epoch is not None and self._restored is not epoch:
            await self._restore(epoch)
        await self._scribe.room()
        for partition, records in (await self._fetched()).items():
            if self._epoch is not epoch or self._restored is not epoch:
                return  # read under an assignment that is over: it is fetched again
            self._take(Partition(*partition), records)

    async def _fetched(self) -> dict[Partition, Sequence[StoredRecord]]:
        """Records; none where something else is to be done first."""
        assert self._membership is not None
        fetching = asyncio.create_task(self._membership.fetch(FETCH_MAX_RECORDS))
        again = asyncio.create_task(self._again.wait())
        try:
            await asyncio.wait({fetching, again}, return_when=asyncio.FIRST_COMPLETED)
            return fetching.result() if fetching.done() and not self._again.is_set() else {}
        finally:
            for task in (fetching, again):
                task.cancel()
            await asyncio.gather(fetching, again, return_exceptions=True)

    def _take(self, partition: Partition, records: Sequence[StoredRecord]) -> None:
        position = self._positions.get(partition)
        if position is None or not records:
            return
        if records[0].offset < position:
            records = [record for record in records if record.offset >= position]
            if not records:
                return
        span = Span(position, records[-1].offset + 1)
        self._scribe.add(partition, records, span)
        self._positions[partition] = span.next
        self._heard[partition] = self._clock.monotonic()

    # ── the group (the contract's Ownership) ─────────────────────────────────────────────────────────────────────────

    async def _join(self, group: str) -> None:
        self._to(Phase.JOINING)
        self._rejoin = False
        self._topics = await partitions_of(self._broker, self._prefix)
        self._joined = frozenset(self._topics)
        self._membership = await self._broker.join(group, sorted(self._joined), self)
        self._logger.info("joined", group=group, topics=sorted(self._joined))

    async def _leave(self) -> None:
        if self._membership is not None:
            await self._membership.leave()
            self._membership = None

    async def revoked(self, epoch: Epoch) -> None:
        """Finish the write in flight. What had gathered is read again by whoever is given the partitions."""
        self._epoch = self._restored = None
        self._positions = {}
        if self._phase is Phase.RUNNING:
            self._to(Phase.RESTORING)
        self._again.set()
        await self._scribe.drop()

    def assigned(self, epoch: Epoch) -> None:
        """The loop restores them."""
        self._epoch = epoch
        self._again.set()

    def _to(self, phase: Phase) -> None:
        if phase is not self._phase:
            if phase not in _NEXT[self._phase]:
                raise AssertionError(f"history: {self._phase.name} -> {phase.name}")
            self._phase = phase

    # ── restoring ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _restore(self, epoch: Epoch) -> None:
        """Fetch every partition of the epoch from where the database's rows of it end; say of those that can't be."""
        assert self._membership is not None
        self._to(Phase.RESTORING)
        await self._scribe.drop()
        await asyncio.to_thread(self._store.follow)
        found = await partitions_of(self._broker, self._prefix)
        self._topics = {topic: count for topic, count in found.items() if topic in self._joined}
        wanted = [Partition(t, n) for t, count in self._topics.items() for n in range(count) if n in epoch.tasks]
        seen = await look(self._broker, wanted, await asyncio.to_thread(self._store.parts))
        if seen.new:
            await asyncio.to_thread(self._store.begin, seen.new, seen.topic_ids)
        await asyncio.to_thread(
            self._store.mark, {p: str(seen.stopped[p]) if p in seen.stopped else None for p in wanted}
        )
        parts = await asyncio.to_thread(self._store.parts)
        if self._epoch is not epoch:
            return
        for partition in seen.stopped.keys() - self._stopped.keys():
            self._logger.error(str(seen.stopped[partition]), topic=partition.topic, partition=partition.partition)
        self._stopped = seen.stopped
        self._positions = {partition: parts[partition].next for partition in (*seen.going, *seen.new)}
        self._heard = dict.fromkeys(self._positions, self._clock.monotonic())
        for partition, position in self._positions.items():
            self._membership.seek(partition, position)
        self._membership.pause(self._stopped)
        self._membership.resume(self._positions)
        self._restored = epoch
        self._to(Phase.RUNNING)
        self._logger.info("running", generation=epoch.generation, partitions=len(self._positions))

    def _restore_soon(self) -> None:
        self._restored = None
        self._again.set()

    # ── looking around ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _look_around(self) -> None:
        """See in time what nobody tells of: a rebuilt database, topics that come and go, what a person has decided."""
        looked = self._clock.monotonic()
        while True:
            await self._clock.sleep(_LOOK_SECONDS)
            if self._phase is not Phase.RUNNING:
                continue
            with contextlib.suppress(*_AWAY, Moved, UnknownTopic, CheckpointLost):  # the loop meets it, and says so
                await self._look_at_database()
                if self._clock.monotonic() - looked >= self._settings.metadata_max_age_seconds:
                    looked = self._clock.monotonic()
                    await self._look_at_topics()
                await self._pass_markers()

    async def _look_at_database(self) -> None:
        if await asyncio.to_thread(self._store.is_replaced, self._store.generation):
            self._logger.info("the history was rebuilt; going on with the new one")
            self._restore_soon()
        elif self._stopped:
            parts = await asyncio.to_thread(self._store.parts)
            if any(parts[partition].stopped is None for partition in self._stopped):
                self._restore_soon()

    async def _look_at_topics(self) -> None:
        found = await partitions_of(self._broker, self._prefix)
        if found.keys() != self._joined:
            self._rejoin = True
            self._again.set()
            return
        parts = await asyncio.to_thread(self._store.parts)
        seen = await look(self._broker, [*self._positions, *self._stopped], parts)
        if found != self._topics or seen.stopped.keys() != self._stopped.keys():
            self._restore_soon()

    async def _pass_markers(self) -> None:
        """Move the positions of idle partitions to the log's end, over the markers of transactions.

        Else retention, which deletes those as well, would seem to have taken what was not read.
        """
        now = self._clock.monotonic()
        idle = [p for p, heard in self._heard.items() if now - heard >= IDLE_SECONDS and p in self._positions]
        for partition, (_, end) in (await self._broker.bounds(idle)).items() if idle else ():
            position = self._positions.get(partition)
            records: list[StoredRecord] = []
            if position is not None and position < end:

                async def keep(some: Sequence[StoredRecord], found: list[StoredRecord] = records) -> None:
                    found.extend(some)

                await self._broker.read(partition, position, end, keep)
                if records or self._positions.get(partition) != position or self._scribe.failure is not None:
                    continue
                self._scribe.add(partition, [], Span(position, end))
                self._positions[partition] = end
            self._heard.pop(partition, None)
