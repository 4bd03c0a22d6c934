"""How a process that runs until it is told to stop is told.

    running ──SIGTERM, SIGINT, parent gone──▶ stopping ──▶ (ended)
                                                 │  └─ functions that hang ──▶ (ended without them)
                                                 └─ a signal once more ──▶ (ended at once)

A service manager is told too (`playhead.cli.notify`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import structlog

from playhead.cli.notify import Notifier
from playhead.dev.supervisor import PARENT_FD

_ORPHAN_SECONDS = 3.0
"""What an orphan gets to end in good order: its broker is ending too."""

_AFTERMATH_SECONDS = 1.0
"""What tasks and threads get to end by themselves, once nobody needs them any more."""
_POLL_SECONDS = 0.02

logger = structlog.get_logger("playhead.process")


class Stopping:
    """From the first request to stop to the second, which ends the process at once.

    Args:
        stop: called at the first; what it ends is what the process waits for.
    """

    def __init__(self, stop: Callable[[], None], notifier: Notifier) -> None:
        self._stop = stop
        self._notifier = notifier
        self._by: int | None = None

    @property
    def by_ctrl_c(self) -> bool:
        """Whether it was Ctrl-C that asked."""
        return self._by == signal.SIGINT

    def watch_signals(self) -> None:
        """Stop on SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)

    def watch_parent(self, env: Mapping[str, str] = os.environ) -> None:
        """Stop when the pipe in $PLAYHEAD_PARENT_FD ends: `playhead dev` has started this process, and is gone."""
        descriptor = env.get(PARENT_FD)
        if descriptor:
            asyncio.get_running_loop().add_reader(int(descriptor), self._parent_gone, int(descriptor))

    def _signalled(self, number: int) -> None:
        if self._by is not None:
            logger.warning("stopping at once")
            end_at_once(128 + number)
        self._by = number
        logger.info("stopping", signal=signal.Signals(number).name)
        self._notifier.send(STOPPING="1", STATUS="stopping")
        self._stop()

    def _parent_gone(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(descriptor)
        logger.warning("the process that started this one is gone: stopping")
        self._stop()
        loop.call_later(_ORPHAN_SECONDS, end_at_once, 1)


async def still_running() -> list[str]:
    """What does not end although all is done: tasks that swallow their cancellation, threads that are busy.

    asyncio would wait for the first and the interpreter for the second, however long.
    """
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    idle_threads_end = loop.create_task(loop.shutdown_default_executor(), name="asyncio.to_thread")
    _, hanging = await asyncio.wait({idle_threads_end, *tasks}, timeout=_AFTERMATH_SECONDS)
    deadline = loop.time() + _AFTERMATH_SECONDS
    while (threads := _threads_to_wait_for()) and loop.time() < deadline:  # noqa: ASYNC110 -- no thread tells its end
        await asyncio.sleep(_POLL_SECONDS)
    return sorted([_place_of(task) for task in hanging] + [f"thread {thread.name}" for thread in threads])


def _threads_to_wait_for() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if not t.daemon and t is not threading.current_thread()]


def _place_of(task: asyncio.Task[object]) -> str:
    """The coroutines of a task from the outermost to the one in which it waits."""
    names: list[str] = []
    awaited: object = task.get_coro()
    while (name := getattr(awaited, "__qualname__", None)) is not None:
        names.append(name)
        awaited = getattr(awaited, "cr_await", None)
    return f"task {' > '.join(names)}"


def end_without(left: Sequence[str], code: int) -> NoReturn:
    """End this process although these still run."""
    logger.warning("ending without what does not end", still_running=left)
    end_at_once(code)


def end_at_once(code: int) -> NoReturn:
    """End this process without waiting for anything. What it had not committed starts again elsewhere."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
