"""Jobs on what happens to runs: they are told, and no chain of failures goes on for ever."""

from __future__ import annotations

from typing import Any

from playhead import IO, NonRetriableError, event_trigger
from playhead.events import MAX_CAUSATION_DEPTH
from playhead.run import DeadLetter, RunFailed
from tests.engine.scene import Scene


async def fail(payload: Any, io: IO) -> None:
    raise NonRetriableError("no")


class TestOnFailures:
    async def test_job_on_run_failed_is_given_the_failure(self, scene: Scene) -> None:
        await scene.open()
        seen: list[RunFailed] = []

        async def watch(payload: RunFailed, io: IO) -> None:
            seen.append(payload)

        scene.launch(scene.job(fail), scene.job(watch, id="watch", on=event_trigger(RunFailed)))
        await scene.clock.advance(1)
        (sent,) = await scene.send(1)
        await scene.clock.advance(1)
        assert [(told.job_id, told.event_id, told.error.message) for told in seen] == [("j", sent, "no")]

    async def test_two_jobs_that_fail_on_each_others_failures_come_to_an_end(self, scene: Scene) -> None:
        await scene.open()
        scene.launch(scene.job(fail), *(scene.job(fail, id=name, on="run.failed") for name in ("a", "b")))
        await scene.clock.advance(1)
        await scene.send(1)
        await scene.clock.advance(60)
        failures = scene.told("run.failed")
        assert len(failures) <= 2 * MAX_CAUSATION_DEPTH + 1
        assert max(event.depth for event in scene.events("run")) <= MAX_CAUSATION_DEPTH + 1

    async def test_job_on_dead_letters_never_runs_on_its_own(self, scene: Scene) -> None:
        await scene.open()
        scene.launch(scene.job(fail), scene.job(fail, id="bury", on="dead-letter.created"))
        await scene.clock.advance(1)
        await scene.send(1)
        await scene.clock.advance(60)
        assert sorted(told["jobId"] for told in scene.dead_letters()) == ["bury", "j"]
        assert sorted(told["jobId"] for told in scene.told("run.failed")) == ["bury", "j"]

    async def test_typed_job_on_dead_letters_never_runs_on_its_own(self, scene: Scene) -> None:
        await scene.open()
        scene.launch(scene.job(fail), scene.job(fail, id="bury", on=event_trigger(DeadLetter)))
        await scene.clock.advance(1)
        await scene.send(1)
        await scene.clock.advance(60)
        assert sorted(told["jobId"] for told in scene.dead_letters()) == ["bury", "j"]

    async def test_two_jobs_that_fail_on_each_others_dead_letters_come_to_an_end(self, scene: Scene) -> None:
        await scene.open()
        scene.launch(scene.job(fail), *(scene.job(fail, id=name, on="dead-letter.created") for name in ("a", "b")))
        await scene.clock.advance(1)
        await scene.send(1)
        await scene.clock.advance(60)
        assert len(scene.dead_letters()) <= 2 * MAX_CAUSATION_DEPTH + 1
