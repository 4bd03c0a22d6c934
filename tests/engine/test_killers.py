"""An event that kills its worker: found among others, whatever the others do meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from playhead import IO, RetryAfter, RetryPolicy
from playhead.records import Partition, Record
from playhead.serde import MINTED_HEADER
from tests.engine.scene import Scene

KILLER = 0


async def nothing(payload: Any, io: IO) -> None:
    pass


LIVES_MAX = 12


class Deaths:
    """A job whose run of event 0 kills its worker after a while; the others take no time."""

    def __init__(self, scene: Scene, *, kill_at_attempt: int = 1) -> None:
        self.scene = scene
        self.starts = 0
        self.count = 0
        self.dying = False
        self._attempt = kill_at_attempt

    async def run(self, payload: Any, io: IO) -> None:
        if payload["n"] != KILLER:
            return
        self.starts += 1
        if io.run.attempt < self._attempt:
            raise ValueError("not yet")
        self.dying = True
        await self.scene.clock.sleep(10_000)

    async def live(self, *, others_meanwhile: int = 0, **options: Any) -> bool:
        """One worker's life: True if event 0 killed it."""
        self.dying = False
        worker = await self.scene.work(self.run, **options)
        for _ in range(30):
            await self.scene.clock.advance(0.5)
            if self.dying or self.scene.dead_letters():
                break
        if others_meanwhile and self.dying:
            await self.scene.send(*range(1, 1 + others_meanwhile))
        if not self.dying:
            return False
        self.count += 1
        await self.scene.kill(worker)
        return True


class TestFound:
    @pytest.mark.parametrize("others", [0, 1, 300])
    async def test_ends_in_the_dead_letters_also_while_hundreds_of_others_succeed(
        self, scene: Scene, others: int
    ) -> None:
        """What ends beside it says nothing about it: it must not clear the suspect."""
        await scene.open()
        deaths = Deaths(scene)
        await scene.send(KILLER)
        while await deaths.live(others_meanwhile=others, concurrency=4):
            assert deaths.count < LIVES_MAX, "it kills for ever"
        assert deaths.count == 5  # twice among others, then three times alone
        (failed,) = scene.told("run.failed")
        assert failed["error"]["type"] == "playhead.errors.KilledItsWorker"
        assert len(scene.dead_letters()) == 1
        assert len(scene.told("run.succeeded")) == 5 * others

    async def test_also_when_it_kills_at_its_second_attempt_only(self, scene: Scene) -> None:
        await scene.open()
        deaths = Deaths(scene, kill_at_attempt=2)
        await scene.send(KILLER, 1, 2, 3)
        retry = RetryPolicy(max_attempts=3, initial_seconds=1, jitter=0)
        while await deaths.live(concurrency=4, retry=retry):
            assert deaths.count < LIVES_MAX, "it kills for ever"
        assert deaths.count == 5
        assert len(scene.told("run.failed")) == 1

    async def test_also_when_its_task_moves_gracefully_between_two_deaths(self, scene: Scene) -> None:
        """A deployment between two crashes is no reason to trust the run again."""
        await scene.open()
        deaths = Deaths(scene)
        await scene.send(KILLER)
        while await deaths.live():
            assert deaths.count < LIVES_MAX, "it kills for ever"

            async def waiting(payload: Any, io: IO) -> None:
                await scene.clock.sleep(10_000)

            await scene.stop(await scene.work(waiting, grace_seconds=0.0))
        assert deaths.count <= 5
        assert len(scene.dead_letters()) == 1

    async def test_also_when_the_takeover_after_a_death_has_to_be_done_again(self, scene: Scene) -> None:
        await scene.open()
        deaths = Deaths(scene)
        await scene.send(KILLER)
        scene.broker.faults.next_commit = None
        while True:
            if deaths.count:
                scene.broker.faults.next_commit = "unknown_committed"
            if not await deaths.live():
                break
            assert deaths.count < LIVES_MAX, "it kills for ever"
        assert deaths.count == 5


