"""Where the logs end that this process reads, and whether an open transaction holds readers back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from playhead.broker.contract import Broker
from playhead.clock import Clock
from playhead.records import Partition


class _End(NamedTuple):
    committed: int
    held_since: float | None
    """Since when it is known not to move although there is more behind it, on the clock's monotonic time."""


class LogEnds:
    """The ends of partitions as they were when somebody last wanted to know."""

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._ends: dict[Partition, _End] = {}
        self._asked_at = float("-inf")

    async def look(self, partitions: Iterable[Partition]) -> None:
        """Ask for these. The caller sees to it that this is seldom.

        Raises:
            UnknownTopic, NotAuthorized, BrokerUnavailable: what is known stays as it is.
        """
        wanted = set(partitions)
        if not wanted:
            return
        now = self._clock.monotonic()
        committed = await self._broker.bounds(wanted)
        # Asked second: seen the other way round, what is committed in between would look held back.
        written = await self._broker.bounds(wanted, committed=False)
        self._asked_at = now
        self._ends = {p: self._end(p, committed[p][1], written[p][1], now) for p in wanted}

    def _end(self, partition: Partition, committed: int, written: int, now: float) -> _End:
        if written <= committed:
            return _End(committed, None)
        before = self._ends.get(partition)
        stands = before is not None and before.committed == committed and before.held_since is not None
        return _End(committed, before.held_since if stands and before is not None else now)

    def committed(self, partition: Partition) -> int | None:
        """The end of what is committed; None where it was not asked for yet."""
        end = self._ends.get(partition)
        return None if end is None else end.committed

    def held_seconds(self, partition: Partition) -> float:
        """From the first look that saw it until the last, how long an open transaction has held its end."""
        end = self._ends.get(partition)
        return 0.0 if end is None or end.held_since is None else self._asked_at - end.held_since
