"""Ids: UUIDv7 for events (RFC 9562), and run ids that come out the same everywhere, always."""

from __future__ import annotations

import os
import threading
import time
from hashlib import blake2b


class EventIds:
    """Makes UUIDv7 ids that increase strictly within one process.

    48 bits of milliseconds, then a 12-bit counter within the millisecond (RFC 9562, section 6.2, method 1), then 60
    random bits. When the counter overflows, or the clock goes back, the millisecond is counted on. Built as text, the
    part that stays the same within a millisecond only once: there is one for every record.
    """

    __slots__ = ("_at", "_counter", "_lock", "_millis", "_pool", "_prefix")

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """Forget what is left of the random bits: a forked process has the same, and must not use them again."""
        self._lock = threading.Lock()  # plain functions send from threads of their own
        self._millis = 0
        self._counter = 0
        self._prefix = ""
        self._pool = ""
        self._at = 0

    def __call__(self) -> str:
        millis = time.time_ns() // 1_000_000
        with self._lock:
            if millis > self._millis or self._counter == 0xFFF:
                self._millis = max(millis, self._millis + 1)
                self._counter = -1
                digits = f"{self._millis:012x}"
                self._prefix = f"{digits[:8]}-{digits[8:]}-7"
            self._counter += 1
            at = self._at
            if at >= len(self._pool):
                self._pool, at = os.urandom(15 * 512).hex(), 0
            self._at = at + 15
            random = self._pool[at : at + 15]
            return f"{self._prefix}{self._counter:03x}-8{random[:3]}-{random[3:]}"


new_event_id = EventIds()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=new_event_id.start_anew)


_HEX = "0123456789abcdef"


def run_id(job_id: str, event_id: str, task: int, replay_id: str = "") -> str:
    """The id of the run of `job_id` on `event_id`: a digest of who and what, and the task number that it belongs to.

    The same job, event and replay give the same id on every worker and after every restart, so a run that starts
    again is recognised as the same run. Where the event's id begins with its time (UUIDv7), so does the run's: an index
    over the ids of runs then grows at its end.
    """
    digest = blake2b(f"{job_id}\0{event_id}\0{replay_id}".encode(), digest_size=16).hexdigest()
    if event_id[14:15] == "7" and len(event_id) == 36:
        millis = event_id[:8] + event_id[9:13]
        if not millis.strip(_HEX):
            digest = millis + digest[12:]
    return f"{digest}-{task}"


def task_of(run: str) -> int:
    """The task number that a run id carries."""
    return int(run.rpartition("-")[2])
