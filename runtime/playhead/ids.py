"""Ids: UUIDv7 for events (RFC 9562), and run ids that come out the same everywhere, always."""

from __future__ import annotations

import os
import time
from hashlib import blake2b


class EventIds:
    """Makes UUIDv7 ids that increase strictly within one process.

    48 bits of milliseconds, then a 12-bit counter within the millisecond (RFC 9562, section 6.2, method 1), then 62
    random bits. When the counter overflows, or the clock goes back, the millisecond is counted on.
    """

    __slots__ = ("_counter", "_millis", "_pool")

    def __init__(self) -> None:
        self._millis = 0
        self._counter = 0
        self._pool = b""

    def __call__(self) -> str:
        millis = time.time_ns() // 1_000_000
        if millis > self._millis:
            self._millis, self._counter = millis, 0
        elif self._counter < 0xFFF:
            self._counter += 1
        else:
            self._millis, self._counter = self._millis + 1, 0
        pool = self._pool
        if not pool:
            pool = os.urandom(4096)
        self._pool = pool[8:]
        tail = 0x8000_0000_0000_0000 | int.from_bytes(pool[:8], "big") & 0x3FFF_FFFF_FFFF_FFFF
        digits = f"{self._millis << 80 | 0x7000 << 64 | self._counter << 64 | tail:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


new_event_id = EventIds()


def run_id(job_id: str, event_id: str, task: int, replay_id: str = "") -> str:
    """The id of the run of `job_id` on `event_id`: a digest of who and what, and the task number that it belongs to.

    The same job, event and replay give the same id on every worker and after every restart, so a run that starts
    again is recognised as the same run.
    """
    digest = blake2b(f"{job_id}\0{event_id}\0{replay_id}".encode(), digest_size=16).hexdigest()
    return f"{digest}-{task}"


def task_of(run: str) -> int:
    """The task number that a run id carries."""
    return int(run.rpartition("-")[2])
