"""Ids that Playhead did not make: one run per job within the window, whoever owns the task and whenever."""

from __future__ import annotations

from typing import Any

import pytest

from playhead import IO
from playhead.errors import BrokerUnavailable
from playhead.events import outgoing
from playhead.records import Partition, Record
from tests.engine.scene import Scene

WINDOW_SECONDS = 3600.0


def foreign(id: str) -> list[tuple[str, Any]]:
    return [("ce_type", b"thing.made"), ("ce_id", id.encode())]


async def put_at(scene: Scene, n: int, seconds: float, *, id: str = "x") -> None:
    """Append an event with a timestamp that is so far from now."""
    at_ms = int((scene.clock.time() + seconds) * 1000)
    record = Record("thing", 0, b"k", b'{"n": %d}' % n, foreign(id), at_ms)
    scene.broker.log(Partition("thing", 0)).append([record])
    await scene.clock.advance(0.1)


async def nothing(payload: Any, io: IO) -> None: ...


def noting(runs: list[int]) -> Any:
    """A function that notes which events it ran for."""

    async def run(payload: Any, io: IO) -> None:
        runs.append(payload["n"])

    return run


class TestWindow:
    @pytest.mark.parametrize("taken_over", [False, True])
    @pytest.mark.parametrize(("apart_seconds", "runs"), [(WINDOW_SECONDS - 1, 1), (WINDOW_SECONDS + 1, 2)])
    async def test_is_the_same_with_and_without_a_takeover_between(
        self, scene: Scene, apart_seconds: float, runs: int, taken_over: bool
    ) -> None:
        await scene.open()
        worker = await scene.work(nothing)
        await scene.put(b'{"n": 1}', foreign("x"))
        if taken_over:
            await scene.stop(worker)
        await scene.clock.advance(apart_seconds - 5 * taken_over)
        await scene.put(b'{"n": 1}', foreign("x"))
        if taken_over:
            await scene.work(nothing)
        assert len(scene.ends()) == runs

    async def test_is_measured_on_the_events_and_not_on_when_they_are_worked_on(self, scene: Scene) -> None:
        """A worker that was away for longer than the window finds the second event next to the first."""
        await scene.open()
        worker = await scene.work(nothing)
        await scene.put(b'{"n": 1}', foreign("x"))
        await scene.stop(worker)
        await scene.clock.advance(60)
        await scene.put(b'{"n": 1}', foreign("x"))
        await scene.clock.advance(3 * WINDOW_SECONDS)
        await scene.work(nothing)
        assert scene.ends() == [(1, "succeeded")]

    async def test_event_with_an_older_timestamp_takes_nothing_back(self, scene: Scene) -> None:
        await scene.open()
        runs: list[int] = []
        await scene.work(noting(runs))
        for n, seconds in ((1, 0), (2, -2 * WINDOW_SECONDS), (3, 1)):
            await put_at(scene, n, seconds)
        assert runs == [1]

    @pytest.mark.parametrize("behind_seconds", [2 * WINDOW_SECONDS, -2 * WINDOW_SECONDS])
    async def test_is_the_same_whatever_the_clock_of_the_worker_says(self, scene: Scene, behind_seconds: float) -> None:
        await scene.open()
        runs: list[int] = []
        await scene.work(noting(runs))
        await put_at(scene, 0, 0, id="another")
        scene.clock.jump(-behind_seconds)
        await put_at(scene, 1, behind_seconds)
        scene.clock.jump(behind_seconds)
        await put_at(scene, 2, 60)
        assert runs == [0, 1]

    @pytest.mark.parametrize("taken_over", [False, True])
    async def test_event_from_the_far_future_hides_and_forgets_no_other(self, scene: Scene, taken_over: bool) -> None:
        await scene.open()
        runs: list[int] = []
        worker = await scene.work(noting(runs))
        await put_at(scene, 1, 0)
        if taken_over:
            await scene.stop(worker)
            await put_at(scene, 2, 10**8, id="foreign")
            await scene.work(noting(runs))
        else:
            await put_at(scene, 2, 10**8, id="foreign")
        await put_at(scene, 3, 1)
        await put_at(scene, 4, 1, id="new")
        assert runs == [1, 2, 4]

    async def test_id_of_a_run_that_is_still_going_is_remembered_by_the_next_owner(self, scene: Scene) -> None:
        await scene.open()

        async def slow(payload: Any, io: IO) -> None:
            await scene.clock.sleep(100)

        worker = await scene.work(slow)
        await scene.put(b'{"n": 1}', foreign("x"))
        await scene.put(b'{"n": 1}', foreign("x"), key=b"another")
        await scene.kill(worker)
        await scene.work(slow)
        await scene.clock.advance(300)
        assert scene.ends() == [(1, "succeeded")]


