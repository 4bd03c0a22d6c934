"""What aiokafka logs of each connection that it can't make.

Playhead tries again every 50 ms, and a consumer every 100, so as to be back at once when the broker is. aiokafka logs
each try as an error, also those that `redialing` answers without a dial: with the broker away, a service that sends
wrote 80 equal lines a second, and a worker of one job 130. So a line is let through once in ten seconds, and says how
often it was not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from aiokafka import client, conn
from aiokafka.consumer import fetcher, group_coordinator

PAUSE_SECONDS = 10.0
_TEXTS_MAX = 100

# A filter sees what is told to its own logger, and nothing of those below: so each of those that tell of a try has it.
_LOGGERS = [module.log for module in (client, conn, fetcher, group_coordinator)]


class OnceInAWhile(logging.Filter):
    """Lets each text through, and then leaves it out for `PAUSE_SECONDS`."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._let_through_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text, now = record.getMessage(), self._now()
        if now - self._let_through_at.get(text, -PAUSE_SECONDS) < PAUSE_SECONDS:
            self._left_out[text] = self._left_out.get(text, 0) + 1
            return False
        if count := self._left_out.pop(text, 0):
            record.msg, record.args = f"{text} ({count} times more before)", ()
        if len(self._let_through_at) >= _TEXTS_MAX:
            self._let_through_at.clear()
            self._left_out.clear()
        self._let_through_at[text] = now
        return True


_FILTER = OnceInAWhile()


def install() -> None:
    """Filter what these loggers are told; a second time changes nothing."""
    for logger in _LOGGERS:
        logger.addFilter(_FILTER)
