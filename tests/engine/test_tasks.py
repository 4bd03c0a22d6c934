"""Tasks: checkpoints with ranges, founding, takeover, leases, rebalances, outcomes of a commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead import IO, Client, Settings, event_trigger
from playhead.broker.contract import METADATA_LIMIT_BYTES, Commit, Mark, Outcome, Partition
from playhead.broker.memory import MemoryBroker
from playhead.engine import Worker
from playhead.errors import CheckpointLost, Fatal, PlayheadError
from playhead.events import Event, outgoing
from playhead.group.checkpoint import WINDOW_OFFSETS, Alone, Owner, decode, encode, next_offset
from playhead.group.member import Phase
from playhead.testing import VirtualClock
from playhead.topics import DEAD_LETTER, RUN, entity_topic, system_topics

Run = Callable[..., Any]


class Place:
    """A log with one topic, and workers of one job `j`."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.broker = MemoryBroker(self.clock)
        self.client = Client("t", settings=Settings(), broker=self.broker, clock=self.clock)
        self.hosted: list[tuple[Worker, asyncio.Task[None]]] = []

    async def open(self, partitions: int = 2) -> None:
        await self.broker.start()
        await self.broker.create_topics([*system_topics(), entity_topic("thing", partitions=partitions)])

    async def work(self, run: Run, **options: Any) -> Worker:
        """Start a worker with this function as job `j`, and wait until it is ready or has failed."""
        client = Client("t")
        client.define_job(id="j", name="J", version="1", trigger=event_trigger("thing.made"), run=run, **options)
        worker = Worker(
            [client.jobs["j"]], self.broker, settings=Settings(), clock=self.clock, grace_seconds=2.0, seed=1
        )
        self.hosted.append((worker, asyncio.create_task(worker.run())))
        await self.clock.advance(1)
        return worker

    async def stop(self, worker: Worker) -> None:
        worker.stop()
        await self.clock.advance(5)
        await next(task for hosted, task in self.hosted if hosted is worker)

    async def send(self, count: int, **payload: Any) -> list[str]:
        events = [outgoing("thing.made", {"n": n, **payload}) for n in range(count)]
        for result in await self.client.send_all(events):
            assert not isinstance(result, PlayheadError)
        await self.clock.advance(0)
        return [event.id for event in events]

    def told(self, name: str, topic: str = RUN) -> list[dict[str, Any]]:
        events = [Event(record, dict(record.headers)) for record in self.broker.stored(topic)]
        return [event.payload() for event in events if event.name == name]

    async def marks(self) -> dict[int, Mark]:
        info = await self.broker.describe_group("j")
        return {partition.partition: mark for partition, mark in info.checkpoints.items()}


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    place = Place()
    yield place
    for worker, task in place.hosted:
        worker.stop()
        await place.clock.advance(5)
        await asyncio.gather(task, return_exceptions=True)
    await place.broker.stop()


async def nothing(payload: dict[str, Any], io: IO) -> None: ...


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, list[int]]:
    """(next offset to read, unfinished offsets below it) within one window."""
    first = draw(st.integers(0, 2**40))
    offsets = draw(st.sets(st.integers(0, WINDOW_OFFSETS - 1), max_size=WINDOW_OFFSETS))
    unfinished = sorted(first + offset for offset in offsets | {0})
    return draw(st.integers(unfinished[-1] + 1, first + WINDOW_OFFSETS)), unfinished


