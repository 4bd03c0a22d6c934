"""Keeping a child process running: its readiness, its restarts, its end.

    STARTING ──READY=1──▶ READY ──ends by itself──▶ WAITING ──back-off──▶ STARTING
        │                                              ▲
        ├──ends by itself──────────────────────────────┘
        └──ends with a code that no restart changes──▶ ENDED ◀──stop──── (each)

The child gets two things in its environment: NOTIFY_SOCKET, where it tells its readiness as it would tell systemd
(sd_notify), and PLAYHEAD_PARENT_FD, a pipe that ends when this process does, however it does. It runs in a session of
its own: Ctrl-C in the terminal reaches this process alone, which then stops its children in the right order.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from playhead.clock import SYSTEM_CLOCK, Clock

PARENT_FD = "PLAYHEAD_PARENT_FD"
FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 10.0
HEALTHY_SECONDS = 30.0
"""A child that ran this long is started again at once when it ends."""
_DATAGRAM_BYTES = 4_096


class State(Enum):
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting to start again"
    ENDED = "ended"


_NEXT: Mapping[State, frozenset[State]] = {
    State.STARTING: frozenset({State.READY, State.WAITING, State.ENDED}),
    State.READY: frozenset({State.STARTING, State.WAITING, State.ENDED}),
    State.WAITING: frozenset({State.STARTING, State.ENDED}),
    State.ENDED: frozenset(),
}


class SupervisedProcess:
    """One child, started again whenever it ends by itself.

    Args:
        command: of the child; it inherits stdout and stderr.
        env: its environment, less what is added here.
        final_codes: exit codes after which it is not started again.
        on_change: called whenever `state` or `status` may have changed.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        final_codes: Collection[int] = (),
        on_change: Callable[[], None] = lambda: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name
        self.state = State.STARTING
        self.status = ""
        """The child's own words about how it is."""
        self._command = list(command)
        self._env = dict(env)
        self._final_codes = frozenset(final_codes)
        self._on_change = on_change
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._logger = structlog.get_logger("playhead.dev")

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def _to(self, state: State) -> None:
        if state is not self.state:
            if state not in _NEXT[self.state]:
                raise AssertionError(f"{self.name}: {self.state.name} -> {state.name}")
            self.state = state
            self._on_change()

    async def run(self) -> int:
        """Keep the child running until `stop`, or until it ends with a final code; the exit code it ended with."""
        backoff_seconds = FIRST_BACKOFF_SECONDS
        try:
            while True:
                started = self._clock.monotonic()
                code = await self._run_once()
                if self._stopping.is_set() or code in self._final_codes:
                    return code
                if self._clock.monotonic() - started >= HEALTHY_SECONDS:
                    backoff_seconds = FIRST_BACKOFF_SECONDS
                self._to(State.WAITING)
                self._logger.error(
                    f"the {self.name} ended by itself", how=how_it_ended(code), starts_again_in_seconds=backoff_seconds
                )
                if await self._stopped_within(backoff_seconds):
                    return code
                backoff_seconds = min(backoff_seconds * 2, MAX_BACKOFF_SECONDS)
                self._to(State.STARTING)
        finally:
            self._to(State.ENDED)

    async def _run_once(self) -> int:
        """Start the child and wait for its end.

        1. open the socket for its readiness and the pipe that tells it of our end;
        2. start it with both;
        3. wait for it; whatever ends the waiting, the child does not stay behind.
        """
        with NotifySocket(self._told) as notify, _Lifeline() as lifeline:
            env = {**self._env, "NOTIFY_SOCKET": str(notify.path), PARENT_FD: str(lifeline.read_end)}
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                env=env,
                pass_fds=(lifeline.read_end,),
                start_new_session=True,
            )
            self._process = process
            lifeline.close_read_end()
            if self._stopping.is_set():
                self._signal(signal.SIGTERM)
            try:
                return await process.wait()
            finally:
                if process.returncode is None:
                    self._signal(signal.SIGKILL)
                    await process.wait()
                self._process = None
                self.status = ""  # those were the words of one that is gone

    def _told(self, lines: Mapping[str, str]) -> None:
        self.status = lines.get("STATUS", self.status)
        # READY=1 is systemd's and never taken back; X_READY is this project's own and follows every change.
        ready = lines.get("X_READY", lines.get("READY"))
        if ready == "1":
            self._to(State.READY)
        elif ready == "0":
            self._to(State.STARTING)
        self._on_change()

    async def stop(self, grace_seconds: float) -> None:
        """Ask the child to end; after `grace_seconds` it is killed. `run` returns afterwards."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        deadline = self._clock.monotonic() + grace_seconds
        while self._process is not None and self._clock.monotonic() < deadline:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), deadline - self._clock.monotonic())
        self.kill()

    def kill(self) -> None:
        """End the child now (SIGKILL), and do not start it again."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _stopped_within(self, seconds: float) -> bool:
        waiting = asyncio.ensure_future(self._stopping.wait())
        timer = asyncio.ensure_future(self._clock.sleep(seconds))
        await asyncio.wait({waiting, timer}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        timer.cancel()
        return self._stopping.is_set()


class NotifySocket:
    """A unix datagram socket that hands each message to `told`, as a mapping of its lines. For one child's life."""

    def __init__(self, told: Callable[[Mapping[str, str]], Any]) -> None:
        self._told = told
        # Below the system's folder for temporary files: a socket's path has about 100 bytes, a project's may have more.
        self._folder = Path(tempfile.mkdtemp(prefix="playhead-"))
        self.path = self._folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> NotifySocket:
        try:
            self._socket.setblocking(False)
            self._socket.bind(str(self.path))
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)
        except BaseException:
            self._close()
            raise
        return self

    def _read(self) -> None:
        with suppress(BlockingIOError):
            text = self._socket.recv(_DATAGRAM_BYTES).decode("utf-8", "replace")
            pairs = (line.partition("=") for line in text.splitlines())
            self._told({name: value for name, _, value in pairs})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._close()

    def _close(self) -> None:
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Lifeline:
    """A pipe whose write end only this process holds: the child reads its end of file when this process is gone."""

    def __enter__(self) -> _Lifeline:
        self.read_end, self._write_end = os.pipe()
        return self

    def close_read_end(self) -> None:
        if self.read_end >= 0:
            os.close(self.read_end)
            self.read_end = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close_read_end()
        os.close(self._write_end)


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
