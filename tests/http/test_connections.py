"""Connections to the real server, byte by byte: heads that do not end, and bodies of two lengths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from tests.http.test_server import Serving, served

WHOLE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
PART = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "
BODY = b'{"event":"thing.happened","payload":{"n":1}}'
POST = b"POST /trigger HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def connected(serving: Serving) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()


async def answered(reader: asyncio.StreamReader) -> bytes:
    """A whole answer with its Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(length.split(b":")[1]))


class TestHeads:
    """A head that does not come to its end in time costs its connection, however it is sent."""

    async def test_connection_that_says_nothing_is_closed(self, app: FastAPI) -> None:
        async with served(app, head_seconds=0.2) as serving, connected(serving) as (reader, _):
            assert await reader.read() == b""

    async def test_head_that_stops_in_the_middle_is_answered_408(self, app: FastAPI) -> None:
        async with served(app, head_seconds=0.2) as serving, connected(serving) as (reader, writer):
            writer.write(PART)
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")

    async def test_bytes_that_trickle_do_not_move_the_deadline(self, app: FastAPI) -> None:
        async with served(app, head_seconds=0.3) as serving, connected(serving) as (reader, writer):
            writer.write(PART)
            answer = asyncio.create_task(reader.read())
            while not answer.done():
                writer.write(b"a")
                await asyncio.wait({answer}, timeout=0.02)
            assert answer.result().startswith(b"HTTP/1.1 408 ")

    async def test_second_head_on_a_connection_has_a_deadline_too(self, app: FastAPI) -> None:
        async with served(app, head_seconds=0.2) as serving, connected(serving) as (reader, writer):
            writer.write(WHOLE)
            assert (await answered(reader)).startswith(b"HTTP/1.1 200 ")
            writer.write(PART)
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")

    async def test_head_that_was_pipelined_in_part_has_a_deadline_too(self, app: FastAPI) -> None:
        async with served(app, head_seconds=0.2) as serving, connected(serving) as (reader, writer):
            writer.write(WHOLE + PART)
            assert (await answered(reader)).startswith(b"HTTP/1.1 200 ")
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")

    async def test_idle_connection_and_slow_body_are_not_cut(self, app: FastAPI, memory: Any) -> None:
        async with (
            served(app, head_seconds=0.2) as serving,
            connected(serving) as (idle_reader, idle_writer),
            connected(serving) as (reader, writer),
            connected(serving) as (late_reader, late_writer),
        ):
            idle_writer.write(WHOLE)
            await answered(idle_reader)
            writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:5])
            late_writer.write(PART)  # tells when more than the deadline has passed
            await late_reader.read()
            writer.write(BODY[5:])
            assert (await answered(reader)).startswith(b"HTTP/1.1 200 ")
            idle_writer.write(WHOLE)
            assert (await answered(idle_reader)).startswith(b"HTTP/1.1 200 ")
        assert len(memory.stored("thing")) == 1


class TestTwoLengths:
    """A proxy in front may take the other one, and what is body to it a request of somebody else's."""

    @pytest.mark.parametrize("swapped", [False, True])
    async def test_content_length_with_transfer_encoding_is_refused(
        self, app: FastAPI, memory: Any, swapped: bool
    ) -> None:
        lengths = [b"Content-Length: %d\r\n" % len(BODY), b"Transfer-Encoding: chunked\r\n"]
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
        async with served(app) as serving, connected(serving) as (reader, writer):
            writer.write(POST + b"".join(reversed(lengths) if swapped else lengths) + b"\r\n" + chunked + WHOLE)
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert answer.count(b"HTTP/1.1 ") == 1
        assert memory.stored("thing") == []

    async def test_each_alone_is_taken(self, app: FastAPI, memory: Any) -> None:
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
        async with served(app) as serving, connected(serving) as (reader, writer):
            writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunked)
            assert (await answered(reader)).startswith(b"HTTP/1.1 200 ")
            writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
            assert (await answered(reader)).startswith(b"HTTP/1.1 200 ")
        assert len(memory.stored("thing")) == 2
