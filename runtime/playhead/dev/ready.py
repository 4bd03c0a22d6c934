"""Starting a broker, and waiting until it answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from playhead.dev import ports
from playhead.dev.folder import BrokerFolder
from playhead.dev.guard import GuardedProcess
from playhead.dev.lock import FileLock
from playhead.dev.properties import HOST

_POLL_SECONDS = 0.02


def wait_until_answers(process: GuardedProcess, port: int, seconds: float) -> str | None:
    """Wait until Kafka answers at HOST:port. None when it does, else what happened, to be put after "Kafka"."""
    deadline = time.monotonic() + seconds
    while not ports.speaks_kafka(HOST, port):
        code = process.wait(_POLL_SECONDS)
        if code is not None:
            return f"ended with code {code} while it started"
        if time.monotonic() >= deadline:
            return f"did not answer within {seconds:g} s"
    return None


def start_and_wait(
    command: Sequence[str],
    folder: BrokerFolder,
    lock: FileLock,
    port: int,
    keep: Callable[[GuardedProcess | None], None],
    *,
    timeout_seconds: float,
    grace_seconds: float,
) -> str | None:
    """Start a broker and wait until it answers; it is stopped again where it does not, or where this is interrupted.

    Args:
        keep: is told the process as soon as there is one, so that another thread may stop it; and None before it ends.

    Returns:
        None when it answers, else what happened, to be put after "Kafka".

    Raises:
        OSError: the command could not be started.
    """
    process = GuardedProcess(command, console=folder.console, grace_seconds=grace_seconds, pass_fds=(lock.descriptor,))
    keep(process)
    fault: str | None = "was interrupted"
    try:
        fault = wait_until_answers(process, port, timeout_seconds)
    finally:
        if fault is not None:
            keep(None)
            process.stop()
    return fault
