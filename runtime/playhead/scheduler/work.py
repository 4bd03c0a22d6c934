"""What the scheduler does with its partitions of topic `delay`: fire, answer, arm.

    fetch ──▶ task.take ──▶ store ──┬─ due ─────────▶ event + tombstone ───────────────┐
                                    ├─ request ─────▶ (tombstone, new timer) + answer ─┼──▶ committer
                                    └─ schedule ────▶ next occurrence ─────────────────┘

A timer is due when this machine's clock says so, and not a millisecond before: the commit that fires it is written a
little earlier, and ended when it is due. All that happens to a timer is one commit, with the checkpoint of its
partition as the fence: so it fires once, or is canceled, whoever else tries.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from playhead.broker.contract import Broker, TopicInfo
from playhead.clock import Clock, within
from playhead.errors import BrokerUnavailable, Fatal, InvalidInput, StoreUnusable
from playhead.events import entity_of
from playhead.group.log_ends import LogEnds
from playhead.group.member import Group, Member, Phase
from playhead.group.work import Ending, OwnedTask, Taken
from playhead.ids import new_event_id
from playhead.metrics import DEAD_LETTERS, TIMER_LATENESS, TIMERS_OVERDUE, TIMERS_PENDING, Samples
from playhead.records import Partition, Record, StoredRecord
from playhead.run import DeadLetter, fitting
from playhead.scheduler.arming import arm_next, fire_schedule, rearm
from playhead.scheduler.task import TimerTask, Told
from playhead.serde import MINTED_HEADER, own_headers
from playhead.timer import CANCELED, KEPT, RESCHEDULED, SCHEDULER_SOURCE, TOO_LATE, Request, Timer, tombstone
from playhead.timers.store import COMMIT_RECORDS, Place, StoreBroken, TimerStore, Unwanted
from playhead.topics import DEAD_LETTER, DELAY, event_limit_bytes

GROUP = "playhead.scheduler"
MAX_GATHERED = 8_000
"""Endings of a partition that wait for their commit; beyond it no more of its timers are taken up."""
MAX_ENDINGS_PER_COMMIT = 4_000
"""Two records each, most often; twice as large a commit as a job's is half as much work for each of them."""
LEAD_MS = 3
"""How much earlier than it is due a timer is taken up: about what a commit takes until its transaction can be ended."""
LATE_MS = 1_000
"""A timer that fires later than that may have been due before it was set; of the others that costs too much to ask."""
MIN_NAP_SECONDS = 0.0001
"""Below what a float of the time of day can tell apart, a nap would never end."""
_PROGRESS_RECORDS = 500_000
_APPLIED_AT_ONCE = 500
"""Records of a restore; some milliseconds' worth."""
_LOOK_UP_AGAIN_SECONDS = 0.5
_REBUILT = "a store of timers is broken; it is thrown away and rebuilt from the log"