class TestCheckpointText:
    @settings(deadline=None)  # a busy machine is no failure
    @given(windows(), st.integers(0, 2**31), st.booleans())
    def test_comes_back_and_fits(self, window: tuple[int, list[int]], lease: int, alone: bool) -> None:
        position, unfinished = window
        owner = Owner(lease, "0123456789abcdef", 3, Alone(unfinished[0], 2) if alone else None)
        text = encode(owner, position, unfinished)
        assert len(text) <= METADATA_LIMIT_BYTES
        offset = next_offset(position, unfinished)
        again, finished = decode(offset, text)
        assert again == owner
        done = {at for stretch in finished for at in stretch}
        assert done == set(range(offset, position)) - set(unfinished)

    def test_worst_case_fits(self) -> None:
        every_other = list(range(0, WINDOW_OFFSETS, 2))
        assert len(encode(Owner(2**31, "f" * 16, 9, Alone(2**60, 3)), WINDOW_OFFSETS, every_other)) < 3_000

    def test_text_of_another_program_is_an_error(self) -> None:
        with pytest.raises(CheckpointLost, match="did not write"):
            decode(5, "somebody else's")


class TestRuns:
    async def test_is_told_of_in_the_partition_of_its_task(self, place: Place) -> None:
        """All that is told of a run is in one partition of `run`, and the id says which: its task's number modulo P."""
        await place.open(partitions=6)  # of topic `run` there are four

        async def fails_once(payload: dict[str, Any], io: IO) -> None:
            if io.run.attempt == 1:
                raise ValueError

        await place.work(fails_once)
        await place.send(60)
        await place.clock.advance(30)
        told = [((record.key or b"").decode(), record.partition) for record in place.broker.stored(RUN)]
        assert len(told) == 120
        assert {int(run_id.rpartition("-")[2]) for run_id, _ in told} == set(range(6))
        assert [partition for _, partition in told] == [int(run_id.rpartition("-")[2]) % 4 for run_id, _ in told]


class TestRanges:
    async def test_slow_run_holds_nobody_back_and_finished_ones_do_not_run_again(self, place: Place) -> None:
        await place.open(partitions=1)
        started: list[int] = []

        async def slow_first(payload: dict[str, Any], io: IO) -> None:
            started.append(payload["n"])
            if payload["n"] == 0:
                await place.clock.sleep(1_000)

        first = await place.work(slow_first)
        await place.send(50)
        assert len(place.told("run.succeeded")) == 49
        assert (await place.marks())[0].offset == 0
        place.broker.expel(first.consumers[0].member.membership)  # type: ignore[arg-type]
        await place.clock.advance(5)
        assert started.count(0) == 2
        assert [started.count(n) for n in range(1, 50)] == [1] * 49

    async def test_window_pauses_the_task_and_then_it_goes_on(self, place: Place) -> None:
        await place.open(partitions=1)
        started = 0

        async def slow_first(payload: dict[str, Any], io: IO) -> None:
            nonlocal started
            started += 1
            if payload["n"] == 0:
                await place.clock.sleep(100)

        await place.work(slow_first)
        await place.send(3_000)
        await place.clock.advance(50)
        assert started == WINDOW_OFFSETS
        await place.clock.advance(60)
        assert started == 3_000
        assert len((await place.marks())[0].metadata) <= METADATA_LIMIT_BYTES

    async def test_gap_larger_than_the_window_is_stepped_over(self, place: Place) -> None:
        await place.open(partitions=1)
        await place.work(nothing)
        await place.send(2)
        log = place.broker.log(Partition("thing", 0))
        await place.send(5_000, skipped=True)
        log.compact()
        log.trim(0)
        await place.clock.advance(5)
        await place.send(1)
        assert (await place.marks())[0].offset == 5_003


