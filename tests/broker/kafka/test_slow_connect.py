"""A broker whose machine is gone is given up soon, by connections that wait long for an answer too."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import uvloop
from aiokafka.conn import create_conn  # noqa: TID251 -- the behaviour under test is its own

from playhead.broker.kafka import slow_connect

REQUEST_SECONDS = 30.0


@pytest.fixture
def swallowing() -> Iterator[tuple[str, int]]:
    """A port that answers no SYN: its queue of connections is full, and nobody takes one from it."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_connecting_ends_long_before_a_request_would(
    swallowing: tuple[str, int], loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_connect, "CONNECT_SECONDS_MAX", 0.1)

    async def connect() -> None:
        async with asyncio.timeout(REQUEST_SECONDS / 3) as ours:
            with pytest.raises(TimeoutError):
                await create_conn(*swallowing, request_timeout_ms=int(REQUEST_SECONDS * 1000))
        assert not ours.expired()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(connect())


@pytest.mark.kafka
async def test_an_answer_may_take_as_long_as_before(kafka_bootstrap: str) -> None:
    host, port = kafka_bootstrap.rsplit(":", 1)
    connection = await create_conn(host, int(port), request_timeout_ms=int(REQUEST_SECONDS * 1000))
    assert connection._request_timeout == REQUEST_SECONDS
    await connection.close()