class TestTrust:
    async def test_worker_that_dies_idle_makes_nobody_suspected(self, scene: Scene) -> None:
        await scene.open()
        seen: list[str] = []

        async def run(payload: Any, io: IO) -> None:
            seen.append(scene.marks()[0].metadata)

        for _ in range(4):
            await scene.kill(await scene.work(run))
        await scene.work(run)
        await scene.send(1)
        assert "@" not in seen[0]

    async def test_is_back_once_all_that_could_have_been_running_has_ended(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            await scene.clock.sleep(1)

        for _ in range(3):
            await scene.send(*range(4))
            worker = await scene.work(run, concurrency=4)
            await scene.kill(worker)
        worker = await scene.work(run, concurrency=4)
        await scene.clock.advance(60)
        assert len(scene.ends()) == 12
        task = scene.consumer(worker).tasks[0]
        assert (task.unproven, task.owner.crashes) == (0, 0)

    async def test_one_crash_alone_makes_nothing_slower(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            await scene.clock.sleep(1)

        await scene.send(*range(4))
        worker = await scene.work(run, concurrency=4)
        scene.broker.expel(worker.memberships[0])
        await scene.kill(worker)
        begin = scene.clock.monotonic()
        await scene.work(run, concurrency=4)
        await scene.clock.advance(1)
        assert len(scene.ends()) == 4
        assert scene.clock.monotonic() - begin <= 2


class TestInnocence:
    """A worker hosts several jobs and tasks: whoever merely ran beside a killer is no suspect in the end."""

    async def test_long_run_of_another_job_is_not_buried_with_the_killer(self, scene: Scene) -> None:
        await scene.open()
        deaths = Deaths(scene)

        async def long(payload: Any, io: IO) -> None:
            await scene.clock.sleep(60)

        await scene.send(KILLER)
        await scene.send(1, name="thing.seen")
        for _ in range(LIVES_MAX):
            deaths.dying = False
            worker = scene.launch(scene.job(deaths.run), scene.job(long, id="long", on="thing.seen"))
            for _ in range(90):
                await scene.clock.advance(1)
                if deaths.dying:
                    break
            if not deaths.dying:
                break
            await scene.kill(worker)
        assert [(told["jobId"], told["error"]["type"]) for told in scene.told("run.failed")] == [
            ("j", "playhead.errors.KilledItsWorker")
        ]
        assert [told["jobId"] for told in scene.told("run.succeeded")] == ["long"]

    async def test_killer_is_found_though_each_life_brings_others_to_the_front(self, scene: Scene) -> None:
        """Of one key after the other, each life ends the first of each key and starts the killer after them."""
        await scene.open()
        deaths = Deaths(scene)
        made = [("ce_type", b"thing.made")]
        for n in range(1, 61):
            await scene.put(b'{"n": %d}' % n, [*made, ("ce_id", b"%d" % n)], key=b"key %d" % (n % 3))
        await scene.put(b'{"n": 0}', [*made, ("ce_id", b"killer")], key=b"its own")
        while await deaths.live(concurrency=1):
            assert deaths.count < LIVES_MAX, "it kills for ever"
        assert deaths.count <= 8
        await scene.clock.advance(60)
        assert len(scene.told("run.succeeded")) == 60
        assert len(scene.dead_letters()) == 1

    async def test_killer_that_is_read_late_still_goes_first_once_it_is_named(self, scene: Scene) -> None:
        """A foreign id before it has to be judged first; who is ahead of that must not start, and be named instead."""
        await scene.open()
        deaths = Deaths(scene)
        made = [("ce_type", b"thing.made")]
        for n in range(1, 31):
            await scene.put(b'{"n": %d}' % n, [*made, ("ce_id", b"%d" % n), ("ce_playheadminted", b"1")])
        await scene.put(b'{"n": 99}', [*made, ("ce_id", b"foreign")], key=b"another")
        await scene.put(b'{"n": 0}', [*made, ("ce_id", b"killer")], key=b"its own")
        while await deaths.live(concurrency=1):
            assert deaths.count < LIVES_MAX, "it kills for ever"
        assert deaths.count == 5
        await scene.clock.advance(60)
        assert len(scene.told("run.succeeded")) == 31


class TestOthers:
    async def test_run_that_waits_for_its_retry_holds_no_other_back(self, scene: Scene) -> None:
        """Also where each run starts alone, after two crashes in a row."""
        await scene.open()
        runs: list[int] = []

        async def hang(payload: Any, io: IO) -> None:
            await asyncio.Event().wait()

        async def run(payload: Any, io: IO) -> None:
            runs.append(payload["n"])
            if payload["n"] == 0 and io.run.attempt == 1:
                raise RetryAfter(6 * 3600)

        for life in range(2):
            worker = await scene.work(hang)
            if life == 0:
                await scene.send(0, 1, 2, 3)
            await scene.clock.advance(1)
            await scene.kill(worker)
        worker = await scene.work(run)
        await scene.clock.advance(3600)
        assert sorted(runs) == [0, 1, 2, 3]
        await scene.clock.advance(6 * 3600)
        assert scene.ends() == [(n, "succeeded") for n in range(4)]

    async def test_idle_worker_behind_a_marker_is_no_killer(self, scene: Scene) -> None:
        """A topic that runs write to ends with a marker, which no one is ever handed."""
        await scene.open()
        worker = await scene.work(nothing)
        log, now_ms = scene.broker.log(Partition("thing", 0)), int(scene.clock.time() * 1000)
        headers = [("ce_type", b"thing.made"), ("ce_id", b"x"), MINTED_HEADER]
        log.append([Record("thing", 0, b"a", b'{"n": 1}', headers, now_ms)], transaction=7)
        log.end_transaction(7, commit=True)
        await scene.clock.advance(5)
        for _ in range(3):
            await scene.kill(worker)
            worker = await scene.work(nothing)
            await scene.clock.advance(5)
        task = scene.consumer(worker).tasks[0]
        assert (task.owner.crashes, task.unproven) == (0, 0)
