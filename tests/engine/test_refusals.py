"""Records that the broker refuses: their run fails, once and alone, whatever else it was about to tell."""

from __future__ import annotations

from typing import Any

import pytest

from playhead import IO, RetryPolicy
from playhead.errors import Fatal, NotAuthorized
from playhead.group.member import Phase
from playhead.records import Record
from playhead.run import RunFailed, RunRetrying, RunState, RunSucceeded, RunView
from tests.engine.scene import Scene

MODELS = {"run.succeeded": RunSucceeded, "run.retrying": RunRetrying, "run.failed": RunFailed}


def refuse(topic: str, word: bytes) -> Any:
    def answer(record: Record) -> bool:
        return record.topic == topic and word in (record.value or b"")

    return answer


def folded(scene: Scene) -> list[RunView]:
    """Each run as its events tell it; an event that can't follow raises."""
    views: dict[str, RunView] = {}
    for event in scene.events("run"):
        told: Any = event.typed_payload(MODELS[event.name])
        views[told.run_id] = views.get(told.run_id, RunView(told.run_id)).apply(told)
    return list(views.values())


class TestSends:
    async def test_run_fails_alone_and_its_neighbours_in_the_same_commit_succeed(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            await io.send_event("echo.made", {"of": payload["n"]})

        await scene.work(run)
        scene.broker.faults.refuse = refuse("echo", b'"of":3')
        await scene.send(*range(10))
        await scene.clock.advance(1)
        assert scene.ends() == [(n, "failed" if n == 3 else "succeeded") for n in range(10)]
        assert len(scene.events("echo")) == 9
        assert len(scene.dead_letters()) == 1

    async def test_each_of_several_is_found(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            await io.send_event("echo.made", {"of": payload["n"]})

        await scene.work(run)
        scene.broker.faults.refuse = refuse("echo", b'"of":1')  # 1 and 10 to 19
        await scene.send(*range(30))
        await scene.clock.advance(1)
        refused = {1, *range(10, 20)}
        assert scene.ends() == [(n, "failed" if n in refused else "succeeded") for n in range(30)]
        assert scene.marks()[0].offset == 30


class TestRetrying:
    """What is refused tells of a retry, and by then the run has gone on."""

    @pytest.mark.parametrize("next_takes_seconds", [0.0, 0.5, 100.0])
    @pytest.mark.parametrize("back_off_seconds", [0.0, 0.5, 100.0])
    @pytest.mark.parametrize("latency_seconds", [0.0, 1.0])
    async def test_run_ends_once_wherever_it_is_by_then(
        self, scene: Scene, back_off_seconds: float, next_takes_seconds: float, latency_seconds: float
    ) -> None:
        await scene.open()
        starts = []

        async def run(payload: Any, io: IO) -> None:
            starts.append((payload["n"], io.run.attempt))
            if payload["n"] == 0 and io.run.attempt == 1:
                raise ValueError("will be refused")
            if payload["n"] != 9:
                await scene.clock.sleep(next_takes_seconds)

        policy = RetryPolicy(max_attempts=2, initial_seconds=back_off_seconds, max_seconds=1_000, jitter=0)
        worker = await scene.work(run, retry=policy, concurrency=4)
        scene.broker.faults.refuse = lambda record: ("ce_type", b"run.retrying") in record.headers
        scene.broker.commit_latency_seconds = latency_seconds
        if latency_seconds:  # a commit is in flight when the retry is told: it gathers
            await scene.send(9)
        await scene.send(0, 1, 2)
        await scene.clock.advance(1_000)
        ends = dict(scene.ends())
        assert ends[0] == "failed"
        assert [ends[n] for n in (1, 2)] == ["succeeded"] * 2
        assert sorted(view.state for view in folded(scene)) == sorted(
            [RunState.FAILED] + [RunState.SUCCEEDED] * (3 if latency_seconds else 2)
        )
        assert len(scene.dead_letters()) == 1
        assert scene.consumer(worker).running == 0
        assert scene.marks()[0].offset == scene.log_end()

    async def test_key_is_free_again_afterwards(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            if payload["n"] == 1:
                raise ValueError("will be refused")

        await scene.work(run, retry=RetryPolicy(max_attempts=2, initial_seconds=10))
        scene.broker.faults.refuse = lambda record: ("ce_type", b"run.retrying") in record.headers
        made = [("ce_type", b"thing.made")]
        await scene.put(b'{"n": 1}', [*made, ("ce_id", b"1")], key=b"k")
        await scene.put(b'{"n": 2}', [*made, ("ce_id", b"2")], key=b"k")
        await scene.clock.advance(1)
        assert scene.ends() == [(1, "failed"), (2, "succeeded")]


class TestTwice:
    async def test_worker_gives_up_when_the_failure_is_refused_too(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None: ...

        worker = await scene.work(run)
        scene.broker.faults.refuse = lambda record: record.topic == "run"
        await scene.send(1)
        await scene.clock.advance(5)
        with pytest.raises(Fatal, match="refuses"):
            worker.check()
        scene.broker.faults.refuse = None
        await scene.work(run)
        assert scene.ends() == [(1, "succeeded")]


class TestLastCommit:
    async def test_member_whose_last_commit_is_denied_leaves_its_group_all_the_same(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            await scene.clock.sleep(1)

        async def denied(commit: Any) -> Any:
            raise NotAuthorized("the broker answers TransactionalIdAuthorizationFailed (53).")

        worker = await scene.work(run)
        await scene.send(1)
        worker.memberships[0].commit = denied
        worker.stop()
        await scene.clock.advance(2)
        assert worker.ended
        with pytest.raises(NotAuthorized):
            worker.check()
        assert scene.consumer(worker).phase is Phase.STOPPED
        other = await scene.work(run)  # within the session of the one that left
        assert other.worker.ready
