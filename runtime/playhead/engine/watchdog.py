"""Names the job, and the line of its code, that blocks the event loop. Called from a thread that is not blocked."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable, Iterable
from types import FrameType

from playhead.engine.live import LiveRun
from playhead.io import Logger

_OWN_MODULES = ("playhead.", "asyncio", "uvloop", "concurrent.", "threading", "selectors")


class Watchdog:
    """Says who blocks the loop in which it was made.

    Args:
        live_runs: the runs of the worker; read from another thread, so what it gives may be a moment old.
    """

    def __init__(self, thread_id: int, live_runs: Callable[[], Iterable[LiveRun]], logger: Logger) -> None:
        self._thread_id = thread_id
        self._loop = asyncio.get_running_loop()
        self._live_runs = live_runs
        self._logger = logger

    def blocked(self, seconds: float) -> None:
        """The loop has not turned for `seconds`: say in whose code."""
        current = asyncio.current_task(self._loop)
        run = next((run for run in list(self._live_runs()) if run.work is not None and run.work is current), None)
        frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001 -- the documented way to another stack
        self._logger.error(
            "a job blocks the event loop: use a plain function (it runs in a thread), or await",
            job_id=run.task.job_id if run else None,
            run_id=run.id if run else None,
            line=_user_line(frame),
            blocked_seconds=round(seconds, 1),
        )


def _user_line(frame: FrameType | None) -> str | None:
    """`file:line in function` of the innermost frame outside Playhead and the event loop."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(_OWN_MODULES):
            summary = traceback.extract_stack(frame, limit=1)[0]
            return f"{summary.filename}:{summary.lineno} in {summary.name}"
        frame = frame.f_back
    return None
