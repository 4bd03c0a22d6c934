"""What a test can make go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from playhead.broker.contract import Record
from playhead.clock import Clock
from playhead.errors import BrokerUnavailable

CommitFault: TypeAlias = Literal["unknown_committed", "unknown_aborted", "hang"]


class Faults:
    """Switches of a MemoryBroker that a test sets; all are off at first."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._unavailable_since: float | None = None

        self.next_commit: CommitFault | None = None
        """What happens to the next commit, once.

        unknown_committed: all of it is written, and the answer is lost: its outcome is Unknown.
        unknown_aborted: nothing of it is committed, and the answer is lost: its outcome is Unknown.
        hang: its transaction stays open until its writer is freed (Fenced) or the transaction timeout has passed
            (Unknown). It stays open as well when the waiting `commit` is cancelled, as after a kill.
        """
        self.refuse: Callable[[Record], bool] | None = None
        """Records for which this answers True are refused, as one that is too large would be."""

    @property
    def unavailable(self) -> bool:
        """While True, nothing that needs the broker is answered: appends and fetches fail, commits end Unknown."""
        return self._unavailable_since is not None

    @unavailable.setter
    def unavailable(self, value: bool) -> None:
        self._unavailable_since = self._clock.monotonic() if value else None
        self._changed()

    @property
    def unavailable_since(self) -> float | None:
        """When `unavailable` was set, on the clock's monotonic time; None while the broker answers."""
        return self._unavailable_since

    def check(self) -> None:
        """Raise BrokerUnavailable while the broker is unavailable."""
        if self.unavailable:
            raise BrokerUnavailable("the broker did not answer (a test made it unavailable).")

    def take_commit_fault(self) -> CommitFault | None:
        """The fault of the commit that asks, and none for those after it."""
        fault, self.next_commit = self.next_commit, None
        return fault
