"""Without a heartbeat for two thirds of the session a worker stops what runs and starts nothing, whatever it is at."""

from __future__ import annotations

import asyncio
from typing import Any

from playhead import IO
from playhead.group.member import Phase
from tests.engine.scene import Scene


class Going:
    """A job with one long run per event; `now` are those that run."""

    def __init__(self, scene: Scene) -> None:
        self.now: set[int] = set()
        self.starts = 0
        self._scene = scene

    async def run(self, payload: Any, io: IO) -> None:
        self.starts += 1
        self.now.add(payload["n"])
        try:
            await self._scene.clock.sleep(payload.get("seconds", 30))
        except asyncio.CancelledError:
            self.now.discard(payload["n"])
            raise
        self.now.discard(payload["n"])


class TestSilence:
    async def test_runs_are_cancelled_in_time_and_start_again_afterwards(self, scene: Scene) -> None:
        await scene.open()
        going = Going(scene)
        worker = await scene.work(going.run)
        await scene.send(1)
        scene.broker.faults.unavailable = True
        await scene.clock.advance(4)
        assert going.now == {1}
        await scene.clock.advance(3)
        assert going.now == set()
        assert scene.consumer(worker).phase is Phase.ISOLATED
        scene.broker.faults.unavailable = False
        await scene.clock.advance(60)
        assert (going.starts, scene.ends()) == (2, [(1, "succeeded")])

    async def test_also_of_the_tasks_that_were_kept_while_others_are_taken_over(self, scene: Scene) -> None:
        await scene.open(partitions=2)
        going = Going(scene)
        worker = await scene.work(going.run)
        other = await scene.work(going.run)
        await scene.send(*range(10))
        kept = set(going.now)
        assert len(kept) == 10
        consumer = scene.consumer(worker)
        take_over = consumer.member._begin_takeover

        def then_away(epoch: Any) -> None:
            take_over(epoch)
            scene.broker.faults.unavailable = True

        consumer.member._begin_takeover = then_away  # type: ignore[method-assign]
        other.kill()
        scene.broker.expel(other.memberships[0])
        going.now -= {n for n in going.now if n not in _running(scene, worker)}
        await scene.clock.advance(1)
        assert consumer.phase is Phase.RESTORING
        assert going.now
        await scene.clock.advance(8)
        assert going.now == set()
        consumer.member._begin_takeover = take_over  # type: ignore[method-assign]
        scene.broker.faults.unavailable = False
        await scene.clock.advance(100)
        assert scene.ends() == [(n, "succeeded") for n in range(10)]

    async def test_also_while_the_worker_finishes_what_runs(self, scene: Scene) -> None:
        await scene.open()
        going = Going(scene)
        worker = await scene.work(going.run, grace_seconds=60.0)
        await scene.send(1)
        worker.stop()
        scene.broker.faults.unavailable = True
        await scene.clock.advance(8)
        assert going.now == set()

    async def test_commit_that_ends_unknown_in_the_silence_starts_nothing(self, scene: Scene) -> None:
        await scene.open()
        going = Going(scene)
        worker = await scene.work(going.run)
        await scene.send(1)
        scene.broker.commit_latency_seconds = 12.0
        scene.broker.faults.next_commit = "unknown_aborted"
        await scene.send(2, seconds=0)
        membership = worker.memberships[0]
        membership._fall_silent()
        await scene.clock.advance(8)
        assert (scene.consumer(worker).phase, going.now) == (Phase.ISOLATED, set())
        starts = going.starts
        await scene.clock.advance(10)
        assert (going.starts, going.now) == (starts, set())
        scene.broker.commit_latency_seconds = 0.0
        membership._silent_since = None
        await scene.clock.advance(60)
        assert scene.ends() == [(1, "succeeded"), (2, "succeeded")]


def _running(scene: Scene, worker: Any) -> set[int]:
    """The numbers of the events whose runs this worker has."""
    return {run.event.payload()["n"] for task in scene.consumer(worker).tasks.values() for run in list(task.live_runs)}
