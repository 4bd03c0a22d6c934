"""Where a group begins, and what a missing checkpoint means."""

from __future__ import annotations

import tracemalloc
from base64 import urlsafe_b64encode
from typing import Any

import pytest

from playhead import IO
from playhead.broker.contract import Mark, Partition
from playhead.errors import CheckpointLost, Fatal, TopicGone
from playhead.group.checkpoint import _varint
from playhead.topics import JOBS, entity_topic
from tests.engine.scene import Scene

MADE = [("ce_type", b"thing.made"), ("ce_id", b"a")]


async def nothing(payload: Any, io: IO) -> None: ...


class TestManyWorkers:
    async def test_worker_whose_answer_was_on_its_way_while_another_founded_the_group_goes_on(
        self, scene: Scene
    ) -> None:
        """It saw no checkpoint, and then the founding record; and yet nothing has expired."""
        await scene.open(partitions=4)
        await scene.send(*range(8))
        group = scene.broker.group("j")
        ask = group.checkpoints

        async def answer_late(partitions: Any) -> Any:
            answer = await ask(partitions)
            if all(partition.partition != 0 for partition in partitions):
                while not scene.broker.stored(JOBS):
                    await scene.clock.sleep(0.01)
            return answer

        group.checkpoints = answer_late  # type: ignore[method-assign]
        workers = [scene.launch(scene.job(nothing)) for _ in range(2)]
        await scene.clock.advance(10)
        for worker in workers:
            worker.check()
        assert scene.ends() == [(n, "succeeded") for n in range(8)]

    async def test_second_worker_waits_until_the_group_is_founded(self, scene: Scene) -> None:
        await scene.open(partitions=2)
        scene.broker.commit_latency_seconds = 3.0
        workers = [scene.launch(scene.job(nothing)) for _ in range(2)]
        await scene.clock.advance(2)
        assert scene.marks() == {}
        assert not any(worker.worker.ready for worker in workers)
        await scene.clock.advance(20)
        assert all(worker.worker.ready for worker in workers)
        assert len(scene.broker.stored(JOBS)) == 1
        assert sorted(scene.marks()) == [0, 1]


class TestAddedPartitions:
    async def _grown(self, scene: Scene) -> None:
        """A group that was founded on one partition, and has worked on two."""
        await scene.open(partitions=1)
        worker = await scene.work(nothing)
        scene.broker.add_partitions("thing", 2)
        await scene.clock.advance(1)
        await scene.put(b'{"n": 1}', MADE, partition=1)
        await scene.stop(worker)
        assert scene.ends() == [(1, "succeeded")]

    async def test_added_partition_starts_at_0_and_goes_on_from_its_checkpoint(self, scene: Scene) -> None:
        await self._grown(scene)
        await scene.work(nothing)
        await scene.put(b'{"n": 2}', [("ce_type", b"thing.made"), ("ce_id", b"b")], partition=1)
        assert scene.ends() == [(1, "succeeded"), (2, "succeeded")]

    async def test_checkpoint_of_an_added_partition_that_expired_is_an_error_and_no_jump(self, scene: Scene) -> None:
        await self._grown(scene)
        marks = scene.broker.group("j")._marks
        for partition in [p for p in marks if p.partition == 1]:
            del marks[partition]
        worker = await scene.work(nothing)
        with pytest.raises(CheckpointLost, match=r"thing \[1\]"):
            worker.check()
        assert scene.ends() == [(1, "succeeded")]


class TestReset:
    async def test_partition_added_to_a_group_that_was_reset_before_its_first_worker_moves_no_other(
        self, scene: Scene
    ) -> None:
        """Such a group has no founding record; founding it late would set every checkpoint to the end."""
        await scene.open(partitions=1)
        await scene.send(1)
        await scene.broker.reset_group("j", {Partition("thing", 0): Mark(0)})
        await scene.stop(await scene.work(nothing, start="now"))
        assert scene.ends() == [(1, "succeeded")]
        await scene.put(b'{"n": 2}', MADE, partition=0)
        scene.broker.add_partitions("thing", 2)
        await scene.put(b'{"n": 3}', [*MADE[:1], ("ce_id", b"other")], partition=1)
        await scene.work(nothing, start="now")
        assert scene.ends() == [(1, "succeeded"), (2, "succeeded"), (3, "succeeded")]


class TestRefused:
    async def test_founding_that_the_broker_refuses_is_told_and_not_tried_for_ever(self, scene: Scene) -> None:
        await scene.open()
        scene.broker.faults.refuse = lambda record: record.topic == JOBS
        worker = await scene.work(nothing)
        with pytest.raises(Fatal, match="refuses"):
            worker.check()


