"""Plain functions: in threads, where they may use a client of their own, and in processes, where errors travel."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from playhead import NO_RETRY, BlockingClient, Settings, SyncIO
from playhead.errors import UnknownTopic
from tests.engine.scene import Scene
from tests.waiting import wait_until

IN_PROCESS = """
import os
import threading
from datetime import timedelta
from pathlib import Path

from playhead import NonRetriableError, RetryAfter

class TakesTwo(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")

class Hopeless(NonRetriableError):
    def __init__(self, first, second):
        super().__init__("no use")

class Odd(BaseException):
    pass

class Later(RetryAfter):
    def __init__(self, why):
        super().__init__(600, "7")
        self.why = why

class LaterByHand(RetryAfter):
    def __init__(self):
        super().__init__(timedelta(minutes=10), "rate limit")
        self.lock = threading.Lock()

def run(payload, io):
    assert io is None
    match payload["n"]:
        case 1:
            raise TakesTwo(1, 2)
        case 2:
            return next(iter([]))
        case 3:
            raise Hopeless(1, 2)
        case 4:
            raise SystemExit(1)
        case 6:
            raise Odd
        case 7:
            raise Later("limit")
        case 8:
            raise LaterByHand
        case 100:
            while sum(1 for _ in Path(payload["dir"]).glob("started-*")) < 3:
                pass  # until the others are going
            os._exit(1)
        case 101 | 102 | 103:
            started = Path(payload["dir"], f"started-{payload['n']}")
            if not started.exists():
                started.touch()
                threading.Event().wait(30)  # until its pool breaks
    return payload["n"]
"""


class TestThreads:
    async def test_event_sent_through_a_blocking_client_is_committed_with_the_run(self, scene: Scene) -> None:
        """The worker's broker lives on the worker's loop: nothing of it may run on the client's."""
        await scene.open()
        loops: set[Any] = set()
        topic = scene.broker.topic

        async def noted(name: str, **options: Any) -> Any:
            loops.add(asyncio.get_running_loop())
            return await topic(name, **options)

        scene.broker.topic = noted  # type: ignore[method-assign]
        blocking = BlockingClient("inside", settings=Settings(), broker=scene.broker)

        def run(payload: Any, io: SyncIO) -> None:
            sent = blocking.send_event("echo.made", {"n": payload["n"]})
            assert sent.offset is None
            if payload["n"] == 2:
                raise ValueError

        await scene.work(run, retry=NO_RETRY)
        await scene.send(1, 2)
        await wait_until(lambda: scene.ends() == [(1, "succeeded"), (2, "failed")])
        assert [event.payload() for event in scene.events("echo")] == [{"n": 1}]
        assert loops == {asyncio.get_running_loop()}
        blocking.close()

    async def test_error_of_a_send_is_raised_in_the_function(self, scene: Scene) -> None:
        await scene.open()
        caught: list[Exception] = []

        def run(payload: Any, io: SyncIO) -> None:
            try:
                io.send_event("nowhere.made", {})
            except UnknownTopic as error:
                caught.append(error)

        await scene.work(run)
        await scene.send(1)
        await wait_until(lambda: scene.ends() == [(1, "succeeded")])
        assert len(caught) == 1

    async def test_calls_that_hang_take_no_thread_from_later_ones(self, scene: Scene) -> None:
        await scene.open()
        gate, started = threading.Event(), []

        def run(payload: Any, io: SyncIO) -> None:
            started.append(payload["n"])
            if payload["n"] < 2:
                gate.wait(30)

        await scene.work(run, concurrency=2, timeout=1.0, retry=NO_RETRY)
        await scene.send(0, 1)
        await wait_until(lambda: len(started) == 2)
        await scene.clock.advance(1)
        try:
            await scene.send(2, 3)
            await wait_until(lambda: len(scene.ends()) == 4)
        finally:
            gate.set()
        assert scene.ends() == [(0, "failed"), (1, "failed"), (2, "succeeded"), (3, "succeeded")]


class TestProcesses:
    @pytest.fixture
    def function(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        name = f"unit_in_process_{tmp_path.name}".replace("-", "_")
        (tmp_path / f"{name}.py").write_text(IN_PROCESS)  # a new process has to be able to import it
        monkeypatch.syspath_prepend(tmp_path)
        return import_module(name).run

    async def test_error_that_can_not_be_pickled_fails_its_run_and_no_other(self, scene: Scene, function: Any) -> None:
        await scene.open()
        await scene.work(function, executor="process", concurrency=1, retry=NO_RETRY)
        await scene.send(1, 2, 3, 4, 5, 6)
        await wait_until(lambda: len(scene.ends()) == 6, seconds=30)
        assert scene.ends() == [
            (1, "failed"),
            (2, "failed"),
            (3, "failed"),
            (4, "failed"),
            (5, "succeeded"),
            (6, "failed"),
        ]
        messages = sorted(told["error"]["message"] for told in scene.told("run.failed"))
        assert messages == ["", "1", "TakesTwo: 1 and 2", "no use", "the function raised StopIteration"]

    async def test_retry_after_says_when_from_a_process_too(self, scene: Scene, function: Any) -> None:
        """Also of a class with arguments of its own, and where its object can't be pickled."""
        await scene.open()
        await scene.work(function, executor="process", concurrency=1)
        begin = scene.clock.time()
        await scene.send(7, 8)
        await wait_until(lambda: len(scene.told("run.retrying")) == 2, seconds=30)
        for told in scene.told("run.retrying"):
            assert datetime.fromisoformat(told["dueAt"]).timestamp() - begin >= 600

    async def test_death_of_a_process_fails_the_run_that_did_it_and_none_beside(
        self, scene: Scene, function: Any, tmp_path: Path
    ) -> None:
        """All break with their pool; alone, each shows whether it was the one. None has had an attempt more for it."""
        await scene.open()
        await scene.work(function, executor="process", concurrency=4, retry=NO_RETRY)
        await scene.send(100, 101, 102, 103, dir=str(tmp_path))
        await wait_until(lambda: len(scene.ends()) == 4, seconds=30)
        assert scene.ends() == [(100, "failed"), (101, "succeeded"), (102, "succeeded"), (103, "succeeded")]
        assert {told["attempt"] for told in scene.told("run.succeeded")} == {1}


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


class TestLeftovers:
    async def test_end_with_their_worker_however_that_ends(self, tmp_path: Path) -> None:
        script = tmp_path / "worker.py"
        script.write_text(
            "import os, time\n"
            "from playhead.engine.processes import ProcessPool\n"
            "if __name__ == '__main__':\n"
            "    pool = ProcessPool(1)\n"
            "    print(pool.submit(os.getpid).result(), flush=True)\n"
            "    time.sleep(60)  # it is killed in its sleep, which itself is under test\n"
        )
        worker = await asyncio.create_subprocess_exec(sys.executable, str(script), stdout=asyncio.subprocess.PIPE)
        assert worker.stdout is not None
        child = int(await worker.stdout.readline())
        assert is_running(child)
        try:
            worker.kill()
            await wait_until(lambda: not is_running(child), seconds=10)
        finally:
            if is_running(child):  # it has the worker's stdout, and nobody else to end it
                os.kill(child, signal.SIGKILL)
            await worker.wait()
