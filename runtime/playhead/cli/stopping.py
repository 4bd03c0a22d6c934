"""How a process that runs until it is told to stop is told.

    running ──SIGTERM, SIGINT, parent gone──▶ stopping ──▶ (ended)
                                                 └─ a signal once more ──▶ (ended at once)

A service manager is told too (`playhead.cli.notify`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

import structlog

from playhead.cli.notify import Notifier
from playhead.dev.supervisor import PARENT_FD

_ORPHAN_SECONDS = 3.0
"""What an orphan gets to end in good order: its broker is ending too."""

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


def end_at_once(code: int) -> NoReturn:
    """End this process without waiting for anything. What it had not committed starts again elsewhere."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
