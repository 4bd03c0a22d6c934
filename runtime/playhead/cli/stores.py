"""Folders of timer stores: one for each process that has them open. They are caches, and can be deleted at any time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playhead.broker.contract import Broker
    from playhead.cli.project import Project
    from playhead.timers.listing import PendingTimers

STORES = "timers"
"""In the data folder: the schedulers' stores."""
_LISTS = "lists"
"""In that: the stores of who only looks."""


@contextmanager
def own_folder(parent: Path) -> Iterator[Path]:
    """A folder of stores that no other process has open: the first one that is free.

    Raises:
        FolderUnusable: none can be made there.
    """
    from playhead.dev.lock import FileLock, LockedElsewhere

    for number in count():
        try:
            lock = FileLock.take(parent / f"{number}.lock")
        except LockedElsewhere:
            continue
        try:
            yield parent / str(number)
        finally:
            lock.close()
        return


def lists_folder(project: Project) -> Path:
    """Where `own_folder` finds one for somebody who only looks."""
    return project.data_dir / STORES / _LISTS


@asynccontextmanager
async def pending_timers(project: Project, prefix: str, broker: Broker) -> AsyncIterator[PendingTimers]:
    """What is pending, for the length of a command; reading it takes as long as it takes."""
    from playhead.timers.listing import PendingTimers
    from playhead.topics import DELAY

    async def given() -> Broker:
        return broker

    with own_folder(lists_folder(project)) as folder:
        pending = PendingTimers(given, prefix + DELAY, folder=folder, wait_seconds=None)
        try:
            yield pending
        finally:
            await pending.close()
