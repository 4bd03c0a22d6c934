"""A request on a transport that has just closed, on uvloop.

asyncio's transport drops what is written after it closed, and aiokafka learns of the end from its reader a moment
later. uvloop's raises RuntimeError instead, which aiokafka takes for a mistake in the program: the restart of a broker
ended the worker, or left its fetcher dead. So every connection of aiokafka looks first, and calls it what it is.

aiokafka has no place to put this, and makes its connections itself, in the consumer as well; so the class is changed,
once, when this package is imported.
"""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send = AIOKafkaConnection.send


def _send_unless_closed(self: Any, request: Any, expect_response: bool = True) -> Any:
    """As `AIOKafkaConnection.send`.

    Raises:
        KafkaConnectionError: also where the transport is closed already; nothing is sent.
    """
    if self._writer is not None and self._writer.transport.is_closing():
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {self.host}:{self.port} closed")
    return _send(self, request, expect_response)


def install() -> None:
    """Change the class; once is enough."""
    AIOKafkaConnection.send = _send_unless_closed
