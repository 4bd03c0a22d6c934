"""A TCP proxy that breaks connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from aiokafka.structs import BrokerMetadata  # noqa: TID251 -- leads a client through the proxy

from playhead.broker.kafka import KafkaBroker


class Proxy:
    """Forwards to one address. `cut_before` and `cut_after` decide at each chunk from the client what happens to it.

    client ──chunk──▶ proxy ──▶ broker       cut_before: the broker never sees the chunk
           ◀──answer─       ◀──              cut_after: it does, and its answer is lost
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut_before: Callable[[bytes], bool] = lambda _: False
        self.cut_after: Callable[[bytes], bool] = lambda _: False
        self.refusing = False
        """Break every new connection at once."""
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.refusing = True  # what was accepted and did not come yet
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @contextmanager
    def between(self, broker: KafkaBroker) -> Iterator[None]:
        """Lead what this client sends (commits, appends, queries; not its members' fetches) through here."""
        client: Any = broker._link._client
        client.cluster.broker_metadata = lambda node: BrokerMetadata(node, "127.0.0.1", self.port, None)
        for connection in client._conns.values():
            connection.close()
        try:
            yield
        finally:
            del client.cluster.broker_metadata

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            self.cuts += 1
            writer.transport.abort()
            return
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # also of one that is cancelled before it began

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._target)
        answers = asyncio.create_task(_pump(up_reader, writer))
        try:
            while chunk := await reader.read(1 << 20):
                if self.cut_before(chunk):
                    self.cuts += 1
                    break
                up_writer.write(chunk)
                await up_writer.drain()
                if self.cut_after(chunk):
                    self.cuts += 1
                    break
        except OSError:
            pass
        finally:
            answers.cancel()
            up_writer.close()  # what was written still arrives


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(1 << 20):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
