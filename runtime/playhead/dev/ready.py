"""Waiting until a broker that was just started answers."""

from __future__ import annotations

import time

from playhead.dev import ports
from playhead.dev.guard import GuardedProcess
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
