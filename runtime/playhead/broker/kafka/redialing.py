"""How often an address that does not answer is dialled.

Everybody in a process that wants a connection tries again by itself, each 50 or 100 ms, so as to be back at once when
the broker is. With the broker away, a worker of ten jobs dialled it 500 times a second, and a gone machine's address
was waited for by each of them. So of all that want the same address one dials, after pauses that grow, and the others
are told at once what it was told last:

    a dial fails, and is tried again after   0.01  0.02  0.04  0.08  0.16  0.32  0.64  1  1  1 … s
    it succeeds                              everybody dials

aiokafka has no option for this (`closed_transport` has the same trouble), so the class is changed, once.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError

SHORTEST_SECONDS, LONGEST_SECONDS = 0.01, 1.0

_SILENT = (OSError, KafkaConnectionError)
"""Nobody is there, or nobody who talks. Whoever refuses credentials has answered."""


@dataclass(slots=True)
class _Silence:
    """An address that has not answered since: what it was that the last dial met, and when the next one may be."""

    error: Exception
    pause_seconds: float
    not_before: float
    dialling: bool = False


class Redialing:
    """One for each process; its threads may share it: at worst two dial at once."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._silent: dict[tuple[str, int], _Silence] = {}

    async def dial(self, address: tuple[str, int], connect: Callable[[], Any]) -> Any:
        """What `connect` answers.

        Raises:
            whatever it raises; also what it raised last, at once, while it is not yet the time, or somebody else dials.
        """
        silence = self._silent.get(address)
        if silence is None:
            return await self._connect(address, connect, SHORTEST_SECONDS)
        if silence.dialling or self._now() < silence.not_before:
            raise copy.copy(silence.error)
        silence.dialling = True
        try:
            return await self._connect(address, connect, min(silence.pause_seconds * 2, LONGEST_SECONDS))
        finally:
            silence.dialling = False

    async def _connect(self, address: tuple[str, int], connect: Callable[[], Any], pause_seconds: float) -> Any:
        try:
            connected = await connect()
        except _SILENT as error:
            told = copy.copy(error)  # without the frames that it came through
            self._silent[address] = _Silence(told, pause_seconds, self._now() + pause_seconds)
            raise
        self._silent.pop(address, None)
        return connected


_REDIALING = Redialing()


def install() -> None:
    """Change the class; once is enough."""
    connect = AIOKafkaConnection.connect

    async def connect_in_turn(self: Any) -> Any:
        return await _REDIALING.dial((self.host, self.port), lambda: connect(self))

    AIOKafkaConnection.connect = connect_in_turn
