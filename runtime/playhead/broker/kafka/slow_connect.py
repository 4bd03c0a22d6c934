"""A connection to a machine that is gone, and refuses nothing.

aiokafka lets connecting take as long as a request may: in a consumer 30 s, because a JoinGroup is answered late. And a
client makes one connection at a time: for these 30 s it reached no other broker either, its group's heartbeats stopped,
and all of its runs with them. A process that was killed is refused at once; a container or a machine that is gone
swallows what is sent to it. So connecting, and each question asked meanwhile, has a bound of its own.

aiokafka has no option for this (`closed_transport` has the same trouble), so the class is changed, once.
"""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection

CONNECT_SECONDS_MAX = 3.0
"""Of one step: the connection with TLS, the versions, each message of SASL. A lost packet is sent again after 1 s."""

_connect = AIOKafkaConnection.connect


async def _connect_in_time(self: Any) -> Any:
    """As `AIOKafkaConnection.connect`.

    Raises:
        TimeoutError: also after CONNECT_SECONDS_MAX.
    """
    of_a_request = self._request_timeout
    self._request_timeout = min(of_a_request, CONNECT_SECONDS_MAX)
    try:
        return await _connect(self)
    finally:
        self._request_timeout = of_a_request


def install() -> None:
    """Change the class; once is enough."""
    AIOKafkaConnection.connect = _connect_in_time