class TestFounding:
    @pytest.mark.parametrize(("start", "runs"), [("now", 1), ("earliest", 4), ("then", 2)])
    async def test_new_group_begins_where_the_job_says(self, place: Place, start: str, runs: int) -> None:
        await place.open(partitions=1)
        await place.send(2)
        await place.clock.advance(60)
        moment = datetime.fromtimestamp(place.clock.time() - 30, UTC)
        await place.send(1) if start != "now" else None
        await place.work(nothing, start=moment if start == "then" else start)
        await place.send(1)
        assert len(place.told("run.succeeded")) == runs

    async def test_partition_that_was_added_later_starts_at_0(self, place: Place) -> None:
        await place.open(partitions=1)
        worker = await place.work(nothing)
        await place.stop(worker)
        place.broker.add_partitions("thing", 3)
        place.client = Client("t", settings=Settings(), broker=place.broker, clock=place.clock)
        await place.broker.topic("thing")
        await place.send(40)
        await place.work(nothing)
        assert len(place.told("run.succeeded")) == 40

    async def test_checkpoint_that_expired_is_an_error_and_no_jump(self, place: Place) -> None:
        await place.open(partitions=1)
        await place.stop(await place.work(nothing))
        place.broker.groups["j"]._marks.clear()  # as offsets.retention does
        await place.work(nothing)
        with pytest.raises(CheckpointLost, match="expired"):
            await place.hosted[-1][1]

    async def test_checkpoint_that_fell_off_the_log_is_an_error_and_no_jump(self, place: Place) -> None:
        await place.open(partitions=1)
        await place.stop(await place.work(nothing))
        await place.send(10)
        place.broker.trim(Partition("thing", 0), 5)
        await place.work(nothing)
        with pytest.raises(CheckpointLost, match="retention"):
            await place.hosted[-1][1]


class TestLeases:
    async def test_each_takeover_adds_one_and_the_run_sees_it(self, place: Place) -> None:
        await place.open(partitions=1)
        leases: list[int] = []

        async def note(payload: dict[str, Any], io: IO) -> None:
            leases.append(io.run.lease)

        for _ in range(3):
            worker = await place.work(note)
            await place.send(1)
            await place.stop(worker)
        assert leases == [1, 2, 3]

    async def test_graceful_stop_finishes_what_runs_and_releases_the_task(self, place: Place) -> None:
        await place.open(partitions=1)

        async def slow(payload: dict[str, Any], io: IO) -> None:
            await place.clock.sleep(1)

        worker = await place.work(slow)
        await place.send(1)
        await place.stop(worker)
        assert len(place.told("run.succeeded")) == 1
        owner, _ = decode(*(await place.marks())[0][:2])
        assert owner == Owner(lease=1, writer="", crashes=0)

    async def test_run_over_the_grace_period_starts_again_elsewhere(self, place: Place) -> None:
        await place.open(partitions=1)
        started = 0

        async def slow(payload: dict[str, Any], io: IO) -> None:
            nonlocal started
            started += 1
            await place.clock.sleep(30)

        worker = await place.work(slow)
        await place.send(1)
        await place.stop(worker)
        assert (started, place.told("run.succeeded")) == (1, [])
        await place.work(slow)
        await place.clock.advance(40)
        assert (started, len(place.told("run.succeeded"))) == (2, 1)


class TestRebalance:
    async def test_task_that_comes_back_goes_on_in_memory_and_one_that_leaves_is_cancelled(self, place: Place) -> None:
        await place.open(partitions=2)
        cancelled: list[int] = []
        started: list[int] = []

        async def slow(payload: dict[str, Any], io: IO) -> None:
            started.append(io.run.task)
            try:
                await place.clock.sleep(20)
            except asyncio.CancelledError:
                cancelled.append(io.run.task)
                raise

        first = await place.work(slow)
        await place.send(20)
        second = await place.work(slow)
        await place.clock.advance(1)
        (kept,) = first.consumers[0].tasks
        (moved,) = second.consumers[0].tasks
        assert set(cancelled) == {moved}
        assert len(cancelled) == started.count(moved) / 2
        await place.clock.advance(60)
        assert len(place.told("run.succeeded")) == 20
        assert started.count(kept) + started.count(moved) / 2 == 20


