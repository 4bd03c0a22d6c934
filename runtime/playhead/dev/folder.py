"""The folder that one broker lives in: its lock, its cluster id, its console file.

    broker.lock    held by the broker's processes for as long as they live; says who started them
    cluster.id     made once
    console.log    what the broker's process printed, this time

The rest belongs to the kind of broker.
"""

from __future__ import annotations

import base64
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path

from playhead.dev.lock import FileLock, LockedElsewhere, process_lives
from playhead.errors import AlreadyRunning

_TAIL_BYTES = 64 * 1024
# The innermost "Caused by" comes last.
_CAUSE = re.compile(r"(?:Caused by: |Exception in thread \S+ )?([\w.$]+(?:Exception|Error)\b.*)")


class BrokerFolder:
    """One broker at a time may use it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.console = self.path / "console.log"
        self._lock_file = self.path / "broker.lock"

    def lock(self, *, grace_seconds: float) -> FileLock:
        """Take the folder, making it when it is not there. The caller's children inherit the lock's descriptor.

        A broker whose starter is dead is being ended by its guard: that is waited for, up to `grace_seconds`.

        Raises:
            AlreadyRunning: a broker runs out of this folder.
        """
        try:
            return FileLock.take(self._lock_file)
        except LockedElsewhere as held:
            if process_lives(held.facts.get("starter_pid")):
                raise self._already_running(held.facts) from held
        try:
            return FileLock.take(self._lock_file, wait_seconds=grace_seconds)
        except LockedElsewhere as held:
            raise self._already_running(held.facts) from held

    def say_who(self, lock: FileLock, bootstrap_servers: str) -> None:
        """Note for others that this process starts a broker here."""
        lock.write_facts(starter_pid=os.getpid(), bootstrap_servers=bootstrap_servers)

    def wait_until_free(self, seconds: float) -> bool:
        """Wait until no process of a broker is left here; False when one still is after `seconds`."""
        try:
            FileLock.take(self._lock_file, wait_seconds=seconds).close()
        except LockedElsewhere:
            return False
        return True

    def is_in_use(self) -> bool:
        """Whether a broker (or its guard) is alive here."""
        return self._lock_file.exists() and not self.wait_until_free(0)

    def cluster_id(self) -> str:
        """The cluster's id, made at the first call."""
        file = self.path / "cluster.id"
        if not file.exists():
            draft = file.with_suffix(".new")
            draft.write_text(_new_cluster_id(), encoding="ascii")
            draft.replace(file)
        return file.read_text(encoding="ascii").strip()

    def _already_running(self, facts: Mapping[str, object]) -> AlreadyRunning:
        pid, servers = facts.get("starter_pid", "unknown"), facts.get("bootstrap_servers", "an unknown port")
        return AlreadyRunning(
            f"a broker ({servers}, started by process {pid}) is running out of {self.path}.",
            remedy=f"Use that one, stop process {pid}, or choose another data folder.",
        )


def text_from(path: Path, start: int = 0) -> str:
    """The end of a log file, from byte `start` on; from its beginning if it was rolled over since. At most 64 KiB."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def cause_in(said: str) -> str:
    """The line of a Java program's output that best says why it ended, without the full stop; may be empty."""
    lines = [line for line in said.splitlines() if line.strip()]
    causes = [found[1] for line in lines if (found := _CAUSE.match(line))]
    errors = [line for line in lines if " ERROR " in line or " FATAL " in line]
    return (causes or errors or lines or [""])[-1].strip().rstrip(".")


def _new_cluster_id() -> str:
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if not text.startswith("-"):  # Kafka's tool would take it for an option
            return text