class TestDeletedTopic:
    """Deleted under a worker, and perhaps made again."""

    async def test_worker_ends_and_says_that_the_topic_is_gone(self, scene: Scene) -> None:
        await scene.open()
        worker = await scene.work(nothing)
        assert worker.worker.ready
        scene.broker.delete_topic("thing")
        await scene.clock.advance(1)
        assert not worker.worker.ready
        assert not worker.ended  # a broker that has just started may not know of it yet
        await scene.clock.advance(10)
        with pytest.raises(TopicGone, match=r"'thing', which job 'j' reads, was deleted") as caught:
            worker.check()
        assert "playhead topics create thing" in caught.value.remedy
        assert "playhead jobs reset j" in caught.value.remedy

    async def test_member_without_a_task_beside_others_is_ready(self, scene: Scene) -> None:
        await scene.open()
        workers = [await scene.work(nothing) for _ in range(2)]
        await scene.clock.advance(20)
        assert all(worker.worker.ready for worker in workers)

    async def test_worker_ends_where_it_was_made_again_at_once(self, scene: Scene) -> None:
        await scene.open()
        worker = await scene.work(nothing)
        await self._delete_and_make_again(scene)
        await scene.clock.advance(1)
        with pytest.raises(TopicGone, match="deleted and made again while it ran"):
            worker.check()

    @staticmethod
    async def _delete_and_make_again(scene: Scene) -> None:
        scene.broker.delete_topic("thing")
        await scene.broker.create_topics([entity_topic("thing", partitions=1)])

    async def test_topic_made_again_is_told_from_an_expired_checkpoint(self, scene: Scene) -> None:
        await scene.open()
        await scene.stop(await scene.work(nothing))
        await self._delete_and_make_again(scene)
        worker = await scene.work(nothing)
        with pytest.raises(CheckpointLost, match="the topic was deleted and made again") as caught:
            worker.check()
        assert "playhead jobs reset j" in caught.value.remedy


class TestLostTail:
    """A broker that comes back without the end of its log gives the lost offsets to what is sent next."""

    @staticmethod
    async def _stopped_behind_finished_ones(scene: Scene) -> list[int]:
        """A group whose first run hangs and whose others have ended; the numbers of the runs that started."""
        started: list[int] = []

        async def first_hangs(payload: Any, io: IO) -> None:
            started.append(payload["n"])
            if payload["n"] == 0:
                await scene.clock.sleep(10_000)

        await scene.open()
        worker = await scene.work(first_hangs)
        await scene.send(*range(10))
        await scene.stop(worker)
        return started

    async def test_event_that_got_an_offset_of_the_lost_tail_is_never_skipped(self, scene: Scene) -> None:
        await self._stopped_behind_finished_ones(scene)
        scene.broker.log(Partition("thing", 0)).lose_tail(5)
        await scene.send(100)  # offset 5, which the checkpoint says is finished
        worker = await scene.work(nothing)
        with pytest.raises(CheckpointLost, match="finished some up to 10, and the log goes from 0 to 6"):
            worker.check()

    @pytest.mark.parametrize("refounded_mark", [False, True])
    async def test_lost_tail_that_has_grown_again_is_an_error(self, scene: Scene, refounded_mark: bool) -> None:
        await self._stopped_behind_finished_ones(scene)
        if refounded_mark:  # a takeover that fetches nothing keeps the epoch
            await scene.stop(await scene.work(nothing))
        scene.broker.log(Partition("thing", 0)).lose_tail(5)
        await scene.send(*range(100, 120))
        worker = await scene.work(nothing)
        with pytest.raises(CheckpointLost, match="lost what was there from offset 5 on") as caught:
            worker.check()
        assert "playhead jobs reset" in str(caught.value.remedy)

    async def test_leader_that_changed_and_lost_nothing_is_no_error(self, scene: Scene) -> None:
        started = await self._stopped_behind_finished_ones(scene)
        log = scene.broker.log(Partition("thing", 0))
        log.lose_tail(log.end)
        await scene.send(10)
        await scene.work(nothing)
        assert scene.ends() == [(n, "succeeded") for n in range(11)]
        assert sorted(started) == list(range(10))

    async def test_checkpoint_without_an_epoch_is_taken_as_it_is(self, scene: Scene) -> None:
        """From a version that wrote none, or from `playhead jobs reset`."""
        await self._stopped_behind_finished_ones(scene)
        log = scene.broker.log(Partition("thing", 0))
        log.lose_tail(5)
        await scene.send(*range(100, 120))
        await scene.broker.reset_group("j", {Partition("thing", 0): Mark(8)})
        ran: list[int] = []

        async def note(payload: Any, io: IO) -> None:
            ran.append(payload["n"])

        worker = await scene.work(note)
        worker.check()
        assert ran[-1] == 119

    async def test_checkpoint_whose_ranges_end_with_the_log_goes_on(self, scene: Scene) -> None:
        started = await self._stopped_behind_finished_ones(scene)
        await scene.work(nothing)
        assert sorted(started) == list(range(10))
        assert scene.ends() == [(n, "succeeded") for n in range(10)]

    @pytest.mark.parametrize(("unfinished", "finished"), [(1, 2**26), (2**26, 1)])
    async def test_checkpoint_that_claims_more_than_the_log_has_is_an_error_and_no_memory(
        self, scene: Scene, unfinished: int, finished: int
    ) -> None:
        await scene.open()
        await scene.stop(await scene.work(nothing))
        lengths = bytearray()
        _varint(lengths, unfinished)
        _varint(lengths, finished)
        metadata = f"1 1 - 0 {urlsafe_b64encode(lengths).decode()}"
        await scene.broker.reset_group("j", {Partition("thing", 0): Mark(0, metadata)})
        tracemalloc.start()
        worker = await scene.work(nothing)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes < 2**24
        with pytest.raises(CheckpointLost, match=f"{2**26 + 1}"):
            worker.check()


class TestForeignGroup:
    async def test_checkpoint_of_another_program_is_an_error(self, scene: Scene) -> None:
        await scene.open()
        await scene.stop(await scene.work(nothing))
        (partition,) = scene.broker.group("j").describe().checkpoints
        mark = scene.marks()[0]._replace(metadata="lag-exporter was here")
        await scene.broker.reset_group("j", {partition: mark})
        worker = await scene.work(nothing)
        with pytest.raises(CheckpointLost, match="did not write"):
            worker.check()
