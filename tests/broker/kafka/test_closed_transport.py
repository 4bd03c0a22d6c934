"""A request on a transport that has just closed is a lost connection, on either event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection, create_conn  # noqa: TID251 -- the behaviour under test is its own
from aiokafka.errors import KafkaConnectionError  # noqa: TID251
from aiokafka.protocol.metadata import MetadataRequest  # noqa: TID251

from playhead.broker.kafka import KafkaBroker

pytestmark = pytest.mark.kafka


class TestClosedTransport:
    @pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
    def test_request_is_refused_as_a_lost_connection(
        self, kafka_bootstrap: str, loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        assert KafkaBroker  # its package is imported, which is what this is about
        host, port = kafka_bootstrap.rsplit(":", 1)

        async def cut() -> None:
            connection: AIOKafkaConnection = await create_conn(host, int(port))
            connection._writer.transport.abort()
            with pytest.raises(KafkaConnectionError):
                await connection.send(MetadataRequest([]))
            assert not connection.connected()

        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(cut())
