"""Which run killed the worker? Those that may have start one by one, until the one is known.

From the second unclean takeover of a task in a row on, its runs start one by one, each after its start is committed
(`Alone` in the checkpoint). So at the next death each task names at most one run. Who is named goes first in the next
life, and has the whole process to itself: whoever dies then has done it, and the others were innocent.

    life 1     a b K c …          all at once                              crashes 1
    life 2     a b K c …          all at once                              crashes 2
    life 3     K │ x              one in each task                         K and x are named
    life 4     x ✓, then K        named ones, one in the process           K is named again
    life 5     K                                                           … for the third time
    life 6     K is a dead letter
"""

from __future__ import annotations

from collections.abc import Callable

from playhead.engine.live import LiveRun, LiveState

_GONE = (LiveState.ENDED, LiveState.DROPPED, LiveState.BACKOFF)
"""A run that waits for another try kills nobody meanwhile; it takes a place again when it is ready."""


class Killers:
    """A process's possible killers that go on, and those that wait for the process to be theirs. One per worker."""

    def __init__(self) -> None:
        self._going: set[LiveRun] = set()
        self._named: set[LiveRun] = set()
        self._waiting: list[Callable[[], None]] = []

    def on_change(self, call: Callable[[], None]) -> None:
        """Call this whenever others may start."""
        self._waiting.append(call)

    def is_going(self, run: LiveRun) -> bool:
        """Whether it has a place."""
        return run in self._going

    def may_start(self, run: LiveRun) -> bool:
        """Give the run its place, if it may have one now."""
        if run.task.awaits_named_run:
            return False
        named = run.task.named_run
        if named is not None and named.state is LiveState.READY:
            self._named.add(named)
        if run in self._named:
            if self._going:
                return False
        elif self._named or any(other.task is run.task for other in self._going):
            return False
        self._going.add(run)
        return True

    def leave(self, run: LiveRun) -> None:
        """The run does not go on: it has ended, or waits for another try."""
        if run in self._going or run in self._named:
            self.look()

    def look(self) -> None:
        """Take the places of those that are gone away from them."""
        gone = {run for run in self._going | self._named if run.state in _GONE}
        if gone:
            self._going -= gone
            self._named -= gone
            for call in self._waiting:
                call()
