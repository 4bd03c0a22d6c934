from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from playhead.dev.supervisor import State, SupervisedProcess, how_it_ended
from playhead.testing import VirtualClock
from tests.waiting import wait_until

PREAMBLE = """
import os, signal, socket, sys, time
def tell(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
"""


def child(code: str, **options: object) -> SupervisedProcess:
    command = [sys.executable, "-c", PREAMBLE + code]
    return SupervisedProcess("child", command, env=dict(os.environ), **options)  # type: ignore[arg-type]


@asynccontextmanager
async def running(process: SupervisedProcess) -> AsyncIterator[asyncio.Task[int]]:
    task = asyncio.create_task(process.run())
    try:
        yield task
    finally:
        process.kill()
        await task


class TestReadiness:
    async def test_follows_what_the_child_tells(self) -> None:
        process = child("tell('READY=1\\nX_READY=1\\nSTATUS=fine'); signal.pause()")
        async with running(process):
            await wait_until(lambda: process.state is State.READY)
            assert process.status == "fine"

    async def test_is_taken_back(self) -> None:
        process = child("tell('X_READY=1'); sys.stdin.close(); tell('X_READY=0\\nSTATUS=restoring'); signal.pause()")
        states: list[State] = []
        process._on_change = lambda: states.append(process.state)
        async with running(process):
            await wait_until(lambda: process.status == "restoring")
            assert State.READY in states
            assert process.state is State.STARTING


class TestRestart:
    async def test_child_that_ends_is_started_again_after_a_growing_delay(self) -> None:
        clock = VirtualClock()
        process = child("sys.exit(3)", clock=clock, final_codes={4})
        async with running(process):
            for delay in (0.5, 1.0, 2.0):
                await wait_until(lambda: process.state is State.WAITING)
                await clock.advance(delay - 0.01)
                assert process.state is State.WAITING
                await clock.advance(0.02)
                assert process.state is not State.WAITING

    async def test_child_that_was_killed_is_started_again(self) -> None:
        clock = VirtualClock()
        process = child("tell('READY=1'); signal.pause()", clock=clock)
        async with running(process):
            await wait_until(lambda: process.state is State.READY)
            first = process.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await wait_until(lambda: process.state is State.WAITING)
            await clock.advance(1.0)
            await wait_until(lambda: process.state is State.READY)
            assert process.pid != first

    async def test_final_code_ends_it(self) -> None:
        process = child("sys.exit(4)", final_codes={2, 4})
        assert await process.run() == 4
        assert process.state is State.ENDED


class TestStop:
    async def test_child_gets_sigterm_and_its_grace(self) -> None:
        process = child("signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); tell('READY=1'); time.sleep(60)")
        async with running(process) as task:
            await wait_until(lambda: process.state is State.READY)
            await process.stop(grace_seconds=30)
            assert await task == 7

    async def test_child_that_does_not_end_is_killed(self) -> None:
        process = child("signal.signal(signal.SIGTERM, signal.SIG_IGN); tell('READY=1'); time.sleep(60)")
        async with running(process) as task:
            await wait_until(lambda: process.state is State.READY)
            await process.stop(grace_seconds=0.1)
            assert await task == -signal.SIGKILL

    async def test_waiting_child_is_not_started_again(self) -> None:
        process = child("sys.exit(1)", clock=VirtualClock())
        async with running(process) as task:
            await wait_until(lambda: process.state is State.WAITING)
            await process.stop(grace_seconds=1)
            assert await task == 1

    async def test_child_does_not_stay_behind_when_the_waiting_is_cancelled(self) -> None:
        process = child("tell('READY=1'); signal.pause()")
        task = asyncio.create_task(process.run())
        await wait_until(lambda: process.state is State.READY)
        pid = process.pid
        assert pid is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_childs_pipe_ends_with_this_process(capfd: pytest.CaptureFixture[str]) -> None:
    """A process that supervises is killed with -9; its child reads the end of the pipe and says so."""
    grandchild = PREAMBLE + "os.read(int(os.environ['PLAYHEAD_PARENT_FD']), 1); print('orphaned', flush=True)"
    parent = (
        "import asyncio, os, sys\n"
        "from playhead.dev.supervisor import SupervisedProcess\n"
        f"process = SupervisedProcess('child', [sys.executable, '-c', {grandchild!r}], env=dict(os.environ))\n"
        "async def main():\n"
        "    task = asyncio.create_task(process.run())\n"
        "    while process.pid is None: await asyncio.sleep(0.01)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", parent, env=env)
    assert await killed.wait() == -signal.SIGKILL
    said = ""

    def orphaned() -> bool:
        nonlocal said
        said += capfd.readouterr().out
        return "orphaned" in said

    await wait_until(orphaned)


@pytest.mark.parametrize(("code", "words"), [(3, "exit code 3"), (-9, "killed by SIGKILL")])
def test_exit_codes_in_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words
