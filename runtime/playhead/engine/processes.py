"""The processes of jobs with `executor="process"`: as many as pay, and none that outlives its worker."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

MIN_PROCESSES = 4
_PR_SET_PDEATHSIG = 1


def process_limit(concurrency: int) -> int:
    """How many processes a job gets: more than there are processors would only take their time from each other."""
    return min(concurrency, max(MIN_PROCESSES, os.cpu_count() or 1))


class ProcessPool(ProcessPoolExecutor):
    """Spawned processes: to fork one that has threads and open connections is not safe."""

    def __init__(self, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        super().__init__(processes, mp_context=context, initializer=_end_with_parent)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """See `concurrent.futures.Executor.submit`."""
        future = super().submit(fn, *args, **kwargs)
        # CPython (3.11) wakes the thread that watches the processes before it starts a new one for this call: until
        # something else wakes it, the death of the new one would be seen by nobody.
        with self._shutdown_lock, contextlib.suppress(AttributeError):
            self._executor_manager_thread_wakeup.wakeup()
        return future


def _end_with_parent() -> None:
    """In a new process: end when the worker does, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's: it lets what runs here end
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None or not parent.is_alive():
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent").start()


def _watch(parent: Any) -> None:
    parent.join()
    os._exit(1)
