"""A lock on a path, held by processes rather than by objects.

It is an flock, so the kernel drops it with the last process that has the descriptor open: a child that inherits it
keeps the lock after its parent was killed. The file itself stays; its text says who took the lock last.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from pathlib import Path

from playhead.errors import FolderUnusable

_FIRST_DESCRIPTOR = 10
"""Shell scripts address descriptors 0 to 9; an inherited lock must not be in their way."""
_POLL_SECONDS = 0.05


class LockedElsewhere(Exception):
    """Another process holds the lock.

    Attributes:
        facts: what the holder wrote about itself; empty where it has not written yet.
    """

    def __init__(self, path: Path, facts: dict[str, object]) -> None:
        super().__init__(f"{path} is locked by another process")
        self.path, self.facts = path, facts


class FileLock:
    """A lock that this process has taken. Use `FileLock.take`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor

    @classmethod
    def take(cls, path: Path, *, wait_seconds: float = 0.0) -> FileLock:
        """Take the lock at `path`, waiting up to `wait_seconds` for another holder.

        Raises:
            LockedElsewhere: it was still held at the end.
            FolderUnusable: the file can't be made there.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise FolderUnusable(path.parent, error) from error
        try:
            descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
        finally:
            os.close(opened)
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    raise LockedElsewhere(path, read_facts(path)) from None
                threading.Event().wait(_POLL_SECONDS)
            except BaseException:
                os.close(descriptor)
                raise
            else:
                return cls(path, descriptor)

    def write_facts(self, **facts: object) -> None:
        """Say who holds the lock, for the message of whoever finds it taken."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, json.dumps(facts).encode(), 0)

    def close(self) -> None:
        """Close this process's descriptor. The lock ends with the last process that inherited it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def read_facts(path: Path) -> dict[str, object]:
    """What the holder of the lock at `path` wrote; empty where there is nothing readable."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def process_lives(pid: object) -> bool:
    """Whether a process with this id exists (a zombie counts)."""
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