class TestWhatIsRemembered:
    async def test_minted_ids_are_not_and_cost_no_reading_back(self, scene: Scene) -> None:
        await scene.open()
        await scene.stop(await scene.work(nothing))
        reads = []
        offsets_at = scene.broker.offsets_at

        async def count(*arguments: Any) -> Any:
            reads.append(arguments)
            return await offsets_at(*arguments)

        scene.broker.offsets_at = count  # type: ignore[method-assign]
        worker = await scene.work(nothing)
        await scene.send(*range(100))
        (progress,) = scene.consumer(worker).tasks[0].progress.values()
        assert (reads, len(progress.recent)) == ([], 0)
        await scene.put(b'{"n": 1}', foreign("x"))
        assert (len(reads), len(progress.recent)) == (1, 1)

    async def test_chosen_id_of_an_event_sent_in_a_run_is(self, scene: Scene) -> None:
        await scene.open()

        async def tell(payload: Any, io: IO) -> None:
            await io.send_event("echo.made", {}, id="told", key="k")

        worker = scene.launch(scene.job(tell), scene.job(nothing, id="listen", on="echo.made"))
        await scene.clock.advance(1)
        await scene.send(1, 2, 3)
        assert worker.worker.ready
        assert len(scene.events("echo")) == 3
        assert len([told for told in scene.told("run.succeeded") if told["jobId"] == "listen"]) == 1

    async def test_id_of_a_record_that_is_no_event_hides_no_event(self, scene: Scene) -> None:
        await scene.open()
        await scene.work(nothing)
        await scene.put(b"{}", [("ce_id", b"x")])
        await scene.put(b'{"n": 1}', foreign("x"))
        assert scene.ends() == [(1, "succeeded")]
        assert len(scene.dead_letters()) == 1

    async def test_each_job_remembers_for_itself(self, scene: Scene) -> None:
        await scene.open()
        worker = scene.launch(scene.job(nothing, id="a"), scene.job(nothing, id="b"))
        await scene.clock.advance(1)
        assert worker.worker.ready
        for _ in range(2):
            await scene.client.send_all([outgoing("thing.made", {"n": 1}, id="x", key="k")])
            await scene.clock.advance(1)
        assert sorted(told["jobId"] for told in scene.told("run.succeeded")) == ["a", "b"]


class TestReadingBack:
    @pytest.mark.parametrize("between", ["nothing", "takeover"])
    async def test_broker_that_is_away_is_waited_for(self, scene: Scene, between: str) -> None:
        """Also where the task is taken over again meanwhile: the new owner must not wait for the old one's reading."""
        await scene.open()
        worker = await scene.work(nothing)
        failures = 1
        offsets_at = scene.broker.offsets_at

        async def fail_at_first(*arguments: Any) -> Any:
            nonlocal failures
            if failures:
                failures -= 1
                raise BrokerUnavailable("not now")
            return await offsets_at(*arguments)

        scene.broker.offsets_at = fail_at_first  # type: ignore[method-assign]
        await scene.put(b'{"n": 1}', foreign("x"))
        if between == "takeover":
            scene.consumer(worker).member.unknown("for this test")
        await scene.clock.advance(5)
        assert scene.ends() == [(1, "succeeded")]

    async def test_error_that_waiting_does_not_mend_is_told(self, scene: Scene) -> None:
        await scene.open()
        worker = await scene.work(nothing)

        async def broken(*arguments: Any) -> Any:
            raise ZeroDivisionError

        scene.broker.offsets_at = broken  # type: ignore[method-assign]
        await scene.put(b'{"n": 1}', foreign("x"))
        await scene.clock.advance(5)
        with pytest.raises(ZeroDivisionError):
            worker.check()