class TimerWork:
    """Implements `playhead.group.work.Work`.

    Args:
        open_store: of a topic and a partition of it; True for a new one, whatever is there already.
    """

    def __init__(
        self,
        broker: Broker,
        prefix: str,
        clock: Clock,
        logger: Any,
        open_store: Callable[[TopicInfo, int, bool], TimerStore],
    ) -> None:
        group = Group(
            title="the scheduler",
            name=prefix + GROUP,
            topic=prefix + DELAY,
            prefix=prefix,
            start="earliest",
            remedy="Let it begin again: playhead timers reset. What is pending is in the log; nothing fires twice.",
            max_endings=MAX_ENDINGS_PER_COMMIT,
        )
        self.member = Member(group, self, broker, clock, logger)
        self.lateness = TIMER_LATENESS.histogram()
        self._dead_letters_written = 0
        self._broker = broker
        self._prefix = prefix
        self._clock = clock
        self._logger = logger
        self._open_store = open_store
        self._stir = asyncio.Event()
        self._nap_seconds = clock.announce(self._stir.set)
        """How soon a clock that was set forward is noticed."""
        self._stopping = False
        self._keeping: asyncio.Task[None] | None = None
        self._delay: TopicInfo
        self._dead_letters: TopicInfo

    @property
    def tasks(self) -> dict[int, TimerTask]:
        return cast("dict[int, TimerTask]", self.member.tasks)

    # ── joining and restoring ────────────────────────────────────────────────────────────────────────────────────────

    async def prepare(self) -> None:
        self._delay = await self._broker.topic(self._prefix + DELAY)
        self._dead_letters = await self._broker.topic(self._prefix + DEAD_LETTER)

    def joined(self, member: Member) -> None:
        self._keeping = asyncio.create_task(self._keep_time(), name="timers")

    async def restore(self, taken: Taken) -> TimerTask:
        """Bring the store up to the end that the partition has now, uncommitted: nothing that was open is missed."""
        topic = await self._broker.topic(self._delay.name)
        partition = Partition(topic.name, taken.number)
        try:
            store = await self._restored(topic, partition, anew=False)
        except StoreBroken as error:
            self._logger.warning(_REBUILT, error=str(error))
            try:
                store = await self._restored(topic, partition, anew=True)
            except StoreBroken as again:
                raise StoreUnusable(f"the store of timers breaks even when it is new: {again}.") from again
        return TimerTask(taken.number, taken.owner, partition, store, self._now_ms)

    async def _restored(self, topic: TopicInfo, partition: Partition, *, anew: bool) -> TimerStore:
        store = self._open_store(topic, partition.partition, anew)
        try:
            start, end = (await self._broker.bounds([partition], committed=False))[partition]
            if store.position > end:  # the log lost its tail: what the store knows beyond it never was
                store.close()
                store = self._open_store(topic, partition.partition, True)
            first = max(store.position, start)
            if end - first > _PROGRESS_RECORDS:
                self._logger.info("rebuilding timers", partition=partition.partition, offsets=end - first)
            await self._read_into(store, partition, first, end)
        except BaseException:
            store.close()
            raise
        return store

    async def _read_into(self, store: TimerStore, partition: Partition, first: int, end: int) -> None:
        told = written = first

        async def fold(records: Sequence[StoredRecord]) -> None:
            nonlocal told, written
            for first in range(0, len(records), _APPLIED_AT_ONCE):
                portion = records[first : first + _APPLIED_AT_ONCE]
                position = portion[-1].offset + 1
                commit = position - written >= COMMIT_RECORDS
                store.apply(portion, position, self._now_ms(), commit=commit)
                written = position if commit else written
                await asyncio.sleep(0)  # heartbeats, and the other partitions' timers
            if store.position - told > _PROGRESS_RECORDS:
                told = store.position
                self._logger.info("rebuilding timers", partition=partition.partition, offset=told, end=end)

        await self._broker.read(partition, first, end, fold)
        store.apply((), end, self._now_ms())

    # ── keeping time ─────────────────────────────────────────────────────────────────────────────────────────────────

    def pump(self) -> None:
        """Something was read, or may go on."""
        if broken := next((task.broken for task in self.tasks.values() if task.broken is not None), None):
            self._rebuild(broken)
            return
        if any(task.moved for task in self.tasks.values()):
            self.member.committer.skipped()
        self._stir.set()

    def _rebuild(self, broken: StoreBroken) -> None:
        """A store is only a cache: what is in memory goes by the log again."""
        self._logger.warning(_REBUILT, error=str(broken))
        self.member.begin_again()

    async def _keep_time(self) -> None:
        """Do what is to be done, then wait for the next timer, or until something changes."""
        while True:
            self._stir.clear()
            try:
                seconds = await self._do_what_is_due()
            except BrokerUnavailable as error:
                self._logger.warning("the broker is away; timers wait", error=str(error))
                seconds = _LOOK_UP_AGAIN_SECONDS
            except StoreBroken as error:
                self._rebuild(error)
                seconds = self._nap_seconds
            except Exception as error:  # noqa: BLE001 -- nobody awaits this task: the error is the member's
                self.member.give_up(error)
                return
            if seconds > 0:
                await within(self._clock, seconds, self._stir.wait())

    async def _do_what_is_due(self) -> float:
        """Take up what has its time. Returns the seconds until the next look.

        1. answer requests, and end what is unwanted;
        2. arm schedules that are new or have changed;
        3. fire what is due, as much as may gather.
        """
        if self._stopping or self.member.phase is not Phase.RUNNING:
            return self._nap_seconds
        for task in list(self.tasks.values()):
            if not task.alive:
                continue  # it was taken away while another one's timers were looked at
            for asked in task.asked():
                self._answer(task, asked)
            self._arm(task)
            while task.alive and (room := MAX_GATHERED - task.gathered) > 0:
                timers = task.due(self._now_ms() + LEAD_MS, room)
                if not timers:
                    break
                await self._fire(task, timers)
        if all(task.gathered >= MAX_GATHERED for task in self.tasks.values()):
            return self._nap_seconds  # the next commit stirs
        waiting = [task.next_due_ms() for task in self.tasks.values() if task.gathered < MAX_GATHERED]
        dues = [due for due in waiting if due is not None]
        if not dues:
            return self._nap_seconds
        look_ms = min(dues) - LEAD_MS
        if look_ms <= self._now_ms():
            return 0.0
        return min(max(MIN_NAP_SECONDS, look_ms / 1000 - self._clock.time()), self._nap_seconds)

    async def _fire(self, task: TimerTask, timers: Sequence[tuple[Place, Timer]]) -> None:
        try:
            topics = await self._topics_of(timer for _, timer in timers)
        except BrokerUnavailable:
            task.put_back(timers)
            raise
        if not task.alive:
            return
        for _, timer in timers:
            topic = topics[entity_of(timer.name)]
            fires_ms = max(self._now_ms(), timer.due_ms)
            if isinstance(topic, InvalidInput):
                self._bury(task, timer, str(topic))
            elif timer.schedule:
                declared = task.store.schedule(timer.schedule)
                records, passed_over = fire_schedule(timer, declared, topic, self._delay, fires_ms)
                if passed_over:
                    self._logger.warning("occurrences passed over", schedule=timer.schedule, passed_over=passed_over)
                self._tell(task, [timer], records, due_ms=timer.due_ms)
            else:
                event = timer.event(topic.name, topic.partitions, fires_ms)
                self._tell(task, [timer], [event], due_ms=timer.due_ms)

    async def _topics_of(self, timers: Iterable[Timer]) -> dict[str, TopicInfo | InvalidInput]:
        """By entity: the topic of the timers' events, or why there is none."""
        topics: dict[str, TopicInfo | InvalidInput] = {}
        for entity in {entity_of(timer.name) for timer in timers}:
            name = self._prefix + entity
            try:
                topics[entity] = self._broker.known_topic(name) or await self._broker.topic(name)
            except InvalidInput as error:
                topics[entity] = error
        return topics

    def _answer(self, task: TimerTask, asked: Request | Unwanted) -> None:
        now_ms, topic = self._now_ms(), self._delay
        task.answering.add(asked.key)
        if isinstance(asked, Unwanted):
            self._logger.warning("a record of topic delay is no timer; it is dropped", reason=asked.reason)
            self._tell(task, (), [tombstone(asked.key, topic.name, task.number, now_ms)])
            return
        timer = task.pending(asked.id)
        if timer is None:
            self._tell(task, (), asked.answer(TOO_LATE, topic.name, task.number, now_ms))
        elif asked.new_id:
            moved = timer.moved_to(asked.new_id, asked.due_ms, topic.name, topic.partitions, now_ms)
            answer = asked.answer(RESCHEDULED, topic.name, task.number, now_ms)
            self._tell(task, [timer], [moved, *answer, *self._next_of(task, timer)], moving=asked)
        else:
            answer = asked.answer(CANCELED, topic.name, task.number, now_ms)
            self._tell(task, [timer], [*answer, *self._next_of(task, timer)])

    def _arm(self, task: TimerTask) -> None:
        """Arm what is declared and not armed, or armed as it was declared before; disarm what is declared no more."""
        if not task.schedules_changed:
            return
        task.schedules_changed = False
        declared = task.store.schedules()
        for job_id in declared.keys() | task.store.scheduled_jobs():
            armed = [timer for timer in task.store.armed(job_id) if timer.key not in task.gone]
            ends, records = rearm(job_id, declared.get(job_id), armed, self._delay, self._now_ms())
            if ends or records:
                self._tell(task, ends, records)

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(
        self,
        task: TimerTask,
        timers: Sequence[Timer],
        records: Sequence[Record],
        *,
        due_ms: int | None = None,
        buried: bool = False,
        moving: Request | None = None,
    ) -> None:
        """Commit these records, and the end of these timers with them."""
        now_ms = self._now_ms()
        ends = [tombstone(timer.key, self._delay.name, task.number, now_ms) for timer in timers]
        task.gone.update(timer.key for timer in timers)
        task.gathered += 1
        not_before = 0.0
        if due_ms is not None:
            # A clock that was set back since the timer was taken up must not hold the transaction open.
            ahead_seconds = min(due_ms / 1000 - self._clock.time(), LEAD_MS / 1000)
            not_before = self._clock.monotonic() + ahead_seconds
        self.member.committer.add(
            Ending(Told(task, timers, due_ms, buried, moving), [*records, *ends], False, not_before)
        )

    def _bury(self, task: TimerTask, timer: Timer, reason: str) -> None:
        self._logger.error("a timer can't be sent; it goes to the dead letters", timer_id=timer.id, reason=reason)
        records = [self._dead_letter(task, timer, reason), *self._next_of(task, timer)]
        self._tell(task, [timer], records, buried=True)

    def _next_of(self, task: TimerTask, timer: Timer) -> list[Record]:
        """What arms the occurrence after this one, which does not fire; nothing where it is no schedule's."""
        if not timer.schedule:
            return []
        return arm_next(timer, task.store.schedule(timer.schedule), self._delay, self._now_ms())

    def _dead_letter(self, task: TimerTask, timer: Timer, reason: str) -> Record:
        now_ms, topic = self._now_ms(), self._dead_letters
        # Anybody may have written it, also compressed: it can be larger than any event.
        limit_bytes = event_limit_bytes(topic.max_message_bytes)
        key, value, wrapped, reason, left_out = fitting(timer.key, timer.value, timer.headers, limit_bytes, reason)
        letter = DeadLetter(
            job_id=GROUP,
            reason=reason,
            topic=self._delay.name,
            partition=task.number,
            offset=-1,
            timestamp_ms=now_ms,
            key=b64encode(key or b"").decode(),
            value=None if value is None else b64encode(value).decode(),
            headers=[(name, b64encode(text or b"").decode()) for name, text in wrapped],
            left_out=left_out,
        )
        id_ = new_event_id().encode()
        headers = own_headers(b"dead-letter.created", id_, SCHEDULER_SOURCE, now_ms, MINTED_HEADER)
        told = letter.model_dump_json(by_alias=True).encode()
        return Record(topic.name, task.number % topic.partitions, timer.id.encode(), told, headers, now_ms)

    def committed(self, endings: Sequence[Ending]) -> None:
        now_ms = self._clock.time() * 1000
        for told, _, _, _ in endings:
            told.task.gathered -= 1
            if told.due_ms is not None:
                late_ms = now_ms - told.due_ms
                if late_ms > LATE_MS:
                    late_ms = now_ms - min(now_ms, told.timers[0].late_from_ms)
                self.lateness.add(late_ms / 1000)
            self._dead_letters_written += told.buried
        self._stir.set()

    def refused(self, item: Told, reason: str) -> None:
        """The broker refuses an event: it is a dead letter. A timer in its new place: it stays. Neighbours go on."""
        task = item.task
        task.gathered -= 1
        if item.moving is not None:
            if not item.dropped:
                task.keep(item.timers)
                self._tell(task, (), item.moving.answer(KEPT, self._delay.name, task.number, self._now_ms()))
            return
        if item.due_ms is None:  # no event: what the scheduler itself has to say
            self.member.give_up(
                Fatal(
                    f"the broker refuses what the scheduler writes: {reason}.",
                    remedy="Check the settings and ACLs of the topics `delay` and `dead-letter`: playhead topics check",
                )
            )
            return
        if not item.dropped:
            (timer,) = item.timers
            self._bury(task, timer, reason)

    # ── being looked at ──────────────────────────────────────────────────────────────────────────────────────────────

    def pending(self) -> int:
        """How many timers are pending in its partitions."""
        return sum(task.store.count() for task in self.tasks.values())

    def samples(self, ends: LogEnds) -> Samples:
        """What there is to tell of the timers."""
        tasks = list(self.tasks.values())
        yield from self.member.samples(ends)
        yield TIMERS_PENDING.sample(self.pending())
        yield TIMER_LATENESS.sample(self.lateness)
        dues = [due for task in tasks if (due := task.next_due_ms())]  # 0 and None: not looked at, and nothing
        yield TIMERS_OVERDUE.sample(max(0.0, self._clock.time() - min(dues) / 1000) if dues else 0.0)
        yield DEAD_LETTERS.sample(self._dead_letters_written, GROUP)

    # ── letting go ───────────────────────────────────────────────────────────────────────────────────────────────────

    def drop(self, task: OwnedTask) -> None:
        timers = cast("TimerTask", task)
        timers.alive = False
        timers.store.close()

    async def finish(self, grace_seconds: float) -> None:
        """What has gathered is committed by the member; nothing more is taken up."""
        self._stopping = True

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)