class TestOutcomes:
    @pytest.mark.parametrize("fault", ["unknown_committed", "unknown_aborted", "hang"])
    async def test_lost_answer_ends_in_exactly_one_record(self, place: Place, fault: Any) -> None:
        await place.open(partitions=1)
        await place.work(nothing)
        place.broker.faults.next_commit = fault
        await place.send(10)
        await place.clock.advance(60)
        assert len(place.told("run.succeeded")) == 10
        assert len({told["runId"] for told in place.told("run.succeeded")}) == 10

    async def test_refused_record_fails_its_run_alone(self, place: Place) -> None:
        await place.open(partitions=1)

        async def send(payload: dict[str, Any], io: IO) -> None:
            await io.send_event("thing.echoed", payload)

        await place.work(send)
        place.broker.faults.refuse = lambda record: b'"n":3' in (record.value or b"") and record.topic == "thing"
        place.broker.faults.refuse, refuse = None, place.broker.faults.refuse
        ids = await asyncio.wait_for(self._send_refusing(place, refuse), 10)
        failed = place.told("run.failed")
        assert [told["eventId"] for told in failed] == [ids[3]]
        assert len(place.told("run.succeeded")) == 9
        assert len(place.told("dead-letter.created", DEAD_LETTER)) == 1

    @staticmethod
    async def _send_refusing(place: Place, refuse: Any) -> list[str]:
        """The events themselves pass; what a run sends does not."""
        place.broker.commit_latency_seconds = 0.01
        events = [outgoing("thing.made", {"n": n}) for n in range(10)]
        await place.client.send_all(events)
        place.broker.faults.refuse = refuse
        await place.clock.advance(5)
        return [event.id for event in events]

    async def test_worker_gives_up_when_even_the_failure_is_refused(self, place: Place) -> None:
        await place.open(partitions=1)
        await place.work(nothing)
        place.broker.faults.refuse = lambda record: record.topic == RUN
        await place.send(1)
        await place.clock.advance(5)
        with pytest.raises(Fatal, match="refuses"):
            await place.hosted[-1][1]


class TestSilence:
    async def test_without_heartbeat_runs_are_stopped_and_start_again_when_it_is_back(self, place: Place) -> None:
        await place.open(partitions=1)
        cancelled, started = 0, 0

        async def slow(payload: dict[str, Any], io: IO) -> None:
            nonlocal cancelled, started
            started += 1
            try:
                await place.clock.sleep(8)
            except asyncio.CancelledError:
                cancelled += 1
                raise

        worker = await place.work(slow)
        await place.send(1)
        place.broker.faults.unavailable = True
        await place.clock.advance(7.9)
        assert worker.consumers[0].phase in (Phase.ISOLATED, Phase.RESTORING)
        assert (started, cancelled, worker.consumers[0].running) == (1, 1, 0)
        place.broker.faults.unavailable = False
        await place.clock.advance(30)
        assert started == 2
        assert len(place.told("run.succeeded")) == 1

    async def test_commit_in_flight_at_the_isolation_is_waited_for_before_the_tasks_are_taken_over_again(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A real broker that is away gets nothing of it before it is back: until then the checkpoint looks stable."""
        await place.open(partitions=1)
        worker = await place.work(nothing)
        membership = worker.consumers[0].member.membership
        commit = membership.commit

        async def late(value: Commit) -> Outcome:
            monkeypatch.undo()  # this one alone
            await place.clock.sleep(12)
            return await commit(value)

        monkeypatch.setattr(membership, "commit", late)
        await place.send(1)
        membership._fall_silent()  # type: ignore[attr-defined]
        await place.clock.advance(8)
        assert worker.consumers[0].phase is Phase.ISOLATED
        membership._silent_since = None  # type: ignore[attr-defined]
        await place.clock.advance(60)
        assert len(place.told("run.succeeded")) == 1


class TestReset:
    async def test_group_that_was_told_where_to_start_before_it_was_founded_starts_there(self, place: Place) -> None:
        await place.open(partitions=1)
        await place.send(10)
        await place.broker.reset_group("j", {Partition("thing", 0): Mark(4)})
        place.broker.add_partitions("thing", 2)
        await place.work(nothing)
        assert len(place.told("run.succeeded")) == 6
