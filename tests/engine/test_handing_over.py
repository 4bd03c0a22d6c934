"""Deployments and rebalances without any fault: no run goes on in two workers at once, and none is repeated in vain."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from playhead import IO
from playhead.broker.contract import Commit, Epoch, Fenced, Outcome
from playhead.clock import within
from playhead.group.checkpoint import Owner, decode
from tests.engine.scene import Scene


class Slow:
    """A job whose runs take a while; it notes how often each starts, is cancelled, and overlaps with itself."""

    def __init__(self, scene: Scene, seconds: float) -> None:
        self.starts: Counter[int] = Counter()
        self.cancelled: Counter[int] = Counter()
        self.overlaps: list[int] = []
        self._scene = scene
        self._seconds = seconds
        self._going: set[int] = set()

    async def run(self, payload: Any, io: IO) -> None:
        n = payload["n"]
        self.starts[n] += 1
        if n in self._going:
            self.overlaps.append(n)
        self._going.add(n)
        try:
            await self._scene.clock.sleep(self._seconds)
        except asyncio.CancelledError:
            self.cancelled[n] += 1
            raise
        finally:
            self._going.discard(n)


class TestDeployment:
    @pytest.mark.parametrize("commit_latency_seconds", [0.0, 0.2])
    async def test_worker_that_comes_while_another_finishes_starts_nothing_that_still_runs_there(
        self, scene: Scene, commit_latency_seconds: float
    ) -> None:
        await scene.open(partitions=2)
        scene.broker.commit_latency_seconds = commit_latency_seconds
        slow = Slow(scene, 4)
        old = await scene.work(slow.run, grace_seconds=10.0)
        await scene.send(*range(8))
        await scene.clock.advance(1)
        old.stop()
        new = scene.launch(scene.job(slow.run))
        await scene.clock.advance(60)
        assert slow.overlaps == []
        assert scene.ends() == [(n, "succeeded") for n in range(8)]
        assert old.ended
        assert new.worker.ready
        # What the old one kept it has finished; only what the group took away from it has started again.
        assert slow.starts == Counter(range(8)) + slow.cancelled
        assert sum(slow.cancelled.values()) <= 4

    async def test_stop_during_a_rebalance_still_commits_what_has_ended(self, scene: Scene) -> None:
        await scene.open(partitions=2)
        slow = Slow(scene, 1)
        worker = await scene.work(slow.run, grace_seconds=5.0)
        blocked = await scene.work(slow.run)
        await scene.clock.advance(5)
        scene.broker.freeze(blocked.memberships[0])  # it does not answer: the group waits for it
        await scene.send(*range(8))
        third = scene.launch(scene.job(slow.run))
        await scene.clock.advance(0.5)
        worker.stop()
        await scene.clock.advance(2)
        scene.broker.thaw(blocked.memberships[0])
        await scene.clock.advance(60)
        assert slow.overlaps == []
        assert scene.ends() == [(n, "succeeded") for n in range(8)]
        assert slow.starts == Counter(range(8)) + slow.cancelled
        assert third.worker.ready

    async def test_graceful_stop_releases_the_task_at_once(self, scene: Scene) -> None:
        await scene.open()
        slow = Slow(scene, 1)
        old = await scene.work(slow.run)
        await scene.send(1)
        old.stop()
        await scene.clock.advance(1)
        assert old.ended
        assert decode(*scene.marks()[0][:2])[0] == Owner(lease=1, writer="", crashes=0)
        await scene.work(slow.run)
        assert slow.starts == Counter([1])

    async def test_run_over_the_grace_period_starts_again_elsewhere(self, scene: Scene) -> None:
        await scene.open()
        slow = Slow(scene, 30)
        old = await scene.work(slow.run, grace_seconds=2.0)
        await scene.send(1)
        await scene.stop(old)
        assert slow.cancelled == Counter([1])
        await scene.work(slow.run)
        await scene.clock.advance(40)
        assert (slow.starts[1], scene.ends()) == (2, [(1, "succeeded")])

    async def test_sends_nothing_more_to_start_once_it_stops(self, scene: Scene) -> None:
        await scene.open()
        slow = Slow(scene, 5)
        old = await scene.work(slow.run, grace_seconds=10.0, concurrency=1)
        await scene.send(1, 2, 3)
        old.stop()
        await scene.clock.advance(8)
        assert old.ended
        assert (slow.starts, scene.ends()) == (Counter([1]), [(1, "succeeded")])


class TestRebalance:
    async def test_runs_of_tasks_that_stay_go_on_and_start_once(self, scene: Scene) -> None:
        await scene.open(partitions=4)
        slow = Slow(scene, 20)
        first = await scene.work(slow.run)
        await scene.send(*range(16))
        others = [await scene.work(slow.run) for _ in range(2)]
        kept = set(scene.consumer(first).tasks)
        await scene.clock.advance(100)
        assert slow.overlaps == []
        assert scene.ends() == [(n, "succeeded") for n in range(16)]
        assert slow.starts == Counter(range(16)) + slow.cancelled
        by_task = {told["task"] for told in scene.told("run.succeeded") if told["lease"] == 1}
        assert kept <= by_task
        assert len(others) == 2

    async def test_member_that_missed_a_generation_goes_on_with_nothing(self, scene: Scene) -> None:
        await scene.open(partitions=1)
        slow = Slow(scene, 20)
        worker = await scene.work(slow.run)
        await scene.send(1)
        scene.broker.expel(worker.memberships[0])
        await scene.clock.advance(50)
        assert slow.cancelled == Counter([1])
        assert (slow.starts[1], scene.ends()) == (2, [(1, "succeeded")])
        (told,) = scene.told("run.succeeded")
        assert told["lease"] == 2

    async def test_member_that_an_assignment_did_not_reach_goes_on_with_nothing(self, scene: Scene) -> None:
        """It is the same member, and has the same task; in the generation that it missed it may have been another's."""
        await scene.open(partitions=1)
        slow = Slow(scene, 20)
        worker = await scene.work(slow.run)
        membership, member = worker.memberships[0], scene.consumer(worker).member
        await scene.send(1)

        class Deaf:
            revoked = member.revoked

            def assigned(self, epoch: Epoch) -> None:
                pass

        membership._ownership = Deaf()
        await scene.work(slow.run)
        membership._ownership = member
        await scene.work(slow.run)
        await scene.clock.advance(50)
        assert slow.cancelled == Counter([1])
        assert (slow.starts[1], scene.ends()) == (2, [(1, "succeeded")])
        (told,) = scene.told("run.succeeded")
        assert told["lease"] == 2

    async def test_fenced_member_that_comes_back_in_the_next_generation_goes_on_with_nothing(
        self, scene: Scene
    ) -> None:
        """As where its transaction alone had timed out: what the commit had taken along is nowhere else."""
        await scene.open(partitions=1)
        slow = Slow(scene, 0)
        worker = await scene.work(slow.run)
        membership = worker.memberships[0]
        commit = membership.commit

        async def fenced(made: Commit) -> Outcome:
            membership.commit = commit
            return Fenced("the transaction timed out")

        membership.commit = fenced
        await scene.send(1)
        assert (slow.starts[1], scene.ends()) == (1, [])
        await scene.work(slow.run)
        await scene.clock.advance(5)
        assert (slow.starts[1], scene.ends()) == (2, [(1, "succeeded")])

    async def test_group_that_does_not_wait_for_the_last_commit_loses_nothing(self, scene: Scene) -> None:
        """A broker gives a member only so long to let go; the transaction that is under way then goes on."""
        await scene.open()
        slow = Slow(scene, 0)
        worker = await scene.work(slow.run)
        consumer, membership = scene.consumer(worker), worker.memberships[0]

        class Impatient:
            assigned = consumer.member.assigned

            async def revoked(self, epoch: Epoch) -> None:
                await within(scene.clock, 1.0, consumer.member.revoked(epoch))

        membership._ownership = Impatient()
        scene.broker.commit_latency_seconds = 0.7  # the one in flight ends in time, the last one does not
        await scene.send(1)
        await scene.send(2, 3)
        await scene.work(slow.run)
        await scene.clock.advance(20)
        scene.broker.commit_latency_seconds = 0.0
        await scene.send(4)
        await scene.clock.advance(5)
        assert slow.starts == Counter([1, 2, 3, 4])
        assert scene.ends() == [(n, "succeeded") for n in (1, 2, 3, 4)]
        assert scene.marks()[0].offset == 4
