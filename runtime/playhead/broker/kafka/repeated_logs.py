"""What aiokafka logs of each connection that it can't make.

Playhead tries again every 50 ms, so that it is back at once when the broker is. aiokafka logs each try as an error:
with the broker away for an hour, every service that sends would have written a quarter of a million equal lines. So a
line is let through once in ten seconds, and says how often it was not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

PAUSE_SECONDS = 10.0
_TEXTS_MAX = 100

_LOGGER = logging.getLogger("aiokafka.client")


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
    """Filter what the logger is told; a second time changes nothing."""
    _LOGGER.addFilter(_FILTER)
